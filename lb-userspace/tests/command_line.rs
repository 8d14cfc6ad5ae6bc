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

/// Commands that list what the maps hold, and answer with a dead agent as well.
const LISTS: [&[&str]; 6] = [
    &["services"],
    &["services", "--problems"],
    &["backends"],
    &["flows"],
    &["top", "--batch", "--iterations", "1", "--interval", "100ms"],
    &["monitor", "--seconds", "0"],
];
/// Further commands that look at the pins of an agent, as somebody would call them.
const OTHER_VIEWS: [&[&str]; 3] =
    [&["status"], &["explain", "shop/web"], &["trace", "--from", "192.0.2.9", "--to", "10.96.0.1:80"]];
/// Commands that do without pins, or say what there is instead.
const OTHERS: [&str; 10] =
    ["run", "check", "cleanup", "takeover", "sysdump", "check-config", "completion", "man", "version", "help"];

/// All that look at pins.
fn views() -> impl Iterator<Item = &'static [&'static str]> {
    LISTS.into_iter().chain(OTHER_VIEWS)
}

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
    assert!(commands.clone().count() > OTHERS.len(), "{help}");
    for name in commands.filter_map(|line| line.split_whitespace().next()) {
        let is_known = views().any(|view| view[0] == name) || OTHERS.contains(&name);
        assert!(is_known, "{name} is in no table of this test");
    }
}

#[test]
fn without_pins_with_foreign_ones_and_without_rights_each_command_says_so_in_one_line() {
    in_private(|| {
        for view in views() {
            complains(&format!("no pins: {view:?}"), &sluice(view).output().unwrap(), "has it been?");
        }
        is_content("no pins: cleanup", &sluice(&["cleanup"]).output().unwrap());
        says("no pins: takeover", &sluice(&["takeover"]).output().unwrap(), 3, "start Sluice");
        says("no pins: sysdump", &sysdump().output().unwrap(), 0, "");
        pin_maps();
        with_a_dead_agent();
        without_rights();
        let mut map = status_map();
        let status = map.get(&0, 0).unwrap();
        map.set(0, StatusValue { abi: ABI_VERSION + 1, ..status }, 0).unwrap();
        let part = format!("ABI version {}", ABI_VERSION + 1);
        for view in views().chain([&["takeover"][..]]) {
            complains(&format!("foreign pins: {view:?}"), &sluice(view).output().unwrap(), &part);
        }
        let checked = sluice(&["check"]).output().unwrap();
        assert!(text(&checked.stdout).contains("have ABI version"), "{}", text(&checked.stdout));
        says("foreign pins: sysdump", &sysdump().output().unwrap(), 0, "");
    });
}

/// To standard output, so that nothing is left.
fn sysdump() -> Command {
    sluice(&["sysdump", "--file", "-"])
}

/// It ends with this code, and says this, without complaints.
fn says(what: &str, output: &Output, code: i32, part: &str) {
    let (said, complained) = (text(&output.stdout), text(&output.stderr));
    assert_eq!((output.status.code(), complained.as_str()), (Some(code), ""), "{what}: {said}");
    assert!(said.contains(part), "{what}: {said}");
}

fn with_a_dead_agent() {
    for view in LISTS {
        is_content(&format!("dead agent: {view:?}"), &sluice(view).output().unwrap());
    }
    says("dead agent: status", &sluice(&["status"]).output().unwrap(), 3, "agent is not running");
    says("dead agent: takeover", &sluice(&["takeover"]).output().unwrap(), 3, "does not run");
    // Nothing leads anywhere in this network namespace.
    complains("dead agent: trace", &sluice(OTHER_VIEWS[2]).output().unwrap(), "no route to the client");
    says("dead agent: sysdump", &sysdump().output().unwrap(), 0, "");
    for list in ["services", "backends", "flows", "top --batch --iterations 1", "monitor --seconds 0 --service"] {
        let args: Vec<&str> = list.split(' ').chain(["shop/web"]).collect();
        // A list itself is empty but for its headings.
        let output = Output { stdout: Vec::new(), ..sluice(&args).output().unwrap() };
        complains(&format!("dead agent: no such Service: {list}"), &output, "shop/web");
    }
    let nonsense = sluice(&["monitor", "--reason", "drop_everything"]).output().unwrap();
    assert!(nonsense.status.code() == Some(2) && text(&nonsense.stderr).contains("name of a counter"));
    complains("dead agent: explain", &sluice(OTHER_VIEWS[1]).output().unwrap(), "--manifests");
    let checked = sluice(&["check"]).output().unwrap();
    assert!(text(&checked.stdout).contains("the agent does not run"), "{}", text(&checked.stdout));
    assert!(text(&checked.stderr).ends_with("problems\n"), "{}", text(&checked.stderr));
}

fn without_rights() {
    let set_mode = |mode| std::fs::set_permissions(PINS, PermissionsExt::from_mode(mode)).unwrap();
    // The path is closed, or bpf(2) is.
    for mode in [0o700, 0o755] {
        set_mode(mode);
        for view in views().chain([&["cleanup"][..], &["takeover"]]) {
            let output = sluice(view).uid(NOBODY).gid(NOBODY).output().unwrap();
            let parts = ["Permission denied", "Operation not permitted"];
            let part = parts.into_iter().find(|part| text(&output.stderr).contains(part));
            complains(&format!("no rights: {view:?}"), &output, part.unwrap_or(parts[0]));
        }
        let checked = sluice(&["check"]).uid(NOBODY).gid(NOBODY).output().unwrap();
        assert!(text(&checked.stdout).contains("PROBLEM  capabilities"), "{}", text(&checked.stdout));
        says("no rights: sysdump", &sysdump().uid(NOBODY).gid(NOBODY).output().unwrap(), 0, "");
    }
}

#[test]
fn the_plugin_says_in_one_line_what_keeps_it_from_the_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("kubectl-sluice");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_sluice"), &program).unwrap();
    for command in ["status", "top", "services", "sysdump"] {
        let run = |kubectl: &str| {
            let mut plugin = Command::new(&program);
            plugin.args(["--kubectl", kubectl, command]).current_dir(dir.path()).output().unwrap()
        };
        complains(&format!("no kubectl: {command}"), &run("/nowhere/kubectl"), "/nowhere/kubectl");
        complains(&format!("no cluster: {command}"), &run("false"), "cannot list the Pods");
        complains(&format!("no Pods: {command}"), &run("echo {}"), "cannot be read");
    }
    let unknown = Command::new(&program).args(["--kubectl", "false", "cleanup"]).output().unwrap();
    complains("a command that changes nodes", &unknown, "no command cleanup");
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
        for view in LISTS.into_iter().chain([&["sysdump", "--file", "-"][..], &["completion", "bash"]]) {
            closed(view);
        }
    });
}
