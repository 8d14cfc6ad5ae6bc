//! What the reconciler does when nothing happens: nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::fixtures::ROOMY;
use crate::check::board::Board;
use crate::devices::{AttachReport, NodeNetwork};
use crate::events::EventSink;
use crate::health::{HealthCheckRegistry, ProxyHealth};
use crate::http::TakenPorts;
use crate::maps::memory::MemoryTables;
use crate::metrics::{AgentInfo, Metrics};
use crate::model::desired::Refusal;
use crate::model::event::SourceEvent;
use crate::model::reason::Reason;
use crate::reconcile::{Claim, Observers, Origin, ReconcileSettings, Reconciler};
use crate::sockets::Reaper;
use crate::source::manifests;

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80}, {port: 0}]}
";

struct Agent {
    reconciler: Reconciler<MemoryTables>,
    attach: (watch::Sender<AttachReport>, watch::Receiver<AttachReport>),
}

impl Agent {
    fn new(folder: &std::path::Path) -> Self {
        let metrics = Metrics::new("/nonexistent".into(), AgentInfo::default(), 10).unwrap();
        let health = Arc::new(ProxyHealth::new(Duration::from_secs(30)));
        let observers = Observers::new(
            metrics,
            health,
            HealthCheckRegistry::default(),
            EventSink::log_only(),
            TakenPorts::default(),
            Board::default(),
        );
        let settings = ReconcileSettings { node_name: "n".into(), ..ReconcileSettings::default() };
        let origin = Origin::Manifests(folder.to_owned());
        let tables = MemoryTables::new(ROOMY);
        let long_ago = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        let claim = Claim::new(Arc::new(|| false));
        let reconciler =
            Reconciler::new(tables, settings, origin, observers, Reaper::default(), long_ago, claim).unwrap();
        Self { reconciler, attach: watch::channel(AttachReport::default()) }
    }

    fn give(&mut self, mut events: Vec<SourceEvent>) {
        self.reconciler.apply(&mut events, &NodeNetwork::default());
    }

    fn tick(&mut self) {
        self.reconciler.tick(&mut self.attach.1);
    }

    /// Writes of any kind, and reports serialised.
    fn work(&mut self) -> (usize, usize) {
        let tables = self.reconciler.tables();
        (tables.writes + tables.other_writes, self.reconciler.reports_serialised())
    }

    fn report(&mut self) -> String {
        self.reconciler.tables().report.clone()
    }
}

#[test]
fn an_idle_reconciler_writes_and_serialises_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut agent = Agent::new(folder.path());
    agent.tick();
    let objects = manifests::objects(SERVICE).into_iter().map(|object| SourceEvent::Apply(object.unwrap()));
    agent.give(objects.chain([SourceEvent::Synced]).collect());
    agent.attach.0.send_replace(AttachReport { warnings: vec!["one".into()], ..AttachReport::default() });
    agent.tick();
    agent.give(Vec::new());
    agent.tick();
    assert!(agent.report().contains("BadPort") && agent.report().contains("\"one\""), "{}", agent.report());
    let before = agent.work();
    for _ in 0..100 {
        agent.tick();
        assert!(!agent.reconciler.is_due());
    }
    // The same again is no news.
    agent.attach.0.send_replace(AttachReport { warnings: vec!["one".into()], ..AttachReport::default() });
    agent.tick();
    assert_eq!(agent.work(), before);
}

#[test]
fn what_is_new_is_reported_with_the_next_tick_and_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut agent = Agent::new(folder.path());
    agent.give(vec![SourceEvent::Synced]);
    agent.tick();
    agent.give(Vec::new());
    agent.tick();
    let mut serialised = agent.work().1;
    let mut reported = |agent: &mut Agent, text: &str| {
        agent.tick();
        agent.tick();
        assert!(agent.report().contains(text), "{}", agent.report());
        serialised += 1;
        assert_eq!(agent.work().1, serialised, "{text}");
    };
    let refusal =
        Refusal { kind: "File", object: "x.yaml".into(), reason: Reason::FileEmpty, message: "is empty".into() };
    agent.give(vec![SourceEvent::Refused(vec![refusal])]);
    reported(&mut agent, "FileEmpty");
    agent.attach.0.send_replace(AttachReport { warnings: vec!["two".into()], ..AttachReport::default() });
    reported(&mut agent, "\"two\"");
    folder.close().unwrap();
    reported(&mut agent, "\"connected\":false");
}
