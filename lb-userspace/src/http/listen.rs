//! Listening sockets of the agent's own servers.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

const BACKLOG: i32 = 1024;

/// Listens. `0.0.0.0` stands for every address of both families, as it does in kube-proxy.
pub fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    if addr.ip() == IpAddr::from([0, 0, 0, 0]) {
        let both = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), addr.port());
        match open(both, true, false) {
            // A node without IPv6.
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {}
            listening => return listening,
        }
    }
    open(addr, addr.ip().is_unspecified() && addr.is_ipv6(), false)
}

/// Listens on one address of the node, also while the address is still being set up.
pub fn listen_on_node_address(addr: SocketAddr) -> io::Result<TcpListener> {
    open(addr, false, true)
}

fn open(addr: SocketAddr, dual_stack: bool, early: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(!dual_stack)?;
        socket.set_freebind_v6(early)?;
    } else {
        socket.set_freebind_v4(early)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
