//! The API played by a script.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::sync::watch;

use super::{KubeSettings, KubeSource, start};
use crate::kube::{ClientError, ClientSettings, Connection, Observer, failover_client};
use crate::metrics::{AgentInfo, Metrics, RestClientMetrics};
use crate::model::event::{Kind, Object, SourceEvent};
use crate::model::record::ServiceCidrRecord;

/// Answers, in order, to `list` and `watch` of each plural. What has no answer left never ends.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<HashMap<String, VecDeque<Answer>>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone)]
enum Answer {
    Status(u16, String),
    Broken,
}

impl Script {
    fn answer(&self, what: &str, answer: Answer) -> &Self {
        self.answers.lock().unwrap().entry(what.to_owned()).or_default().push_back(answer);
        self
    }

    fn list(&self, plural: &str, items: &[Value]) -> &Self {
        let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "10"}, "items": items});
        self.answer(&format!("list {plural}"), Answer::Status(200, list.to_string()))
    }

    fn watch(&self, plural: &str, events: &[Value]) -> &Self {
        let lines: Vec<String> = events.iter().map(ToString::to_string).collect();
        self.answer(&format!("watch {plural}"), Answer::Status(200, lines.join("\n") + "\n"))
    }

    fn asked(&self, what: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| asked.starts_with(what)).count()
    }

    fn client(&self) -> Client {
        Client::new(self.clone(), "default")
    }

    fn start(&self) -> Run {
        self.start_with(&settings())
    }

    fn start_with(&self, settings: &KubeSettings) -> Run {
        let (tx, events) = channel(100);
        let (observer, connection) = Observer::new(None);
        let client = failover_client(vec![("https://one".into(), self.client())], observer.clone());
        let source = start(client, settings, tx, observer, connection);
        Run { connection: source.connection.clone(), _source: source, events }
    }
}

impl tower::Service<Request<Body>> for Script {
    type Response = Response<Body>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let plural = request.uri().path().rsplit('/').next().unwrap().to_owned();
        let verb = if query.contains("watch=true") { "watch" } else { "list" };
        let what = format!("{verb} {plural}");
        self.asked.lock().unwrap().push(format!("{what}?{query}"));
        let answer = self.answers.lock().unwrap().get_mut(&what).and_then(VecDeque::pop_front);
        Box::pin(async move {
            match answer {
                Some(Answer::Status(code, text)) => {
                    Ok(Response::builder().status(code).body(Body::from(text.into_bytes())).unwrap())
                }
                Some(Answer::Broken) => Err(std::io::Error::other("connection refused")),
                None => std::future::pending().await,
            }
        })
    }
}

fn settings() -> KubeSettings {
    KubeSettings { node_name: "me".into(), service_cidrs: true, ..KubeSettings::default() }
}

struct Run {
    _source: KubeSource,
    connection: watch::Receiver<Connection>,
    events: Receiver<SourceEvent>,
}

impl Run {
    async fn next(&mut self) -> SourceEvent {
        tokio::time::timeout(Duration::from_secs(30), self.events.recv()).await.unwrap().unwrap()
    }

    /// The lists up to `Synced`: names of Services.
    async fn synced(&mut self) -> Vec<String> {
        let mut services = Vec::new();
        loop {
            match self.next().await {
                SourceEvent::Replace(Kind::Service, list) => {
                    services = list.iter().map(|object| object.name().to_owned()).collect();
                }
                SourceEvent::Replace(..) => {}
                SourceEvent::Synced => return services,
                other => panic!("{other:?}"),
            }
        }
    }
}

fn service(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "n", "resourceVersion": "11", "managedFields": [{"manager": "x"}]},
        "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}]}
    })
}

fn gone() -> Value {
    json!({"type": "ERROR", "object": {
        "kind": "Status", "status": "Failure", "message": "too old resource version", "reason": "Expired", "code": 410
    }})
}

fn base() -> Script {
    let script = Script::default();
    script.list("endpointslices", &[]).list("nodes", &[]);
    script
}

fn names(event: SourceEvent) -> Vec<String> {
    match event {
        SourceEvent::Replace(Kind::Service, list) => list.iter().map(|object| object.name().to_owned()).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_clusters_version_comes_before_its_first_state() {
    let script = Script::default();
    for plural in ["services", "endpointslices", "nodes", "servicecidrs"] {
        script.list(plural, &[]);
    }
    let version = json!({"major": "1", "minor": "40+", "gitVersion": "v1.40.0", "gitCommit": "", "gitTreeState": "",
        "buildDate": "", "goVersion": "", "compiler": "", "platform": ""});
    script.answer("list version", Answer::Broken).answer("list version", Answer::Status(200, version.to_string()));
    let mut run = script.start_with(&KubeSettings { version: true, ..settings() });
    let mut told = None;
    loop {
        match run.next().await {
            SourceEvent::Version(version) => told = Some(version),
            SourceEvent::Synced => break,
            _ => {}
        }
    }
    assert_eq!(told, Some((1, 40)));
}

#[tokio::test(start_paused = true)]
async fn a_missing_node_does_not_hold_up_the_first_state() {
    let script = base();
    script.list("services", &[service("a"), service("b")]);
    let mut run = script.start();
    assert_eq!(run.synced().await, ["a", "b"]);
    assert!(run.connection.borrow().connected);
    let asked = script.asked.lock().unwrap().join("\n");
    assert!(asked.contains("fieldSelector=metadata.name%3Dme"), "{asked}");
    assert!(asked.contains("limit=500"), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_node_does_not_hold_up_the_first_state_for_ever() {
    let script = Script::default();
    script.list("endpointslices", &[]).list("services", &[service("a")]);
    let forbidden = json!({"kind": "Status", "status": "Failure", "reason": "Forbidden", "message": "no", "code": 403});
    for _ in 0..50 {
        script.answer("list nodes", Answer::Status(403, forbidden.to_string()));
    }
    assert_eq!(script.start().synced().await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn the_ranges_of_cluster_ips_are_followed() {
    let script = base();
    let cidr =
        |cidrs: &[&str]| json!({"metadata": {"name": "kubernetes", "resourceVersion": "11"}, "spec": {"cidrs": cidrs}});
    script.list("services", &[]).list("servicecidrs", &[cidr(&["10.96.0.0/16"])]);
    script.watch("servicecidrs", &[json!({"type": "MODIFIED", "object": cidr(&["10.96.0.0/16", "fd00:96::/112"])})]);
    let mut run = script.start();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        match run.next().await {
            SourceEvent::Replace(Kind::ServiceCidr, list) => seen.extend(list),
            SourceEvent::Apply(object) => seen.push(object),
            SourceEvent::Replace(..) | SourceEvent::Synced => {}
            other => panic!("{other:?}"),
        }
    }
    let record = |cidrs: &[&str]| {
        let cidrs = cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
        Object::ServiceCidr(Box::new(ServiceCidrRecord { name: "kubernetes".into(), cidrs }))
    };
    assert_eq!(seen, [record(&["10.96.0.0/16"]), record(&["10.96.0.0/16", "fd00:96::/112"])]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_of_service_cidrs_is_no_failure() {
    for (code, reason, asks_again) in [(404, "NotFound", false), (403, "Forbidden", true)] {
        let script = base();
        script.list("services", &[]);
        let status = json!({"kind": "Status", "status": "Failure", "reason": reason, "message": "no", "code": code});
        for _ in 0..100 {
            script.answer("list servicecidrs", Answer::Status(code, status.to_string()));
        }
        let mut run = script.start();
        run.synced().await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(run.connection.borrow().connected);
        assert_eq!(script.asked("list servicecidrs") > 1, asks_again);
    }
}

#[tokio::test(start_paused = true)]
async fn pods_are_asked_for_by_their_node_and_forbidden_ones_hold_up_nothing() {
    let host_ports = KubeSettings { host_ports: true, ..settings() };
    let script = base();
    script.list("services", &[]).list("pods", &[json!({"metadata": {"name": "p", "resourceVersion": "11"}})]);
    script.start_with(&host_ports).synced().await;
    assert!(
        script.asked.lock().unwrap().iter().any(|asked| asked.contains("pods") && asked.contains("spec.nodeName%3Dme"))
    );

    let script = base();
    script.list("services", &[service("a")]);
    let forbidden = json!({"kind": "Status", "status": "Failure", "reason": "Forbidden", "message": "no", "code": 403});
    for _ in 0..50 {
        script.answer("list pods", Answer::Status(403, forbidden.to_string()));
    }
    let begun = tokio::time::Instant::now();
    let mut run = script.start_with(&host_ports);
    assert_eq!(run.synced().await, ["a"]);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(run.connection.borrow().connected);
}

#[tokio::test(start_paused = true)]
async fn changes_follow_the_list() {
    let script = base();
    script.list("services", &[]);
    script.watch(
        "services",
        &[json!({"type": "ADDED", "object": service("a")}), json!({"type": "DELETED", "object": service("a")})],
    );
    let mut run = script.start();
    run.synced().await;
    assert!(matches!(run.next().await, SourceEvent::Apply(object) if object.name() == "a"));
    let gone = SourceEvent::Delete { kind: Kind::Service, namespace: "n".into(), name: "a".into() };
    assert_eq!(run.next().await, gone);
}

#[tokio::test(start_paused = true)]
async fn an_outage_takes_nothing_back_and_ends_in_one_complete_list() {
    let script = base();
    script.list("services", &[service("a"), service("b")]);
    script.watch("services", &[gone()]);
    for _ in 0..5 {
        script.answer("list services", Answer::Broken);
    }
    script.list("services", &[service("b")]).watch("services", &[]);
    let mut run = script.start();
    assert_eq!(run.synced().await, ["a", "b"]);
    // The next thing that is heard is the new list, whole.
    assert_eq!(names(run.next().await), ["b"]);
    let connection = run.connection.wait_for(|now| now.connected).await.unwrap().clone();
    assert_eq!(connection.last_error, None, "it is over");
}

#[tokio::test(start_paused = true)]
async fn a_watch_refused_as_gone_is_listed_anew() {
    let script = base();
    script.list("services", &[service("a")]);
    let status = json!({"kind": "Status", "status": "Failure", "reason": "Expired", "message": "old", "code": 410});
    script.answer("watch services", Answer::Status(410, status.to_string()));
    script.list("services", &[service("b")]);
    let mut run = script.start();
    assert_eq!(run.synced().await, ["a"]);
    assert_eq!(names(run.next().await), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn pages_make_one_list() {
    let script = base();
    let page = json!({
        "apiVersion": "v1", "kind": "ServiceList",
        "metadata": {"resourceVersion": "10", "continue": "more"}, "items": [service("a")]
    });
    script.answer("list services", Answer::Status(200, page.to_string())).list("services", &[service("b")]);
    assert_eq!(script.start().synced().await, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn the_next_server_is_asked_when_one_fails() {
    let (dead, alive) = (Script::default(), base());
    for what in ["list services", "list endpointslices", "list nodes"] {
        dead.answer(what, Answer::Broken).answer(what, Answer::Broken);
    }
    alive.list("services", &[service("a")]);
    let (tx, events) = channel(100);
    let requests = RestClientMetrics::new().unwrap();
    let (observer, connection) = Observer::new(Some(Arc::new(requests.clone())));
    let servers = vec![("https://dead".into(), dead.client()), ("https://alive".into(), alive.client())];
    let source = start(failover_client(servers, observer.clone()), &settings(), tx, observer, connection.clone());
    let mut run = Run { _source: source, connection, events };
    assert_eq!(run.synced().await, ["a"]);
    assert_eq!(run.connection.borrow().server, "https://alive");
    assert!(dead.asked("list") <= 4);
    let metrics = Metrics::new("/nonexistent".into(), AgentInfo::default(), 10).unwrap();
    metrics.show_requests(&requests).unwrap();
    let text = metrics.text().unwrap();
    for row in [r#"code="<error>",host="dead",method="GET""#, r#"code="200",host="alive",method="GET""#] {
        assert!(text.contains(&format!("rest_client_requests_total{{{row}}}")), "{row}: not in\n{text}");
    }
}

#[tokio::test]
async fn a_wrong_configuration_is_an_error_at_once() {
    let (tx, _events) = channel(1);
    let settings = KubeSettings {
        api: ClientSettings { kubeconfig: Some("/nonexistent/config".into()), ..ClientSettings::default() },
        ..KubeSettings::default()
    };
    let error = super::spawn(settings, tx.clone()).await.unwrap_err();
    assert!(matches!(&error, ClientError::Kubeconfig { .. }), "{error}");
    assert!(error.to_string().contains("/nonexistent/config"));

    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("config");
    std::fs::write(&path, "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- name: c\n  context: {cluster: k, \
        user: u}\nclusters:\n- name: k\n  cluster: {server: 'https://127.0.0.1:1'}\nusers:\n- name: u\n  user: {token: t}\n")
    .unwrap();
    let api =
        ClientSettings { kubeconfig: Some(path), api_servers: vec!["nowhere".into()], ..ClientSettings::default() };
    let settings = KubeSettings { api, ..KubeSettings::default() };
    let error = super::spawn(settings.clone(), tx.clone()).await.unwrap_err();
    assert!(error.to_string().contains("\"nowhere\""), "{error}");

    let api = ClientSettings { api_servers: vec!["https://127.0.0.1:1".into()], ..settings.api.clone() };
    let settings = KubeSettings { api, ..settings };
    let mut source = super::spawn(settings, tx).await.unwrap();
    source.connection.wait_for(|now| now.last_error.is_some()).await.unwrap();
    assert!(!source.connection.borrow().connected);
}
