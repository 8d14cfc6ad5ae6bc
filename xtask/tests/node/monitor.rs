//! What an operator sees of a node while it happens, and what an archive has of it afterwards.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use flate2::read::GzDecoder;
use serde_json::Value;
use xtask::lab::plan::{CLIENT_ADDR, cluster_ip};
use xtask::lab::probe::Transport;
use xtask::lab::{Family, ServiceSpec, sluice_binary};

use crate::fixture::{CLUSTER_IP, Node};

/// The files of an archive, by their paths in its folder.
fn sysdump(node: &Node, folder: &std::path::Path, name: &str) -> BTreeMap<String, String> {
    let path = folder.join(name);
    node.agent.cli(&["sysdump", "--file", &path.display().to_string()]).unwrap();
    let mut archive = tar::Archive::new(GzDecoder::new(File::open(&path).unwrap()));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (path.split_once('/').unwrap().1.to_owned(), text)
    });
    entries.collect()
}

#[test]
fn a_monitor_shows_what_happens_and_an_archive_has_all_also_of_a_dead_agent() {
    let mut node = Node::start();
    let lonely = cluster_ip(11);
    node.change(|manifests| manifests.service(&ServiceSpec::new("lonely", lonely)).unwrap());
    let client = CLIENT_ADDR.of(Family::V4).to_string();
    let good = CLUSTER_IP.at(Family::V4, Transport::Tcp);
    let bad = SocketAddr::new(lonely.of(Family::V4), 80);
    let is_over = AtomicBool::new(false);
    let text = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                node.lab.client.ask(Transport::Tcp, good).unwrap();
                node.lab.client.ask(Transport::Tcp, bad).unwrap_err();
                thread::sleep(Duration::from_millis(100));
            }
        });
        let pins = node.agent.pin_path().display().to_string();
        let args = ["monitor", "-o", "json", "--seconds", "6", "--client", &client, "--pin-path", &pins];
        let mut monitor = node
            .lab
            .node1
            .run(|| Ok(Command::new(sluice_binary()?).args(args).stdout(Stdio::piped()).spawn()?))
            .unwrap();
        let mut lines = BufReader::new(monitor.stdout.take().unwrap());
        let mut text = String::new();
        lines.read_line(&mut text).unwrap();
        // Nobody else can have the same events meanwhile.
        let second = node.agent.cli(&["monitor", "--seconds", "0"]).map_err(|error| error.to_string());
        lines.read_to_string(&mut text).unwrap();
        is_over.store(true, Ordering::Relaxed);
        assert!(monitor.wait().unwrap().success());
        assert!(second.is_err_and(|error| error.contains("another monitor listens")), "{text}");
        text
    });
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let shown = |event: &str, service: &str, reason: &str| {
        let is = |row: &&Value| {
            row["event"] == event && row["service"].as_str().is_some_and(|name| name.starts_with(service))
        };
        let row = rows.iter().find(|row| is(row) && row["reason"] == reason);
        row.unwrap_or_else(|| panic!("{event} {service} {reason}:\n{text}"))
    };
    let new = shown("new", "lab/all:http/TCP", "new_flow");
    assert_eq!(new["destination"], good.to_string());
    assert!(new["translated_destination"].as_str().unwrap().ends_with(":8080"), "{new}");
    assert_eq!(shown("refused", "lab/lonely:http/TCP", "reject_no_endpoints")["destination"], bad.to_string());
    shown("ended", "lab/all:http/TCP", "closed");
    assert!(rows.iter().all(|row| row["source"].as_str().is_some_and(|source| source.starts_with(&client))), "{text}");
    assert!(node.agent.cli(&["monitor", "--seconds", "0"]).unwrap().starts_with("TIME "), "its place is free again");

    let folder = tempfile::tempdir().unwrap();
    let files = sysdump(&node, folder.path(), "alive.tar.gz");
    for (file, part) in [
        ("sluice/status.txt", "Agent"),
        ("sluice/services.txt", "lonely"),
        ("sluice/flows.txt", "lab/all"),
        ("sluice/problems.txt", "no-endpoints"),
        ("sluice/metrics.txt", "sluice_synced 1\n"),
        ("sluice/configz.json", "kubeproxy.config.k8s.io"),
        ("sluice/check.txt", "forwarding"),
        ("sluice/pins.txt", "FRONTENDS4"),
        ("kernel/settings.txt", "net/ipv4/ip_forward = 1\n"),
        ("network/devices.txt", "eth0: ifindex "),
        ("network/route4.txt", "10.244."),
    ] {
        assert!(
            files.get(file).is_some_and(|text| text.contains(part)),
            "{file}: {:?}\n{}",
            files.get(file),
            files["index.txt"]
        );
    }
    assert!(files.contains_key("firewall/nft.txt"), "{}", files["index.txt"]);

    node.agent.kill9().unwrap();
    let files = sysdump(&node, folder.path(), "dead.tar.gz");
    assert!(files["sluice/status.txt"].contains("not running"), "{}", files["sluice/status.txt"]);
    assert!(files["sluice/services.txt"].contains("lonely"));
    let metrics = files["index.txt"].lines().find(|line| line.starts_with("sluice/metrics.txt"));
    assert!(metrics.is_some_and(|line| line.contains("not there: ")), "{}", files["index.txt"]);
}
