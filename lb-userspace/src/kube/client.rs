//! The client: from the configuration, with several API servers tried in turn.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response, Uri};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::connection::{Observer, RequestLog};
use crate::causes::with_causes;

/// A server that is gone without a word must not hold up the next one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An API server that takes a request and says nothing is given up after this long, and the next one is asked.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two parts of an answer. Longer than a watch is asked for, which may have nothing to say.
const READ_TIMEOUT: Duration = Duration::from_secs(120);
/// A name that every API server's certificate has.
const SERVER_NAME: &str = "kubernetes.default.svc";

/// How to reach the API.
#[derive(Clone, Debug, Default)]
pub struct ClientSettings {
    /// Kubeconfig file; none: `$KUBECONFIG`, `~/.kube/config`, or the Pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// URLs of the API servers, tried in turn, instead of the configured one: so that none of Sluice's own
    /// `ClusterIP`s is needed to reach it.
    pub api_servers: Vec<String>,
    /// Where requests are counted.
    pub requests: Option<Arc<dyn RequestLog>>,
}

/// Why no client can be made. All of these are mistakes in the configuration: an API that does not answer is waited
/// for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The kubeconfig cannot be read or says nothing usable.
    #[error("kubeconfig {path}: {source}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: Box<kube::config::KubeconfigError>,
    },
    /// There is neither a kubeconfig nor a service account.
    #[error("no kubeconfig and no service account, give --kubeconfig: {0}")]
    NoConfig(#[source] Box<kube::config::InferConfigError>),
    /// This is not the URL of an API server.
    #[error("api server url {url:?}, such as https://192.0.2.1:6443 is expected")]
    Url {
        /// As given.
        url: String,
    },
    /// The client cannot be made: certificates or keys.
    #[error("client for the api server: {0}")]
    Client(#[source] Box<kube::Error>),
}

/// Makes the client. Reads files, sends nothing.
pub async fn connect(settings: &ClientSettings, observer: &Observer) -> Result<Client, ClientError> {
    let mut config = match &settings.kubeconfig {
        Some(path) => {
            let failed = |source| ClientError::Kubeconfig { path: path.clone(), source: Box::new(source) };
            let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(failed)?
        }
        None => Config::infer().await.map_err(|error| ClientError::NoConfig(Box::new(error)))?,
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    let mut urls = Vec::new();
    for url in &settings.api_servers {
        let uri = url.parse::<Uri>().ok().filter(|uri| uri.scheme().is_some() && uri.authority().is_some());
        urls.push(uri.ok_or_else(|| ClientError::Url { url: url.clone() })?);
    }
    if urls.is_empty() {
        urls.push(config.cluster_url.clone());
    } else if config.root_cert_file.is_some() && config.tls_server_name.is_none() {
        // The service account's configuration is for the ClusterIP; certificates need not have a node's own address.
        config.tls_server_name = Some(SERVER_NAME.to_owned());
    }
    let mut servers = Vec::new();
    for url in urls {
        let mut config = config.clone();
        config.cluster_url = url.clone();
        let client = Client::try_from(config).map_err(|error| ClientError::Client(Box::new(error)))?;
        servers.push((url.to_string(), client));
    }
    Ok(failover_client(servers, observer.clone()))
}

/// One client of several, each with its URL: stays with a server until that one fails.
pub fn failover_client(servers: Vec<(String, Client)>, observer: Observer) -> Client {
    Client::new(FailoverClient { servers: servers.into(), current: Arc::default(), observer }, "default")
}

#[derive(Clone)]
struct FailoverClient {
    servers: Arc<[(String, Client)]>,
    current: Arc<AtomicUsize>,
    observer: Observer,
}

impl tower::Service<Request<Body>> for FailoverClient {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let current = this.current.load(Ordering::Relaxed);
            let Some((url, client)) = this.servers.get(current % this.servers.len().max(1)) else {
                return Err(kube::Error::Service("no api server is configured".into()));
            };
            let watched = watched_resource(request.uri()).map(str::to_owned);
            let method = request.method().clone();
            let begin = Instant::now();
            let answer = tokio::time::timeout(ANSWER_TIMEOUT, client.send(request)).await;
            let result = answer.unwrap_or_else(|_| Err(kube::Error::Service("no answer in time".into())));
            let code = result.as_ref().ok().map(|response| response.status().as_u16());
            this.observer.asked(method.as_str(), url, code, watched.is_none().then(|| begin.elapsed()));
            let failure = match &result {
                Ok(response) if response.status().is_server_error() => Some(response.status().to_string()),
                Ok(_) => None,
                Err(error) => Some(with_causes(error)),
            };
            if let Some(failure) = failure {
                this.observer.failed(format!("{url}: {failure}"));
                // All watches fail at once: only the first one moves on.
                let next = current.wrapping_add(1);
                this.current.compare_exchange(current, next, Ordering::Relaxed, Ordering::Relaxed).ok();
            } else {
                this.observer.answered(url);
                if let (Some(resource), Ok(response)) = (watched, &result)
                    && response.status().is_success()
                {
                    this.observer.watch_established(&resource, url);
                }
            }
            result
        })
    }
}

/// The resource that a request is to watch, by its plural name in the API.
fn watched_resource(uri: &Uri) -> Option<&str> {
    let watches = uri.query()?.split('&').any(|part| part == "watch=true");
    if watches { uri.path().rsplit('/').next() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_told_from_a_list_by_its_query() {
        let resource = |uri: &'static str| watched_resource(&Uri::from_static(uri)).map(str::to_owned);
        assert_eq!(resource("/api/v1/services?&watch=true&resourceVersion=7"), Some("services".into()));
        assert_eq!(resource("/api/v1/services?&limit=500"), None);
        assert_eq!(resource("/api/v1/services"), None);
    }
}
