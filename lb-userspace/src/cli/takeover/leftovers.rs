//! What kube-proxy has left on a node, and the commands that remove just that.

use std::collections::BTreeMap;

use crate::check::facts::KubeProxy;
use crate::check::firewall::{Firewall, is_kube_proxys_chain};

/// A command that removes something, and what it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Removal {
    pub(super) program: &'static str,
    pub(super) args: Vec<String>,
    /// Its standard input.
    pub(super) input: String,
    /// What it removes, for people.
    pub(super) what: String,
}

impl Removal {
    fn new(program: &'static str, args: &[&str], what: String) -> Self {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Self { program, args, input: String::new(), what }
    }

    /// As one would type it.
    pub(super) fn command(&self) -> String {
        let input = if self.input.is_empty() { "" } else { " < (deletions of these chains alone)" };
        format!("{} {}{input}", self.program, self.args.join(" "))
    }
}

/// The tools of iptables: what lists, what writes.
pub(super) const IPTABLES: [(&str, &str); 4] = [
    ("iptables-save", "iptables-restore"),
    ("ip6tables-save", "ip6tables-restore"),
    ("iptables-legacy-save", "iptables-legacy-restore"),
    ("ip6tables-legacy-save", "ip6tables-legacy-restore"),
];

/// What removes kube-proxy's tables of nftables.
pub(super) fn of_nft(firewall: &Firewall) -> Vec<Removal> {
    let mut families: Vec<&str> = firewall
        .chains
        .iter()
        .filter(|chain| chain.tool == "nft" && chain.table == "kube-proxy")
        .map(|chain| chain.family.as_str())
        .collect();
    families.sort_unstable();
    families.dedup();
    families
        .into_iter()
        .map(|family| {
            let what = format!("nft table {family} kube-proxy");
            Removal::new("nft", &["delete", "table", family, "kube-proxy"], what)
        })
        .collect()
}

/// What removes kube-proxy's chains from what `save` has printed, and the rules that lead to them; none: there are none.
/// Rules of others stay as they are, also those that are added meanwhile.
pub(super) fn of_iptables(restore: &'static str, saved: &str) -> Option<Removal> {
    let mut tables: BTreeMap<&str, (Vec<&str>, Vec<String>)> = BTreeMap::new();
    let mut table = "";
    for line in saved.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name.trim();
        } else if let Some(chain) = line.strip_prefix(':').and_then(|rest| rest.split_whitespace().next()) {
            if is_kube_proxys_chain(chain) {
                tables.entry(table).or_default().0.push(chain);
            }
        } else if let Some(rule) = rule(line) {
            let chain = rule.split_whitespace().next().unwrap_or_default();
            let mut words = rule.split_whitespace();
            let leads =
                words.any(|word| word == "-j" || word == "-g") && words.next().is_some_and(is_kube_proxys_chain);
            if leads && !is_kube_proxys_chain(chain) {
                tables.entry(table).or_default().1.push(format!("-D {rule}\n"));
            }
        }
    }
    let chains: usize = tables.values().map(|(chains, _)| chains.len()).sum();
    if chains == 0 {
        return None;
    }
    let mut input = String::new();
    for (table, (chains, leading)) in &tables {
        let of_chains = |before: &str, behind: &str| -> String {
            chains.iter().flat_map(|chain| [before, chain, behind, "\n"]).collect()
        };
        // A chain that is declared is emptied; one may go when nothing leads to it any more.
        let (declared, deleted) = (of_chains(":", " - [0:0]"), of_chains("-X ", ""));
        input.extend(["*", table, "\n", declared.as_str(), leading.concat().as_str(), deleted.as_str(), "COMMIT\n"]);
    }
    let what = format!("{chains} chains KUBE-... of {}", restore.trim_end_matches("-restore"));
    Some(Removal { input, ..Removal::new(restore, &["--noflush"], what) })
}

/// A rule as `-A` has it, without its counters.
fn rule(line: &str) -> Option<&str> {
    let line = if line.starts_with('[') { line.split_once("] ")?.1 } else { line };
    line.strip_prefix("-A ")
}

/// What removes what IPVS has: kube-proxy's virtual servers cannot be told from others'.
pub(super) fn of_ipvs(kube_proxy: &KubeProxy, sets: &[String]) -> Vec<Removal> {
    let mut all = Vec::new();
    if kube_proxy.ipvs_servers > 0 {
        let what = format!("ALL {} virtual servers of IPVS, whoever made them", kube_proxy.ipvs_servers);
        all.push(Removal::new("ipvsadm", &["--clear"], what));
    }
    if kube_proxy.ipvs_device {
        all.push(Removal::new("ip", &["link", "delete", "kube-ipvs0"], "device kube-ipvs0 with its addresses".into()));
    }
    // Behind the rules that ask them.
    all.extend(sets.iter().map(|set| Removal::new("ipset", &["destroy", set], format!("set {set}"))));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::firewall::nft;

    const SAVED: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-FIREWALL - [0:0]
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-A FORWARD -j MINE
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-ABC - [0:0]
[5:300] -A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -j KUBE-SVC-ABC
COMMIT
";

    #[test]
    fn kube_proxys_chains_go_and_nothing_else() {
        let removal = of_iptables("iptables-restore", SAVED).unwrap();
        assert_eq!(removal.what, "3 chains KUBE-... of iptables");
        assert_eq!(removal.args, ["--noflush"]);
        let wanted = "\
*filter
:KUBE-FORWARD - [0:0]
-D FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-X KUBE-FORWARD
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-SVC-ABC - [0:0]
-D PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-X KUBE-SERVICES
-X KUBE-SVC-ABC
COMMIT
";
        assert_eq!(removal.input, wanted);
        // KUBE-FIREWALL is kubelet's.
        let others = "*filter\n:INPUT ACCEPT [0:0]\n:KUBE-FIREWALL - [0:0]\n-A INPUT -j KUBE-FIREWALL\nCOMMIT\n";
        assert_eq!(of_iptables("iptables-restore", others), None);
    }

    #[test]
    fn tables_of_nftables_and_what_ipvs_has_are_named() {
        let json = r#"{"nftables": [{"chain": {"family": "ip6", "table": "kube-proxy", "name": "services"}},
            {"chain": {"family": "inet", "table": "mine", "name": "services"}}]}"#;
        let mut firewall = Firewall::default();
        firewall.add("nft", nft::parse(json).unwrap());
        let commands: Vec<String> = of_nft(&firewall).iter().map(Removal::command).collect();
        assert_eq!(commands, ["nft delete table ip6 kube-proxy"]);
        let left = KubeProxy { processes: vec![], ipvs_device: true, ipvs_servers: 3 };
        let commands: Vec<String> =
            of_ipvs(&left, &["KUBE-CLUSTER-IP".to_owned()]).iter().map(Removal::command).collect();
        assert_eq!(commands, ["ipvsadm --clear", "ip link delete kube-ipvs0", "ipset destroy KUBE-CLUSTER-IP"]);
    }
}
