//! The agent with the capabilities and the system calls of `deploy/least-privilege` and `deploy/seccomp`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use xtask::lab::confinement::{BPF, Confinement, NET_ADMIN, PERFMON};
use xtask::lab::{Agent, AgentOptions, Lab, LabOptions, Manifests, sluice_binary};

use crate::fixture::{ALL, FRONTENDS, addresses, all};

const PATIENCE: Duration = Duration::from_secs(40);

#[test]
fn three_capabilities_and_the_listed_system_calls_are_enough() {
    let lab = Lab::start(LabOptions::default()).unwrap();
    let (cgroup, manifests) = (lab.cgroup().unwrap(), Manifests::of(&lab));
    manifests.service(&all()).unwrap();
    manifests.ready(ALL, lab.pods()).unwrap();
    let profile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/seccomp/sluice.json");
    let agent = |capabilities: &[_]| {
        let cgroup = cgroup.path().display().to_string();
        let args = ["--cgroup", &cgroup, "--socket-lb", "host-only"];
        let options = AgentOptions::new(&sluice_binary().unwrap(), manifests.dir());
        let mut options = args.iter().fold(options, |options, arg| options.arg(arg));
        options.confinement = Some(Confinement::new(capabilities, &profile).unwrap());
        Agent::prepare(&lab, options)
    };
    // Each of them is needed.
    for less in [[NET_ADMIN, PERFMON], [BPF, PERFMON], [BPF, NET_ADMIN]] {
        let mut agent = agent(&less);
        agent.spawn().unwrap();
        let ended = agent.wait_ended(PATIENCE).unwrap();
        assert_eq!(ended.code(), Some(1), "{less:?}: {ended}: {}", agent.log_tail());
    }
    let mut agent = agent(&[BPF, NET_ADMIN, PERFMON]);
    agent.spawn().unwrap();
    agent.wait_synced(PATIENCE).unwrap();
    let served = |when: &str| {
        for frontend in FRONTENDS {
            for (transport, dst) in addresses(&frontend) {
                let asked = lab.client.ask(transport, dst);
                assert!(asked.is_ok(), "{when}: {dst}: {asked:?}");
            }
        }
    };
    served("at first");
    let report = agent.json(&["status"]).unwrap()["report"].clone();
    assert!(report["sockets"]["errors"] == serde_json::json!([]), "{report:#}");
    assert!(report["sockets"]["hooks"].as_array().is_some_and(|hooks| hooks.len() >= 8), "{report:#}");
    let said = |text: &str| agent.log().contains(text);
    assert!(!said("may not be entered") && !said("may not be seen"), "{}", agent.log_tail());
    // Metrics and health checks, a change, a device that comes, and a restart over what is there.
    let metrics = lab.node1.run(|| {
        let mut asked = TcpStream::connect(("127.0.0.1", 10249))?;
        asked.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        asked.read_to_string(&mut text)?;
        Ok(text)
    });
    assert!(metrics.unwrap().contains("sluice_synced 1"));
    manifests.ready(ALL, [lab.pod("br2").unwrap(), lab.pod("rt1").unwrap()]).unwrap();
    lab.node1.command("ip", &["link", "add", "late", "type", "veth", "peer", "name", "latep"]).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    served("after a change");
    agent.stop().unwrap();
    agent.restart().unwrap();
    served("after a restart");
}
