//! Who else translates Services on this node, or sits on the same hooks.

use super::facts::{Facts, HookProgram, Owner};
use super::finding::{Finding, named, or_ok};
use super::firewall::Chain;

const NAMED: usize = 6;

pub(super) fn kube_proxy(facts: &Facts) -> Vec<Finding> {
    let (kube_proxy, firewall) = (&facts.kube_proxy, &facts.firewall);
    let mut found = Vec::new();
    if let Some(pid) = kube_proxy.processes.first() {
        found.push(Finding::problem(
            format!("kube-proxy runs (pid {pid}): its rules come back, and the health ports are its own"),
            "kubectl -n kube-system delete daemonset kube-proxy; k3s: --disable-kube-proxy",
        ));
    }
    let left: Vec<&Chain> = firewall.chains.iter().filter(|chain| chain.is_kube_proxys()).collect();
    let of = |tool: &str| left.iter().filter(|chain| chain.tool == tool).count();
    for (family, table) in [("ip", "kube-proxy"), ("ip6", "kube-proxy"), ("inet", "kube-proxy")] {
        if left.iter().any(|chain| chain.tool == "nft" && chain.family == family && chain.table == table) {
            found.push(Finding::warning(
                format!("rules of kube-proxy are left: nft table {family} {table}"),
                format!("nft delete table {family} {table}"),
            ));
        }
    }
    for (tool, family) in [("iptables", "ip"), ("ip6tables", "ip6")] {
        let in_nft =
            left.iter().filter(|chain| chain.tool == "nft" && chain.family == family && chain.table != "kube-proxy");
        let number = of(tool) + in_nft.count();
        if number > 0 {
            found.push(Finding::warning(
                format!("rules of kube-proxy are left: {number} {tool} chains KUBE-..."),
                format!(
                    "{tool}-save | grep -vE 'KUBE-(SERVICES|EXTERNAL|NODE|FORWARD|PROXY|SVC|SVL|SEP|EXT|FW|LOAD|SOURCE)' | \
                     {tool}-restore; or `kube-proxy --cleanup` from its image"
                ),
            ));
        }
    }
    if kube_proxy.ipvs_servers > 0 || kube_proxy.ipvs_device {
        found.push(Finding::warning(
            format!("IPVS has {} virtual servers, and kube-ipvs0 may hold ClusterIPs", kube_proxy.ipvs_servers),
            "ipvsadm --clear; ip link delete kube-ipvs0",
        ));
    }
    if found.is_empty() && firewall.asked.is_empty() {
        return vec![Finding::skipped(
            "kube-proxy does not run; whether it left rules cannot be seen without nft or iptables-save",
            "run `sluice check` on the host, as root",
        )];
    }
    or_ok(found, || "kube-proxy does not run and has left nothing".to_owned())
}

fn lines(programs: &[&HookProgram]) -> Vec<String> {
    programs.iter().map(|program| format!("{} ({}) at {}", program.name, program.id, program.hook)).collect()
}

pub(super) fn programs(facts: &Facts) -> Vec<Finding> {
    let programs = &facts.programs;
    if let Some(why) = &programs.failed {
        return vec![Finding::skipped(format!("programs of the kernel cannot be listed: {why}"), "run it as root")];
    }
    let all = &programs.at_hooks;
    let others: Vec<&HookProgram> = all.iter().filter(|program| program.owner == Owner::OtherSluice).collect();
    let mut found = Vec::new();
    if !others.is_empty() {
        found.push(Finding::problem(
            format!("another Sluice serves this node: {}", named(&lines(&others), NAMED)),
            "end that agent, then `sluice cleanup --pin-path DIR` for its pins (ls -d /sys/fs/bpf/*/maps)",
        ));
    }
    let is_foreign = |program: &&HookProgram| program.owner == Owner::Foreign;
    let first_of = |hook: &str| all.iter().find(|program| program.hook == hook);
    let ahead: Vec<&HookProgram> = all
        .iter()
        .filter(is_foreign)
        .filter(|program| program.hook.ends_with(" xdp") || first_of(&program.hook) == Some(program))
        .filter(|program| {
            program.hook.ends_with(" xdp")
                || all.iter().any(|other| other.hook == program.hook && other.owner == Owner::Own)
        })
        .collect();
    if !ahead.is_empty() {
        found.push(Finding::warning(
            format!("programs of others run before Sluice's: {}", named(&lines(&ahead), NAMED)),
            "see that they let packets of Services through; Cilium: kubeProxyReplacement=false",
        ));
    }
    let behind: Vec<&HookProgram> = all.iter().filter(is_foreign).filter(|program| !ahead.contains(program)).collect();
    if !behind.is_empty() {
        found.push(Finding::warning(
            format!("programs of others are at Sluice's hooks: {}", named(&lines(&behind), NAMED)),
            "see that they translate no Services and drop none of their packets; Cilium: kubeProxyReplacement=false",
        ));
    }
    or_ok(found, || "nobody else has programs at these hooks".to_owned())
}
