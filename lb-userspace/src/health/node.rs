//! `/healthz`, `/livez` and `/readyz`: may this node get traffic, is its proxy alive, and does it serve yet.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::ready;
use http::StatusCode;

use super::state::{HealthReport, ProxyHealth};
use crate::http::server::{Answer, Answers, answer, not_found};
use crate::metrics::Metrics;

/// Answers them, whatever the method, and counts the answers.
pub fn answers(health: Arc<ProxyHealth>, metrics: Metrics) -> Answers {
    Arc::new(move |asked| {
        let path = asked.path;
        let given = respond(path, &health);
        let code = given.status().as_u16();
        match path {
            "/healthz" => metrics.kube_proxy().healthz_answered(code),
            "/livez" => metrics.kube_proxy().livez_answered(code),
            _ => {}
        }
        ready(given).boxed()
    })
}

fn respond(path: &str, health: &ProxyHealth) -> Answer {
    let report = health.report();
    match path {
        "/healthz" => {
            let good = report.healthy && report.node_eligible != Some(false);
            say(good, &report)
        }
        // A kubelet should not restart the proxy of a node that is being drained.
        "/livez" => say(report.healthy, &HealthReport { node_eligible: None, ..report }),
        // Sluice's own: kube-proxy has none, so it is not answered by a kube-proxy that has the port.
        "/readyz" => say(report.healthy && health.is_ready(), &HealthReport { node_eligible: None, ..report }),
        _ => not_found(),
    }
}

fn say(good: bool, report: &HealthReport) -> Answer {
    let code = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    match serde_json::to_vec(report) {
        Ok(json) => answer(code, "application/json", json),
        Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;

    use super::*;

    async fn ask(path: &str, health: &ProxyHealth) -> (u16, String) {
        let given = respond(path, health);
        let code = given.status().as_u16();
        assert_eq!(given.headers()["x-content-type-options"], "nosniff");
        let body = given.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8(body.to_vec()).unwrap())
    }

    /// The same with every point in time as `T`.
    fn timeless(json: &str) -> String {
        let parts = json.split('"').map(|part| if part.ends_with('Z') && part.contains('T') { "T" } else { part });
        parts.collect::<Vec<_>>().join("\"")
    }

    #[tokio::test]
    async fn answers_are_those_of_kube_proxy() {
        let health = ProxyHealth::new(Duration::from_secs(30));
        let status =
            r#""status":{"IPv4":{"lastUpdated":"T","healthy":true},"IPv6":{"lastUpdated":"T","healthy":true}}"#;
        let (code, json) = ask("/healthz", &health).await;
        assert_eq!(code, 200);
        let both = r#""lastUpdated":"T","currentTime":"T""#;
        assert_eq!(timeless(&json), format!(r#"{{{both},"nodeEligible":true,"healthy":true,{status}}}"#));
        let (code, json) = ask("/livez", &health).await;
        assert_eq!((code, timeless(&json)), (200, format!(r#"{{{both},"healthy":true,{status}}}"#)));
        health.set_eligible(false);
        let (code, json) = ask("/healthz", &health).await;
        assert_eq!(code, 503);
        assert_eq!(timeless(&json), format!(r#"{{{both},"nodeEligible":false,"healthy":true,{status}}}"#));
        assert_eq!(ask("/livez", &health).await.0, 200);
        assert_eq!(ask("/", &health).await, (404, "404 page not found\n".to_owned()));
    }

    #[tokio::test]
    async fn a_proxy_is_ready_from_its_first_full_state_on_while_it_is_healthy() {
        let health = ProxyHealth::new(Duration::from_secs(30));
        assert_eq!(ask("/readyz", &health).await.0, 503);
        assert_eq!(ask("/livez", &health).await.0, 200);
        health.set_ready();
        assert_eq!(ask("/readyz", &health).await.0, 200);
        // The DaemonSet's Pod serves on a node that gets no new connections, too.
        health.set_eligible(false);
        assert_eq!(ask("/readyz", &health).await.0, 200);
        let stuck = ProxyHealth::new(Duration::ZERO);
        stuck.set_ready();
        stuck.queued();
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(ask("/readyz", &stuck).await.0, 503);
    }

    #[tokio::test]
    async fn a_proxy_that_does_not_keep_up_is_neither_healthy_nor_live() {
        let health = ProxyHealth::new(Duration::ZERO);
        health.queued();
        std::thread::sleep(Duration::from_millis(2));
        for path in ["/healthz", "/livez"] {
            let (code, json) = ask(path, &health).await;
            assert_eq!(code, 503, "{path}");
            assert!(json.contains(r#""healthy":false"#), "{json}");
        }
    }
}
