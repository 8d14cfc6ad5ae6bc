//! Whether somebody else on this node leads host ports to Pods: the CNI's plugin `portmap`, by its configuration or by the
//! chains that it has made.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::firewall;

/// Where container runtimes look for networks' configurations.
pub const CNI_CONFIGURATIONS: &str = "/etc/cni/net.d";
/// The plugin's table in nftables, and what the names of its chains in iptables begin with.
const TABLE: &str = "cni_hostport";
const CHAINS: [&str; 2] = ["CNI-HOSTPORT-", "CNI-DN-"];

/// A list of plugins, as far as it matters.
#[derive(Debug, Deserialize)]
struct Network {
    #[serde(default)]
    plugins: Vec<Plugin>,
}

#[derive(Debug, Default, Deserialize)]
struct Plugin {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    capabilities: Capabilities,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Capabilities {
    #[serde(default)]
    port_mappings: bool,
}

/// Who leads host ports to Pods, and by what that is known; none: nobody, as far as can be seen.
pub fn find(configurations: &Path) -> Option<String> {
    in_configurations(configurations).or_else(|| {
        let chains = firewall::chains().ok()?;
        let names = chains.iter().map(|chain| (chain.table.as_str(), chain.name.as_str()));
        in_chains(names)
    })
}

/// The runtime takes the first file by name; one that cannot be read it passes over.
fn in_configurations(folder: &Path) -> Option<String> {
    let entries = fs::read_dir(folder).ok()?;
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort_unstable();
    let network = |path: &Path| -> Option<Network> {
        let known = ["conflist", "conf", "json"].iter().any(|end| path.extension().is_some_and(|ext| ext == *end));
        if known { serde_json::from_slice(&fs::read(path).ok()?).ok() } else { None }
    };
    let (path, first) = paths.iter().find_map(|path| Some((path, network(path)?)))?;
    let maps = first.plugins.iter().any(|plugin| plugin.kind == "portmap" && plugin.capabilities.port_mappings);
    maps.then(|| format!("the CNI's plugin portmap, in {}", path.display()))
}

fn in_chains<'a>(mut names: impl Iterator<Item = (&'a str, &'a str)>) -> Option<String> {
    let is_one = |(table, chain): &(&str, &str)| *table == TABLE || CHAINS.iter().any(|begin| chain.starts_with(begin));
    names.find(is_one).map(|(table, chain)| format!("the CNI's plugin portmap, by its chain {table}/{chain}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portmap_is_found_in_the_first_configuration_that_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let found = || in_configurations(folder.path());
        assert_eq!(found(), None);
        write(
            "20-other.conflist",
            r#"{"name": "n", "plugins": [{"type": "portmap", "capabilities": {"portMappings": true}}]}"#,
        );
        assert!(found().unwrap().ends_with("20-other.conflist"));
        write("00-broken.conflist", "{");
        write("05-notes.txt", "{}");
        assert!(found().unwrap().ends_with("20-other.conflist"));
        write("10-flannel.conflist", r#"{"plugins": [{"type": "flannel", "delegate": {}}, {"type": "portmap"}]}"#);
        assert_eq!(found(), None, "without the capability the runtime does not ask it");
        fs::remove_file(folder.path().join("10-flannel.conflist")).unwrap();
        write("10-bridge.conf", r#"{"type": "bridge"}"#);
        assert_eq!(found(), None);
        assert_eq!(in_configurations(Path::new("/nonexistent")), None);
    }

    #[test]
    fn portmap_is_found_by_its_chains() {
        let kube = [("nat", "KUBE-SERVICES"), ("kube-proxy", "services")];
        assert_eq!(in_chains(kube.into_iter()), None);
        for chain in [("nat", "CNI-HOSTPORT-DNAT"), ("nat", "CNI-DN-0a1b"), ("cni_hostport", "hostports")] {
            let found = in_chains(kube.into_iter().chain([chain])).unwrap();
            assert!(found.ends_with(&format!("{}/{}", chain.0, chain.1)), "{found}");
        }
    }
}
