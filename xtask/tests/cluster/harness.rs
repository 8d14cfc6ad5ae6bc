//! The API server of the tests itself: what the other tests here build on.

use xtask::apiserver::Cluster;

const SERVICE: &str = r"
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  ipFamilyPolicy: PreferDualStack
  ports: [{port: 80}]
";

#[test]
fn api_server_gives_an_applied_service_its_cluster_ips() {
    let cluster = Cluster::start().unwrap();
    cluster.apply(SERVICE).unwrap();
    let ips = cluster.kubectl(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIPs[*]}"]).unwrap();
    let ips: Vec<_> = ips.split(' ').collect();
    assert!(ips.len() == 2 && ips[0].starts_with("10.96.") && ips[1].starts_with("fd00:96::"), "{ips:?}");
}

#[test]
fn objects_survive_a_restart_of_the_api_server_and_old_revisions_do_not_survive_compaction() {
    let mut cluster = Cluster::start().unwrap();
    cluster.apply(SERVICE).unwrap();
    let uid = ["get", "service", "web", "-o", "jsonpath={.metadata.uid}"];
    let version = cluster.kubectl(&["get", "service", "web", "-o", "jsonpath={.metadata.resourceVersion}"]).unwrap();
    let before = cluster.kubectl(&uid).unwrap();
    cluster.kubectl(&["label", "service", "web", "changed=yes"]).unwrap();

    cluster.stop_apiserver();
    assert!(cluster.kubectl(&["--request-timeout=2s", "get", "service", "web"]).is_err());
    cluster.compact_etcd().unwrap();
    cluster.start_apiserver().unwrap();

    assert_eq!(cluster.kubectl(&uid).unwrap(), before);
    let watch = format!("--raw=/api/v1/services?watch=1&timeoutSeconds=2&resourceVersion={version}");
    let events = cluster.kubectl(&["get", &watch]).unwrap_or_else(|error| format!("{error:#}"));
    assert!(events.contains("too old resource version"), "{events}");
}
