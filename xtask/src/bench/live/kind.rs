//! The kinds of nodes that are measured, by what is done to them.

/// What is done to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Nothing.
    Plain,
    /// An empty program on both TC hooks of each device.
    Empty,
    /// Sluice as it is by default, TC only.
    Sluice,
    /// The same with `--forward redirect`.
    Redirect,
    /// The same with XDP on the uplinks.
    Xdp,
    /// The agent of `--against`, as it is by default.
    Against,
    /// kube-proxy's nftables rules of ten Services.
    NftFew,
    /// The same of as many Services as the agents serve.
    NftMany,
}

impl Kind {
    /// Name of its namespaces, pins and log.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Empty => "empty",
            Self::Sluice => "sluice",
            Self::Redirect => "redirect",
            Self::Xdp => "xdp",
            Self::Against => "against",
            Self::NftFew => "nft-few",
            Self::NftMany => "nft-many",
        }
    }
}
