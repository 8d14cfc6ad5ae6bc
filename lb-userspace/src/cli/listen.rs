//! The agent's own servers and events: their settings, and how they are started.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::net::TcpListener;

use super::service_manager;
use crate::check::board::Board;
use crate::config::values::{BindAddress, duration};
use crate::events::{Event, EventSink, Regarding};
use crate::health::{HealthCheckRegistry, ProxyHealth, check_ports, node};
use crate::http::TakenPorts;
use crate::http::listen::listen;
use crate::http::server::{self, Answers, NODE};
use crate::metrics::{self, AgentInfo, Metrics, RestClientMetrics};
use crate::reconcile::Observers;

/// An address that an older agent still has is tried again this often.
const RETRY: Duration = Duration::from_millis(250);
/// An event is sent when an address was taken this many times.
const QUIET_TRIES: u32 = 12;

/// Where health and metrics are answered by default: kube-proxy's ports.
pub(super) const HEALTHZ: &str = "0.0.0.0:10256";
pub(super) const METRICS: &str = "127.0.0.1:10249";

#[derive(Clone, Debug, Args)]
pub(super) struct ListenArgs {
    /// Where /healthz, /livez and /readyz are answered; `off`: nowhere.
    #[arg(long, value_name = "ADDRESS", default_value = HEALTHZ, value_parser = healthz_address)]
    healthz_bind_address: BindAddress,
    /// Where /metrics is answered; `off`: nowhere.
    #[arg(long, value_name = "ADDRESS", default_value = METRICS, value_parser = metrics_address)]
    metrics_bind_address: BindAddress,
    /// End when one of these addresses is taken, rather than try again.
    #[arg(long)]
    pub(super) bind_address_hard_fail: bool,
    /// An update that waits for twice as long makes the node unhealthy.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub(super) sync_period: Duration,
    /// Rows of metrics, as far as they grow with the node: of Services and backends the busiest that are not zero are shown,
    /// a family by device has at most a quarter of them; further rows are only counted.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    metrics_max_series: usize,
}

fn healthz_address(text: &str) -> Result<BindAddress, String> {
    BindAddress::parse(text, 10_256)
}

fn metrics_address(text: &str) -> Result<BindAddress, String> {
    BindAddress::parse(text, 10_249)
}

/// Who the agent is.
pub(super) struct Agent {
    pub(super) pin_path: PathBuf,
    pub(super) node_name: String,
    pub(super) source: &'static str,
    pub(super) events: EventSink,
    pub(super) configz: String,
    pub(super) requests: Option<RestClientMetrics>,
    pub(super) board: Board,
}

/// Who hears of what the rest of the agent does.
pub(super) struct Servers {
    pub(super) observers: Observers,
    pub(super) metrics: Metrics,
}

impl ListenArgs {
    /// Of health and metrics.
    pub(super) const fn addresses(&self) -> [BindAddress; 2] {
        [self.healthz_bind_address, self.metrics_bind_address]
    }

    /// Starts all servers. An address that is taken is no failure unless it should be.
    pub(super) fn start(&self, agent: Agent) -> anyhow::Result<Servers> {
        let Agent { pin_path, node_name, source, events, configz, requests, board } = agent;
        let health = Arc::new(ProxyHealth::new(self.sync_period.max(Duration::from_secs(1))));
        let info = AgentInfo { version: env!("CARGO_PKG_VERSION"), node: node_name.clone(), source };
        let metrics = Metrics::new(pin_path, info, self.metrics_max_series).context("cannot set up the metrics")?;
        if let Some(requests) = requests {
            metrics.show_requests(&requests).context("cannot set up the metrics")?;
        }
        let checks = HealthCheckRegistry::default();
        let taken = TakenPorts::default();

        let node_answers = node::answers(Arc::clone(&health), metrics.clone());
        let metric_answers = metrics::answers(metrics.clone(), configz);
        let both = [
            ("healthz", "FailedToStartProxierHealthcheck", self.healthz_bind_address, node_answers),
            ("metrics", "FailedToStartMetricServer", self.metrics_bind_address, metric_answers),
        ];
        for (what, reason, address, answers) in both {
            let Some(addr) = address.0 else { continue };
            let begun = listen(addr);
            if self.bind_address_hard_fail {
                let listener = begun.with_context(|| format!("cannot listen on {addr} for {what}"))?;
                tokio::spawn(server::serve(listener, answers, NODE));
                continue;
            }
            let (events, taken) = (events.clone(), taken.clone());
            let problem = ListenProblem { what, reason, node: node_name.clone(), events, taken };
            tokio::spawn(serve_when_free(addr, begun, answers, problem));
        }
        tokio::spawn(check_ports::run(checks.clone(), Arc::clone(&health), events.clone(), node_name, taken.clone()));
        service_manager::start(Arc::clone(&health));
        let observers = Observers::new(metrics.clone(), health, checks, events, taken, board);
        Ok(Servers { observers, metrics })
    }
}

/// What the event says when an address stays taken.
struct ListenProblem {
    what: &'static str,
    reason: &'static str,
    node: String,
    events: EventSink,
    taken: TakenPorts,
}

async fn serve_when_free(addr: SocketAddr, begun: io::Result<TcpListener>, answers: Answers, problem: ListenProblem) {
    let ListenProblem { what, reason, node, events, taken } = problem;
    let mut listening = begun;
    let mut tries = 0;
    let listener = loop {
        match listening {
            Ok(listener) => break listener,
            Err(error) => {
                taken.failed(addr, what, &error);
                if tries == QUIET_TRIES {
                    let note = format!("node {node} failed to listen on {addr} for {what}: {error}; it is tried again");
                    events.send(Event::warning(Regarding::node(&node), reason, "Listen", note));
                }
                tries += 1;
            }
        }
        tokio::time::sleep(RETRY).await;
        listening = listen(addr);
    };
    taken.settled(addr);
    tracing::info!(%addr, "listening for {what}");
    server::serve(listener, answers, NODE).await;
}
