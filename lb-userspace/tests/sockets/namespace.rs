//! Network namespaces that a process or a file keeps, and sockets in them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use sluice::linux::netns::own_netns_cookie;
use sluice::sockets::{Family, Victim};
use socket2::{Domain, SockRef, Socket, Type};

pub(crate) const UDP: u8 = 17;
pub(crate) const TCP: u8 = 6;
pub(crate) const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(crate) const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// A network namespace that a process keeps, with loopback up.
pub(crate) struct Netns {
    pub(crate) process: Child,
    pub(crate) cookie: u64,
}

impl Netns {
    pub(crate) fn new() -> Self {
        let mut process = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo && exec sleep 300"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The line says that loopback is up.
        process.stdout.as_mut().unwrap().read_exact(&mut [0]).expect("these tests need root");
        let cookie = inside(&path_of(&process), || own_netns_cookie().unwrap());
        Self { process, cookie }
    }

    pub(crate) fn inside<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        inside(&path_of(&self.process), body)
    }

    pub(crate) fn udp(&self, bind: SocketAddr, peer: SocketAddr) -> UdpSocket {
        self.inside(|| udp(bind, peer))
    }

    pub(crate) fn listener(&self, ip: IpAddr) -> (UdpSocket, SocketAddr) {
        let socket = self.inside(|| UdpSocket::bind((ip, 0)).unwrap());
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    pub(crate) fn victim(&self, protocol: u8, socket: &impl AsFd, peer: SocketAddr) -> Victim {
        victim(self.cookie, protocol, socket, peer)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

pub(crate) fn path_of(process: &Child) -> PathBuf {
    format!("/proc/{}/ns/net", process.id()).into()
}

pub(crate) fn on_a_thread<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(body).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Does something on a thread inside a namespace.
pub(crate) fn inside<T: Send>(path: &Path, body: impl FnOnce() -> T + Send) -> T {
    on_a_thread(|| {
        setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        body()
    })
}

pub(crate) fn udp(bind: SocketAddr, peer: SocketAddr) -> UdpSocket {
    let socket = Socket::new(Domain::for_address(bind), Type::DGRAM, None).unwrap();
    if bind.is_ipv6() {
        socket.set_only_v6(false).unwrap();
    }
    socket.set_reuse_port(true).unwrap();
    socket.bind(&bind.into()).unwrap();
    socket.connect(&peer.into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

pub(crate) fn any(ip: IpAddr) -> SocketAddr {
    SocketAddr::new(ip, 0)
}

pub(crate) fn victim(netns_cookie: u64, protocol: u8, socket: &impl AsFd, peer: SocketAddr) -> Victim {
    let socket_cookie = SockRef::from(socket).cookie().unwrap();
    let family = Family::of(&peer.ip());
    Victim { netns_cookie, socket_cookie, protocol, family, peer, generation: 1, frontend: None }
}

/// Binds a namespace to a file.
pub(crate) fn bind(from: &Path, to: &Path) {
    File::create(to).unwrap();
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

/// Namespaces that only files in a directory keep, as a container runtime makes them.
pub(crate) struct Bound(pub(crate) tempfile::TempDir);

impl Bound {
    pub(crate) fn new(count: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..count {
            let path = directory.path().join(number.to_string());
            on_a_thread(|| {
                unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
                assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
                bind(Path::new("/proc/thread-self/ns/net"), &path);
            });
        }
        // What a runtime leaves behind is no namespace.
        File::create(directory.path().join("unbound")).unwrap();
        Self(directory)
    }

    pub(crate) fn path(&self, number: usize) -> PathBuf {
        self.0.path().join(number.to_string())
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.0.path()).unwrap().flatten() {
            umount2(&entry.path(), MntFlags::MNT_DETACH).ok();
        }
    }
}

/// Connects a socket in a bound namespace; the last one keeps the other end open.
pub(crate) fn socket_in(bound: &Bound, number: usize) -> (Victim, UdpSocket, UdpSocket) {
    inside(&bound.path(number), || {
        let server = UdpSocket::bind((V4, 0)).unwrap();
        let peer = server.local_addr().unwrap();
        let socket = udp(any(V4), peer);
        (victim(own_netns_cookie().unwrap(), UDP, &socket, peer), socket, server)
    })
}

/// Takes the calling thread's rights away, and only this thread's.
pub(crate) fn without_rights() {
    // SAFETY: takes no pointers; the bare system call changes the credentials of this thread alone.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, -1, 65_534, -1) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}
