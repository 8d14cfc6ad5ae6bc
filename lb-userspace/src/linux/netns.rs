//! Network namespaces: which one a thread is in, and entering one by its file.
#![expect(unsafe_code, reason = "a socket option that the libraries do not know")]

use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::sched::{CloneFlags, setns};

/// The cookie of the calling thread's network namespace, as BPF programs see it (`SO_NETNS_COOKIE`, Linux 5.14).
pub fn own_netns_cookie() -> io::Result<u64> {
    // A socket of any kind tells it; this one binds nothing and needs no device.
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None)?;
    cookie_of(&socket)
}

fn cookie_of(socket: &socket2::Socket) -> io::Result<u64> {
    let mut cookie = 0u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).map_err(io::Error::other)?;
    // SAFETY: the pointers are to a u64 and to its size, both of which outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            std::ptr::from_mut(&mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// Brings the calling thread into the namespace at a path and returns its cookie. The thread should end soon: it must
/// not do anything else in there.
pub fn enter(path: &Path) -> io::Result<u64> {
    let handle = File::open(path)?;
    setns(&handle, CloneFlags::CLONE_NEWNET)?;
    own_netns_cookie()
}

/// The cookie of the network namespace that a file stands for.
pub fn cookie_of_file(path: &Path) -> io::Result<u64> {
    let path = path.to_owned();
    // The thread ends with the call, so that no other is ever in a foreign namespace.
    let worker = std::thread::spawn(move || enter(&path));
    worker.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
}
