//! Asks the firewall's tools for their rules.

use std::io;
use std::process::Command;

use crate::check::firewall::{Firewall, iptables, nft};

/// Where they are when nobody has said it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program of the node, wherever programs tend to be.
pub fn tool(name: &str) -> Command {
    let path = std::env::var("PATH").map_or_else(|_| PATH.to_owned(), |given| format!("{given}:{PATH}"));
    let mut command = Command::new(name);
    command.env("PATH", path);
    command
}

/// All rules that the tools of this node show.
pub(super) fn firewall() -> Firewall {
    let mut firewall = nft_rules();
    for (tool, v6) in [
        ("iptables-save", false),
        ("iptables-legacy-save", false),
        ("ip6tables-save", true),
        ("ip6tables-legacy-save", true),
    ] {
        if let Some(text) = run(tool, &[], &mut firewall) {
            firewall.add(tool, iptables::parse(&text, v6));
        }
    }
    firewall
}

/// The rules of nftables, as `nft` shows them.
pub fn nft_rules() -> Firewall {
    let mut firewall = Firewall::default();
    if let Some(text) = run("nft", &["-j", "list", "ruleset"], &mut firewall) {
        match nft::parse(&text) {
            Ok(chains) => firewall.add("nft", chains),
            Err(error) => firewall.failed.push(format!("nft: {error}")),
        }
    }
    firewall
}

/// What a tool prints; none: it is not there, or fails, which is noted.
fn run(tool: &str, args: &[&str], firewall: &mut Firewall) -> Option<String> {
    let output = match self::tool(tool).args(args).output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            firewall.failed.push(format!("{tool}: {error}"));
            return None;
        }
    };
    if output.status.success() {
        return Some(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    firewall.failed.push(format!("{tool}: {}", said.lines().next().unwrap_or("fails")));
    None
}
