//! How packets are treated, as flags of `sluice run`.

use clap::Args;

#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of the command line")]
pub(super) struct PacketArgs {
    /// Source-NAT every connection.
    #[arg(long)]
    pub(super) masquerade_all: bool,
    /// Leave TCP connections that began before Sluice, such as kube-proxy's, to the kernel's stack.
    #[arg(long)]
    pub(super) takeover: bool,
    /// Leave a TCP connection at its backend when that does not answer the first SYN. Without it the next SYN is offered
    /// another backend.
    #[arg(long)]
    pub(super) no_syn_retry: bool,
    /// Do not answer ICMP echo requests (ping) for `ClusterIP`s and load balancers' addresses. Without it they are answered
    /// while the Service has endpoints.
    #[arg(long)]
    pub(super) no_echo: bool,
    /// Give new connections to backends that leave connections unanswered, too. Without it they are passed over until they
    /// answer.
    #[arg(long)]
    pub(super) no_silence_detection: bool,
    /// Source ports for source NAT; keep them outside of the kernel's ephemeral range.
    #[arg(long, value_name = "LOW-HIGH", default_value = "1024-29999", value_parser = port_range)]
    pub(super) snat_ports: (u16, u16),
}

/// A range of ports, such as `1024-29999`.
pub(super) fn port_range(text: &str) -> Result<(u16, u16), String> {
    let range = text.split_once('-').and_then(|(lo, hi)| Some((lo.parse().ok()?, hi.parse().ok()?)));
    range.filter(|(lo, hi)| 0 < *lo && lo <= hi).ok_or_else(|| format!("\"{text}\" is not a range such as 1024-29999"))
}
