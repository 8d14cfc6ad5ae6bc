//! The answers on the metrics address: `/metrics`, and what else kube-proxy says there.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::ready;
use http::StatusCode;
use prometheus::TEXT_FORMAT;

use super::Metrics;
use crate::http::server::{Answer, Answers, answer, not_found};

/// What `/proxyMode` says: the kube-proxy mode whose behaviour Sluice has. Who asks wants to know what to expect of
/// `NodePort`s and refusals, and knows no other words; `sluice_agent_info` tells that it is Sluice.
const PROXY_MODE: &str = "nftables";

const PLAIN: &str = "text/plain; charset=utf-8";

/// `configz`: the JSON of `/configz`.
pub fn answers(metrics: Metrics, configz: String) -> Answers {
    Arc::new(move |path| match path {
        "/metrics" => {
            let metrics = metrics.clone();
            async move {
                match tokio::task::spawn_blocking(move || scrape(&metrics)).await {
                    Ok(given) => given,
                    Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, error.to_string()),
                }
            }
            .boxed()
        }
        "/healthz" => ready(answer(StatusCode::OK, PLAIN, "ok")).boxed(),
        "/proxyMode" => ready(answer(StatusCode::OK, PLAIN, PROXY_MODE)).boxed(),
        "/configz" => ready(answer(StatusCode::OK, "application/json", configz.clone())).boxed(),
        _ => ready(not_found()).boxed(),
    })
}

fn scrape(metrics: &Metrics) -> Answer {
    match metrics.text() {
        Ok(text) => answer(StatusCode::OK, TEXT_FORMAT, text),
        Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, error.to_string()),
    }
}
