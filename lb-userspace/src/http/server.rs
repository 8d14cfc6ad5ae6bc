//! A small HTTP server on one listener: every request is answered from its path and the form that it accepts.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use super::connections::{Busy, Connections, Limits};
use super::gzip;
pub use super::gzip::Answer;

/// For what the whole node is asked.
pub const NODE: Limits = Limits { all: 128, per_peer: 64 };
/// For each of many ports.
pub const PORT: Limits = Limits { all: 32, per_peer: 8 };
/// A client that says nothing for so long, or does not come to the end of its request's headers, is let go.
const IDLE: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The path.
    pub path: &'a str,
    /// Header `Accept`; empty: there is no such header.
    pub accept: &'a str,
}

/// Answers to what is asked for.
pub type Answers = Arc<dyn Fn(Asked<'_>) -> BoxFuture<'static, Answer> + Send + Sync>;

/// An answer of this type and code.
pub fn answer(code: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = code;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// 404, in the words of the Go programs that used to answer here.
pub fn not_found() -> Answer {
    answer(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n")
}

/// Serves until dropped; open connections end with it.
pub async fn serve(listener: TcpListener, answers: Answers, limits: Limits) {
    let mut connections = Connections::new(limits);
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let busy = Busy::default();
                connections.admit(peer.ip(), busy.clone(), converse(stream, Arc::clone(&answers), busy));
            }
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, answers: Answers, busy: Busy) {
    let service = service_fn(|request: Request<Incoming>| {
        let header =
            |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or("");
        let answering = answers(Asked { path: request.uri().path(), accept: header(ACCEPT) });
        let zips = gzip::is_accepted(header(ACCEPT_ENCODING));
        let busy = busy.clone();
        async move {
            busy.set(true);
            let answer = answering.await;
            let answer = if zips { gzip::zipped(answer).await } else { answer };
            busy.set(false);
            Ok::<_, Infallible>(answer)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::trace!(%error, "a connection ended badly");
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpStream};
    use std::time::Instant;

    use futures::FutureExt;
    use futures::future::ready;

    use super::*;

    const SOON: Duration = Duration::from_secs(1);

    fn probe(addr: SocketAddr) -> Duration {
        let begin = Instant::now();
        let mut stream = TcpStream::connect_timeout(&addr, SOON).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        begin.elapsed()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn idle_connections_keep_no_probe_from_its_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let good: Answers = Arc::new(|_| ready(answer(StatusCode::OK, "text/plain", "ok")).boxed());
        tokio::spawn(serve(listener, good, NODE));
        tokio::task::spawn_blocking(move || {
            let mut idle = Vec::new();
            for n in 0..600 {
                let mut stream = TcpStream::connect_timeout(&addr, SOON).unwrap();
                if n % 2 == 0 {
                    // Some begin a request and leave it at that; the server may have closed others meanwhile.
                    let _closed = stream.write_all(b"GET /livez HT");
                }
                idle.push(stream);
                if n % 20 == 0 {
                    assert!(probe(addr) < SOON, "beside {n} idle connections");
                }
            }
        })
        .await
        .unwrap();
    }
}
