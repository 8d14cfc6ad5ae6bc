//! Real files in a real folder, real inotify.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::mpsc::{Receiver, channel};

use super::spawn;
use crate::model::desired::Refusal;
use crate::model::event::{Kind, Object, SourceEvent};

struct Source {
    folder: TempDir,
    events: Receiver<SourceEvent>,
}

impl Source {
    fn start(files: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let (tx, events) = channel(100_000);
        spawn(folder.path(), tx).unwrap();
        Self { folder, events }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    fn next(&mut self) -> Option<SourceEvent> {
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            match self.events.try_recv() {
                Ok(event) => return Some(event),
                Err(_) => std::thread::sleep(Duration::from_micros(200)),
            }
        }
        None
    }

    /// Names of Services, and refusals, of the first lists.
    fn first(&mut self) -> (Vec<String>, Vec<Refusal>) {
        let (mut names, mut refused) = (Vec::new(), Vec::new());
        loop {
            match self.next().unwrap() {
                SourceEvent::Replace(_, objects) => names.extend(objects.iter().map(|o| o.name().to_owned())),
                SourceEvent::Refused(refusals) => refused = refusals,
                SourceEvent::Synced => return (names, refused),
                other => panic!("{other:?}"),
            }
        }
    }

    fn applied(&mut self) -> (String, u16) {
        match self.next() {
            Some(SourceEvent::Apply(Object::Service(service))) => {
                (service.name.to_string(), service.ports.first().map_or(0, |port| port.port))
            }
            other => panic!("{other:?}"),
        }
    }

    fn refused(&mut self) -> Vec<Refusal> {
        match self.next() {
            Some(SourceEvent::Refused(refusals)) => refusals,
            other => panic!("{other:?}"),
        }
    }

    fn deleted(&mut self) -> String {
        match self.next() {
            Some(SourceEvent::Delete { kind: Kind::Service, name, .. }) => name,
            other => panic!("{other:?}"),
        }
    }

    fn silent_for(&mut self, time: Duration) {
        std::thread::sleep(time);
        if let Ok(event) = self.events.try_recv() {
            panic!("{event:?}");
        }
    }
}

fn service(name: &str, port: u16) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  clusterIP: 10.96.0.1\n  ports:\n  \
         - port: {port}\n    targetPort: web\n"
    )
}

#[test]
fn lists_come_first_and_namespaces_default() {
    let both = service("a", 1) + &service("b", 2);
    let json =
        r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "c"}, "spec": {"clusterIP": "10.96.0.3"}}"#;
    let other = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: d\ndata:\n  spec: 5\n";
    let foreign = "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata:\n  name: e\nspec:\n  ports: 7\n";
    let mut source = Source::start(&[("x.yaml", &both), ("y.json", json), ("o.yml", other), ("f.yaml", foreign)]);
    let (names, refused) = source.first();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(refused, []);
}

#[test]
fn an_atomic_rename_is_one_change_within_milliseconds() {
    let mut source = Source::start(&[("x.yaml", &service("a", 1))]);
    source.first();
    source.write(".x.tmp", &service("a", 2));
    let begin = Instant::now();
    fs::rename(source.path().join(".x.tmp"), source.path().join("x.yaml")).unwrap();
    assert_eq!(source.applied(), ("default/a".into(), 2));
    // Generous, for busy machines; usually 2 ms.
    assert!(begin.elapsed() < Duration::from_millis(500), "{:?}", begin.elapsed());
}

#[test]
fn a_file_being_written_counts_when_closed() {
    use std::io::Write;
    let mut source = Source::start(&[("x.yaml", &(service("a", 1) + &service("b", 1)))]);
    source.first();
    let mut file = fs::File::create(source.path().join("x.yaml")).unwrap();
    file.write_all(service("a", 1).as_bytes()).unwrap();
    file.flush().unwrap();
    // What is there so far reads as "b is gone".
    source.silent_for(Duration::from_millis(100));
    file.write_all(service("b", 7).as_bytes()).unwrap();
    drop(file);
    assert_eq!(source.applied(), ("default/b".into(), 7));
}

#[test]
fn a_broken_file_keeps_its_last_good_content_and_names_the_line() {
    let mut source = Source::start(&[("x.yaml", &(service("a", 1) + &service("b", 1)))]);
    source.first();
    let broken = service("a", 2) + "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: b\nspec:\n  ports: [{port\n";
    source.write("x.yaml", &broken);
    // The good document is taken, the other stays as it was.
    assert_eq!(source.applied(), ("default/a".into(), 2));
    let refused = source.refused();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].kind, "File");
    assert!(refused[0].object.ends_with("x.yaml"), "{refused:?}");
    assert!(refused[0].message.contains("line 17") || refused[0].message.contains("line 18"), "{refused:?}");

    source.write("x.yaml", &(service("a", 2) + &service("b", 3)));
    assert_eq!(source.applied(), ("default/b".into(), 3));
    assert_eq!(source.refused(), []);
}

#[test]
fn an_emptied_file_keeps_its_content_and_a_deleted_one_does_not() {
    let mut source = Source::start(&[("x.yaml", &service("a", 1))]);
    source.first();
    source.write("x.yaml", "");
    assert_eq!(source.refused()[0].reason.name(), "FileEmpty");
    fs::remove_file(source.path().join("x.yaml")).unwrap();
    assert_eq!(source.deleted(), "a");
    assert_eq!(source.refused(), []);
}

#[test]
fn one_bad_document_costs_only_itself() {
    let text = service("a", 1)
        + "---\nkind: Service\napiVersion: v1\nmetadata: {name: b}\nspec: {ports: [{port: x}]}\n"
        + &service("c", 1);
    let mut source = Source::start(&[("x.yaml", &text)]);
    let (names, refused) = source.first();
    assert_eq!(names, ["a", "c"]);
    assert_eq!(refused.len(), 1);
    assert!(refused[0].message.contains("line 15"), "{refused:?}");
}

#[test]
fn a_bad_item_of_a_list_costs_only_itself() {
    let item = |name: &str, port: &str| {
        format!(
            "- apiVersion: v1\n  kind: Service\n  metadata:\n    name: {name}\n    namespace: n\n  spec:\n    \
             clusterIP: 10.0.0.1\n    ports:\n    - port: {port}\n"
        )
    };
    let list = format!(
        "apiVersion: v1\nitems:\n{}{}{}kind: List\nmetadata:\n  resourceVersion: \"\"\n",
        item("a", "1"),
        item("b", "x"),
        item("c", "1")
    );
    let mut source = Source::start(&[("x.yaml", &list)]);
    let (names, refused) = source.first();
    assert_eq!(names, ["a", "c"]);
    assert!(refused[0].message.contains("line 20"), "{refused:?}");
}

#[test]
fn the_first_file_by_name_has_an_object_and_the_next_one_inherits_it() {
    let mut source = Source::start(&[("m.yaml", &service("a", 1)), ("n.yaml", &service("a", 2))]);
    let (names, refused) = source.first();
    assert_eq!(names, ["a"]);
    assert_eq!(refused[0].reason.name(), "DuplicateObject");
    assert!(refused[0].object.ends_with("n.yaml") && refused[0].message.contains("m.yaml"), "{refused:?}");

    fs::remove_file(source.path().join("m.yaml")).unwrap();
    assert_eq!(source.applied(), ("default/a".into(), 2));
    assert_eq!(source.refused(), []);

    source.write("b.yaml", &service("a", 3));
    assert_eq!(source.applied(), ("default/a".into(), 3));
    assert!(source.refused()[0].object.ends_with("n.yaml"));
}

#[test]
fn an_object_that_moves_to_another_file_is_not_deleted() {
    let mut source = Source::start(&[("m.yaml", &service("a", 1)), ("n.yaml", &service("a", 2))]);
    source.first();
    // Both files change at once; the second one's text stays the same.
    fs::remove_file(source.path().join("m.yaml")).unwrap();
    source.write("n.yaml", &service("a", 2));
    assert_eq!(source.applied(), ("default/a".into(), 2));
}

#[test]
fn a_config_map_volume_is_followed_through_its_symlink() {
    use std::os::unix::fs::symlink;
    let folder = TempDir::new().unwrap();
    let version = |name: &str, port| {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("x.yaml"), service("a", port)).unwrap();
    };
    version("..1", 1);
    symlink("..1", folder.path().join("..data")).unwrap();
    symlink("..data/x.yaml", folder.path().join("x.yaml")).unwrap();
    let (tx, events) = channel(100);
    spawn(folder.path(), tx).unwrap();
    let mut source = Source { folder, events };
    assert_eq!(source.first().0, ["a"]);

    let path = source.path();
    fs::create_dir(path.join("..2")).unwrap();
    fs::write(path.join("..2/x.yaml"), service("a", 2)).unwrap();
    symlink("..2", path.join("..data_tmp")).unwrap();
    fs::rename(path.join("..data_tmp"), path.join("..data")).unwrap();
    fs::remove_dir_all(path.join("..1")).unwrap();
    assert_eq!(source.applied(), ("default/a".into(), 2));
}

#[test]
fn garbage_is_refused_without_a_panic() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("bin.yaml"), [0xff, 0xfe, 0x00, 0x80]).unwrap();
    fs::write(folder.path().join("cut.json"), "{\"kind\": \"Service\", \"metad").unwrap();
    fs::write(folder.path().join("text.yaml"), "hello").unwrap();
    fs::write(folder.path().join("tabs.yaml"), "kind:\tService\n\tx: y\n").unwrap();
    fs::write(folder.path().join("good.yaml"), service("a", 1)).unwrap();
    fs::create_dir(folder.path().join("folder.yaml")).unwrap();
    let (tx, events) = channel(100);
    spawn(folder.path(), tx).unwrap();
    let mut source = Source { folder, events };
    let (names, refused) = source.first();
    assert_eq!(names, ["a"]);
    let files: Vec<&str> = refused.iter().map(|r| r.object.rsplit('/').next().unwrap()).collect();
    assert_eq!(files, ["bin.yaml", "cut.json", "folder.yaml", "tabs.yaml", "text.yaml"]);
}

#[test]
fn a_folder_that_is_replaced_is_found_again_and_nothing_is_lost_meanwhile() {
    let outer = TempDir::new().unwrap();
    let path = outer.path().join("m");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("x.yaml"), service("a", 1)).unwrap();
    let mut folder = super::Folder::new(path.clone());
    let none = std::collections::BTreeSet::new();
    assert_eq!(folder.scan(&none).len(), 1);
    fs::rename(&path, outer.path().join("away")).unwrap();
    match &folder.scan(&none)[..] {
        [SourceEvent::Refused(refusals)] => assert_eq!(refusals[0].reason.name(), "FolderUnreadable"),
        other => panic!("{other:?}"),
    }
    fs::create_dir(&path).unwrap();
    fs::write(path.join("x.yaml"), service("a", 2)).unwrap();
    let events = folder.scan(&none);
    assert!(
        matches!(&events[..], [SourceEvent::Apply(_), SourceEvent::Refused(none)] if none.is_empty()),
        "{events:?}"
    );
}

#[test]
fn a_missing_folder_is_an_error_at_start() {
    let (tx, _events) = channel(1);
    assert!(spawn(Path::new("/nonexistent/manifests"), tx).unwrap_err().to_string().contains("/nonexistent/manifests"));
}
