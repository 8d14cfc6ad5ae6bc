//! Where the maps are, for every sub-command.

use std::path::PathBuf;

use clap::Args;

use super::output::FormatArgs;

/// Default pin path.
const PIN_PATH: &str = "/sys/fs/bpf/sluice";

/// Where the maps are.
#[derive(Clone, Debug, Args)]
pub(super) struct PinArgs {
    /// Directory of the pinned maps and links.
    #[arg(long, value_name = "DIR", default_value = PIN_PATH, env = "SLUICE_PIN_PATH")]
    pub(super) pin_path: PathBuf,
}

/// Arguments of a sub-command that shows something.
#[derive(Clone, Debug, Args)]
pub(super) struct ViewArgs {
    #[command(flatten)]
    pub(super) pins: PinArgs,
    #[command(flatten)]
    pub(super) format: FormatArgs,
}
