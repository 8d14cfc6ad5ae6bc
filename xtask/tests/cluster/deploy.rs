//! What is in `deploy/`: that the chart and the kustomization are one deployment, and that a real API server takes both.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use xtask::apiserver::{Assets, Cluster};

const NAMESPACE: &str = "kube-system";

/// Enough of a kind of the Prometheus operator for the API server to know it.
fn operators_kind(kind: &str) -> Value {
    let singular = kind.to_lowercase();
    let plural = format!("{singular}s");
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.monitoring.coreos.com")},
        "spec": {
            "group": "monitoring.coreos.com", "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": singular},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    })
}

fn deploy(path: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path).display().to_string()
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn kustomize(path: &str) -> String {
    output(Command::new(Assets::find_or_build().unwrap().kubectl).arg("kustomize").arg(deploy(path)))
}

fn helm(args: &[&str]) -> String {
    output(Command::new(Assets::helm().unwrap()).args(args))
}

/// The chart with these values, as a file of JSON has them.
fn chart(values: &Value) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), values.to_string()).unwrap();
    let path = file.path().display().to_string();
    helm(&["template", "sluice", &deploy("helm/sluice"), "--namespace", NAMESPACE, "--values", &path])
}

fn objects(yaml: &str) -> Vec<Value> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    objects.into_iter().filter(|object| !object.is_null()).collect()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

/// Each setting that the chart's schema knows, with a value.
fn every_setting() -> Value {
    let schema = fs::read_to_string(deploy("helm/sluice/values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let settings = schema["properties"]["config"]["properties"].as_object().unwrap();
    assert!(settings.len() > 40, "{}", settings.len());
    let value = |schema: &Value| match (&schema["type"], &schema["enum"][0]) {
        (Value::String(kind), _) if kind == "boolean" => json!(true),
        (Value::Array(kinds), _) if kinds.contains(&json!("array")) => json!(["a", "b"]),
        (Value::Array(_), _) => json!(1_048_576),
        (_, first) => first.clone(),
    };
    settings.iter().map(|(name, schema)| (name.clone(), value(schema))).collect::<serde_json::Map<_, _>>().into()
}

/// Without what only one of the two writes: labels of Helm, and how a change of settings replaces Pods.
fn comparable(mut object: Value) -> Value {
    if object["kind"] == "ConfigMap" {
        object["metadata"]["name"] = json!("sluice");
    }
    let only_name = json!({"app.kubernetes.io/name": "sluice"});
    object["metadata"]["labels"] = only_name.clone();
    if object["kind"] == "DaemonSet" {
        let template = &mut object["spec"]["template"];
        template["metadata"] = json!({"labels": only_name});
        template["spec"]["containers"][0]["envFrom"][0]["configMapRef"]["name"] = json!("sluice");
    }
    // A ClusterRole has no namespace, and neither tool should give it one.
    object
}

#[test]
fn the_chart_and_the_kustomization_are_one_deployment() {
    let by_kind = |yaml: &str| {
        let mut objects: Vec<Value> = objects(yaml).into_iter().map(comparable).collect();
        objects.sort_by_key(|object| object["kind"].to_string());
        objects
    };
    for (path, values) in [
        ("kustomize", json!({})),
        ("kustomize/overlays/kubeadm", json!({"kubeProxyConfigMap": "kube-proxy"})),
        ("kustomize/overlays/k3s", json!({"config": {"apiServer": ["https://127.0.0.1:6444"]}})),
    ] {
        let (of_chart, of_kustomize) = (by_kind(&chart(&values)), by_kind(&kustomize(path)));
        assert_eq!(of_chart.len(), 5, "{path}");
        for (chart, kustomize) in of_chart.iter().zip(&of_kustomize) {
            assert_eq!(chart, kustomize, "{path}: left the chart, right kustomize");
        }
        assert_eq!(of_chart.len(), of_kustomize.len(), "{path}");
    }
}

#[test]
fn each_setting_of_the_chart_is_the_variable_of_its_flag() {
    let settings = every_setting();
    let rendered = objects(&chart(&json!({"config": settings})));
    let data = of_kind(&rendered, "ConfigMap")["data"].as_object().unwrap();
    let variable = |name: &String| {
        let words = name.chars().flat_map(|c| c.is_uppercase().then_some('_').into_iter().chain([c]));
        format!("SLUICE_{}", words.collect::<String>().to_uppercase())
    };
    let mut wanted: Vec<String> = settings.as_object().unwrap().keys().map(variable).collect();
    wanted.sort();
    assert_eq!(data.keys().collect::<Vec<_>>(), wanted.iter().collect::<Vec<_>>());
    assert_eq!(data["SLUICE_MAX_FLOWS"], "1048576");
    assert_eq!(data["SLUICE_API_SERVER"], "a,b");
    assert_eq!(data["SLUICE_MASQUERADE_ALL"], "true");
}

#[test]
fn values_that_the_agent_would_refuse_are_refused_by_the_chart() {
    for (set, field) in [
        ("config.maxFlow=1", "maxFlow"),
        ("config.xdp=false", "xdp"),
        ("config.takeover=yes", "takeover"),
        ("config.nodeName=n", "nodeName"),
        ("imag.tag=v1", "imag"),
        ("image.digest=sha256:1", "digest"),
    ] {
        let mut helm = Command::new(Assets::helm().unwrap());
        let refused = helm.args(["template", "sluice", &deploy("helm/sluice"), "--set", set]).output().unwrap();
        let message = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && message.contains(field), "{set}: {message}");
    }
    let lint = helm(&["lint", "--strict", &deploy("helm/sluice")]);
    assert!(lint.contains("0 chart(s) failed"), "{lint}");
}

#[test]
fn the_api_server_takes_every_deployment_and_helm_upgrades_and_rolls_back() {
    let cluster = Cluster::start().unwrap();
    for kind in ["ServiceMonitor", "PrometheusRule"] {
        let kind = operators_kind(kind);
        cluster.apply(&kind.to_string()).unwrap();
        let name = format!("crd/{}", kind["metadata"]["name"].as_str().unwrap());
        cluster.kubectl(&["wait", "--for=condition=Established", &name]).unwrap();
    }
    let everything = json!({
        "config": every_setting(), "kubeProxyConfigMap": "kube-proxy",
        "monitoring": {"enabled": true, "interval": "15s", "alerts": true, "dashboard": true},
        "image": {"pullPolicy": "Always", "pullSecrets": [{"name": "x"}]}, "podAnnotations": {"a": "b"},
        "affinity": {"nodeAffinity": {}},
    });
    let monitored = tempfile::tempdir().unwrap();
    let overlay = json!({
        // kustomize takes no absolute path for either.
        "resources": [relative(monitored.path(), "kustomize/overlays/kubeadm")],
        "components": [
            relative(monitored.path(), "kustomize/components/monitoring"),
            relative(monitored.path(), "kustomize/components/alerts"),
        ],
    });
    fs::write(monitored.path().join("kustomization.yaml"), overlay.to_string()).unwrap();
    let monitored =
        output(Command::new(Assets::find_or_build().unwrap().kubectl).arg("kustomize").arg(monitored.path()));
    let overlays = ["kustomize", "kustomize/overlays/kubeadm", "kustomize/overlays/k3s", "kustomize/overlays/kind"];
    // What Prometheus and Grafana get is the same from both.
    let named = |yaml: &str, name: &str| -> Vec<Value> {
        let mut found = objects(yaml);
        found.retain(|object| object["metadata"]["name"] == name && object["kind"] != "DaemonSet");
        found
    };
    let of_chart = chart(&everything);
    for (name, kind, field) in [("sluice", "PrometheusRule", "spec"), ("sluice-dashboard", "ConfigMap", "data")] {
        let [chart, kustomize] = [&of_chart, &monitored].map(|yaml| of_kind(&named(yaml, name), kind)[field].clone());
        assert!(chart.is_object() && chart == kustomize, "{name}: {chart:#} {kustomize:#}");
    }
    let mut manifests: Vec<String> = overlays.into_iter().map(kustomize).collect();
    manifests.extend([chart(&json!({})), of_chart, monitored]);
    for manifest in &manifests {
        // Strict: a field that the API does not know is an error.
        let dry_run = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];
        let said = cluster.kubectl_with_input(&dry_run, manifest).unwrap_or_else(|error| panic!("{error}\n{manifest}"));
        assert!(said.contains("daemonset.apps/sluice created (server dry run)"), "{said}");
    }

    let chart = deploy("helm/sluice");
    let release = |verb: &str, set: &str| {
        cluster.helm(&[verb, "sluice", &chart, "--namespace", NAMESPACE, "--set", set]).unwrap();
    };
    let running = || -> Value {
        let path = ["get", "daemonset", "sluice", "--namespace", NAMESPACE, "-o", "json"];
        serde_json::from_str::<Value>(&cluster.kubectl(&path).unwrap()).unwrap()["spec"]["template"].clone()
    };
    release("install", "config.maxFlows=65536");
    let installed = running();
    release("upgrade", "image.tag=v9,config.maxFlows=131072");
    let upgraded = running();
    assert_eq!(upgraded["spec"]["containers"][0]["image"], "ghcr.io/sluice-lb/sluice:v9");
    // New settings alone replace the Pods, too.
    let settings = |template: &Value| template["metadata"]["annotations"]["sluice-lb.io/config"].clone();
    assert!(settings(&installed).is_string() && settings(&installed) != settings(&upgraded));
    cluster.helm(&["rollback", "sluice", "1", "--namespace", NAMESPACE]).unwrap();
    assert_eq!(running(), installed);
    cluster.helm(&["uninstall", "sluice", "--namespace", NAMESPACE]).unwrap();
    let left = cluster.kubectl(&["get", "clusterrole,clusterrolebinding", "-o", "name"]).unwrap();
    assert!(!left.lines().any(|name| name.ends_with("/sluice")), "{left}");
}

/// A path in `deploy/` as seen from a folder.
fn relative(from: &std::path::Path, path: &str) -> String {
    let from = from.canonicalize().unwrap();
    let up = "../".repeat(from.components().count() - 1);
    let to = fs::canonicalize(deploy(path)).unwrap();
    format!("{up}{}", to.display().to_string().trim_start_matches('/'))
}
