//! Alerts, recording rules and dashboard in `deploy/`: families that exist, runbooks that are there, one text in chart
//! and kustomization.
//!
//! `SLUICE_BLESS=1 cargo test -p lb-userspace --lib alerts` writes the kustomization's. The node test `monitoring` asks
//! each query of a real Prometheus.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use lb_common::abi::table::Kind;
use lb_common::abi::tables;
use serde_json::Value;

const CHART: &str = "deploy/helm/sluice/files";
const COMPONENT: &str = "deploy/kustomize/components/alerts";

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file)
}

fn read(file: &str) -> String {
    fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn rules() -> Vec<Value> {
    let rules: Value = serde_saphyr::from_str(&read(&format!("{CHART}/rules.yaml"))).unwrap();
    let groups = rules["groups"].as_array().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

fn alerts() -> Vec<Value> {
    let alerts: Vec<Value> = rules().into_iter().filter(|rule| rule["alert"].is_string()).collect();
    assert!(alerts.len() >= 10, "{}", alerts.len());
    alerts
}

/// Every query of rules and dashboard.
fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read(&format!("{CHART}/dashboard.json"))).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let of_panels = panels.flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
    let of_variables = variables.filter_map(|variable| variable["definition"].as_str().map(str::to_owned));
    let of_rules = rules().into_iter().map(|rule| rule["expr"].as_str().unwrap().to_owned());
    let of_panels = of_panels.map(|target| target["expr"].as_str().unwrap().to_owned());
    of_rules.chain(of_panels).chain(of_variables).collect()
}

/// Metric families in queries; those that a recording rule makes have colons.
fn families() -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let queries = queries();
    let words = queries.iter().flat_map(|query| query.split(|c| !is_name(c)));
    let ours = words.filter(|word| ["sluice_", "sluice:", "kubeproxy_"].iter().any(|start| word.starts_with(start)));
    ours.map(str::to_owned).collect()
}

/// The anchor that a heading of Markdown gets.
fn anchors(document: &str) -> BTreeSet<String> {
    let headings = document.lines().filter(|line| line.starts_with('#'));
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
    headings
        .map(|line| {
            line.trim_start_matches('#')
                .trim()
                .chars()
                .filter(kept)
                .collect::<String>()
                .to_lowercase()
                .replace(' ', "-")
        })
        .collect()
}

#[test]
fn alerts_have_a_runbook_that_exists_and_every_runbook_an_alert() {
    let document = read("docs/troubleshooting.md");
    let anchors = anchors(&document);
    let mut named = BTreeSet::new();
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        let url = alert["annotations"]["runbook_url"].as_str().unwrap();
        let (page, anchor) = url.split_once('#').unwrap();
        assert!(page.ends_with("/blob/main/docs/troubleshooting.md"), "{url}");
        assert!(anchor == name.to_lowercase() && anchors.contains(anchor), "{name}: {url}");
        for text in ["summary", "description"] {
            assert!(alert["annotations"][text].as_str().is_some_and(|text| text.ends_with('.')), "{name}: {text}");
        }
        let severity = alert["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning", "info"].contains(&severity), "{name}: {severity}");
        named.insert(anchor.to_owned());
    }
    let runbook = document.split_once("\n## Alerts\n").unwrap().1.split("\n## ").next().unwrap();
    let sections: BTreeSet<String> = self::anchors(runbook).into_iter().collect();
    assert_eq!(sections, named, "left: docs/troubleshooting.md, right: the rules");
}

#[test]
fn rules_and_dashboard_ask_for_families_that_the_agent_has() {
    let sources = fs::read_dir(path("lb-userspace/src/metrics")).unwrap();
    let code: String = sources.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    let recorded: BTreeSet<String> =
        rules().iter().filter_map(|rule| rule["record"].as_str().map(str::to_owned)).collect();
    let families = families();
    assert!(families.len() > 25, "{families:?}");
    for family in families {
        // kube-proxy's prefix is put before the names, and the suffix of a histogram behind them.
        let name = family.trim_start_matches("kubeproxy_").trim_end_matches("_bucket");
        assert!(recorded.contains(&family) || code.contains(&format!("\"{name}\"")), "{family}");
    }
}

/// A table that evicts is not short of room when it is full.
#[test]
fn the_alert_of_full_maps_leaves_out_those_that_evict() {
    let alert = alerts().into_iter().find(|alert| alert["alert"] == "SluiceMapNearlyFull").unwrap();
    let expr = alert["expr"].as_str().unwrap();
    let pattern = expr.split_once("map!~\"").unwrap().1.split('"').next().unwrap();
    let left_out: BTreeSet<String> = pattern
        .split_once(")[46]|")
        .map(|(both, one)| {
            let both = both.trim_start_matches('(').split('|').flat_map(|map| [format!("{map}4"), format!("{map}6")]);
            both.chain(one.split('|').map(str::to_owned)).collect()
        })
        .unwrap();
    let evicting = tables::all().filter(|table| table.kind == Kind::LruHash);
    let evicting: BTreeSet<String> = evicting.flat_map(|table| table.maps).map(|map| map.name.to_owned()).collect();
    assert_eq!(left_out, evicting);
}

#[test]
fn the_kustomizations_alerts_are_the_charts() {
    let rules = read(&format!("{CHART}/rules.yaml"));
    let (comment, groups) = rules.split_once("groups:\n").unwrap();
    assert!(comment.lines().all(|line| line.starts_with('#')), "{comment}");
    let indented: String = groups.lines().flat_map(|line| ["  ", line, "\n"]).collect();
    let object = "# Written by SLUICE_BLESS=1 cargo test -p lb-userspace --lib alerts\n\
                  apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: sluice\n  \
                  namespace: kube-system\n  labels:\n    app.kubernetes.io/name: sluice\n    \
                  # What a kube-prometheus-stack that is installed under its usual name selects.\n    \
                  release: kube-prometheus-stack\nspec:\n  groups:\n";
    let dashboard = read(&format!("{CHART}/dashboard.json"));
    for (file, should) in [("prometheusrule.yaml", object.to_owned() + &indented), ("dashboard.json", dashboard)] {
        let file = format!("{COMPONENT}/{file}");
        if std::env::var_os("SLUICE_BLESS").is_some() {
            fs::write(path(&file), &should).unwrap();
        }
        assert_eq!(read(&file), should, "{file}: SLUICE_BLESS=1 cargo test -p lb-userspace --lib alerts");
    }
}
