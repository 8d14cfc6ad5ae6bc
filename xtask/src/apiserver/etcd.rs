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
    call(url, "v3/kv/compaction", &json!({ "revision": revision, "physical": true }))?;
    Ok(())
}

/// Operations that etcd takes in one transaction.
const OPERATIONS: usize = 128;

/// Writes keys and values.
pub(super) fn put_all(url: &str, entries: &[(String, Value)]) -> Result<()> {
    for entries in entries.chunks(OPERATIONS) {
        let puts: Vec<Value> = entries
            .iter()
            .map(|(key, value)| {
                json!({"requestPut": {"key": BASE64.encode(key), "value": BASE64.encode(value.to_string())}})
            })
            .collect();
        call(url, "v3/kv/txn", &json!({ "success": puts }))?;
    }
    Ok(())
}

/// The store's present revision; etcd's JSON has 64-bit numbers as strings.
fn revision(url: &str) -> Result<String> {
    let status = call(url, "v3/maintenance/status", &json!({}))?;
    let revision = status.pointer("/header/revision").and_then(Value::as_str);
    Ok(revision.with_context(|| format!("no revision in etcd's status: {status}"))?.to_owned())
}

fn call(url: &str, path: &str, request: &Value) -> Result<Value> {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(10))).build().into();
    let mut response = agent.post(format!("{url}/{path}")).send_json(request).context("asking etcd")?;
    response.body_mut().read_json().context("reading etcd's answer")
}
