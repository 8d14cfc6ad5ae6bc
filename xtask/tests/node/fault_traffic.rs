//! Traffic beside an agent that runs into a fault.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use xtask::lab::probe::{Connection, TIMEOUT, Transport, UdpClient};
use xtask::lab::{Cgroup, Family, Lab, Netns, plan};

use crate::fixture::{FRONTENDS, addresses};

/// Sockets are moved within moments, but not while no agent runs.
const MOVED_WITHIN: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(50);

/// What began before: connections of a Pod on each CNI and from outside, and connected UDP sockets of the node and of a Pod.
pub(crate) struct Conversations {
    tcp: Vec<(SocketAddr, Connection)>,
    udp: Vec<UdpClient>,
}

fn clients(lab: &Lab) -> Result<[Netns; 3]> {
    Ok([lab.pod("br1")?.ns.clone(), lab.pod("rt1")?.ns.clone(), lab.client.clone()])
}

impl Conversations {
    pub(crate) fn begin(lab: &Lab, cgroup: &Cgroup) -> Result<Self> {
        let mut conversations = Self { tcp: Vec::new(), udp: Vec::new() };
        for ns in clients(lab)? {
            for dst in Family::ALL.map(|family| FRONTENDS[0].at(family, Transport::Tcp)) {
                conversations.tcp.push((dst, ns.run(|| Ok(Connection::open(dst, 0, TIMEOUT)?))?));
            }
        }
        for ns in [&lab.node1, &lab.pod("br1")?.ns] {
            for family in Family::ALL {
                let dst = SocketAddr::new(plan::cluster_ip(21).of(family), 53);
                let mut client = ns.in_cgroup(cgroup).udp(dst, 0, TIMEOUT)?;
                client.ask()?;
                conversations.udp.push(client);
            }
        }
        Ok(conversations)
    }

    /// What no change was about is served all the time.
    pub(crate) fn steady(&mut self, lab: &Lab) -> Result<()> {
        for (dst, connection) in &mut self.tcp {
            connection.ask().with_context(|| format!("a connection to {dst}"))?;
        }
        for ns in clients(lab)? {
            for (transport, dst) in FRONTENDS.iter().flat_map(addresses) {
                ns.ask(transport, dst).with_context(|| format!("{} to {dst}/{}", ns.name(), transport.name()))?;
            }
        }
        Ok(())
    }

    /// Sockets whose backend is gone were moved to the one that is there, and those who have them noticed nothing.
    pub(crate) fn moved(&mut self, pod: &str) -> Result<()> {
        let deadline = Instant::now() + MOVED_WITHIN;
        for client in &mut self.udp {
            loop {
                let answer = client.ask().context("a connected UDP socket")?;
                if answer.pod == pod {
                    break;
                }
                ensure!(Instant::now() < deadline, "a socket stays at {}, which is gone", answer.pod);
                thread::sleep(POLL);
            }
        }
        Ok(())
    }
}
