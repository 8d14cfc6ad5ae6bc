//! Uses of TCP sockets beyond the plain one: each must go through a frontend as it goes directly to a Pod.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use xtask::lab::Family;
use xtask::lab::probe::{TIMEOUT, Transport};

use crate::fixture::CLUSTER_IP;
use crate::sockets::SocketNode;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n";
/// `TCP_FASTOPEN_CONNECT`, Linux 4.11.
const TCP_FASTOPEN_CONNECT: libc::c_int = 30;

fn socket(dst: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(dst), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    Ok(socket)
}

fn assert_answers(socket: Socket, dst: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::from(socket);
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    anyhow::ensure!(answer.contains(" 200 ") && answer.contains("\"pod\""), "{dst}: {answer}");
    anyhow::ensure!(stream.peer_addr().map_or(true, |peer| peer == dst), "{dst}: the peer's name is another");
    Ok(())
}

/// Runs the use against the `ClusterIP` and directly against a Pod, from each client.
fn like_direct(probe: impl Fn(SocketAddr) -> Result<()> + Sync) {
    let node = SocketNode::start();
    let pod = node.node.lab.pod("rt2").unwrap();
    for ns in node.clients() {
        for family in Family::ALL {
            let direct = SocketAddr::new(pod.addr.of(family), Transport::Tcp.pod_port());
            for dst in [direct, CLUSTER_IP.at(family, Transport::Tcp)] {
                ns.run(|| probe(dst)).unwrap_or_else(|err| panic!("{} -> {dst}: {err:#}", ns.name()));
            }
        }
    }
}

#[test]
fn a_non_blocking_connect_is_in_progress_and_then_done() {
    like_direct(|dst| {
        let socket = socket(dst)?;
        socket.set_nonblocking(true)?;
        let begun = socket.connect(&dst.into());
        let in_progress = begun.as_ref().is_err_and(|err| err.raw_os_error() == Some(libc::EINPROGRESS));
        anyhow::ensure!(in_progress || begun.is_ok(), "{begun:?}");
        let mut fds = [PollFd::new(std::os::fd::AsFd::as_fd(&socket), PollFlags::POLLOUT)];
        anyhow::ensure!(poll(&mut fds, PollTimeout::from(2000_u16))? == 1, "not connected in time");
        anyhow::ensure!(socket.take_error()?.is_none());
        socket.set_nonblocking(false)?;
        (&socket).write_all(REQUEST)?;
        assert_answers(socket, dst)
    });
}

#[test]
fn a_source_port_is_used_again_by_the_next_connection() {
    like_direct(|dst| {
        let mut port = 0;
        for _ in 0..3 {
            let socket = socket(dst)?;
            socket.set_reuse_address(true)?;
            // Closed by a RST, so that the next one finds the tuple free whoever the backend is.
            socket.set_linger(Some(Duration::ZERO))?;
            let any = if dst.is_ipv4() { "0.0.0.0" } else { "::" };
            socket.bind(&SocketAddr::new(any.parse()?, port).into())?;
            socket.connect(&dst.into())?;
            port = socket.local_addr()?.as_socket().map_or(0, |addr| addr.port());
            (&socket).write_all(REQUEST)?;
            assert_answers(socket, dst)?;
        }
        Ok(())
    });
}

#[test]
fn fast_open_by_sendto_connects_and_sends() {
    like_direct(|dst| {
        for _ in 0..3 {
            let socket = socket(dst)?;
            let sent = socket.send_to_with_flags(REQUEST, &SockAddr::from(dst), libc::MSG_FASTOPEN)?;
            anyhow::ensure!(sent == REQUEST.len());
            assert_answers(socket, dst)?;
        }
        Ok(())
    });
}

#[test]
fn fast_open_by_connect_is_deferred_to_the_first_write() {
    like_direct(|dst| {
        for _ in 0..3 {
            let socket = socket(dst)?;
            let on: libc::c_int = 1;
            // SAFETY: the option's value is an `int` that lives for the call, and its length is given.
            let ret = unsafe {
                libc::setsockopt(
                    socket.as_raw_fd(),
                    libc::IPPROTO_TCP,
                    TCP_FASTOPEN_CONNECT,
                    (&raw const on).cast(),
                    libc::socklen_t::try_from(size_of::<libc::c_int>())?,
                )
            };
            anyhow::ensure!(ret == 0, "TCP_FASTOPEN_CONNECT: {}", io::Error::last_os_error());
            socket.connect(&dst.into())?;
            (&socket).write_all(REQUEST)?;
            assert_answers(socket, dst)?;
        }
        Ok(())
    });
}
