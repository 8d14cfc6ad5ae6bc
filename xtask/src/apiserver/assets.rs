//! The control plane's programs: where `KUBEBUILDER_ASSETS` says, or built once with Go and kept outside the checkout.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cache;
use crate::command::{clean, find, run, workspace_root};

/// Binaries of the control plane.
#[derive(Clone, Debug)]
pub struct Assets {
    /// The API server.
    pub kube_apiserver: PathBuf,
    /// Its store.
    pub etcd: PathBuf,
    /// The client.
    pub kubectl: PathBuf,
}

/// What is built: the binary's name and its Go package.
const PROGRAMS: [(&str, &str); 3] = [
    ("etcd", "go.etcd.io/etcd/server/v3"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
];

/// What Sluice is compared with.
const KUBE_PROXY: (&str, &str) = ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy");

/// What renders and installs the chart.
const HELM: (&str, &str) = ("helm", "helm.sh/helm/v4/cmd/helm");

/// Go's oldest minor release that builds them.
const GO_MINOR: u32 = 26;

/// What to do where there is neither a folder of binaries nor a Go to build them with.
const INSTALL: &str = "point KUBEBUILDER_ASSETS at a folder with kube-apiserver, etcd and kubectl, \
     or install Go 1.26 or newer (or leave these tests out with `--without cluster`)";

impl Assets {
    /// Finds the programs, or builds them if they are not there yet: minutes, once per version.
    pub fn find_or_build() -> Result<Self> {
        if let Some(dir) = env::var_os("KUBEBUILDER_ASSETS") {
            return Self::in_folder(Path::new(&dir)).context("KUBEBUILDER_ASSETS");
        }
        let module = Module::kubernetes()?;
        let dir = module.cached(&PROGRAMS)?;
        Self::in_folder(&dir)
    }

    /// Finds kube-proxy of the same version, or builds it. The envtest convention leaves it out.
    pub fn kube_proxy() -> Result<PathBuf> {
        in_given_folder(KUBE_PROXY.0).map_or_else(
            || {
                let dir = Module::kubernetes()?.cached(&[KUBE_PROXY]).context("no kube-proxy to compare with")?;
                Ok(dir.join(KUBE_PROXY.0))
            },
            Ok,
        )
    }

    /// Finds Helm, or builds it.
    pub fn helm() -> Result<PathBuf> {
        in_given_folder(HELM.0).map_or_else(
            || Ok(Module::helm()?.cached(&[HELM]).context("no helm to render the chart")?.join(HELM.0)),
            Ok,
        )
    }

    /// In one line: where the programs are or will come from.
    pub fn outlook() -> String {
        if let Some(dir) = env::var_os("KUBEBUILDER_ASSETS") {
            return format!("{} (KUBEBUILDER_ASSETS)", Path::new(&dir).display());
        }
        let known = Module::kubernetes().and_then(|module| {
            let dir = module.dir_of_binaries()?;
            Ok((PROGRAMS.iter().all(|(name, _)| module.is_built_in(&dir, name)), dir))
        });
        match (known, go()) {
            (Ok((true, dir)), _) => dir.display().to_string(),
            (_, Ok(go)) => format!("built by the first cluster test with {} (minutes, once)", go.display()),
            (_, Err(error)) => format!("{error:#}"),
        }
    }

    fn in_folder(dir: &Path) -> Result<Self> {
        let file = |name: &str| {
            let path = dir.join(name);
            if !path.is_file() {
                bail!("{} has no {name}: {INSTALL}", dir.display());
            }
            Ok(path)
        };
        // The envtest convention has a kubectl, but some bundles leave it out.
        let kubectl = file("kubectl").or_else(|error| find("kubectl").ok_or(error))?;
        Ok(Self { kube_apiserver: file("kube-apiserver")?, etcd: file("etcd")?, kubectl })
    }
}

/// The Go module that pins the programs.
struct Module {
    dir: PathBuf,
    /// `go.mod` and `go.sum`: kept beside the binaries, they tell whether those are of this module.
    pins: String,
    /// What the binaries are parts of.
    name: &'static str,
    version: String,
}

impl Module {
    fn kubernetes() -> Result<Self> {
        Self::read("xtask/apiserver-tools", "kubernetes", "k8s.io/kubernetes")
    }

    fn helm() -> Result<Self> {
        Self::read("xtask/helm-tool", "helm", "helm.sh/helm/v4")
    }

    fn read(folder: &str, name: &'static str, module: &str) -> Result<Self> {
        let dir = workspace_root().join(folder);
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        let requires = read("go.mod")?;
        let version = required_version(&requires, module)
            .with_context(|| format!("{} requires no {module}", dir.display()))?
            .to_owned();
        let pins = requires + &read("go.sum")?;
        Ok(Self { dir, pins, name, version })
    }

    fn dir_of_binaries(&self) -> Result<PathBuf> {
        Ok(cache::dir("apiserver")?.join(format!("{}-{}", self.name, self.version)))
    }

    /// The folder with these programs, built if they are not there yet.
    fn cached(&self, programs: &[(&str, &str)]) -> Result<PathBuf> {
        let dir = self.dir_of_binaries()?;
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        // Only one of several test runs builds; the others wait for it.
        let lock = File::create(dir.join("lock")).context("opening the build's lock")?;
        lock.lock().context("waiting for another build")?;
        for (name, package) in programs {
            if !self.is_built_in(&dir, name) {
                self.build_into(&dir, name, package)?;
            }
        }
        Ok(dir)
    }

    fn is_built_in(&self, dir: &Path, name: &str) -> bool {
        fs::read_to_string(pins_of(dir, name)).is_ok_and(|pins| pins == self.pins) && dir.join(name).is_file()
    }

    fn build_into(&self, dir: &Path, name: &str, package: &str) -> Result<()> {
        let go = go()?;
        println!("building {name} of {} {} into {} (minutes, once)", self.name, self.version, dir.display());
        // Under another name until it is whole.
        let fresh = dir.join(format!("{name}.new"));
        run(&mut self.build_command(&go, package, &fresh)?).with_context(|| format!("building {name}: {INSTALL}"))?;
        fs::rename(&fresh, dir.join(name)).with_context(|| format!("placing {name}"))?;
        fs::write(pins_of(dir, name), &self.pins).context("noting what was built")
    }

    fn build_command(&self, go: &Path, package: &str, out: &Path) -> Result<Command> {
        let number = self.version.trim_start_matches('v');
        let (major, rest) = number.split_once('.').context("the version has no minor part")?;
        let minor = rest.split('.').next().unwrap_or_default();
        // What kubernetes' own build sets: without it the server says it is v0.0.0 and refuses its own features. Others
        // have no such variables, and the linker does not mind.
        let version = "k8s.io/component-base/version";
        let ldflags = format!(
            "-s -w -X {version}.gitVersion={} -X {version}.gitMajor={major} -X {version}.gitMinor={minor}",
            self.version
        );
        let mut command = clean(go);
        command.current_dir(&self.dir).env("CGO_ENABLED", "0").env("GOWORK", "off");
        command.args(["build", "-mod=readonly", "-buildvcs=false", "-trimpath", "-ldflags", &ldflags, "-o"]);
        command.arg(out).arg(package);
        Ok(command)
    }
}

/// A program that is in the folder which the environment names.
fn in_given_folder(program: &str) -> Option<PathBuf> {
    let dir = env::var_os("KUBEBUILDER_ASSETS")?;
    Some(Path::new(&dir).join(program)).filter(|path| path.is_file())
}

/// Where it is noted which pins a program was built with.
fn pins_of(dir: &Path, program: &str) -> PathBuf {
    dir.join(format!("{program}.pins"))
}

/// A required module's version in a `go.mod`.
fn required_version<'a>(requires: &'a str, module: &str) -> Option<&'a str> {
    requires.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next() == Some(module)).then(|| words.next()).flatten().filter(|version| version.starts_with('v'))
    })
}

/// A Go that is new enough.
fn go() -> Result<PathBuf> {
    let go = find("go").context(INSTALL)?;
    let version = crate::command::output(clean(&go).args(["env", "GOVERSION"]))?;
    if go_minor(&version).is_none_or(|minor| minor < GO_MINOR) {
        bail!("{} is {}: {INSTALL}", go.display(), version.trim());
    }
    Ok(go)
}

fn go_minor(version: &str) -> Option<u32> {
    let minor = version.trim().strip_prefix("go1.")?;
    minor.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinned_version_is_read_from_the_module() {
        let requires =
            "module x\nrequire (\n\tk8s.io/kubernetes v1.37.2\n)\nreplace k8s.io/api => k8s.io/api v0.37.2\n";
        assert_eq!(required_version(requires, "k8s.io/kubernetes"), Some("v1.37.2"));
        assert_eq!(required_version(requires, "k8s.io/api"), None);
        assert!(Module::kubernetes().unwrap().version.starts_with("v1."));
        assert!(Module::helm().unwrap().version.starts_with("v4."));
    }

    #[test]
    fn go_release_is_read_with_its_suffixes() {
        assert_eq!(go_minor("go1.26.8\n"), Some(26));
        assert_eq!(go_minor("go1.27rc1"), Some(27));
        assert_eq!(go_minor("devel +abcdef"), None);
    }
}
