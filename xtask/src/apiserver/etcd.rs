//! The cluster's store: its start, and the compaction that makes old revisions unknown.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_json::{Value, json};

use super::daemon::Daemon;

/// Starts etcd and waits until it answers.
pub(super) fn start(program: &Path, dir: &Path, client_url: &str, peer_url: &str) -> Result<Daemon> {
    let mut command = Command::new(program);
    command.arg("--data-dir").arg(dir.join("etcd")).args([
        "--name=test",
        // The data live as long as a test: nothing is gained by waiting for the disk.
        "--unsafe-no-fsync",
        "--log-level=warn",
        &format!("--listen-client-urls={client_url}"),
        &format!("--advertise-client-urls={client_url}"),
        &format!("--listen-peer-urls={peer_url}"),
        &format!("--initial-advertise-peer-urls={peer_url}"),
        &format!("--initial-cluster=test={peer_url}"),
    ]);
    let daemon = Daemon::spawn("etcd", command, dir.join("etcd.log"))?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(error) = revision(client_url) {
        daemon.check_running()?;
        if Instant::now() > deadline {
            bail!("etcd does not answer: {error:#}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(daemon)
}

/// Drops every revision before the present one.
pub(super) fn compact(url: &str) -> Result<()> {
    let revision = revision(url)?;
    call(&agent(), url, "v3/kv/compaction", &json!({ "revision": revision, "physical": true }))?;
    Ok(())
}

/// Operations that etcd takes in one transaction.
const OPERATIONS: usize = 128;

/// The store, to write into past the API server: thousands of objects a second where the API takes tens. Nothing is
/// defaulted or checked, so objects must be whole.
#[derive(Debug)]
pub struct Store {
    agent: ureq::Agent,
    url: String,
}

impl Store {
    pub(super) fn new(url: &str) -> Self {
        Self { agent: agent(), url: url.to_owned() }
    }

    /// Puts an object under its key, as a revision of its own.
    pub fn put(&self, object: &Encoded) -> Result<()> {
        let request = self.agent.post(format!("{}/v3/kv/put", self.url)).content_type("application/json");
        let mut response = request.send(object.0.as_str()).context("asking etcd")?;
        // It says nothing beyond its status, but has to be read before the connection is free again.
        response.body_mut().read_to_vec().context("reading etcd's answer")?;
        Ok(())
    }

    /// Puts many objects, many to a revision: for what nobody watches yet.
    pub fn put_all(&self, objects: &[(String, Value)]) -> Result<()> {
        for objects in objects.chunks(OPERATIONS) {
            let puts: Vec<_> = objects.iter().map(|(key, object)| json!({"requestPut": put(key, object)})).collect();
            call(&self.agent, &self.url, "v3/kv/txn", &json!({ "success": puts }))?;
        }
        Ok(())
    }
}

/// An object and its key as etcd takes them: what takes time is done before it is due.
#[derive(Clone, Debug)]
pub struct Encoded(String);

impl Encoded {
    /// Of this object under this key.
    pub fn new(key: &str, object: &Value) -> Self {
        Self(put(key, object).to_string())
    }
}

/// etcd's JSON has bytes in base64.
fn put(key: &str, object: &Value) -> Value {
    json!({"key": BASE64.encode(key), "value": BASE64.encode(object.to_string())})
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(10))).build().into()
}

/// The store's present revision; etcd's JSON has 64-bit numbers as strings.
fn revision(url: &str) -> Result<String> {
    let status = call(&agent(), url, "v3/maintenance/status", &json!({}))?;
    let revision = status.pointer("/header/revision").and_then(Value::as_str);
    Ok(revision.with_context(|| format!("no revision in etcd's status: {status}"))?.to_owned())
}

fn call(agent: &ureq::Agent, url: &str, path: &str, request: &Value) -> Result<Value> {
    let mut response = agent.post(format!("{url}/{path}")).send_json(request).context("asking etcd")?;
    response.body_mut().read_json().context("reading etcd's answer")
}
