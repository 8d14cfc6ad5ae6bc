//! The control: the same frontends by the kernel's own NAT, as kube-proxy would have it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;

use xtask::lab::probe::Transport;
use xtask::lab::{Family, Lab};

use crate::fixture::FRONTENDS;

/// Loads rules that lead every frontend of the Service `all` to these Pods. Clients outside are masqueraded, as under
/// `externalTrafficPolicy: Cluster`. With `sources`, only they may come by the load balancer's address.
///
/// IPv6 has no `rp_filter`; who wants it strict writes it as a rule.
pub(crate) fn load(lab: &Lab, pods: &[&str], sources: &[String]) {
    let text = rules(lab, pods, sources);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    lab.node1.command("nft", &["-f", &file.path().to_string_lossy()]).unwrap();
}

fn rules(lab: &Lab, pods: &[&str], sources: &[String]) -> String {
    let mut chains = String::new();
    let mut services = String::new();
    let mut firewall = String::new();
    for family in Family::ALL {
        let ip = if family == Family::V4 { "ip" } else { "ip6" };
        for transport in Transport::ALL {
            let protocol = transport.name().to_lowercase();
            let chain = format!("to-{ip}-{protocol}");
            let (count, mut choice) = (pods.len(), Vec::new());
            for (at, name) in pods.iter().enumerate() {
                let (pod, port) = (lab.pod(name).unwrap().addr.of(family), transport.pod_port());
                let to = if pod.is_ipv4() { format!("{pod}:{port}") } else { format!("[{pod}]:{port}") };
                let _never_fails = writeln!(
                    chains,
                    "chain {chain}-{name} {{ {ip} saddr {pod} meta mark set 0x4000\n{protocol} dport 1-65535 dnat {ip} to {to}\n}}"
                );
                choice.push(format!("{at} : goto {chain}-{name}"));
            }
            let _never_fails = writeln!(
                chains,
                "chain {chain} {{ iifname \"eth0\" meta mark set 0x4000\nnumgen random mod {count} vmap {{ {} }}\n}}",
                choice.join(", ")
            );
            for frontend in &FRONTENDS {
                let at = frontend.at(family, transport);
                let (to, port) = (at.ip(), at.port());
                let _never_fails = writeln!(services, "{ip} daddr {to} {protocol} dport {port} goto {chain}");
            }
        }
        let own = sources.iter().filter(|cidr| cidr.contains(':') == (family == Family::V6));
        let own = own.cloned().collect::<Vec<_>>().join(", ");
        if !own.is_empty() {
            let to: IpAddr = FRONTENDS[2].ip.of(family);
            let _never_fails = writeln!(firewall, "{ip} daddr {to} {ip} saddr != {{ {own} }} drop");
        }
    }
    format!(
        "table inet control {{
{chains}
chain services {{
{services}}}
chain firewall {{ type filter hook prerouting priority -110
meta nfproto ipv6 meta l4proto {{ tcp, udp }} fib saddr . iif oif missing drop
{firewall}}}
chain prerouting {{ type nat hook prerouting priority -100
jump services
}}
chain postrouting {{ type nat hook postrouting priority 100
meta mark 0x4000 masquerade fully-random
}}
chain forward {{ type filter hook forward priority 0
ct state invalid drop
}}
}}
"
    )
}
