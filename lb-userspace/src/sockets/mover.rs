//! Moves connected UDP sockets to another backend: finds them among the descriptors of the node's processes and connects
//! them anew in their owners' stead, who notice nothing. The socket hooks choose the backend, as for any other connect.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use lb_common::abi::proto;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use socket2::{Domain, Socket};

use crate::faults;
use crate::linux::processes;
use crate::maps::sockets::SocketRow as Victim;

/// A socket whose backend is gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stray {
    /// By `SO_COOKIE`.
    pub(super) cookie: u64,
    /// Inode of its file.
    pub(super) inode: u64,
    /// Where its owner has connected it to.
    pub(super) frontend: SocketAddr,
    /// Where that led.
    pub(super) backend: SocketAddr,
}

impl Stray {
    /// A victim with the inode of its file; none: it is not to be moved.
    pub(super) fn of(victim: &Victim, inode: u64) -> Option<Self> {
        let frontend = victim.frontend.filter(|_| victim.protocol == proto::UDP)?;
        Some(Self { cookie: victim.socket_cookie, inode, frontend, backend: victim.peer })
    }
}

/// Connects those sockets anew that can be reached; gives their cookies. Most are found among the processes of the calling
/// thread's network namespace, which are looked at first.
pub(super) fn connect_anew(strays: &[Stray]) -> HashSet<u64> {
    if strays.is_empty() {
        return HashSet::new();
    }
    let mut left: HashMap<u64, Stray> = strays.iter().map(|stray| (stray.inode, *stray)).collect();
    let mut moved = HashSet::new();
    let own = namespace(Path::new("/proc/thread-self"));
    let (here, elsewhere): (Vec<_>, Vec<_>) =
        processes::all(Path::new("/proc")).partition(|(_, folder)| own.is_some() && namespace(folder) == own);
    for (process, folder) in here.into_iter().chain(elsewhere) {
        if left.is_empty() {
            break;
        }
        for (descriptor, inode) in sockets(&folder) {
            let Some(stray) = left.get(&inode) else { continue };
            // Whoever else has it may be within reach where this one is not.
            if taken(process, descriptor).and_then(|fd| again(fd, stray)).is_ok() {
                moved.insert(stray.cookie);
                left.remove(&inode);
            }
        }
    }
    moved
}

fn namespace(process: &Path) -> Option<u64> {
    fs::metadata(process.join("ns/net")).ok().map(|file| file.ino())
}

/// Descriptors of a process that are sockets, with their inodes.
fn sockets(process: &Path) -> impl Iterator<Item = (i32, u64)> {
    let entries = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let target = fs::read_link(entry.path()).ok()?;
        let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
        Some((entry.file_name().to_str()?.parse().ok()?, inode))
    })
}

/// Another process's descriptor. Needs the right to trace it (`CAP_SYS_PTRACE`), and Linux 5.6.
fn taken(process: u32, descriptor: i32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    Ok(pidfd_getfd(&process, descriptor, PidfdGetfdFlags::empty())?)
}

/// Connects a socket anew, if it still is the one that is meant, and is where that was.
fn again(socket: OwnedFd, stray: &Stray) -> io::Result<()> {
    let socket = Socket::from(socket);
    let peer = socket.peer_addr()?.as_socket().map(canonical);
    if socket.cookie()? != stray.cookie
        || (peer != Some(canonical(stray.frontend)) && peer != Some(canonical(stray.backend)))
    {
        return Err(io::ErrorKind::NotFound.into());
    }
    let to = match stray.frontend.ip() {
        IpAddr::V4(ip) if socket.domain()? == Domain::IPV6 => ip.to_ipv6_mapped().into(),
        ip => ip,
    };
    let connect = || {
        faults::point("socket, move")?;
        socket.connect(&SocketAddr::new(to, stray.frontend.port()).into())
    };
    // Where the kernel lacks memory for a moment: the owner of a socket that is destroyed instead would notice.
    connect().or_else(|error| if error.kind() == io::ErrorKind::OutOfMemory { connect() } else { Err(error) })
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
