//! The API server, which listens on one lab's node, at the same address on the other lab's node.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::thread::{self, JoinHandle};

use xtask::lab::Netns;

/// Passes connections on until dropped; those that are open end with either end.
pub(crate) struct Relay {
    listener: TcpListener,
    accepting: Option<JoinHandle<()>>,
}

impl Relay {
    /// From this address in `from` to the same address in `to`.
    pub(crate) fn start(address: SocketAddr, from: &Netns, to: &Netns) -> Self {
        let listener = from.run(|| Ok(TcpListener::bind(address)?)).unwrap();
        let (accepted, to) = (listener.try_clone().unwrap(), to.clone());
        let accepting = thread::spawn(move || {
            while let Ok((near, _)) = accepted.accept() {
                // Whoever asked sees its connection closed, and asks again.
                if let Ok(far) = to.run(|| Ok(TcpStream::connect(address)?)) {
                    join(near, far).ok();
                }
            }
        });
        Self { listener, accepting: Some(accepting) }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // SAFETY: a call on a descriptor that is open; it makes `accept` give up.
        unsafe { libc::shutdown(self.listener.as_raw_fd(), libc::SHUT_RDWR) };
        if let Some(accepting) = self.accepting.take() {
            accepting.join().ok();
        }
    }
}

fn join(near: TcpStream, far: TcpStream) -> io::Result<()> {
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near_twin, far_twin) = (near.try_clone()?, far.try_clone()?);
    thread::spawn(move || copy(near_twin, far));
    thread::spawn(move || copy(far_twin, near));
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    io::copy(&mut from, &mut to).ok();
    // A half that has ended takes the other with it: nothing here ends one way only.
    from.shutdown(Shutdown::Both).ok();
    to.shutdown(Shutdown::Both).ok();
}
