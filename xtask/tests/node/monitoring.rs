//! Alerts, recording rules and dashboard against a real Prometheus that scrapes a real agent.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use serde_json::{Value, json};
use xtask::command::output;
use xtask::lab::probe::Transport;
use xtask::lab::{Family, Netns, ServiceSpec, plan};
use xtask::setup::Prometheus;

use crate::fixture::{ALL, CLUSTER_IP, Node};

const CHART: &str = "../deploy/helm/sluice/files";
const SERVER: &str = "127.0.0.1:9090";
const AGENT: &str = "127.0.0.1:10249";
/// From one scrape to the next: a rate needs two.
const PATIENCE: Duration = Duration::from_secs(40);

fn promtool(tools: &Prometheus, args: &[&str]) -> String {
    output(Command::new(&tools.promtool).args(args)).unwrap()
}

/// kube-proxy's families have names that the lint does not like, and dashboards know.
fn without_kube_proxys(metrics: &str) -> String {
    let lines = metrics.lines().filter(|line| {
        let line = line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ");
        !line.starts_with("kubeproxy_")
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn check_metrics(tools: &Prometheus, text: &str) {
    let mut command = Command::new(&tools.promtool);
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.is_empty(), "{said}");
}

/// A server in a node's namespace.
struct Server<'a> {
    child: Child,
    ns: &'a Netns,
    dir: tempfile::TempDir,
}

impl<'a> Server<'a> {
    fn start(tools: &Prometheus, ns: &'a Netns) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rules = fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join(CHART).join("rules.yaml")).unwrap();
        let config = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [rules],
            "scrape_configs": [{"job_name": "kube-proxy", "static_configs": [{"targets": [AGENT]}]}],
        });
        let file = dir.path().join("prometheus.yml");
        fs::write(&file, config.to_string()).unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new(&tools.server);
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()));
        command.arg(format!("--web.listen-address={SERVER}")).stderr(log).stdout(Stdio::null());
        let child = ns.run(|| command.spawn().context("starting prometheus")).unwrap();
        Self { child, ns, dir }
    }

    fn get(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Value> {
        self.ns.run(|| {
            let request = ureq::get(format!("http://{SERVER}{path}"));
            let request = query.iter().fold(request, |request, (name, value)| request.query(*name, *value));
            Ok(request.call()?.body_mut().read_json()?)
        })
    }

    /// The values that a query finds; an error is one of the query's text.
    fn ask(&self, query: &str) -> anyhow::Result<Vec<f64>> {
        let answer = self.get("/api/v1/query", &[("query", query)]).context(query.to_owned())?;
        let found = answer["data"]["result"].as_array().context("no vector")?;
        let values = found.iter().filter_map(|sample| sample["value"][1].as_str()?.parse().ok());
        Ok(values.collect())
    }

    fn rules(&self) -> Vec<Value> {
        let rules = self.get("/api/v1/rules", &[]).unwrap();
        let groups = rules["data"]["groups"].as_array().unwrap();
        groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
    }

    /// Asks until there is nothing left in what `missing` names.
    fn until_none(&self, missing: impl Fn(&Self) -> Vec<String>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = missing(self);
            if left.is_empty() {
                return;
            }
            let log = || fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "{left:#?}\n{}", log());
            thread::sleep(Duration::from_millis(250));
        }
    }

    /// Which of these find nothing, or no numbers.
    fn without_data(&self, queries: &[String]) -> Vec<String> {
        let has_data = |query: &&String| match self.ask(query) {
            Ok(values) => values.is_empty() || values.iter().all(|value| value.is_nan()),
            Err(_) => true,
        };
        queries.iter().filter(has_data).cloned().collect()
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The dashboard's queries, with its variables at "all".
fn of_dashboard() -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(CHART).join("dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    let queries: Vec<String> = targets
        .map(|target| {
            let query = target["expr"].as_str().unwrap().replace("$__rate_interval", "1m");
            ["$node", "$namespace", "$service"].iter().fold(query, |query, variable| query.replace(variable, ".*"))
        })
        .collect();
    assert!(queries.len() > 20 && queries.iter().all(|query| !query.contains('$')), "{queries:?}");
    queries
}

#[test]
fn every_query_of_alerts_and_dashboard_finds_what_it_asks_for() {
    let tools = match Prometheus::find_or_fetch() {
        Ok(tools) => tools,
        Err(error) => {
            eprintln!("left out, every query of alerts and dashboard: {error:#}");
            return;
        }
    };
    let root = env!("CARGO_MANIFEST_DIR");
    promtool(&tools, &["check", "rules", &format!("{root}/{CHART}/rules.yaml")]);
    promtool(&tools, &["test", "rules", &format!("{root}/tests/node/alerts.yaml")]);

    let node = Node::start();
    let server = Server::start(&tools, &node.lab.node1);
    server.until_none(|server| server.without_data(&["up == 1".into(), "sluice_agent_info".into()]));

    // One Service whose clients are served, one whose clients are refused, and one that nobody gets.
    let lonely = plan::cluster_ip(11);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let changed = jiff::Timestamp::from_second(now.as_secs().cast_signed()).unwrap().to_string();
    node.change(|manifests| {
        manifests.service(&ServiceSpec::new("lonely", lonely)).unwrap();
        manifests.service(&ServiceSpec::new("second", plan::cluster_ip(10))).unwrap();
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": "all-late", "namespace": "lab", "labels": {"kubernetes.io/service-name": ALL},
                "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": changed},
            },
            "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
            "endpoints": [{"addresses": [node.lab.pods()[0].addr.of(Family::V4)]}],
        });
        manifests.put("late.json", &slice).unwrap();
    });
    for _ in 0..5 {
        node.lab.client.ask(Transport::Tcp, CLUSTER_IP.at(Family::V4, Transport::Tcp)).unwrap();
    }
    let refused = std::net::SocketAddr::new(lonely.of(Family::V4), 80);
    node.lab.client.ask(Transport::Tcp, refused).unwrap_err();

    let text =
        node.lab.node1.run(|| Ok(ureq::get(format!("http://{AGENT}/metrics")).call()?.body_mut().read_to_string()?));
    check_metrics(&tools, &without_kube_proxys(&text.unwrap()));

    server.until_none(|server| server.without_data(&of_dashboard()));
    let rules = server.rules();
    assert!(rules.len() > 20, "{rules:#?}");
    let recorded: Vec<String> = rules
        .iter()
        .filter(|rule| rule["type"] == "recording")
        .map(|rule| rule["name"].as_str().unwrap().to_owned())
        .collect();
    server.until_none(|server| server.without_data(&recorded));
    // An alert finds nothing on a node that is well, so its families are asked for; a device without faults has no row.
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut families: Vec<String> = rules
        .iter()
        .flat_map(|rule| rule["query"].as_str().unwrap().split(|c| !is_name(c)))
        .filter(|word| word.starts_with("sluice_") && *word != "sluice_device_errors")
        .map(str::to_owned)
        .collect();
    families.sort_unstable();
    families.dedup();
    assert!(families.len() > 10, "{families:?}");
    server.until_none(|server| server.without_data(&families));
    // What is wrong is seen as it goes on: a rate needs a second failure.
    let wanted = ["SluiceServiceWithoutEndpoints", "SluiceObjectsRefused"];
    server.until_none(|server| {
        node.lab.client.ask(Transport::Tcp, refused).unwrap_err();
        let rules = server.rules();
        assert!(rules.iter().all(|rule| rule["health"] == "ok"), "{rules:#?}");
        let pending = |name: &&str| rules.iter().any(|rule| rule["name"] == *name && rule["state"] == "pending");
        wanted.iter().filter(|name| !pending(name)).map(ToString::to_string).collect()
    });
    let firing: Vec<Value> = server.rules().into_iter().filter(|rule| rule["state"] == "firing").collect();
    assert!(firing.is_empty(), "{firing:#?}");
}
