//! A vector's stage: sends packets, compares what comes out, and says readably what differs.

use super::diff::explain;
use super::family::Family;
use super::node::{Action, Hook, Node, Outcome};
use super::packet::Pkt;
use super::service::Service;
use crate::abi::{ABI_VERSION, Be16, Counter, FamilyConfig, FrontendKey, FrontendValue, config_flag, frontend_kind};

/// First port of the source NAT range on the stage.
const LENT_LO: u16 = 61_000;
/// Last port of the source NAT range on the stage.
const LENT_HI: u16 = 61_063;

/// A vector's stage.
pub struct Scene<'n, A> {
    /// The node that is played against.
    pub node: &'n mut dyn Node<A>,
    name: &'static str,
    step: usize,
}

impl<'n, A: Family> Scene<'n, A> {
    /// An empty node with ordinary settings.
    pub fn new(name: &'static str, node: &'n mut dyn Node<A>) -> Self {
        node.reset();
        node.set_config(Self::config());
        node.set_frontend(
            FrontendKey::of_address(A::VIP),
            Some(FrontendValue { kind: frontend_kind::KNOWN_VIP, service: 1, ..FrontendValue::default() }),
        );
        Self { node, name, step: 0 }
    }

    /// Ordinary settings.
    pub fn config() -> FamilyConfig<A> {
        FamilyConfig {
            abi: ABI_VERSION,
            flags: config_flag::DETECT_LOCAL,
            node: A::NODE,
            vip_lo: A::VIP,
            vip_hi: A::VIP,
            cluster: [A::CLUSTER, A::NO_PREFIX, A::NO_PREFIX, A::NO_PREFIX],
            services: [A::SERVICES, A::NO_PREFIX],
            snat_lo: Be16::new(LENT_LO),
            snat_hi: Be16::new(LENT_HI),
            host_netns: [0; 2],
            ..FamilyConfig::default()
        }
    }

    /// Writes a Service's entries.
    pub fn serve(&mut self, service: &Service<A>) {
        service.write(self.node);
    }

    /// Sends a packet and returns what became of it.
    pub fn send(&mut self, hook: Hook, packet: &Pkt<A>) -> Outcome {
        self.step += 1;
        self.node.send(hook, hook.device(), &packet.bytes())
    }

    #[track_caller]
    fn compare(&self, hook: Hook, sent: &[u8], got: &Outcome, action: Action, expected: &[u8]) {
        // The next hop's Ethernet addresses are the adapter's business.
        let skip = if action == Action::Route { 14 } else { 0 };
        let same = got.bytes.get(skip..) == expected.get(skip..);
        assert!(
            got.action == action && same,
            "{} (IPv{}), step {} at {hook:?}: expected {action:?}, got {:?}\n{}\nsent {sent:02x?}",
            self.name,
            if A::IS_V6 { 6 } else { 4 },
            self.step,
            got.action,
            explain(expected, &got.bytes),
        );
    }

    /// Sends bytes; this has to come out.
    #[track_caller]
    pub fn bytes(&mut self, hook: Hook, ifindex: u32, sent: &[u8], action: Action, expected: &[u8]) {
        self.step += 1;
        let got = self.node.send(hook, ifindex, sent);
        self.compare(hook, sent, &got, action, expected);
    }

    #[track_caller]
    fn expect(&mut self, hook: Hook, sent: &Pkt<A>, action: Action, expected: &Pkt<A>) {
        self.bytes(hook, hook.device(), &sent.bytes(), action, &expected.bytes());
    }

    /// Goes on through the kernel as `expected`.
    #[track_caller]
    pub fn passes(&mut self, hook: Hook, sent: &Pkt<A>, expected: &Pkt<A>) {
        self.expect(hook, sent, Action::Pass, expected);
    }

    /// Goes on through the kernel as it is.
    #[track_caller]
    pub fn untouched(&mut self, hook: Hook, sent: &Pkt<A>) {
        self.expect(hook, sent, Action::Pass, sent);
    }

    /// Leaves by route as `expected`, whose hop limit is one less.
    #[track_caller]
    pub fn routes(&mut self, hook: Hook, sent: &Pkt<A>, expected: &Pkt<A>) {
        self.expect(hook, sent, Action::Route, &expected.clone().hop());
    }

    /// Goes back out of its device as `expected`.
    #[track_caller]
    pub fn returns(&mut self, hook: Hook, sent: &Pkt<A>, expected: &Pkt<A>) {
        self.expect(hook, sent, Action::Back, &expected.clone().back());
    }

    /// Is dropped.
    #[track_caller]
    pub fn drops(&mut self, hook: Hook, sent: &Pkt<A>) {
        self.bytes(hook, hook.device(), &sent.bytes(), Action::Drop, &[]);
    }

    /// Gets a source port of the node's choosing, which is returned; apart from that it has to look like `expected`.
    #[track_caller]
    pub fn allocated(&mut self, hook: Hook, sent: &Pkt<A>, action: Action, expected: &Pkt<A>) -> u16 {
        let got = self.send(hook, sent);
        let at = 14 + expected.header_length();
        let port = got.bytes.get(at..at + 2).map_or(0, |two| u16::from_be_bytes([two[0], two[1]]));
        let expected = expected.clone().from(expected.src, port);
        let expected = match action {
            Action::Route => expected.hop(),
            Action::Back => expected.hop().back(),
            Action::Pass | Action::Drop => expected,
        };
        self.compare(hook, &sent.bytes(), &got, action, &expected.bytes());
        let config = (LENT_LO, LENT_HI);
        assert!((config.0..=config.1).contains(&port), "{}: port {port} is outside of {config:?}", self.name);
        port
    }

    /// The counter stands at `count`.
    #[track_caller]
    pub fn counted(&mut self, counter: Counter, count: u64) {
        let got = self.node.counter(counter);
        assert_eq!(got, count, "{}: {} after step {}", self.name, counter.name(), self.step);
    }

    /// Packets and bytes of a backend each way, and its connections.
    #[track_caller]
    pub fn traffic(&mut self, backend: u32, towards: (u64, u64), back: (u64, u64), connections: u64) {
        let got = self.node.stats(backend);
        let numbers = ((got.packets, got.bytes), (got.reply_packets, got.reply_bytes), got.connections);
        assert_eq!(numbers, (towards, back, connections), "{}: backend {backend} after step {}", self.name, self.step);
    }

    /// Connections that a backend has not answered, and those that it has refused.
    #[track_caller]
    pub fn answers(&mut self, backend: u32, unanswered: u64, refused: u64) {
        let got = self.node.stats(backend);
        let numbers = (got.unanswered, got.refused);
        assert_eq!(numbers, (unanswered, refused), "{}: backend {backend} after step {}", self.name, self.step);
    }

    /// So often clients of a service port got nothing for this reason.
    #[track_caller]
    pub fn blamed(&mut self, service: u32, cause: Counter, count: u64) {
        let got = self.node.causes(service, cause);
        assert_eq!(got, count, "{}: {} of {service} after step {}", self.name, cause.name(), self.step);
    }

    /// So many established and embryonic entries exist.
    #[track_caller]
    pub fn flows(&mut self, established: usize, embryonic: usize) {
        let got = self.node.flows();
        assert_eq!(got, (established, embryonic), "{}: flows after step {}", self.name, self.step);
    }
}
