//! The command line when things are not as they should be: one clear line, and the right exit code.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::pipe;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use aya::maps::{Array, Map, MapData};
use lb_common::abi::{ABI_VERSION, StatusValue, map_name};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use sluice::load::{LoadSettings, Loaded, MapSizes};

/// Somebody without any right.
const NOBODY: u32 = 65_534;

/// Commands that look at the pins of an agent, as somebody would call them. Those in [`OTHERS`] do not.
const VIEWS: [&[&str]; 5] = [&["status"], &["services"], &["backends"], &["flows"], &["explain", "shop/web"]];
const OTHERS: [&str; 9] =
    ["run", "check", "cleanup", "takeover", "check-config", "completion", "man", "version", "help"];
/// Commands that do look at pins, and are tried by node tests.
const ELSEWHERE: [&str; 4] = ["top", "trace", "monitor", "sysdump"];

fn object() -> Vec<u8> {
    let path = std::env::var_os("SLUICE_BPF_OBJECT")
        .or_else(|| option_env!("SLUICE_BPF_OBJECT").map(Into::into))
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/sluice-bpf.o"), PathBuf::from);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}; run `cargo xtask build` first", path.display()))
}

/// Runs a test in a separate network and mount namespace, with an empty `/mnt`.
fn in_private(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let body = || {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("these tests need root");
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
            mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
            test();
        };
        if let Err(panic) = scope.spawn(body).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn sluice(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(args).env("SLUICE_PIN_PATH", PINS).env_remove("NODE_NAME");
    command
}

const PINS: &str = "/mnt/sluice";

/// Maps as an agent leaves them that has died at once.
fn pin_maps() {
    let settings = LoadSettings { pin_path: PINS.into(), sizes: MapSizes::for_memory(0) };
    drop(Loaded::load(&settings, &object(), &[]).unwrap());
}

fn status_map() -> Array<MapData, StatusValue> {
    let pin = Path::new(PINS).join("maps").join(map_name::STATUS);
    Array::try_from(Map::from_map_data(MapData::from_pin(pin).unwrap()).unwrap()).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// It fails with a single line, which says this.
fn complains(what: &str, output: &Output, part: &str) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{what}: {said}");
    assert_eq!(said.lines().count(), 1, "{what}: {said}");
    assert!(said.starts_with("error: ") && said.contains(part), "{what}: {said}");
    assert!(!said.contains("Os {") && !said.contains("Error("), "{what}: {said}");
    assert!(output.stdout.is_empty(), "{what}: {}", text(&output.stdout));
}

fn is_content(what: &str, output: &Output) {
    let said = text(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{what}: {:?} {said}", output.status);
}

#[test]
fn every_command_is_tried() {
    let help = text(&sluice(&["help"]).output().unwrap().stdout);
    let commands = help.lines().take_while(|line| *line != "Options:");
    let commands = commands.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    assert!(commands.clone().count() > VIEWS.len(), "{help}");
    for name in commands.filter_map(|line| line.split_whitespace().next()) {
        let is_known = VIEWS.iter().any(|view| view[0] == name) || OTHERS.contains(&name) || ELSEWHERE.contains(&name);
        assert!(is_known, "{name} is in no table of this test");
    }
}

#[test]
fn without_pins_with_foreign_ones_and_without_rights_each_command_says_so_in_one_line() {
    in_private(|| {
        for view in VIEWS {
            complains(&format!("no pins: {view:?}"), &sluice(view).output().unwrap(), "has it been?");
        }
        is_content("no pins: cleanup", &sluice(&["cleanup"]).output().unwrap());
        pin_maps();
        for view in &VIEWS[1..4] {
            is_content(&format!("dead agent: {view:?}"), &sluice(view).output().unwrap());
        }
        let status = sluice(&["status"]).output().unwrap();
        assert_eq!(status.status.code(), Some(3), "{}", text(&status.stderr));
        assert!(text(&status.stdout).contains("agent is not running") && status.stderr.is_empty());
        for list in ["services", "backends", "flows"] {
            // The list itself is empty but for its headings.
            let output = Output { stdout: Vec::new(), ..sluice(&[list, "shop/web"]).output().unwrap() };
            complains("dead agent: no such Service", &output, "shop/web");
        }
        complains("dead agent: explain", &sluice(VIEWS[4]).output().unwrap(), "--manifests");
        let checked = sluice(&["check"]).output().unwrap();
        assert!(text(&checked.stdout).contains("the agent does not run"), "{}", text(&checked.stdout));
        assert!(text(&checked.stderr).ends_with("problems\n"), "{}", text(&checked.stderr));

        std::fs::set_permissions(PINS, PermissionsExt::from_mode(0o700)).unwrap();
        for view in VIEWS.iter().chain(&[&["cleanup"][..]]) {
            let output = sluice(view).uid(NOBODY).gid(NOBODY).output().unwrap();
            // The path is closed, or bpf(2) is.
            let parts = ["Permission denied", "Operation not permitted"];
            let part = parts.into_iter().find(|part| text(&output.stderr).contains(part));
            complains(&format!("no rights: {view:?}"), &output, part.unwrap_or(parts[0]));
        }
        let checked = sluice(&["check"]).uid(NOBODY).gid(NOBODY).output().unwrap();
        assert!(text(&checked.stdout).contains("PROBLEM  capabilities"), "{}", text(&checked.stdout));

        let mut map = status_map();
        let status = map.get(&0, 0).unwrap();
        map.set(0, StatusValue { abi: ABI_VERSION + 1, ..status }, 0).unwrap();
        for view in VIEWS {
            let part = format!("ABI version {}", ABI_VERSION + 1);
            complains(&format!("foreign pins: {view:?}"), &sluice(view).output().unwrap(), &part);
        }
        let checked = sluice(&["check"]).output().unwrap();
        assert!(text(&checked.stdout).contains("have ABI version"), "{}", text(&checked.stdout));
    });
}

const MANIFEST: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {clusterIP: 10.96.0.1, \
                        ports: [{port: 80}]}\n";

#[test]
fn what_is_not_there_is_named_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("web.yaml"), MANIFEST).unwrap();
    let folder = dir.path().to_string_lossy();
    let explain = |target: &str| sluice(&["explain", target, "--manifests", &folder]).output().unwrap();
    complains("no such Service", &explain("shop/wbe"), "no such Service");
    is_content("an address that nobody has", &explain("10.96.0.2:80"));
    for args in [&["explain", "x", "--manifests", "/nowhere"][..], &["check", "--manifests", "/nowhere"]] {
        complains(&format!("no folder: {args:?}"), &sluice(args).output().unwrap(), "/nowhere");
    }
    complains("no file", &sluice(&["check-config", "/nowhere"]).output().unwrap(), "/nowhere");
    let wrong = sluice(&["explain", "a b"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2), "what the grammar does not take: {}", text(&wrong.stderr));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("web.yaml"), MANIFEST).unwrap();
    let folder = dir.path().to_string_lossy().into_owned();
    let closed = |args: &[&str]| {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let output = sluice(args).stdout(Stdio::from(writer)).stderr(Stdio::piped()).output().unwrap();
        is_content(&format!("{args:?}"), &output);
    };
    closed(&["version"]);
    closed(&["help"]);
    closed(&["explain", "shop/web", "--manifests", &folder]);
    closed(&["check", "--manifests", &folder]);
    in_private(|| {
        pin_maps();
        for view in &VIEWS[1..4] {
            closed(view);
        }
    });
}
