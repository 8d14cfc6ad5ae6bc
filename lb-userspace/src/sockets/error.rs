//! Why a socket could not be destroyed.

use std::io;

use rtnetlink::packet_core::DecodeError;

/// What keeps a socket from being destroyed.
#[derive(Debug, thiserror::Error)]
pub enum DestroyError {
    /// Namespaces cannot be told apart.
    #[error("cannot read the cookie of a network namespace (SO_NETNS_COOKIE, Linux 5.14)")]
    Cookie(#[source] io::Error),
    /// No thread for the work.
    #[error("cannot start a thread to enter network namespaces")]
    Thread(#[source] io::Error),
    /// The namespace is there and this process may not enter it.
    #[error("network namespace {netns_cookie} may not be entered: CAP_SYS_ADMIN is needed")]
    Enter {
        /// The namespace.
        netns_cookie: u64,
        /// Cause.
        source: io::Error,
    },
    /// The kernel has no socket diagnostics.
    #[error("cannot open a socket for diagnostics (CONFIG_INET_DIAG)")]
    Open(#[source] io::Error),
    /// Talking to the kernel failed.
    #[error("socket diagnostics failed")]
    Exchange(#[source] io::Error),
    /// The kernel's answer is not understood.
    #[error("socket diagnostics gave an answer that is not understood")]
    Malformed(#[source] DecodeError),
    /// The kernel lists no sockets of this protocol.
    #[error("the kernel does not list sockets of protocol {0} (CONFIG_INET_UDP_DIAG, CONFIG_INET_TCP_DIAG)")]
    NotListed(u8),
    /// The kernel lists sockets of this protocol but does not destroy them.
    #[error("the kernel does not destroy sockets of protocol {0} (CONFIG_INET_DIAG_DESTROY)")]
    NotOffered(u8),
    /// This process may not destroy sockets.
    #[error("sockets may not be destroyed: CAP_NET_ADMIN is needed")]
    NotAllowed,
    /// Another socket that is to live has the same addresses and ports, and the kernel finds that one.
    #[error("another socket has the same addresses and ports and hides it")]
    Hidden,
    /// Neither UDP nor TCP.
    #[error("sockets of protocol {0} cannot be destroyed")]
    Protocol(u8),
}

/// Why this kernel, or this process, destroys no UDP sockets.
#[derive(Debug, thiserror::Error)]
pub enum WhyNot {
    /// One of the agent's own sockets could not be destroyed.
    #[error(transparent)]
    Destroy(#[from] DestroyError),
    /// There is no loopback to try it on.
    #[error("cannot connect a UDP socket on loopback to try it")]
    Loopback(#[source] io::Error),
    /// The kernel does not list a socket that is there.
    #[error("the kernel did not list one of the agent's own sockets")]
    NotSeen,
    /// The kernel said yes and did nothing.
    #[error("the kernel destroyed one of the agent's own sockets without any effect")]
    NoEffect,
}
