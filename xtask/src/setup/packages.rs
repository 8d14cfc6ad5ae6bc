//! Installs Debian packages, or says which command would.

use anyhow::{Context, Result, bail};

use crate::command::{clean, find, is_root, output, run};

/// Installs the packages (none is fine), refreshing the package lists first when they do not know one of them.
pub(super) fn install(names: &[&str]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let wanted = names.join(" ");
    if find("apt-get").is_none() {
        bail!("missing, and there is no apt-get here: install what Debian calls `{wanted}`");
    }
    if !is_root() {
        bail!("missing, and only root may install: sudo apt-get install {wanted}");
    }
    println!("installing {wanted}");
    if !names.iter().all(|name| is_known(name)) {
        run(apt_get("update").arg("--quiet=2"))?;
    }
    // A package that could only come in another's place is left for a person to decide.
    run(apt_get("install").args(["--quiet=2", "--yes", "--no-install-recommends", "--no-remove"]).args(names))
        .with_context(|| format!("installing the packages {wanted}"))
}

/// Whether the package is there or could be installed from here.
pub(super) fn can_have(name: &str) -> bool {
    is_known(name)
        || (find("apt-get").is_some() && is_root() && run(apt_get("update").arg("--quiet=2")).is_ok() && is_known(name))
}

/// Whether the package lists have a version of the package to install.
fn is_known(name: &str) -> bool {
    output(clean("apt-cache").args(["policy", name]).env("LC_ALL", "C"))
        .is_ok_and(|policy| policy.contains("Candidate:") && !policy.contains("Candidate: (none)"))
}

fn apt_get(verb: &str) -> std::process::Command {
    let mut command = clean("apt-get");
    command.arg(verb).env("DEBIAN_FRONTEND", "noninteractive");
    command
}
