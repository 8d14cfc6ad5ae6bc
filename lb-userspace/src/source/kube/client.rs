//! The client: from the configuration, with several API servers tried in turn.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response, Uri};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::connection::Observer;
use super::{KubeError, KubeSettings};
use crate::source::Kind;

/// A server that is gone without a word must not hold up the next one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An API server that takes a request and says nothing is given up after this long, and the next one is asked.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two parts of an answer. Longer than a watch is asked for, which may have nothing to say.
const READ_TIMEOUT: Duration = Duration::from_secs(120);
/// A name that every API server's certificate has.
const SERVER_NAME: &str = "kubernetes.default.svc";

/// Makes the client. Reads files, sends nothing.
pub(super) async fn connect(settings: &KubeSettings, observer: &Observer) -> Result<Client, KubeError> {
    let mut config = match &settings.kubeconfig {
        Some(path) => {
            let failed = |source| KubeError::Kubeconfig { path: path.clone(), source: Box::new(source) };
            let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(failed)?
        }
        None => Config::infer().await.map_err(|error| KubeError::NoConfig(Box::new(error)))?,
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    let mut urls = Vec::new();
    for url in &settings.api_servers {
        let uri = url.parse::<Uri>().ok().filter(|uri| uri.scheme().is_some() && uri.authority().is_some());
        urls.push(uri.ok_or_else(|| KubeError::Url { url: url.clone() })?);
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
        let client = Client::try_from(config).map_err(|error| KubeError::Client(Box::new(error)))?;
        servers.push((url.to_string(), client));
    }
    Ok(in_turn(servers, observer.clone()))
}

/// One client of several: stays with a server until that one fails.
pub(super) fn in_turn(servers: Vec<(String, Client)>, observer: Observer) -> Client {
    Client::new(InTurn { servers: servers.into(), current: Arc::default(), observer }, "default")
}

#[derive(Clone)]
struct InTurn {
    servers: Arc<[(String, Client)]>,
    current: Arc<AtomicUsize>,
    observer: Observer,
}

impl tower::Service<Request<Body>> for InTurn {
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
            let watched = watched_kind(request.uri());
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
                if let (Some(kind), Ok(response)) = (watched, &result)
                    && response.status().is_success()
                {
                    this.observer.watches(kind, url);
                }
            }
            result
        })
    }
}

/// The kind that a request is to watch, if it is one of ours.
fn watched_kind(uri: &Uri) -> Option<Kind> {
    if !uri.query()?.split('&').any(|part| part == "watch=true") {
        return None;
    }
    match uri.path().rsplit('/').next()? {
        "services" => Some(Kind::Service),
        "endpointslices" => Some(Kind::EndpointSlice),
        "nodes" => Some(Kind::Node),
        "servicecidrs" => Some(Kind::ServiceCidr),
        _ => None,
    }
}

/// An error and what is behind it, in one line: the outermost one alone says "client error".
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}
