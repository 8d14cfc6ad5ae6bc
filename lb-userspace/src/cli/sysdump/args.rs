//! The flags of `sluice sysdump`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::listen::METRICS;
use crate::cli::pin_args::PinArgs;

#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct SysdumpArgs {
    /// Where the archive goes, `-` for standard output; without it: `sluice-sysdump-NODE-TIME.tar.gz` in this folder.
    #[arg(short, long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// At most this many flows.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(super) flows: usize,
    /// Where the agent answers /metrics and /configz.
    #[arg(long, value_name = "ADDRESS", default_value = METRICS, env = "SLUICE_METRICS_BIND_ADDRESS")]
    pub(super) metrics_address: String,
    /// Where the agent answers /healthz.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:10256", env = "SLUICE_HEALTHZ_BIND_ADDRESS")]
    pub(super) healthz_address: String,
    #[command(flatten)]
    pub(super) pins: PinArgs,
}
