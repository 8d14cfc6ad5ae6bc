//! The node's packet filters, whichever tool they are made with.

pub mod iptables;
pub mod nft;

use std::net::IpAddr;

use ipnet::IpNet;

/// All rules of the node, as far as its tools show them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firewall {
    /// Tools that gave their rules.
    pub asked: Vec<String>,
    /// Tools that could not, and why.
    pub failed: Vec<String>,
    /// Chains.
    pub chains: Vec<Chain>,
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The tool that shows it: `nft`, `iptables` or `ip6tables`.
    pub tool: String,
    /// `ip`, `ip6`, `inet`, `bridge` or `netdev`.
    pub family: String,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Where the kernel runs it, such as `forward`; none: other chains lead to it.
    pub hook: Option<String>,
    /// Its policy is to drop.
    pub drops: bool,
    /// Rules in their order.
    pub rules: Vec<Rule>,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Accept,
    /// It does not.
    Drop,
    /// Another chain decides.
    Jump(String),
    /// It is counted, marked, translated.
    Other,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// As the tool shows it, or what takes it out.
    pub text: String,
    /// Destination ports that it names.
    pub ports: Vec<(u16, u16)>,
    /// Destination addresses that it names.
    pub addresses: Vec<IpNet>,
    /// It is for some packets only.
    pub conditional: bool,
    /// It is for packets of connections only that were let through before.
    pub established: bool,
    /// What becomes of them.
    pub verdict: Verdict,
}

impl Rule {
    /// A rule that says nothing yet.
    pub(super) const fn new(text: String) -> Self {
        Self {
            text,
            ports: Vec::new(),
            addresses: Vec::new(),
            conditional: false,
            established: false,
            verdict: Verdict::Other,
        }
    }

    /// Whether it names this destination. One that names many addresses says nothing of a single one.
    pub fn names(&self, ip: IpAddr, port: u16, by_port_alone: bool) -> bool {
        let port_named = self.ports.iter().any(|(low, high)| (*low..=*high).contains(&port) && high - low < 1024);
        let address_named = self.addresses.iter().any(|net| net.contains(&ip) && is_narrow(net));
        if by_port_alone {
            port_named && (self.addresses.is_empty() || self.addresses.iter().any(|net| net.contains(&ip)))
        } else {
            address_named && (self.ports.is_empty() || port_named)
        }
    }
}

fn is_narrow(net: &IpNet) -> bool {
    net.max_prefix_len() - net.prefix_len() <= 4
}

impl Chain {
    /// Where it is, for people.
    pub fn place(&self) -> String {
        match &*self.tool {
            "nft" => format!("nft {} {} {}", self.family, self.table, self.name),
            tool => format!("{tool} -t {} {}", self.table, self.name),
        }
    }

    /// The same chain as another tool shows it.
    fn is_also(&self, other: &Self) -> bool {
        (&self.family, &self.table, &self.name) == (&other.family, &other.table, &other.name)
    }

    /// It was made by kube-proxy.
    pub fn is_kube_proxys(&self) -> bool {
        self.table == "kube-proxy" || is_kube_proxys_chain(&self.name)
    }
}

/// Whether a chain of iptables by this name was made by kube-proxy; others that begin with `KUBE-` are kubelet's.
pub fn is_kube_proxys_chain(name: &str) -> bool {
    const CHAINS: [&str; 10] = [
        "KUBE-SERVICES",
        "KUBE-EXTERNAL-SERVICES",
        "KUBE-NODEPORTS",
        "KUBE-NODE-PORT",
        "KUBE-FORWARD",
        "KUBE-PROXY-FIREWALL",
        "KUBE-PROXY-CANARY",
        "KUBE-LOAD-BALANCER",
        "KUBE-SOURCE-RANGES-FIREWALL",
        "KUBE-FIREWALL-IPVS",
    ];
    const PREFIXES: [&str; 5] = ["KUBE-SVC-", "KUBE-SEP-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SVL-"];
    CHAINS.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

impl Firewall {
    /// Adds chains that a tool has shown. What iptables shows is not taken once more from nft, which shows it as well.
    pub fn add(&mut self, tool: &str, chains: Vec<Chain>) {
        self.asked.push(tool.to_owned());
        if tool == "nft" {
            self.chains.extend(chains);
            return;
        }
        self.chains.retain(|known| !chains.iter().any(|chain| chain.is_also(known)));
        self.chains.extend(chains);
    }

    /// The chains that a packet on its way through the node meets, with those that they lead to.
    pub fn forwarding(&self, v6: bool) -> Vec<&Chain> {
        let families: [&str; 2] = if v6 { ["ip6", "inet"] } else { ["ip", "inet"] };
        let of_family = |chain: &&Chain| families.contains(&&*chain.family);
        self.chains.iter().filter(of_family).filter(|chain| chain.hook.as_deref() == Some("forward")).collect()
    }

    /// A chain that another one leads to.
    pub fn target(&self, from: &Chain, name: &str) -> Option<&Chain> {
        let is_it = |chain: &&Chain| (&chain.family, &chain.table, &*chain.name) == (&from.family, &from.table, name);
        self.chains.iter().find(is_it)
    }
}
