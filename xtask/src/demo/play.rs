//! `--keep`: how to play with the lab, and the wait for Ctrl-C.

use std::path::Path;
use std::thread;

use crate::lab::{Agent, Lab, plan};

/// Prints commands that work now, from another terminal.
pub(super) fn explain(lab: &Lab, agent: &Agent, sluice: &Path, manifests: &Path) {
    let pin_path = agent.pin_path().display();
    let sluice = sluice.display();
    println!("\nThe lab stays up until Ctrl-C. From another terminal, as root:\n");
    for command in ["status", "services", "backends", "flows"] {
        println!("  {sluice} {command} --pin-path {pin_path}");
    }
    println!("\n  # be a Pod, the client outside, the node");
    let namespaces = lab.pods().iter().map(|pod| &pod.ns).chain([&lab.client, &lab.node1]);
    for ns in namespaces {
        println!("  nsenter --net={} bash    # {}", ns.path().display(), ns.name());
    }
    let vip = plan::cluster_ip(10);
    println!("\n  # ask a Service from there");
    println!("  curl http://{}/    curl -g 'http://[{}]/'    dig @{} whoami TXT +short", vip.v4, vip.v6, vip.v4);
    println!("\n  # change what is served");
    println!("  edit the files in {}", manifests.display());
}

/// Returns never: Ctrl-C takes the lab down and ends the process.
pub(super) fn wait_for_signal() {
    loop {
        thread::park();
    }
}
