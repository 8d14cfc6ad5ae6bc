//! `sluice sysdump`: what somebody who is not on the node needs to see of it, in one archive. It changes nothing, leaves out
//! what is secret, and works with a dead agent: what cannot be read says why in its place.

mod archive;
mod args;
mod pieces;
mod reading;
mod redact;
mod sources;

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use k8s_openapi::jiff::Timestamp;

pub(super) use self::archive::{File, packed, unpacked};
pub(super) use self::args::SysdumpArgs;
pub(super) use self::redact::redacted;
use super::output;

/// Writes the archive.
pub(super) fn print(args: &SysdumpArgs) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let (name, begun) = (format!("sluice-sysdump-{}-{}", node_name(), time()), Timestamp::now().as_second());
    let files = pieces::gather(&sources::all(args), &program);
    let archive = packed(&name, &files, begun).context("cannot pack the archive")?;
    let target = args.file.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.tar.gz")));
    write(&target, &archive)?;
    if target.as_os_str() != "-" {
        output::write(&format!("{}: {} files; index.txt says what each is", target.display(), files.len()))?;
    }
    Ok(())
}

/// Writes a file that its owner alone may read, or to standard output.
pub(super) fn write(target: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if target.as_os_str() == "-" {
        return match io::stdout().lock().write_all(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            done => done.context("cannot write the archive"),
        };
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target);
    let written = file.and_then(|mut file| file.write_all(bytes));
    written.with_context(|| format!("cannot write {} (a file that is there is kept)", target.display()))
}

fn node_name() -> String {
    let name = nix::sys::utsname::uname().map(|system| system.nodename().to_string_lossy().into_owned());
    let name = name.unwrap_or_default();
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' }).collect()
}

/// Now, as a file's name has it.
pub(super) fn time() -> String {
    format!("{:.0}", Timestamp::now()).replace([':', '-'], "")
}
