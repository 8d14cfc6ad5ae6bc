//! What is in an archive, and where each file of it comes from.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use super::args::SysdumpArgs;
use super::reading::{file, only};

/// A file of the archive.
pub(super) struct Source {
    /// Its path.
    pub(super) file: &'static str,
    /// How it is made.
    pub(super) way: Way,
}

/// How a file is made.
pub(super) enum Way {
    /// By this program's own command line.
    Sluice(Vec<String>),
    /// By a program of the node, where it has it.
    Tool(&'static str, &'static [&'static str]),
    /// The same, of which only lines with one of these words.
    Lines(&'static str, &'static [&'static str], &'static [&'static str]),
    /// A file of the node.
    File(&'static str),
    /// The agent's answer: its address and a path.
    Asked(String, &'static str),
    /// Put together here; with what it is.
    Made(&'static str, Box<dyn Fn() -> Result<String, String> + Send + Sync>),
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sluice(args) => write!(f, "sluice {}", args.join(" ")),
            Self::Tool(tool, args) | Self::Lines(tool, args, _) => write!(f, "{tool} {}", args.join(" ")),
            Self::File(path) => f.write_str(path),
            Self::Asked(address, path) => write!(f, "http://{address}{path}"),
            Self::Made(what, _) => f.write_str(what),
        }
    }
}

/// This program's commands: file, arguments, and whether they take `--pin-path`.
const OWN: &[(&str, &[&str])] = &[
    ("sluice/status.txt", &["status", "-o", "wide"]),
    ("sluice/status.json", &["status", "-o", "json"]),
    ("sluice/check.txt", &["check"]),
    ("sluice/services.txt", &["services", "-o", "wide"]),
    ("sluice/services.json", &["services", "-o", "json"]),
    ("sluice/problems.txt", &["services", "--problems"]),
    ("sluice/backends.txt", &["backends", "-o", "wide"]),
    ("sluice/top.txt", &["top", "--batch", "--iterations", "1"]),
];

/// What the node's programs say of links, routes, programs of others and the firewall.
const TOOLS: &[(&str, &str, &[&str])] = &[
    ("network/link.txt", "ip", &["-d", "-s", "link"]),
    ("network/address.txt", "ip", &["address"]),
    ("network/route4.txt", "ip", &["-4", "route", "show", "table", "all"]),
    ("network/route6.txt", "ip", &["-6", "route", "show", "table", "all"]),
    ("network/rule4.txt", "ip", &["-4", "rule"]),
    ("network/rule6.txt", "ip", &["-6", "rule"]),
    ("network/neighbour.txt", "ip", &["-s", "neighbour"]),
    ("network/qdisc.txt", "tc", &["-s", "qdisc"]),
    ("network/bpf.txt", "bpftool", &["net"]),
    ("network/sockets.txt", "ss", &["-s"]),
    ("kernel/programs.txt", "bpftool", &["prog", "show"]),
    ("kernel/maps.txt", "bpftool", &["map", "show"]),
    ("firewall/nft.txt", "nft", &["-a", "list", "ruleset"]),
    ("firewall/iptables.txt", "iptables-save", &["-c"]),
    ("firewall/ip6tables.txt", "ip6tables-save", &["-c"]),
    ("firewall/iptables-legacy.txt", "iptables-legacy-save", &["-c"]),
    ("firewall/ip6tables-legacy.txt", "ip6tables-legacy-save", &["-c"]),
    ("firewall/ipvs.txt", "ipvsadm", &["-Sn"]),
    ("log/journal.txt", "journalctl", &["--unit", "sluice", "--lines", "3000", "--no-pager"]),
];

/// Files of the node. `/proc/net` has routes and neighbours also where there is no `ip`.
const FILES: &[(&str, &str)] = &[
    ("kernel/version.txt", "/proc/version"),
    ("kernel/os-release.txt", "/etc/os-release"),
    ("kernel/mounts.txt", "/proc/self/mounts"),
    ("kernel/memory.txt", "/proc/meminfo"),
    ("kernel/load.txt", "/proc/loadavg"),
    ("kernel/pressure-cpu.txt", "/proc/pressure/cpu"),
    ("network/proc/dev.txt", "/proc/net/dev"),
    ("network/proc/route.txt", "/proc/net/route"),
    ("network/proc/ipv6_route.txt", "/proc/net/ipv6_route"),
    ("network/proc/arp.txt", "/proc/net/arp"),
    ("network/proc/snmp.txt", "/proc/net/snmp"),
    ("network/proc/snmp6.txt", "/proc/net/snmp6"),
    ("network/proc/netstat.txt", "/proc/net/netstat"),
    ("network/proc/softnet.txt", "/proc/net/softnet_stat"),
    ("network/proc/sockstat.txt", "/proc/net/sockstat"),
];

/// Settings that Sluice, or a packet on its way, depends on.
const SETTINGS: &[&str] = &[
    "kernel/unprivileged_bpf_disabled",
    "net/core/bpf_*",
    "net/core/netdev_*",
    "net/ipv4/ip_forward",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/ip_local_reserved_ports",
    "net/ipv4/conf/*/forwarding",
    "net/ipv4/conf/*/rp_filter",
    "net/ipv4/conf/*/accept_local",
    "net/ipv4/conf/*/route_localnet",
    "net/ipv4/conf/*/arp_ignore",
    "net/ipv6/conf/*/forwarding",
    "net/ipv6/conf/*/disable_ipv6",
    "net/netfilter/nf_conntrack_count",
    "net/netfilter/nf_conntrack_max",
    "net/bridge/*",
];

/// Options of the kernel that matter.
const OPTIONS: &[&str] = &[
    "BPF",
    "XDP",
    "NET_CLS",
    "SCH_INGRESS",
    "INET_DIAG",
    "INET_UDP_DIAG",
    "INET_TCP_DIAG",
    "CGROUPS",
    "VETH",
    "NETKIT",
];

/// Lines of the kernel's log that may have to do with it.
const KERNEL_LOG: &[&str] =
    &["bpf", "BPF", "xdp", "XDP", "sluice", "conntrack", "martian", "Out of memory", "oom-kill", "neighbour"];

/// All files.
pub(super) fn all(args: &SysdumpArgs) -> Vec<Source> {
    let pins = args.pins.pin_path.clone();
    let pin_path = ["--pin-path".to_owned(), pins.display().to_string()];
    let own = |arguments: &[&str]| {
        Way::Sluice(arguments.iter().map(|word| (*word).to_owned()).chain(pin_path.iter().cloned()).collect())
    };
    let mut all: Vec<Source> = OWN.iter().map(|(file, arguments)| Source { file, way: own(arguments) }).collect();
    let flows = args.flows.to_string();
    let more = [
        ("sluice/flows.txt", own(&["flows", "-o", "wide", "--limit", &flows])),
        ("sluice/version.json", Way::Sluice(["version", "-o", "json"].map(str::to_owned).to_vec())),
        ("sluice/metrics.txt", Way::Asked(args.metrics_address.clone(), "/metrics")),
        ("sluice/configz.json", Way::Asked(args.metrics_address.clone(), "/configz")),
        ("sluice/healthz.json", Way::Asked(args.healthz_address.clone(), "/healthz")),
        ("sluice/pins.txt", Way::Made("what is pinned", Box::new(move || listing(&pins)))),
        ("kernel/settings.txt", Way::Made("settings below /proc/sys", Box::new(settings))),
        ("kernel/options.txt", Way::Made("options of the kernel", Box::new(options))),
        ("kernel/log.txt", Way::Lines("dmesg", &[], KERNEL_LOG)),
        ("network/devices.txt", Way::Made("devices below /sys/class/net", Box::new(devices))),
        ("log/hints.txt", Way::Made("where the agent's log is", Box::new(|| Ok(HINTS.to_owned())))),
    ];
    all.extend(more.map(|(file, way)| Source { file, way }));
    all.extend(TOOLS.iter().map(|(file, tool, args)| Source { file, way: Way::Tool(tool, args) }));
    all.extend(FILES.iter().map(|(file, path)| Source { file, way: Way::File(path) }));
    all
}

const HINTS: &str = "\
The agent's log is not in here, unless log/journal.txt has it:
  systemd     journalctl --unit sluice
  Kubernetes  kubectl -n kube-system logs POD, and the one before it: kubectl -n kube-system logs POD --previous
              `kubectl sluice sysdump` fetches both, of all nodes.
";

/// The path of every pin.
fn listing(pins: &Path) -> Result<String, String> {
    let mut pending = vec![pins.to_path_buf()];
    let mut found: Vec<PathBuf> = Vec::new();
    while let Some(folder) = pending.pop() {
        let entries = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pending.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found.iter().fold(String::new(), |text, path| text + &path.display().to_string() + "\n"))
}

fn settings() -> Result<String, String> {
    let mut text = String::new();
    for pattern in SETTINGS {
        let paths = glob::glob(&format!("/proc/sys/{pattern}")).map_err(|error| error.to_string())?;
        for path in paths.flatten() {
            let value = file(&path).unwrap_or_else(|why| why);
            let name = path.strip_prefix("/proc/sys").unwrap_or(&path).display().to_string();
            text.extend([name.as_str(), " = ", value.trim_end(), "\n"]);
        }
    }
    Ok(text)
}

fn options() -> Result<String, String> {
    if let Ok(packed) = fs::File::open("/proc/config.gz") {
        let text = std::io::read_to_string(GzDecoder::new(packed)).map_err(|error| error.to_string())?;
        return Ok(only(&text, OPTIONS));
    }
    let release = nix::sys::utsname::uname().map_err(|errno| errno.to_string())?;
    let path = PathBuf::from("/boot").join(format!("config-{}", release.release().display()));
    file(&path).map(|text| only(&text, OPTIONS)).map_err(|why| format!("{}: {why}", path.display()))
}

fn devices() -> Result<String, String> {
    let mut names: Vec<PathBuf> = fs::read_dir("/sys/class/net")
        .map_err(|error| error.to_string())?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    names.sort();
    let mut text = String::new();
    for path in names {
        let fact = |name: &str| file(&path.join(name)).map_or_else(|_| "-".to_owned(), |value| value.trim().to_owned());
        let facts = ["ifindex", "iflink", "mtu", "operstate", "address", "flags", "type"];
        let facts: Vec<String> = facts.iter().map(|name| format!("{name} {}", fact(name))).collect();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let master = fs::read_link(path.join("master")).ok();
        let master = master.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        let master = master.map_or_else(String::new, |name| format!(" master {name}"));
        text.extend([name.as_ref(), ": ", facts.join(" ").as_str(), master.as_str(), "\n"]);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::command_line::Cli;

    #[test]
    fn each_file_is_there_once_and_the_command_line_takes_what_is_asked_of_it() {
        let args = SysdumpArgs {
            file: None,
            flows: 7,
            metrics_address: "off".into(),
            healthz_address: "off".into(),
            pins: crate::cli::pin_args::PinArgs { pin_path: "/nowhere".into() },
        };
        let all = all(&args);
        let files: BTreeSet<&str> = all.iter().map(|source| source.file).collect();
        assert_eq!(files.len(), all.len());
        for source in &all {
            if let Way::Sluice(arguments) = &source.way {
                let line = std::iter::once("sluice".to_owned()).chain(arguments.iter().cloned());
                let parsed = Cli::command().try_get_matches_from(line);
                assert!(parsed.is_ok(), "{arguments:?}: {parsed:?}");
            }
        }
    }

    #[test]
    fn a_node_without_any_tool_still_says_what_it_is() {
        assert!(devices().unwrap().lines().any(|line| line.starts_with("lo: ifindex 1 ")));
        assert!(settings().unwrap().contains("net/ipv4/ip_forward = "));
        assert!(listing(Path::new("/nowhere")).is_err());
    }
}
