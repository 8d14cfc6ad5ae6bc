//! What is attached is looked at, not remembered: what somebody takes away comes back.

use std::time::{Duration, Instant};

use super::*;

/// What the kernel lost is put back within this time.
const SOON: Duration = Duration::from_secs(5);

/// Waits until exactly these programs run at a device's hooks.
async fn runs(name: &str, programs: [&str; 2], what: &str) {
    let begin = Instant::now();
    loop {
        let found: Vec<String> = kernel_programs(name).into_iter().map(|(_, program)| program).collect();
        if found == programs {
            return;
        }
        assert!(begin.elapsed() < SOON, "{what}: {found:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const POD: [&str; 2] = ["pod_ingress", "pod_egress"];

#[test]
fn links_that_somebody_removes_or_uses_for_another_program_are_put_back() {
    on_a_node(|pin_path| async move {
        let pod = Neighbour::new();
        pod.pair("veth0");
        let mut agent = Agent::start(&settings(&pin_path));
        agent.served("veth0", Role::Pod).await;
        let pin = pin_path.join("links/veth0:ingress");
        let opened = || FdLink::from(PinnedLink::from_pin(&pin).unwrap());

        std::fs::remove_file(&pin).unwrap();
        runs("veth0", POD, "a pin").await;
        agent.report_where("told", |report| report.repairs.count == 1).await;

        let id = opened().info().unwrap().id().to_string();
        let bpftool = Command::new("bpftool").args(["link", "detach", "id", &id]).status();
        if bpftool.is_ok_and(|status| status.success()) {
            runs("veth0", POD, "a detached link").await;
        }

        // Another tool puts its program under the link: here one of Sluice's own, loaded anew.
        let mut other = load(&settings(&pin_path)).unwrap();
        other.programs.ready("uplink_ingress").unwrap();
        let program: &mut SchedClassifier = other.programs.get_mut("uplink_ingress").unwrap().try_into().unwrap();
        let link = program.attach_to_link(opened().try_into().unwrap()).unwrap();
        assert_eq!(kernel_programs("veth0")[0].1, "uplink_ingress");
        drop(program.take_link(link).unwrap());
        runs("veth0", POD, "another program").await;
        let report = agent.report_where("told", |report| report.repairs.count >= 2).await;
        assert!(report.repairs.last[0].contains("veth0 ingress"), "{:?}", report.repairs);
        assert_eq!(pins(&pin_path), ["veth0:egress", "veth0:ingress"]);
        agent.stop().await;
    });
}

#[test]
fn devices_made_anew_renamed_at_birth_and_moved_are_served_by_what_they_are() {
    on_a_node(|pin_path| async move {
        let pod = Neighbour::new();
        pod.pair("veth0");
        let mut agent = Agent::start(&settings(&pin_path));
        agent.served("veth0", Role::Pod).await;
        let index = nix::net::if_::if_nametoindex("veth0").unwrap();
        let peer = pod.0.id();

        // Gone and back under the same number, in one batch of events.
        for round in 0..5 {
            let batch = format!(
                "link del veth0\nlink add veth0 index {index} type veth peer name p{round} netns {peer}\n\
                 link set veth0 up\n"
            );
            ip_batch(&batch);
            runs("veth0", POD, "made anew with the same number").await;
        }
        // Renamed right after they were made, and two that change names.
        ip_batch(&format!(
            "link add tmp0 type veth peer name q0 netns {peer}\nlink set tmp0 name cali0\nlink set cali0 up\n\
             link add tmp0 type veth peer name q1 netns {peer}\nlink set tmp0 name cali1\nlink set cali1 up\n\
             link set cali0 name x\nlink set cali1 name cali0\nlink set x name cali1\n"
        ));
        runs("cali0", POD, "renamed at birth").await;
        runs("cali1", POD, "renamed at birth").await;

        // Moved to another namespace: nothing of it stays here.
        ip(&format!("link set veth0 netns {peer}"));
        agent.report_where("veth0 moved away", |report| device(report, "veth0").is_none()).await;
        assert!(pins(&pin_path).iter().all(|name| name.starts_with("cali")), "{:?}", pins(&pin_path));
        agent.stop().await;
    });
}

#[test]
fn a_device_that_moved_away_while_no_agent_ran_does_not_stand_for_another_with_its_number() {
    on_a_node(|pin_path| async move {
        let pod = Neighbour::new();
        pod.pair("veth0");
        let index = nix::net::if_::if_nametoindex("veth0").unwrap();
        let mut agent = Agent::start(&settings(&pin_path));
        agent.served("veth0", Role::Pod).await;
        agent.stop().await;
        let peer = pod.0.id();
        ip_batch(&format!(
            "link set veth0 netns {peer}\nlink add veth0 index {index} type veth peer name other netns {peer}\n\
             link set veth0 up\n"
        ));
        assert!(kernel_programs("veth0").is_empty());
        let mut agent = Agent::start(&settings(&pin_path));
        agent.served("veth0", Role::Pod).await;
        runs("veth0", POD, "another device with the same number").await;
        agent.stop().await;
    });
}

fn ip_batch(lines: &str) {
    use std::io::Write as _;
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "ip -batch: {lines}");
}
