//! What lies behind Sluice, as questions: routes, neighbours, devices, settings, the firewall.

use std::cell::OnceCell;
use std::cell::RefCell;
use std::fs;
use std::io;
use std::net::IpAddr;

use crate::linux::firewall::{self, Ruleset};
use crate::linux::routes::{Link, Neighbour, RouteTo, Routes};

/// What the node says.
pub trait Surroundings {
    /// The route of a packet to `dst`, from an address of the node where that is given, by a device where that is.
    fn route(&self, dst: IpAddr, src: Option<IpAddr>, by: Option<u32>) -> io::Result<RouteTo>;
    /// A neighbour's entry.
    fn neighbour(&self, device: u32, ip: IpAddr) -> io::Result<Neighbour>;
    /// A device.
    fn link(&self, index: u32) -> io::Result<Link>;
    /// A setting below `/proc/sys`.
    fn setting(&self, path: &str) -> Option<String>;
    /// The firewall, or why it cannot be seen.
    fn firewall(&self) -> Result<&Ruleset, String>;
    /// Tables of the older iptables that are in use, which cannot be read.
    fn legacy_tables(&self, v6: bool) -> Vec<String>;
}

/// This node.
pub struct ThisNode {
    routes: RefCell<Routes>,
    rules: OnceCell<Result<Ruleset, String>>,
}

impl ThisNode {
    /// The node of the current network namespace.
    pub fn open() -> io::Result<Self> {
        Ok(Self { routes: RefCell::new(Routes::open()?), rules: OnceCell::new() })
    }

    /// The ports of a bridge.
    pub fn ports_of(&self, bridge: u32) -> io::Result<Vec<Link>> {
        self.routes.borrow_mut().ports_of(bridge)
    }

    /// Who was heard of lately behind a device.
    pub fn neighbours_of(&self, device: u32, v6: bool) -> io::Result<Vec<IpAddr>> {
        self.routes.borrow_mut().neighbours_of(device, v6)
    }
}

impl Surroundings for ThisNode {
    fn route(&self, dst: IpAddr, src: Option<IpAddr>, by: Option<u32>) -> io::Result<RouteTo> {
        self.routes.borrow_mut().to(dst, src, by)
    }

    fn neighbour(&self, device: u32, ip: IpAddr) -> io::Result<Neighbour> {
        self.routes.borrow_mut().neighbour(device, ip)
    }

    fn link(&self, index: u32) -> io::Result<Link> {
        self.routes.borrow_mut().link(index)
    }

    fn setting(&self, path: &str) -> Option<String> {
        fs::read_to_string(format!("/proc/sys/{path}")).ok().map(|value| value.trim().to_owned())
    }

    fn firewall(&self) -> Result<&Ruleset, String> {
        let rules = self.rules.get_or_init(|| firewall::list().map_err(|error| error.to_string()));
        rules.as_ref().map_err(Clone::clone)
    }

    fn legacy_tables(&self, v6: bool) -> Vec<String> {
        let path = if v6 { "/proc/net/ip6_tables_names" } else { "/proc/net/ip_tables_names" };
        fs::read_to_string(path).map(|names| names.lines().map(str::to_owned).collect()).unwrap_or_default()
    }
}
