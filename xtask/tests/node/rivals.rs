//! Several agents on the same pins: one writes, and the next only when its process is gone.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use xtask::lab::{Agent, AgentOptions, Lab, LabOptions, Manifests, sluice_binary};

const SERVICES: usize = 600;
const PER_FILE: usize = 100;
const ENDPOINTS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(60);

/// What the addresses of a Service's endpoints begin with.
fn prefix(n: usize) -> String {
    format!("10.{}.{}.", 128 + n / 250, n % 250)
}

/// All Services, with other endpoints in each round.
fn write(dir: &Path, round: usize) {
    for file in 0..SERVICES / PER_FILE {
        let items = (file * PER_FILE..(file + 1) * PER_FILE).flat_map(|n| {
            let name = format!("svc-{n}");
            let endpoints =
                (0..ENDPOINTS).map(|k| json!({"addresses": [format!("{}{}", prefix(n), 1 + k + ENDPOINTS * round)]}));
            let ip = format!("10.96.{}.{}", 1 + n / 250, 1 + n % 250);
            [
                json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "rivals"},
                    "spec": {"clusterIP": ip, "ports": [{"port": 80}]}}),
                json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                    "metadata": {"name": name, "namespace": "rivals", "labels": {"kubernetes.io/service-name": name}},
                    "ports": [{"port": 8080}], "endpoints": endpoints.collect::<Vec<_>>()}),
            ]
        });
        let text = json!({"apiVersion": "v1", "kind": "List", "items": items.collect::<Vec<_>>()}).to_string();
        let fresh = dir.join(format!(".{file}"));
        fs::write(&fresh, text).unwrap();
        fs::rename(fresh, dir.join(format!("rivals-{file:02}.json"))).unwrap();
    }
}

/// Every Service in the maps, none of which leads to another one's backends.
fn look(agent: &Agent) -> Value {
    let services = agent.json(&["services"]).unwrap();
    for row in services.as_array().unwrap() {
        let n = row["service"].as_str().unwrap().rsplit_once('-').unwrap().1.parse().unwrap();
        let own: HashSet<u64> = row["backends"]
            .as_array()
            .unwrap()
            .iter()
            .map(|backend| {
                let address = backend["address"].as_str().unwrap();
                assert!(address.starts_with(&prefix(n)), "{row}");
                backend["id"].as_u64().unwrap()
            })
            .collect();
        for frontend in row["frontends"].as_array().unwrap() {
            let leads_to = frontend["internal"].as_array().unwrap();
            assert!(leads_to.iter().all(|id| own.contains(&id.as_u64().unwrap())), "{row}");
        }
    }
    services
}

fn number(look: &Value) -> usize {
    look.as_array().unwrap().len()
}

#[test]
fn of_three_agents_one_writes_and_the_next_waits_for_its_end() {
    let lab = Lab::start(LabOptions::default()).unwrap();
    let manifests = Manifests::of(&lab);
    write(manifests.dir(), 0);
    // Under another name than `sluice`.
    let renamed = manifests.dir().with_file_name("balancer");
    fs::copy(sluice_binary().unwrap(), &renamed).unwrap();
    let options = || AgentOptions::new(&renamed, manifests.dir()).arg("--socket-lb").arg("off");
    let agent = |log, options| Agent::beside(&lab, log, options);

    let mut first = agent("first.log", options().in_own_pid_namespace());
    first.spawn().unwrap();
    // Let go on for moments only, until it is seen amid its first batch.
    let deadline = Instant::now() + PATIENCE;
    while !first.log().contains("took over what the maps hold") {
        assert!(Instant::now() < deadline, "{}", first.log_tail());
        thread::sleep(Duration::from_millis(1));
    }
    first.signal(Signal::SIGSTOP).unwrap();
    let mut stopped = look(&first);
    while number(&stopped) == 0 {
        assert!(Instant::now() < deadline, "{}", first.log_tail());
        first.signal(Signal::SIGCONT).unwrap();
        thread::sleep(Duration::from_millis(3));
        first.signal(Signal::SIGSTOP).unwrap();
        stopped = look(&first);
    }
    assert!(number(&stopped) < SERVICES, "all Services are in the maps: not amid the first batch");

    // Two more, which want something else; and somebody who wants it all gone.
    write(manifests.dir(), 1);
    let waits = |agent: &mut Agent| {
        agent.spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !agent.log().contains("waiting for it") {
            assert!(Instant::now() < deadline, "{}", agent.log_tail());
            thread::sleep(Duration::from_millis(20));
        }
    };
    let mut second = agent("second.log", options().in_own_pid_namespace());
    waits(&mut second);
    let mut third = agent("third.log", options());
    waits(&mut third);
    let refused = first.cli(&["cleanup"]).unwrap_err().to_string();
    assert!(refused.contains("stop it first"), "{refused}");
    assert_eq!(look(&first), stopped, "nobody writes while the writer is stopped");

    first.signal(Signal::SIGCONT).unwrap();
    assert!(first.wait_ended(PATIENCE).unwrap().success(), "{}", first.log_tail());
    assert!(second.wait_ended(PATIENCE).unwrap().success(), "{}", second.log_tail());
    third.wait_synced(PATIENCE).unwrap();
    let whole = look(&third);
    assert_eq!(number(&whole), SERVICES);
    let last = |row: &Value| {
        row["backends"].as_array().unwrap().iter().all(|backend| {
            let address = backend["address"].as_str().unwrap();
            let host: usize = address.split(':').next().unwrap().rsplit('.').next().unwrap().parse().unwrap();
            host > ENDPOINTS
        })
    };
    assert!(whole.as_array().unwrap().iter().all(last), "an endpoint of the first round is left");

    let status = third.json(&["status"]).unwrap();
    assert!(status["agent"]["alive"] == true && status["agent"]["owner"] != "0000000000000000", "{status}");
    third.signal(Signal::SIGTERM).unwrap();
    assert!(third.wait_ended(PATIENCE).unwrap().success());
    third.cli(&["cleanup"]).unwrap();
    assert!(!third.pin_path().exists());
}
