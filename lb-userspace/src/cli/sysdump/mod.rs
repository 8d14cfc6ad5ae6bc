//! `sluice sysdump`: what somebody who is not on the node needs to see of it, in one archive. It changes nothing, leaves out
//! what is secret, and works with a dead agent: what cannot be read says why in its place.

mod archive;
mod pieces;
mod redact;
mod sources;

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use k8s_openapi::jiff::Timestamp;

pub(super) use self::archive::{File, packed, unpacked};
pub(super) use self::redact::redacted;
use super::output;
use super::pin_args::PinArgs;

#[derive(Clone, Debug, Args)]
pub(super) struct SysdumpArgs {
    /// Where the archive goes, `-` for standard output; without it: `sluice-sysdump-NODE-TIME.tar.gz` in this folder.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// At most this many flows.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    flows: usize,
    /// Where the agent answers /metrics and /configz.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:10249", env = "SLUICE_METRICS_BIND_ADDRESS")]
    metrics_address: String,
    /// Where the agent answers /healthz.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:10256", env = "SLUICE_HEALTHZ_BIND_ADDRESS")]
    healthz_address: String,
    #[command(flatten)]
    pins: PinArgs,
}

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
