//! Many nodes that send the same events to one API, played in memory on a clock that does not wait.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

#[derive(Default)]
struct State {
    nodes: usize,
    forbidden: Option<Method>,
    stored: BTreeSet<String>,
    /// When each request about events came, and what it was.
    asked: Vec<(Instant, Method)>,
    /// Lists of one object, for its uid.
    looked_up: usize,
}

#[derive(Clone, Default)]
struct FakeApi(Arc<Mutex<State>>);

impl FakeApi {
    fn of(nodes: usize) -> Self {
        let api = Self::default();
        api.0.lock().unwrap().nodes = nodes;
        api
    }

    fn count(&self, method: &Method) -> usize {
        self.0.lock().unwrap().asked.iter().filter(|(_, asked)| asked == method).count()
    }

    fn stored(&self) -> usize {
        self.0.lock().unwrap().stored.len()
    }

    /// Most requests about events within ten seconds.
    fn most_in_ten_seconds(&self) -> usize {
        let asked = &self.0.lock().unwrap().asked;
        let within = |from: Instant| {
            let until = from + Duration::from_secs(10);
            asked.iter().filter(|(at, _)| (from..until).contains(at)).count()
        };
        asked.iter().map(|(at, _)| within(*at)).max().unwrap_or(0)
    }

    fn answer(&self, method: &Method, path: &str, body: &Value) -> (StatusCode, Value) {
        let mut state = self.0.lock().unwrap();
        if path.ends_with("/nodes") {
            let more = json!({"remainingItemCount": state.nodes - 1});
            return (StatusCode::OK, json!({"metadata": more, "items": [{"metadata": {}}]}));
        }
        let Some((_, name)) = path.rsplit_once("/events") else {
            state.looked_up += 1;
            return (StatusCode::OK, json!({"metadata": {}, "items": []}));
        };
        let name = name.trim_start_matches('/');
        state.asked.push((Instant::now(), method.clone()));
        let code = if state.forbidden.as_ref() == Some(method) {
            StatusCode::FORBIDDEN
        } else if *method == Method::POST {
            let name = body["metadata"]["name"].as_str().unwrap().to_owned();
            if state.stored.insert(name) { StatusCode::CREATED } else { StatusCode::CONFLICT }
        } else if state.stored.contains(name) {
            StatusCode::OK
        } else {
            StatusCode::NOT_FOUND
        };
        if code.is_success() {
            return (code, json!({"metadata": {"name": name}, "eventTime": null}));
        }
        (
            code,
            json!({"kind": "Status", "status": "Failure", "message": code.as_str(), "reason": "", "code": code.as_u16()}),
        )
    }
}

impl tower::Service<Request<Body>> for FakeApi {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let api = self.clone();
        Box::pin(async move {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let body = request.into_body().collect_bytes().await?;
            let (code, answer) = api.answer(&method, &path, &serde_json::from_slice(&body).unwrap_or_default());
            tokio::time::sleep(Duration::from_millis(2)).await;
            Ok(Response::builder().status(code).body(Body::from(answer.to_string().into_bytes())).unwrap())
        })
    }
}

fn of_an_object(number: usize) -> Event {
    let regarding = Regarding::object("Service", "shop", &format!("bad-{number}"));
    Event { everywhere: true, ..Event::warning(regarding, "BadPort", "Serve", "port 0 is no port".into()) }
}

/// Agents of so many nodes that find so many bad objects at the same time. Gives where further events can be put.
async fn find(api: &FakeApi, nodes: usize, objects: usize) -> Vec<mpsc::Sender<Event>> {
    let mut queues = Vec::new();
    for node in 0..nodes {
        let (queue, waiting) = mpsc::channel(256);
        tokio::spawn(Sender::new(Client::new(api.clone(), "default"), format!("node-{node}")).send_all(waiting));
        queues.push(queue);
    }
    // The agents know how many nodes there are.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for queue in &queues {
        for number in 0..objects {
            queue.send(of_an_object(number)).await.unwrap();
        }
    }
    queues
}

#[tokio::test(start_paused = true)]
async fn what_every_node_finds_is_sent_by_one_and_the_others_see_it() {
    let api = FakeApi::of(200);
    let queues = find(&api, 200, 10).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(api.stored(), 10, "the first of many nodes does not wait");
    tokio::time::sleep(Duration::from_secs(300)).await;
    let (created, seen) = (api.count(&Method::POST), api.count(&Method::GET));
    assert!(created < 20, "{created} were sent for 10 that are wrong");
    assert_eq!(seen, 2000, "each node looks once for each");
    assert_eq!(api.0.lock().unwrap().looked_up, created, "who sends nothing looks nothing up");
    let most = api.most_in_ten_seconds();
    assert!(most < 1000, "{most} requests within ten seconds");
    // All agents are started again.
    drop(queues);
    let _queues = find(&api, 200, 10).await;
    tokio::time::sleep(Duration::from_secs(290)).await;
    let again = api.count(&Method::POST) - created;
    // Names change every ten minutes: by chance that falls into the test.
    assert!(again < 20, "{again} were sent again");
}

#[tokio::test(start_paused = true)]
async fn a_single_node_sends_what_it_finds_within_moments() {
    let api = FakeApi::of(1);
    let _queues = find(&api, 1, 3).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((api.stored(), api.count(&Method::POST)), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn where_events_may_not_be_read_all_are_sent_at_the_same_pace() {
    let api = FakeApi::of(50);
    api.0.lock().unwrap().forbidden = Some(Method::GET);
    let _queues = find(&api, 50, 4).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((api.stored(), api.count(&Method::POST)), (4, 200));
    assert!(api.most_in_ten_seconds() < 2000);
}
