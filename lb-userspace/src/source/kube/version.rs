//! Asks the API server for the version of Kubernetes, once.

use std::sync::Arc;

use kube::Client;

use super::watches::Progress;
use crate::kube::backoff::Backoff;

/// Asks until there is an answer.
pub(super) async fn ask_version(client: Client, progress: Arc<Progress>) {
    for delay in Backoff::new() {
        match client.apiserver_version().await {
            Ok(info) => match (number(&info.major), number(&info.minor)) {
                (Some(major), Some(minor)) => {
                    progress.version_is((major, minor)).await;
                    return;
                }
                _ => return tracing::warn!(info.major, info.minor, "the API server's version is no number"),
            },
            Err(error) => tracing::debug!(%error, "cannot read the cluster's version yet"),
        }
        tokio::time::sleep(delay).await;
    }
}

/// Distributions add to the number: `28+`.
fn number(text: &str) -> Option<u32> {
    text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_distributions_write_them() {
        assert_eq!((number("1"), number("28+"), number("")), (Some(1), Some(28), None));
    }
}
