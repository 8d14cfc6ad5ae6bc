//! Requests to the Kubernetes API, as Go's client counts them: same names, labels and buckets.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use crate::kube::RequestLog;

const BUCKETS: [f64; 12] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
/// The code of a request without an answer.
const NO_ANSWER: &str = "<error>";

/// Both families. Clones are the same metrics.
#[derive(Clone, Debug)]
pub struct RestClientMetrics {
    requests: IntCounterVec,
    durations: HistogramVec,
}

impl RestClientMetrics {
    /// Makes them.
    pub fn new() -> prometheus::Result<Self> {
        let requests = Opts::new(
            "rest_client_requests_total",
            "[ALPHA] Number of HTTP requests, partitioned by status code, method, and host.",
        );
        let durations = HistogramOpts::new(
            "rest_client_request_duration_seconds",
            "[ALPHA] Request latency in seconds. Broken down by verb, and host.",
        );
        Ok(Self {
            requests: IntCounterVec::new(requests, &["code", "method", "host"])?,
            durations: HistogramVec::new(durations.buckets(BUCKETS.to_vec()), &["verb", "host"])?,
        })
    }

    /// Makes them visible.
    pub(super) fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.requests.clone()))?;
        registry.register(Box::new(self.durations.clone()))
    }
}

impl RequestLog for RestClientMetrics {
    fn ended(&self, method: &str, host: &str, code: Option<u16>, took: Option<Duration>) {
        let code = code.map_or_else(|| NO_ANSWER.to_owned(), |code| code.to_string());
        self.requests.with_label_values(&[code.as_str(), method, host]).inc();
        if let Some(took) = took {
            self.durations.with_label_values(&[method, host]).observe(took.as_secs_f64());
        }
    }
}
