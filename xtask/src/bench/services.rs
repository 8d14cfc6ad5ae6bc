//! Manifests of many Services of ten endpoints each, for the benches.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Endpoints of each Service.
pub(super) const ENDPOINTS: u32 = 10;
/// The range of `ClusterIP`s: room for a hundred thousand.
pub(super) const SERVICE_CIDR: &str = "10.96.0.0/12";
/// Services in one file of manifests.
const PER_FILE: u32 = 100;

/// The `ClusterIP` of a Service.
pub(super) fn cluster_ip(service: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 1, 0)) + service)
}

/// The address of an endpoint; nobody has it.
pub(super) fn endpoint(service: u32, endpoint: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 128, 0, 0)) + service * ENDPOINTS + endpoint)
}

/// Writes so many Services and their endpoints into a folder of manifests.
pub(super) fn write(folder: &Path, services: u32) -> Result<()> {
    for first in (0..services).step_by(PER_FILE as usize) {
        let these = first..(first + PER_FILE).min(services);
        let text: Vec<String> = these.flat_map(|n| [service_yaml(n), slice_yaml(n)]).collect();
        let path = folder.join(format!("many-{first:06}.yaml"));
        fs::write(&path, text.join("---\n")).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn service_yaml(n: u32) -> String {
    let ip = cluster_ip(n);
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: svc-{n}\n  namespace: many\nspec:\n  type: ClusterIP\n  \
         clusterIP: {ip}\n  clusterIPs:\n  - {ip}\n  ports:\n  - name: http\n    protocol: TCP\n    port: 80\n    \
         targetPort: 8080\n"
    )
}

fn slice_yaml(n: u32) -> String {
    let endpoints: Vec<String> = (0..ENDPOINTS)
        .map(|k| {
            let (ip, node) = (endpoint(n, k), (n * ENDPOINTS + k) % 100);
            format!(
                "- addresses:\n  - {ip}\n  conditions:\n    ready: true\n    serving: true\n    terminating: false\n  \
                 nodeName: node-{node}\n"
            )
        })
        .collect();
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: svc-{n}-abcde\n  namespace: many\n  \
         labels:\n    kubernetes.io/service-name: svc-{n}\naddressType: IPv4\nports:\n- name: http\n  protocol: TCP\n  \
         port: 8080\nendpoints:\n{}",
        endpoints.join("")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_thousand_services_fit_into_their_range() {
        let last = u32::from(cluster_ip(99_999));
        assert_eq!(last & 0xfff0_0000, u32::from(Ipv4Addr::new(10, 96, 0, 0)));
        // Endpoints are outside of the range of ClusterIPs and of the lab's Pods.
        assert!(u32::from(endpoint(99_999, 9)) < u32::from(Ipv4Addr::new(10, 244, 0, 0)));
    }

    #[test]
    fn every_service_is_written_once_also_when_the_last_file_is_not_full() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 250).unwrap();
        let files: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(files.len(), 3);
        let all: String = files.into_iter().map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
        assert_eq!(all.matches("kind: Service\n").count(), 250);
        assert_eq!(all.matches("kind: EndpointSlice\n").count(), 250);
        assert_eq!(all.matches("- addresses:").count(), 2_500);
    }
}
