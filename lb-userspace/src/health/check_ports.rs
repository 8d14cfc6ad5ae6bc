//! A small server for each `healthCheckNodePort`: tells a load balancer outside whether this node has endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::ready;
use http::header::HeaderName;
use http::{HeaderValue, StatusCode};
use nix::errno::Errno;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::state::ProxyHealth;
use crate::events::{Event, EventSink, Regarding};
use crate::http::TakenPorts;
use crate::http::listen::listen_on_node_address;
use crate::http::server::{Answer, Answers, PORT, answer, not_found, serve};
use crate::model::desired::{Change, Family, HealthCheck, ServiceName};

const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");
/// A port that is taken is tried again this often.
const RETRY: Duration = Duration::from_secs(2);

/// Which health checks there should be, and where: written by the reconciler, followed by [`run`].
#[derive(Clone, Debug, Default)]
pub struct HealthCheckRegistry {
    state: watch::Sender<Checks>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Checks {
    services: BTreeMap<ServiceName, HealthCheck>,
    addresses: Vec<IpAddr>,
}

impl HealthCheckRegistry {
    /// The node's addresses on which `NodePort`s are served.
    pub fn set_addresses(&self, addresses: &[IpAddr]) {
        self.state.send_if_modified(|checks| {
            let news = checks.addresses != addresses;
            if news {
                checks.addresses = addresses.to_vec();
            }
            news
        });
    }

    /// Takes over what changes say about health checks. Call it when they are in force.
    pub fn take(&self, changes: Vec<HealthChange>) {
        if changes.is_empty() {
            return;
        }
        self.state.send_if_modified(|checks| {
            changes.into_iter().fold(false, |news, HealthChange { name, check }| {
                let before = match check {
                    Some(check) => checks.services.insert(name, check),
                    None => checks.services.remove(&name),
                };
                before != check || news
            })
        });
    }

    /// The changes of health checks that these changes hold.
    pub fn changes(&self, changes: &[Change]) -> Vec<HealthChange> {
        let known = self.state.borrow();
        let changes = changes.iter().map(|change| match change {
            Change::Upsert(service) => (&service.name, service.health),
            Change::Remove(name) => (name, None),
        });
        let relevant = changes.filter(|(name, check)| check.is_some() || known.services.contains_key(name));
        relevant.map(|(name, check)| HealthChange { name: name.clone(), check }).collect()
    }
}

/// A Service's health check is now this, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthChange {
    name: ServiceName,
    check: Option<HealthCheck>,
}

type Place = (ServiceName, SocketAddr);

/// One server, or that its address is taken.
enum Server {
    Open(JoinHandle<()>),
    Failed,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Self::Open(task) = self {
            task.abort();
        }
    }
}

/// Opens and closes servers as they are wanted; does not end. An address that is taken costs only itself.
pub async fn run(
    registry: HealthCheckRegistry,
    health: Arc<ProxyHealth>,
    events: EventSink,
    node_name: String,
    taken: TakenPorts,
) {
    let mut following = registry.state.subscribe();
    let mut servers: BTreeMap<Place, Server> = BTreeMap::new();
    loop {
        let places = places(&following.borrow_and_update());
        close_unwanted(&mut servers, &places, &taken).await;
        for place in places {
            let first_try = match servers.get(&place) {
                Some(Server::Open(_)) => continue,
                Some(Server::Failed) => false,
                None => true,
            };
            let server = match listen_on_node_address(place.1) {
                Ok(listener) => {
                    tracing::info!(service = %place.0, address = %place.1, "health check is open");
                    taken.settled(place.1);
                    let answers = answers(place.clone(), registry.clone(), Arc::clone(&health));
                    Server::Open(tokio::spawn(serve(listener, answers, PORT)))
                }
                Err(error) => {
                    taken.failed(place.1, &format!("the health check of {}", place.0), &error);
                    if first_try {
                        events.send(failed(&place, &error, &node_name));
                    }
                    Server::Failed
                }
            };
            servers.insert(place, server);
        }
        let failed = servers.values().any(|server| matches!(server, Server::Failed));
        tokio::select! {
            changed = following.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if failed => {}
        }
    }
}

/// Closes, and waits until the sockets are gone: another Service may want the same port now.
async fn close_unwanted(servers: &mut BTreeMap<Place, Server>, places: &BTreeSet<Place>, taken: &TakenPorts) {
    let unwanted: Vec<Place> = servers.keys().filter(|place| !places.contains(place)).cloned().collect();
    for place in unwanted {
        taken.settled(place.1);
        if let Some(mut server) = servers.remove(&place)
            && let Server::Open(task) = &mut server
        {
            task.abort();
            let ended = task.await;
            tracing::info!(service = %place.0, address = %place.1, ended = ended.is_err(), "health check is closed");
        }
    }
}

fn places(checks: &Checks) -> BTreeSet<Place> {
    // Load balancers ask by whichever family they like, also for a Service of the other one.
    let of_service = |(name, check): (&ServiceName, &HealthCheck)| {
        checks.addresses.iter().map(|ip| (name.clone(), SocketAddr::new(*ip, check.port))).collect::<Vec<_>>()
    };
    checks.services.iter().flat_map(of_service).collect()
}

fn answers((name, addr): Place, registry: HealthCheckRegistry, health: Arc<ProxyHealth>) -> Answers {
    let family = Family::of(&addr.ip());
    Arc::new(move |_whatever_is_asked| {
        let check = registry.state.borrow().services.get(&name).copied();
        let given = match check.and_then(|check| check.answer(family)) {
            Some(count) => say(&name, count, health.is_healthy()),
            None => not_found(),
        };
        ready(given).boxed()
    })
}

fn say(name: &ServiceName, count: u32, healthy: bool) -> Answer {
    let code = if count > 0 && healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": {:?},\n\t\t\"name\": {:?}\n\t}},\n\t\"localEndpoints\": {count},\n\t\
         \"serviceProxyHealthy\": {healthy}\n}}",
        name.namespace, name.name
    );
    let mut given = answer(code, "application/json", body);
    given.headers_mut().insert(WEIGHT, HeaderValue::from(count));
    given
}

fn failed((name, addr): &Place, error: &io::Error, node: &str) -> Event {
    let network = if addr.is_ipv4() { "tcp4" } else { "tcp6" };
    let cause = match error.raw_os_error() {
        Some(code) => Errno::from_raw(code).desc().to_lowercase(),
        None => error.to_string(),
    };
    let text = name.to_string();
    let port = addr.port();
    Event::warning(
        Regarding::object("Service", &name.namespace, &name.name),
        "FailedToStartServiceHealthcheck",
        "Listen",
        format!(
            "node {node} failed to start healthcheck {text:?} on port {port}: listen {network} {addr}: bind: {cause}"
        ),
    )
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn name() -> ServiceName {
        ServiceName { namespace: "default".into(), name: "lb".into() }
    }

    #[tokio::test]
    async fn the_body_is_kube_proxys_to_the_byte() {
        let given = say(&name(), 1, true);
        assert_eq!(given.status(), 200);
        assert_eq!(given.headers()[WEIGHT], "1");
        let body = given.into_body().collect().await.unwrap().to_bytes();
        let expected = "{\n\t\"service\": {\n\t\t\"namespace\": \"default\",\n\t\t\"name\": \"lb\"\n\t},\n\t\"localEndpoints\": 1,\n\t\"serviceProxyHealthy\": true\n}";
        assert_eq!(body, expected);
    }

    #[test]
    fn no_local_endpoint_or_an_unwell_proxy_is_503() {
        assert_eq!(say(&name(), 0, true).status(), 503);
        let unwell = say(&name(), 3, false);
        assert_eq!((unwell.status().as_u16(), unwell.headers()[WEIGHT].to_str().unwrap()), (503, "3"));
    }

    #[test]
    fn a_service_of_one_family_is_answered_on_addresses_of_both() {
        let check = HealthCheck { port: 32_000, local_v4: Some(1), local_v6: None };
        let addresses = ["192.0.2.1", "2001:db8::1", "198.51.100.1"].map(|ip| ip.parse().unwrap()).to_vec();
        let checks = Checks { services: BTreeMap::from([(name(), check)]), addresses };
        let places: Vec<String> = places(&checks).iter().map(|(_, addr)| addr.to_string()).collect();
        assert_eq!(places, ["192.0.2.1:32000", "198.51.100.1:32000", "[2001:db8::1]:32000"]);
        assert_eq!((check.answer(Family::V4), check.answer(Family::V6)), (Some(1), Some(1)));
        let dual = HealthCheck { local_v6: Some(2), ..check };
        assert_eq!((dual.answer(Family::V4), dual.answer(Family::V6)), (Some(1), Some(2)));
        let none = HealthCheck { local_v4: None, ..check };
        assert_eq!(none.answer(Family::V6), None);
    }

    #[tokio::test]
    async fn a_taken_port_is_told_once_in_kube_proxys_words() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap();
        let (events, mut told) = EventSink::for_test();
        let registry = HealthCheckRegistry::default();
        registry.set_addresses(&[addr.ip()]);
        let check = HealthCheck { port: addr.port(), local_v4: Some(1), local_v6: None };
        registry.take(vec![HealthChange { name: name(), check: Some(check) }]);
        let health = Arc::new(ProxyHealth::new(RETRY));
        let ports = TakenPorts::default();
        let task = tokio::spawn(run(registry.clone(), health, events, "node-a".into(), ports.clone()));
        let follow = ports.follow();
        let event = told.recv().await.unwrap();
        assert_eq!(follow.borrow().len(), 1);
        let port = addr.port();
        assert_eq!(
            event.note,
            format!(
                "node node-a failed to start healthcheck \"default/lb\" on port {port}: \
                 listen tcp4 127.0.0.1:{port}: bind: address already in use"
            )
        );
        registry.take(vec![HealthChange { name: name(), check: Some(HealthCheck { local_v4: Some(2), ..check }) }]);
        tokio::task::yield_now().await;
        assert!(told.try_recv().is_err(), "told once");
        drop(taken);
        while !follow.borrow().is_empty() {
            tokio::time::sleep(RETRY / 10).await;
        }
        task.abort();
    }
}
