//! The answers on the metrics address: `/metrics`, and what else kube-proxy says there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::ready;
use http::StatusCode;
use hyper::body::Bytes;
use prometheus::TEXT_FORMAT;
use tokio::sync::Mutex;

use super::Metrics;
use super::open_metrics::{OPEN_METRICS, from_prometheus, is_asked_for};
use crate::http::server::{Answers, answer, not_found};

/// What `/proxyMode` says: the kube-proxy mode whose behaviour Sluice has. Who asks wants to know what to expect of
/// `NodePort`s and refusals, and knows no other words; `sluice_agent_info` tells that it is Sluice.
const PROXY_MODE: &str = "nftables";

const PLAIN: &str = "text/plain; charset=utf-8";

/// A scrape's text is good for so long.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// Puts the text together once for all who ask within [`GOOD_FOR`], and never twice at a time: what it costs does not
/// depend on how many ask.
#[derive(Clone, Debug, Default)]
struct Scrapes(Arc<Mutex<Option<(Instant, Bytes)>>>);

impl Scrapes {
    async fn text<E>(&self, make: impl FnOnce() -> Result<String, E> + Send + 'static) -> Result<Bytes, String>
    where
        E: ToString,
    {
        let mut last = Arc::clone(&self.0).lock_owned().await;
        if let Some((at, text)) = &*last
            && at.elapsed() < GOOD_FOR
        {
            return Ok(text.clone());
        }
        // The lock goes with the work, also when who asked is gone meanwhile.
        let working = tokio::task::spawn_blocking(move || {
            let text = Bytes::from(make().map_err(|error| error.to_string())?);
            *last = Some((Instant::now(), text.clone()));
            Ok(text)
        });
        working.await.map_err(|error| error.to_string())?
    }
}

/// `configz`: the JSON of `/configz`.
pub fn answers(metrics: Metrics, configz: String) -> Answers {
    let scrapes = Scrapes::default();
    Arc::new(move |asked| match asked.path {
        "/metrics" => {
            let (metrics, scrapes) = (metrics.clone(), scrapes.clone());
            let open_metrics = is_asked_for(asked.accept);
            async move {
                match scrapes.text(move || metrics.text()).await {
                    Ok(text) if open_metrics => {
                        answer(StatusCode::OK, OPEN_METRICS, from_prometheus(&String::from_utf8_lossy(&text)))
                    }
                    Ok(text) => answer(StatusCode::OK, TEXT_FORMAT, text),
                    Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, error),
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn forty_scrapes_at_once_cost_one() {
        let (scrapes, times) = (Scrapes::default(), Arc::new(AtomicUsize::new(0)));
        let scrape = || {
            let (scrapes, times) = (scrapes.clone(), Arc::clone(&times));
            async move {
                let make = move || {
                    std::thread::sleep(Duration::from_millis(100));
                    Ok::<_, Infallible>(format!("{}", times.fetch_add(1, Ordering::SeqCst)))
                };
                scrapes.text(make).await.unwrap()
            }
        };
        let asked: Vec<_> = (0..40).map(|_| tokio::spawn(scrape())).collect();
        // One who does not wait for his answer.
        asked[0].abort();
        for text in asked.into_iter().skip(1) {
            assert_eq!(text.await.unwrap(), "0");
        }
        tokio::time::sleep(GOOD_FOR).await;
        assert_eq!(scrape().await, "1");
        assert_eq!(times.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_failure_is_not_kept() {
        let scrapes = Scrapes::default();
        assert_eq!(scrapes.text(|| Err("no")).await, Err("no".to_owned()));
        assert_eq!(scrapes.text(|| Ok::<_, Infallible>("yes".to_owned())).await.unwrap(), "yes");
    }
}
