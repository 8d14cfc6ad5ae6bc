//! A real API server with its etcd, for tests: started in the caller's network namespace, gone with its owner.

mod assets;
mod daemon;
mod etcd;
mod kube_proxy;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

pub use assets::Assets;
use daemon::Daemon;
pub use etcd::{Encoded, Store};
pub use kube_proxy::KubeProxy;

/// How long a server may take to be ready; 2 to 5 seconds are usual.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// How often a start is tried anew when another program took a port between its choice and its use.
const PORT_ATTEMPTS: usize = 3;

/// The ranges of `ClusterIP`s.
pub const SERVICE_CIDRS: [&str; 2] = ["10.96.0.0/16", "fd00:96::/112"];

/// A control plane of one API server and one etcd. All its processes end when it is dropped, or with this process.
#[derive(Debug)]
pub struct Cluster {
    assets: Assets,
    dir: TempDir,
    address: SocketAddr,
    etcd_url: String,
    etcd: Daemon,
    apiserver: Option<Daemon>,
}

impl Cluster {
    /// Starts a cluster on loopback and waits until it serves.
    pub fn start() -> Result<Self> {
        Self::start_on(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// Starts a cluster that listens on `address`, one of the caller's network namespace, and waits until it serves.
    ///
    /// The processes stay in the namespace of the thread that calls this.
    pub fn start_on(address: IpAddr) -> Result<Self> {
        let assets = Assets::find_or_build()?;
        let mut attempt = 1;
        loop {
            match Self::start_once(assets.clone(), address) {
                Err(error) if attempt < PORT_ATTEMPTS && format!("{error:#}").contains("address already in use") => {
                    attempt += 1;
                }
                started => return started,
            }
        }
    }

    fn start_once(assets: Assets, host: IpAddr) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("sluice-apiserver-").tempdir().context("making a folder")?;
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let [client, peer] = free_ports(loopback)?;
        let [secure] = free_ports(host)?;
        write_credentials(dir.path(), &format!("https://{secure}"))?;
        let etcd_url = format!("http://{client}");
        let etcd = etcd::start(&assets.etcd, dir.path(), &etcd_url, &format!("http://{peer}"))?;
        let mut cluster = Self { assets, dir, address: secure, etcd_url, etcd, apiserver: None };
        cluster.start_apiserver()?;
        Ok(cluster)
    }

    /// The kubeconfig of an administrator of this cluster.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// Where the API server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The logs of both servers, for a failing test's message.
    pub fn logs(&self) -> String {
        ["etcd.log", "kube-apiserver.log"].into_iter().fold(String::new(), |mut all, name| {
            let tail = daemon::tail(&self.dir.path().join(name), 40);
            // Writing to a string does not fail.
            write!(all, "--- {name}\n{tail}\n").ok();
            all
        })
    }

    /// Starts the API server, again on the same port and over the same data, and waits until it serves.
    pub fn start_apiserver(&mut self) -> Result<()> {
        if self.apiserver.as_ref().is_some_and(Daemon::is_running) {
            return Ok(());
        }
        let log = self.dir.path().join("kube-apiserver.log");
        let daemon = Daemon::spawn("kube-apiserver", self.apiserver_command(), log)?;
        let daemon = self.apiserver.insert(daemon);
        let kubectl = (self.assets.kubectl.clone(), self.dir.path().join("kubeconfig"));
        let deadline = Instant::now() + READY_WITHIN;
        // `readyz` comes a moment before the default namespace, which every test writes into.
        while !(answers(&kubectl, &["get", "--raw=/readyz"]) && answers(&kubectl, &["get", "namespace", "default"])) {
            daemon.check_running()?;
            if Instant::now() > deadline {
                bail!("the API server is not ready after {} s:\n{}", READY_WITHIN.as_secs(), self.logs());
            }
            thread::sleep(Duration::from_millis(150));
        }
        Ok(())
    }

    /// Ends the API server at once, as a crash would: every connection to it breaks.
    pub fn stop_apiserver(&mut self) {
        // A daemon that is dropped is ended.
        self.apiserver = None;
    }

    /// Stops the API server in its tracks: connections stay open, and nothing answers on them.
    pub fn freeze_apiserver(&self) -> Result<()> {
        self.running_apiserver()?.freeze()
    }

    /// Lets a frozen API server go on.
    pub fn thaw_apiserver(&self) -> Result<()> {
        self.running_apiserver()?.thaw()
    }

    fn running_apiserver(&self) -> Result<&Daemon> {
        self.apiserver.as_ref().context("the API server was stopped")
    }

    /// Forgets every old revision: who resumes a watch from one after a restart of the API server is told so (410).
    pub fn compact_etcd(&self) -> Result<()> {
        self.etcd.check_running()?;
        etcd::compact(&self.etcd_url)
    }

    /// What the API server stores its objects in.
    pub fn store(&self) -> Store {
        Store::new(&self.etcd_url)
    }

    /// A `kubectl` command for this cluster, to add arguments to.
    pub fn kubectl_command(&self) -> Command {
        kubectl_command(&self.assets.kubectl, &self.kubeconfig())
    }

    /// Runs `kubectl` and returns what it wrote to its standard output.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        let output = self.kubectl_command().args(args).output().context("starting kubectl")?;
        stdout_of(output, "kubectl", args)
    }

    /// Runs `helm` against this cluster and returns what it wrote to its standard output.
    pub fn helm(&self, args: &[&str]) -> Result<String> {
        let mut helm = Command::new(Assets::helm()?);
        helm.arg("--kubeconfig").arg(self.kubeconfig()).args(args).stdin(Stdio::null());
        stdout_of(helm.output().context("starting helm")?, "helm", args)
    }

    /// Applies objects given as YAML or JSON.
    pub fn apply(&self, objects: &str) -> Result<String> {
        self.kubectl_with_input(&["apply", "-f", "-"], objects)
    }

    /// Runs `kubectl` with `input` as its standard input and returns what it wrote to its standard output.
    pub fn kubectl_with_input(&self, args: &[&str], input: &str) -> Result<String> {
        let mut kubectl = self.kubectl_command();
        kubectl.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = kubectl.spawn().context("starting kubectl")?;
        let mut stdin = child.stdin.take().context("a piped child has an input")?;
        thread::scope(|scope| {
            let writer = scope.spawn(move || stdin.write_all(input.as_bytes()));
            let output = child.wait_with_output().context("waiting for kubectl")?;
            // A kubectl that gave up early broke the pipe: its own words say more than that.
            writer.join().ok();
            stdout_of(output, "kubectl", args)
        })
    }

    fn apiserver_command(&self) -> Command {
        let dir = self.dir.path();
        let file = |name: &str| dir.join(name).display().to_string();
        let mut flags = vec![
            ("etcd-servers", self.etcd_url.clone()),
            ("cert-dir", file("certs")),
            ("bind-address", self.address.ip().to_string()),
            ("advertise-address", self.address.ip().to_string()),
            ("secure-port", self.address.port().to_string()),
            ("service-cluster-ip-range", SERVICE_CIDRS.join(",")),
            ("service-account-issuer", "https://kubernetes.default.svc".into()),
            ("service-account-key-file", file("service-account.pub")),
            ("service-account-signing-key-file", file("service-account.pem")),
            ("token-auth-file", file("tokens.csv")),
            ("authorization-mode", "RBAC".into()),
            ("allow-privileged", "true".into()),
            ("disable-admission-plugins", "ServiceAccount".into()),
        ];
        if self.address.ip().is_loopback() {
            // A loopback address may not be an endpoint: do not try for ever to make it one.
            flags.push(("endpoint-reconciler-type", "none".into()));
        }
        let mut command = Command::new(&self.assets.kube_apiserver);
        command.args(flags.into_iter().map(|(name, value)| format!("--{name}={value}")));
        command
    }
}

fn kubectl_command(kubectl: &Path, kubeconfig: &Path) -> Command {
    let mut command = Command::new(kubectl);
    command.arg("--kubeconfig").arg(kubeconfig).stdin(Stdio::null());
    // Discovery's cache belongs to the cluster, not to whoever's home this is.
    command.arg("--cache-dir").arg(kubeconfig.with_file_name("kubectl-cache"));
    command
}

fn answers((kubectl, kubeconfig): &(PathBuf, PathBuf), args: &[&str]) -> bool {
    let mut command = kubectl_command(kubectl, kubeconfig);
    command.args(["--request-timeout", "5s"]).args(args).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn stdout_of(output: Output, program: &str, args: &[&str]) -> Result<String> {
    if !output.status.success() {
        bail!("`{program} {}` failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{program}'s output is not UTF-8"))
}

/// Ports nobody listens on just now.
fn free_ports<const N: usize>(host: IpAddr) -> Result<[SocketAddr; N]> {
    // All are held until all are known, so that they differ.
    let listeners: Vec<_> = (0..N)
        .map(|_| TcpListener::bind((host, 0)))
        .collect::<Result<_, _>>()
        .with_context(|| format!("looking for free ports on {host}"))?;
    let mut ports = [SocketAddr::new(host, 0); N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr().context("asking for a listener's port")?;
    }
    Ok(ports)
}

/// Writes the service account key, an administrator's token and the kubeconfig that uses it.
fn write_credentials(dir: &Path, server: &str) -> Result<()> {
    let key = rcgen::KeyPair::generate().context("making the service account key")?;
    let mut random = [0; 16];
    File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut random)).context("making a token")?;
    let token = format!("{:032x}", u128::from_ne_bytes(random));
    let authority = dir.join("certs/apiserver.crt");
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
         clusters:\n- name: test\n  cluster:\n    server: {server}\n    certificate-authority: {}\n\
         contexts:\n- name: test\n  context: {{cluster: test, user: admin}}\n\
         users:\n- name: admin\n  user: {{token: {token}}}\n",
        authority.display()
    );
    let write = |name: &str, content: String| {
        fs::write(dir.join(name), content).with_context(|| format!("writing {} in {}", name, dir.display()))
    };
    write("service-account.pem", key.serialize_pem())?;
    write("service-account.pub", key.public_key_pem())?;
    write("tokens.csv", format!("{token},admin,admin,\"system:masters\"\n"))?;
    write("kubeconfig", kubeconfig)
}
