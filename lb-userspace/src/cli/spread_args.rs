//! How connections are spread where a Service says nothing, as flags of `sluice run` and `sluice explain`.

use clap::Args;

use crate::model::algorithm::{Algorithm, TableSize};
use crate::model::desired::{ExternalIps, ResolveSettings};
use crate::model::ejection::Ejection;

#[derive(Clone, Debug, Args)]
pub(super) struct SpreadArgs {
    /// How new connections are spread over the backends of Services whose annotation does not say: random, round-robin,
    /// least-connections, source-hash, maglev.
    #[arg(long, value_name = "NAME", default_value = "random", value_parser = algorithm)]
    algorithm: Algorithm,
    /// How many places a table of Maglev has, a prime number from 251 to 131071: more places move fewer connections when
    /// a backend goes, and take more memory.
    #[arg(long, value_name = "PRIME", default_value = "32749", value_parser = TableSize::parse)]
    maglev_table_size: TableSize,
    /// Outlier ejection of Services whose annotation does not say: on, off, or settings such as
    /// window=10s,ratio=20%,least=20,longest=300s,share=30%. A backend that refuses or resets far more connections than its
    /// fellows rests for a while.
    #[arg(long, value_name = "SETTINGS", default_value = "off", value_parser = Ejection::parse)]
    outlier_ejection: Ejection,
}

impl SpreadArgs {
    /// Settings of the resolver.
    pub(super) const fn resolve_settings(&self, external_ips: ExternalIps) -> ResolveSettings {
        ResolveSettings {
            external_ips,
            algorithm: self.algorithm,
            table_size: self.maglev_table_size,
            ejection: self.outlier_ejection,
            // Until somebody says that they are served.
            host_ports: false,
        }
    }
}

fn algorithm(name: &str) -> Result<Algorithm, String> {
    Algorithm::asked(name).map(|asked| asked.algorithm)
}
