//! Which Services have the labels of `-l`: the maps do not say, so the agent's source is asked.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::list::SelectArgs;
use crate::kube::ClientSettings;
use crate::maps::kernel::KernelTables;
use crate::reconcile::agent_report::AgentReport;
use crate::source::{kube, manifests};

/// Notes in `select` which Services are meant.
pub(super) fn resolve(select: &SelectArgs, pin_path: &Path) -> anyhow::Result<SelectArgs> {
    let mut select = select.clone();
    let Some((selector, kubeconfig)) = select.by_labels() else { return Ok(select) };
    let tables = KernelTables::open(pin_path)?;
    let report: AgentReport =
        serde_json::from_str(&tables.report()?).context("the agent's report cannot be read: use its version")?;
    let names = match report.source.kind.as_str() {
        "manifests" => {
            let labels = manifests::labels(&folder(&report, tables.status()?.pid))?;
            labels
                .into_iter()
                .filter(|(_, labels)| selector.selects(labels))
                .map(|(name, _)| name.to_string())
                .collect()
        }
        "kube" => {
            let api = ClientSettings { kubeconfig, api_servers: vec![report.source.from], requests: None };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let found = runtime.block_on(kube::selected(&api, &selector.to_string()))?;
            found.iter().map(ToString::to_string).collect()
        }
        other => bail!("-l: the agent's source is {other}, which has no labels"),
    };
    select.choose(names);
    Ok(select)
}

/// The folder that an agent reads. A relative path is the agent's, which may have begun elsewhere.
pub(super) fn folder(report: &AgentReport, pid: u32) -> PathBuf {
    let agent = PathBuf::from(format!("/proc/{pid}/cwd"));
    let given = PathBuf::from(&report.source.from);
    if agent.exists() { agent.join(given) } else { given }
}
