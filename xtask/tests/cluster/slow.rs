//! An API server that takes five seconds for each answer.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;
use xtask::lab::{Agent, AgentOptions, sluice_binary};

use crate::fixture::Node;
use crate::objects::{pods, service};

const DELAY: Duration = Duration::from_secs(5);

#[test]
fn a_slow_api_server_is_followed() {
    let mut node = Node::prepare();
    node.api.apply(&service("web", &json!({})));
    for slice in pods("web", node.lab.pods()) {
        node.api.apply(&slice);
    }
    let proxy = PlainApi::start(&node);
    let slow = slow_door(proxy.address);
    let dir = TempDir::new().unwrap();
    let kubeconfig = dir.path().join("kubeconfig");
    let config = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: slow\n\
         clusters: [{{name: slow, cluster: {{server: \"http://{slow}\"}}}}]\n\
         contexts: [{{name: slow, context: {{cluster: slow, user: nobody}}}}]\nusers: [{{name: nobody, user: {{}}}}]\n"
    );
    std::fs::write(&kubeconfig, config).unwrap();
    node.agent = Agent::prepare(&node.lab, AgentOptions::kube(&sluice_binary().unwrap(), &kubeconfig));
    let begin = Instant::now();
    node.agent.spawn().unwrap();
    node.agent.wait_synced(Duration::from_secs(30)).unwrap();
    assert!(begin.elapsed() > DELAY, "the API server was not slow");
    node.converge();
    node.api.delete(&service("web", &json!({})));
    node.api.apply(&service("web-2", &json!({"type": "NodePort"})));
    // The watch itself is one more answer.
    node.converge_within(DELAY * 2);
}

/// `kubectl proxy`: the API without TLS.
struct PlainApi {
    child: Child,
    address: SocketAddr,
}

impl PlainApi {
    fn start(node: &Node) -> Self {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let mut command = node.cluster.kubectl_command();
        command.args(["proxy", "--port", &address.port().to_string()]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let proxy = Self { child, address };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "`kubectl proxy` does not listen");
            thread::sleep(Duration::from_millis(50));
        }
        proxy
    }
}

impl Drop for PlainApi {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A door to `to` through which what follows a request comes late. Its threads end with the connections.
fn slow_door(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for inner in listener.incoming() {
            let (Ok(inner), Ok(outer)) = (inner, TcpStream::connect(to)) else { return };
            let not_before = Arc::new(Mutex::new(Instant::now()));
            let (asked, due) = (Arc::clone(&not_before), not_before);
            let (from, into) = (inner.try_clone().unwrap(), outer.try_clone().unwrap());
            thread::spawn(move || carry(from, into, || *asked.lock().unwrap() = Instant::now() + DELAY));
            thread::spawn(move || {
                carry(outer, inner, || {
                    let due = *due.lock().unwrap();
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                });
            });
        }
    });
    address
}

fn carry(mut from: TcpStream, mut into: TcpStream, mut before: impl FnMut()) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        before();
        if into.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    into.shutdown(Shutdown::Both).ok();
    from.shutdown(Shutdown::Both).ok();
}
