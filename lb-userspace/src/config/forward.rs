//! How packets of Services reach the Pods of this node.

use clap::ValueEnum;
use lb_common::abi::forward_mode;

/// `--forward`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ForwardMode {
    /// Through the host's stack: its firewall, its accounting and its traces see them.
    #[default]
    Stack,
    /// Straight into the Pod, past the host's stack, where the Pod's device can take them so (veth, netkit, routed).
    Redirect,
}

impl ForwardMode {
    /// As the data path has it.
    pub const fn value(self) -> u32 {
        match self {
            Self::Stack => forward_mode::STACK,
            Self::Redirect => forward_mode::REDIRECT,
        }
    }

    /// As the command line has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stack => "stack",
            Self::Redirect => "redirect",
        }
    }

    /// What an operator should know of it, if anything.
    pub const fn note(self) -> Option<&'static str> {
        match self {
            Self::Stack => None,
            Self::Redirect => Some(
                "packets of Services go straight into local Pods: netfilter (NetworkPolicy by iptables or nftables, \
                 accounting), the host's routing and TC programs on the Pods' devices do not see them",
            ),
        }
    }
}
