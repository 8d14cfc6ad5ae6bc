//! What is read below `/proc`.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::check::facts::{DeviceFacts, KubeProxy, Sysctls};
use crate::linux::processes;

/// `TCP_LISTEN`, as tables of sockets have it.
const LISTEN: &str = "0A";

/// A `/proc`.
#[derive(Debug)]
pub(super) struct ProcFiles(PathBuf);

impl ProcFiles {
    pub(super) fn below(root: &Path) -> Self {
        Self(root.to_owned())
    }

    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.0.join(path)).ok()
    }

    fn number(&self, setting: &str) -> Option<u8> {
        self.text(&format!("sys/net/{setting}"))?.trim().parse().ok()
    }

    fn flag(&self, setting: &str) -> Option<bool> {
        self.number(setting).map(|value| value != 0)
    }

    pub(super) fn sysctls(&self) -> Sysctls {
        let range = self.text("sys/net/ipv4/ip_local_port_range");
        let reserved = self.text("sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default();
        Sysctls {
            forward_v4: self.flag("ipv4/ip_forward"),
            forward_v6: self.flag("ipv6/conf/all/forwarding"),
            rp_filter_all: self.number("ipv4/conf/all/rp_filter").unwrap_or(0),
            route_localnet_all: self.flag("ipv4/conf/all/route_localnet").unwrap_or(false),
            local_ports: range.and_then(|range| {
                let mut ports = range.split_whitespace().map(str::parse);
                Some((ports.next()?.ok()?, ports.next()?.ok()?))
            }),
            reserved_ports: reserved.trim().split(',').filter_map(port_range).collect(),
        }
    }

    /// What the kernel's settings say of a device.
    pub(super) fn device(&self, name: &str) -> DeviceFacts {
        let setting = |what: &str| format!("ipv4/conf/{name}/{what}");
        DeviceFacts {
            forwarding: self.flag(&setting("forwarding")),
            rp_filter: self.number(&setting("rp_filter")).unwrap_or(0),
            route_localnet: self.flag(&setting("route_localnet")).unwrap_or(false),
            ..DeviceFacts::default()
        }
    }

    pub(super) fn capabilities(&self) -> Option<u64> {
        let status = self.text("self/status")?;
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(effective.trim(), 16).ok()
    }

    pub(super) fn kube_proxy(&self) -> KubeProxy {
        let all = processes::all(&self.0).map(|(pid, _)| pid);
        let program = |pid: &u32| {
            let command = self.text(&format!("{pid}/cmdline")).unwrap_or_default();
            command.split('\0').next().and_then(|path| path.rsplit('/').next().map(str::to_owned))
        };
        let is_it = |pid: &u32| {
            self.text(&format!("{pid}/comm")).is_some_and(|name| name.trim_end() == "kube-proxy")
                || program(pid).is_some_and(|name| name == "kube-proxy")
        };
        // Those of other network namespaces serve other nodes.
        let network = |pid: &str| fs::read_link(self.0.join(pid).join("ns/net")).ok();
        let own = network("self");
        let is_here = |pid: &u32| {
            let theirs = network(&pid.to_string());
            theirs.is_none() || theirs == own
        };
        let mut processes: Vec<u32> = all.filter(is_it).filter(is_here).collect();
        processes.sort_unstable();
        let ipvs = self.text("net/ip_vs").unwrap_or_default();
        KubeProxy {
            processes,
            ipvs_device: self.0.join("sys/net/ipv4/conf/kube-ipvs0").exists(),
            ipvs_servers: ipvs
                .lines()
                .filter(|line| ["TCP ", "UDP ", "SCTP"].iter().any(|p| line.starts_with(p)))
                .count(),
        }
    }

    /// Addresses and TCP ports that somebody listens on.
    pub(super) fn listening(&self) -> BTreeSet<SocketAddr> {
        let tables = ["net/tcp", "net/tcp6"].into_iter().filter_map(|path| self.text(path));
        tables.flat_map(|table| table.lines().filter_map(listener).collect::<Vec<_>>()).collect()
    }
}

fn port_range(text: &str) -> Option<(u16, u16)> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    Some((low.parse().ok()?, high.parse().ok()?))
}

/// A line of the table of TCP sockets: `0: 0100007F:1F90 00000000:0000 0A ...`.
fn listener(line: &str) -> Option<SocketAddr> {
    let mut words = line.split_whitespace().skip(1);
    let (local, _, state) = (words.next()?, words.next()?, words.next()?);
    let (address, port) = local.split_once(':')?;
    if state != LISTEN {
        return None;
    }
    // Words of 32 bits, each in the machine's byte order.
    let word = |at: usize| {
        let digits = address.get(8 * at..8 * at + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = if address.len() == 8 {
        IpAddr::V4(Ipv4Addr::from(word(0)?))
    } else {
        let octets: [u8; 16] = [word(0)?, word(1)?, word(2)?, word(3)?].concat().try_into().ok()?;
        IpAddr::V6(Ipv6Addr::from(octets))
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proc(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn settings_sockets_and_processes_are_read_as_the_kernel_shows_them() {
        let dir = proc(&[
            ("sys/net/ipv4/ip_forward", "1\n"),
            ("sys/net/ipv4/conf/eth0.7/route_localnet", "1\n"),
            ("sys/net/ipv4/conf/eth0.7/rp_filter", "2\n"),
            ("sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
            ("sys/net/ipv4/ip_local_reserved_ports", "8080,9000-9100\n"),
            ("self/status", "Name:\tx\nCapEff:\t00000000000000ff\n"),
            ("71/comm", "kube-proxy\n"),
            ("72/comm", "kube-proxy-not\n"),
            ("72/cmdline", "sh\0-c\0kube-proxy\0"),
            ("73/cmdline", "/usr/local/bin/kube-proxy\0--config\0x\0"),
            ("net/ip_vs", "IP Virtual Server\nProt LocalAddress:Port\nTCP  0A600001:0050 rr\n  -> 0A010001:1F90\n"),
            (
                "net/tcp",
                "  sl  local_address rem_address   st\n   0: 0100007F:1F90 00000000:0000 0A 00000000\n   1: 0100007F:1F91 \
                 0100007F:0016 01 00000000\n",
            ),
            ("net/tcp6", "   0: 00000000000000000000000001000000:2810 00000000000000000000000000000000:0000 0A 0\n"),
        ]);
        let proc = ProcFiles::below(dir.path());
        let sysctls = proc.sysctls();
        assert_eq!((sysctls.forward_v4, sysctls.forward_v6), (Some(true), None));
        assert_eq!(sysctls.local_ports, Some((32_768, 60_999)));
        assert_eq!(sysctls.reserved_ports, [(8080, 8080), (9000, 9100)]);
        let device = proc.device("eth0.7");
        assert_eq!((device.forwarding, device.rp_filter, device.route_localnet), (None, 2, true));
        assert_eq!(proc.capabilities(), Some(0xff));
        let kube_proxy = proc.kube_proxy();
        assert_eq!((kube_proxy.processes, kube_proxy.ipvs_servers, kube_proxy.ipvs_device), (vec![71, 73], 1, false));
        let listening: Vec<String> = proc.listening().iter().map(ToString::to_string).collect();
        assert_eq!(listening, ["127.0.0.1:8080", "[::1]:10256"]);
    }
}
