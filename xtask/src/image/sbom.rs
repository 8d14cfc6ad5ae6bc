//! The bill of materials: every crate in the agent and in the kernel programs, and the libraries that are linked in, as
//! `CycloneDX` 1.5.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::arch::Arch;
use super::archive::{Facts, date, hex};
use crate::command::{cargo, clean, output, workspace_root};

/// What separates the fields of cargo's lines.
const SEPARATOR: char = '\t';

/// A crate, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    /// Where its name comes from, as package URLs have it.
    kind: &'static str,
    name: String,
    version: String,
    licence: String,
    repository: String,
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// The document for one processor. The same sources give the same bytes.
pub(super) fn document(facts: &Facts, arch: Arch, image: &str) -> Result<String> {
    let mut packages = tree("lb-userspace", Some(arch.triple()))?;
    // The kernel programs are inside the agent.
    packages.extend(tree("lb-ebpf", None)?);
    packages.extend(linked(arch)?);
    let lock = fs::read_to_string(workspace_root().join("Cargo.lock")).context("reading Cargo.lock")?;
    render(facts, arch, image, &packages, &checksums(&lock)?)
}

/// The crates that cargo links into a package.
fn tree(package: &str, target: Option<&str>) -> Result<BTreeSet<Package>> {
    let format = ["{p}", "{l}", "{r}"].join(&SEPARATOR.to_string());
    let mut command = cargo("tree");
    command.args(["--locked", "--package", package, "--edges", "normal,no-proc-macro", "--prefix", "none"]);
    command.args(["--format", &format]).args(target.into_iter().flat_map(|target| ["--target", target]));
    Ok(output(&mut command)?.lines().filter_map(package_of).collect())
}

/// What is linked in besides crates: Rust's library, and the C library where this machine can say which.
fn linked(arch: Arch) -> Result<Vec<Package>> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let library = |name: &str, said: &str, licence: &str, repository: &str| Package {
        kind: "generic",
        name: name.into(),
        version: said.split_whitespace().nth(1).unwrap_or_default().into(),
        licence: licence.into(),
        repository: repository.into(),
    };
    let said = output(clean(rustc).arg("--version"))?;
    let mut linked = vec![library("rust-std", &said, "Apache-2.0 OR MIT", "https://github.com/rust-lang/rust")];
    if let Some(said) =
        output(clean("getconf").arg("GNU_LIBC_VERSION")).ok().filter(|_| Arch::host().ok() == Some(arch))
    {
        linked.push(library("glibc", &said, "LGPL-2.1-or-later", "https://sourceware.org/git/glibc.git"));
    }
    Ok(linked)
}

/// `name v1.2.3 (/path)`, licence, repository; a line that is a repetition ends with `(*)`.
fn package_of(line: &str) -> Option<Package> {
    let mut fields = line.split(SEPARATOR).map(|field| field.trim_end_matches("(*)").trim().to_owned());
    let named = fields.next()?;
    let mut words = named.split(' ');
    let (name, version) = (words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned());
    let (licence, repository) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
    // Older manifests write a slash for "or".
    Some(Package {
        kind: "cargo",
        name,
        version,
        licence: licence.replace(" / ", "/").replace('/', " OR "),
        repository,
    })
}

fn checksums(lock: &str) -> Result<BTreeMap<(String, String), String>> {
    let lock: Lock = toml::from_str(lock).context("reading Cargo.lock")?;
    Ok(lock.package.into_iter().filter_map(|found| Some(((found.name, found.version), found.checksum?))).collect())
}

fn render(
    facts: &Facts,
    arch: Arch,
    image: &str,
    packages: &BTreeSet<Package>,
    checksums: &BTreeMap<(String, String), String>,
) -> Result<String> {
    let components: Vec<Value> = packages.iter().map(|package| component(package, checksums)).collect();
    let text = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": date(facts.epoch)?,
            "tools": {"components": [{"type": "application", "name": "cargo xtask image", "version": facts.version}]},
            "component": {
                "type": "container",
                "bom-ref": "image",
                "name": facts.name,
                "version": image,
                "properties": [
                    {"name": "architecture", "value": arch.to_string()},
                    {"name": "revision", "value": facts.revision},
                ],
            },
        },
        "components": components,
        "dependencies": [{
            "ref": "image",
            "dependsOn": packages.iter().map(reference).collect::<Vec<_>>(),
        }],
    });
    // By the content: a number by chance would differ from build to build.
    let id = hex(text.to_string().as_bytes());
    let part = |from: usize, to: usize| id.get(from..to).unwrap_or_default();
    let serial =
        format!("urn:uuid:{}-{}-8{}-a{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32));
    let mut text = text;
    text["serialNumber"] = serial.into();
    Ok(serde_json::to_string_pretty(&text)? + "\n")
}

fn reference(package: &Package) -> String {
    format!("pkg:{}/{}@{}", package.kind, package.name, package.version)
}

fn component(package: &Package, checksums: &BTreeMap<(String, String), String>) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": reference(package),
        "purl": reference(package),
        "name": package.name,
        "version": package.version,
    });
    if !package.licence.is_empty() {
        component["licenses"] = json!([{"expression": package.licence}]);
    }
    if !package.repository.is_empty() {
        component["externalReferences"] = json!([{"type": "vcs", "url": package.repository}]);
    }
    if let Some(checksum) = checksums.get(&(package.name.clone(), package.version.clone())) {
        component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
    }
    component
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts { name: "sluice:v1".into(), version: "1.0.0".into(), revision: "abc".into(), epoch: 1_700_000_000 }
    }

    #[test]
    fn a_crate_is_listed_with_its_licence_and_the_checksum_of_the_lock_file() {
        let line = "log v0.4.9\tMIT/Apache-2.0\thttps://example.org/log (*)";
        let packages = BTreeSet::from([package_of(line).unwrap()]);
        let lock = "[[package]]\nname = \"log\"\nversion = \"0.4.9\"\nchecksum = \"ff00\"\n";
        let text = render(&facts(), Arch::Arm64, "sha256:1", &packages, &checksums(lock).unwrap()).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        let log = &document["components"][0];
        assert_eq!(log["purl"], "pkg:cargo/log@0.4.9");
        assert_eq!(log["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(log["hashes"][0]["content"], "ff00");
        assert_eq!(log["externalReferences"][0]["url"], "https://example.org/log");
        assert_eq!(document["metadata"]["timestamp"], "2023-11-14T22:13:20Z");
        assert_eq!(document["dependencies"][0]["dependsOn"][0], log["bom-ref"]);
        let serial = document["serialNumber"].as_str().unwrap();
        assert_eq!(serial.len(), "urn:uuid:".len() + 36, "{serial}");
    }

    #[test]
    fn the_agents_own_crates_and_those_of_the_kernel_programs_are_in_it_and_those_of_tests_are_not() {
        let text = document(&facts(), Arch::host().unwrap(), "sha256:1").unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        let components = document["components"].as_array().unwrap();
        let names: Vec<&str> = components.iter().filter_map(|component| component["name"].as_str()).collect();
        for name in ["lb-userspace", "lb-ebpf", "aya-ebpf", "aya", "kube-client", "ring", "libc", "rust-std"] {
            assert!(names.contains(&name), "{name}: {names:?}");
        }
        for name in ["proptest", "tempfile", "xtask", "serde_derive"] {
            assert!(!names.contains(&name), "{name}");
        }
        for component in components {
            assert!(component["licenses"][0]["expression"].is_string(), "{component}");
            // Sluice's own crates and the libraries have no entry in the lock file.
            let name = component["name"].as_str().unwrap();
            let fetched = component["purl"].as_str().unwrap().starts_with("pkg:cargo/") && !name.starts_with("lb-");
            assert!(
                !fetched || component["hashes"][0]["content"].as_str().is_some_and(|sum| sum.len() == 64),
                "{name}"
            );
        }
    }
}
