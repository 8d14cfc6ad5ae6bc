//! One guest: boots, runs its tests, shows what they say, and tells whether they came to their end.

use std::env;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::image;
use super::kernels::Kernel;
use super::store::Stored;
use super::suite::{self, Built};
use crate::command::{clean, find};
use crate::test::count::watch;

/// After this long a guest hangs rather than works.
const TIME_LIMIT: Duration = Duration::from_secs(25 * 60);
/// Memory, in MiB: the file system is in it, too.
const MEMORY: &str = "2048";
/// What the guest says when its tests begin and end.
const BEGIN: &str = "guest: begin ";
const DONE: &str = "guest: done ";
/// Lines that are shown of a guest that said nothing of its own.
const LAST_LINES: usize = 30;

/// Boots a kernel and runs the tests on it.
pub(super) fn run(kernel: &Kernel, stored: &Stored, built: &Built, only: &[String]) -> Result<()> {
    let draft = tempfile::tempdir().context("making a folder for a guest")?;
    let initrd = draft.path().join("initrd");
    fs::write(&initrd, image::make(stored, built, &suite::script(kernel, only)?)?).context("writing the image")?;

    // Emulation works everywhere. `SLUICE_VM_ACCEL=kvm` is faster, where the machine lets guests use it.
    let accel = env::var("SLUICE_VM_ACCEL").unwrap_or_else(|_| "tcg,thread=multi".into());
    let qemu = find("qemu-system-x86_64").context("no qemu-system-x86_64 on this machine")?;
    let mut command = clean(qemu);
    command.args(["-accel", &accel, "-cpu", "max", "-smp", "2", "-m", MEMORY]);
    command.args(["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio", "-kernel"]);
    command.arg(stored.image()).arg("-initrd").arg(&initrd);
    command.args(["-append", "console=ttyS0 panic=-1 quiet"]);

    let mut heard = Heard::default();
    watch(&mut command, TIME_LIMIT, |line| heard.line(line))?;
    heard.verdict(kernel.release)
}

/// What was heard from a guest's console.
#[derive(Default)]
struct Heard {
    running: Option<String>,
    failed: Option<bool>,
    last: Vec<String>,
}

impl Heard {
    fn line(&mut self, line: &str) {
        let line = line.trim_end();
        if let Some((_, release)) = line.split_once(BEGIN) {
            self.running = Some(release.to_owned());
        } else if let Some((_, failed)) = line.split_once(DONE) {
            self.failed = Some(failed != "0");
        } else if self.running.is_some() && self.failed.is_none() {
            println!("{line}");
        }
        if self.last.len() == LAST_LINES {
            self.last.remove(0);
        }
        self.last.push(line.to_owned());
    }

    fn verdict(self, release: &str) -> Result<()> {
        match (self.running, self.failed) {
            (Some(running), _) if running != release => bail!("the guest says that it runs {running}"),
            (Some(_), Some(false)) => Ok(()),
            (Some(_), Some(true)) => bail!("tests failed"),
            (Some(_), None) => bail!("the guest ended before its tests did; it said last:\n{}", self.last.join("\n")),
            (None, _) => bail!("the guest did not come up; it said last:\n{}", self.last.join("\n")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(lines: &[&str]) -> Result<()> {
        let mut heard = Heard::default();
        for line in lines {
            heard.line(line);
        }
        heard.verdict("6.1")
    }

    #[test]
    fn guest_that_says_nothing_of_its_end_has_failed() {
        assert!(heard(&["\u{1b}c guest: begin 6.1\r\n", "test result: ok\r\n", "guest: done 0\r\n"]).is_ok());
        assert!(heard(&["guest: begin 6.1", "Kernel panic"]).unwrap_err().to_string().contains("Kernel panic"));
        assert!(heard(&["guest: begin 6.1", "guest: done 1"]).is_err());
        assert!(heard(&["guest: begin 5.4", "guest: done 0"]).is_err());
        assert!(heard(&["no init found"]).unwrap_err().to_string().contains("no init found"));
    }
}
