//! Rules of the Prometheus text format and of good metric names, held against what the agent says.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use super::{AgentInfo, Metrics, RestClientMetrics};
use crate::kube::RequestLog;

/// Everything wrong with a text.
pub(super) fn lint(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut types: HashMap<&str, &str> = HashMap::new();
    let mut helps: HashSet<&str> = HashSet::new();
    let mut samples: HashSet<&str> = HashSet::new();
    let mut current = "";
    let mut finished: HashSet<&str> = HashSet::new();
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words.as_slice() {
            ["#", "HELP", name, help] if !help.trim().is_empty() => {
                if !helps.insert(name) {
                    wrong.push(format!("{name}: more than one HELP"));
                }
                if name.starts_with("kubeproxy_") && !help.starts_with("[ALPHA] ") {
                    wrong.push(format!("{name}: HELP without stability level"));
                }
            }
            ["#", "TYPE", name, kind] => {
                if types.insert(name, kind).is_some() {
                    wrong.push(format!("{name}: more than one TYPE"));
                }
                // kube-proxy has gauges by such names.
                if *kind != "counter" && name.ends_with("_total") && !name.starts_with("kubeproxy_") {
                    wrong.push(format!("{name}: only counters end in _total"));
                }
                if *kind == "counter" && !name.ends_with("_total") {
                    wrong.push(format!("{name}: a counter ends in _total"));
                }
            }
            _ if line.starts_with('#') || line.trim().is_empty() => wrong.push(format!("odd line {line:?}")),
            _ => {
                let Some((series, value)) = line.rsplit_once(' ') else {
                    wrong.push(format!("no value in {line:?}"));
                    continue;
                };
                if value.parse::<f64>().is_err() {
                    wrong.push(format!("no number in {line:?}"));
                }
                if !samples.insert(series) {
                    wrong.push(format!("{series}: twice"));
                }
                let name = series.split('{').next().unwrap_or_default();
                if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
                    wrong.push(format!("{name}: odd name"));
                }
                let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                let family = base.filter(|base| types.get(base) == Some(&"histogram")).unwrap_or(name);
                if !types.contains_key(family) || !helps.contains(family) {
                    wrong.push(format!("{name}: no TYPE or no HELP before it"));
                }
                if family != current {
                    if !finished.insert(family) {
                        wrong.push(format!("{family}: its lines are not together"));
                    }
                    current = family;
                }
            }
        }
    }
    wrong
}

fn metrics() -> Metrics {
    let info = AgentInfo { version: "0", node: "n".into(), source: "kube" };
    Metrics::new(PathBuf::from("/nonexistent"), info, 100).unwrap()
}

#[test]
fn the_text_format_has_no_fault() {
    let text = metrics().text().unwrap();
    assert_eq!(lint(&text), Vec::<String>::new(), "{text}");
}

#[test]
fn requests_to_the_api_are_counted_as_gos_client_counts_them() {
    let (metrics, requests) = (metrics(), RestClientMetrics::new().unwrap());
    metrics.show_requests(&requests).unwrap();
    requests.ended("GET", "192.0.2.1:6443", Some(200), Some(Duration::from_millis(30)));
    requests.ended("GET", "192.0.2.1:6443", None, None);
    let text = metrics.text().unwrap();
    assert_eq!(lint(&text), Vec::<String>::new());
    for line in [
        "rest_client_requests_total{code=\"200\",host=\"192.0.2.1:6443\",method=\"GET\"} 1",
        "rest_client_requests_total{code=\"<error>\",host=\"192.0.2.1:6443\",method=\"GET\"} 1",
        "rest_client_request_duration_seconds_bucket{host=\"192.0.2.1:6443\",verb=\"GET\",le=\"0.025\"} 0",
        "rest_client_request_duration_seconds_bucket{host=\"192.0.2.1:6443\",verb=\"GET\",le=\"0.1\"} 1",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line}: not in\n{text}");
    }
}

#[test]
fn the_lint_finds_faults() {
    for bad in [
        "x_total 1",
        "# HELP x X\n# TYPE x counter\nx 1",
        "# HELP x X\n# TYPE x gauge\nx one",
        "# HELP x X\n# TYPE x gauge\nx 1\nx 2",
        "# HELP kubeproxy_x X\n# TYPE kubeproxy_x gauge\nkubeproxy_x 1",
        "# HELP x X\n# TYPE x gauge\nx{a=\"1\"} 1\n# HELP y Y\n# TYPE y gauge\ny 1\nx{a=\"2\"} 1",
    ] {
        assert!(!lint(bad).is_empty(), "{bad}");
    }
}

#[test]
fn the_families_of_kube_proxy_are_there_with_their_labels() {
    let text = metrics().text().unwrap();
    let by_family = [
        "network_programming_duration_seconds_count",
        "sync_proxy_rules_duration_seconds_count",
        "sync_full_proxy_rules_duration_seconds_count",
        "sync_partial_proxy_rules_duration_seconds_count",
    ];
    for name in by_family {
        for family in ["IPv4", "IPv6"] {
            let line = format!("kubeproxy_{name}{{ip_family=\"{family}\"}} 0\n");
            assert!(text.contains(&line), "{line}{text}");
        }
    }
    for line in [
        "kubeproxy_sync_proxy_rules_endpoint_changes_pending 0",
        "kubeproxy_sync_proxy_rules_service_changes_pending 0",
        "kubeproxy_sync_proxy_rules_endpoint_changes_total 0",
        "kubeproxy_sync_proxy_rules_service_changes_total 0",
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=\"IPv6\",traffic_policy=\"external\"} 0",
        "kubeproxy_proxy_healthz_total{code=\"200\"} 0",
        "kubeproxy_proxy_livez_total{code=\"503\"} 0",
        "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"16.384\"} 0",
        "kubeproxy_network_programming_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0.25\"} 0",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line}: not in\n{text}");
    }
}
