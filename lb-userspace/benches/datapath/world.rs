//! The cluster that the bench pretends: Services with ten endpoints each, and clients with flows to them.

use lb_common::abi::{
    Address, BackendValue, Be16, Cidr, FamilyConfig, FlowKey, FlowValue, FrontendKey, FrontendValue, SetRef, V4, V6,
    backend_flag, config_flag, flow_kind, flow_state, frontend_kind, proto,
};
use lb_common::wire::checksum;

use crate::packets::Tuple;

/// Flows that a case cycles over.
pub(crate) const FLOWS: u32 = 1024;
/// Endpoints of each Service.
const ENDPOINTS: u32 = 10;
/// Services without endpoints, beside the others.
const EMPTY_SERVICES: u32 = 16;
/// Port of each Service, and of its endpoints.
pub(crate) const PORT: u16 = 80;
pub(crate) const TARGET_PORT: u16 = 8080;

/// Where things are in an address family.
pub(crate) trait Net: Address {
    /// 0 or 1, as in `map_name`.
    const INDEX: usize;
    /// An address by kind of thing and number.
    fn address(kind: u8, number: u32) -> Self;
    /// The octets as written.
    fn bytes(self) -> Vec<u8>;
}

impl Net for V4 {
    const INDEX: usize = 0;

    fn address(kind: u8, number: u32) -> Self {
        let [_, a, b, c] = number.to_be_bytes();
        Self::new([kind, a, b, c])
    }

    fn bytes(self) -> Vec<u8> {
        self.octets().to_vec()
    }
}

impl Net for V6 {
    const INDEX: usize = 1;

    fn address(kind: u8, number: u32) -> Self {
        let [a, b, c, d] = number.to_be_bytes();
        Self::new([0xfd, 0, kind, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d])
    }

    fn bytes(self) -> Vec<u8> {
        self.octets().to_vec()
    }
}

/// Kinds of address: the first octet in IPv4.
const VIP: u8 = 96;
const POD: u8 = 10;
const CLIENT: u8 = 172;
const FRESH_CLIENT: u8 = 173;
const STRANGER: u8 = 198;
const NODE: u8 = 192;

/// The pretended cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World {
    /// Number of Services with endpoints.
    pub(crate) services: u32,
}

/// One flow of the established table: key and value.
pub(crate) type Flow<A> = (FlowKey<A>, FlowValue<A>);

impl World {
    /// The Service of a flow: spread evenly over all of them.
    fn service(self, flow: u32) -> u32 {
        (flow * (self.services / FLOWS).max(1)) % self.services
    }

    fn backend_id(service: u32, endpoint: u32) -> u32 {
        1 + service * ENDPOINTS + endpoint
    }

    fn vip<A: Net>(service: u32) -> A {
        A::address(VIP, service + 1)
    }

    /// Frontends of both protocols, and the entries that make the `ClusterIP`s known.
    pub(crate) fn frontends<A: Net>(self) -> Vec<(FrontendKey<A>, FrontendValue)> {
        let mut all = Vec::new();
        for service in 0..self.services + EMPTY_SERVICES {
            let count = if service < self.services { ENDPOINTS } else { 0 };
            let set = SetRef { base: service * ENDPOINTS, count };
            let addr = Self::vip::<A>(service);
            let value = FrontendValue {
                internal: set,
                external: set,
                service: service + 1,
                kind: frontend_kind::CLUSTER_IP,
                ..FrontendValue::default()
            };
            for proto in [proto::TCP, proto::UDP] {
                all.push((FrontendKey { addr, port: Be16::new(PORT), proto, scope: 0 }, value));
            }
            let known = FrontendValue { kind: frontend_kind::KNOWN_VIP, ..FrontendValue::default() };
            all.push((FrontendKey::of_address(addr), known));
        }
        all
    }

    /// Backends by id; slot `id - 1` holds each.
    pub(crate) fn backends<A: Net>(self) -> Vec<(u32, BackendValue<A>)> {
        let flags = backend_flag::LOCAL | backend_flag::IN_CLUSTER | backend_flag::IN_LOCAL;
        (0..self.services * ENDPOINTS)
            .map(|n| {
                let (service, id) = (n / ENDPOINTS + 1, n + 1);
                let port = Be16::new(TARGET_PORT);
                let (addr, generation, weight) = (A::address(POD, id), id, 1);
                (id, BackendValue { addr, port, flags, generation, service, weight, ..BackendValue::default() })
            })
            .collect()
    }

    /// Settings of the data path: Pods are inside, all else is outside.
    pub(crate) fn config<A: Net>(self) -> FamilyConfig<A> {
        let unused = Cidr { net: A::address(255, 1), mask: A::ZERO };
        FamilyConfig {
            abi: lb_common::abi::ABI_VERSION,
            flags: config_flag::DETECT_LOCAL,
            node: A::address(NODE, 1),
            vip_lo: Self::vip(0),
            vip_hi: Self::vip(self.services + EMPTY_SERVICES - 1),
            // Not so for the clients of the bench: their flows to a ClusterIP would be source-NATed.
            cluster: [Self::all_clients(), Self::fresh_clients(), unused, unused],
            services: [unused; 2],
            snat_lo: Be16::new(61_000),
            snat_hi: Be16::new(65_535),
            host_netns: [0; 2],
            ..FamilyConfig::default()
        }
    }

    fn all_clients<A: Net>() -> Cidr<A> {
        Cidr { net: A::address(CLIENT, 0), mask: mask() }
    }

    fn fresh_clients<A: Net>() -> Cidr<A> {
        Cidr { net: A::address(FRESH_CLIENT, 0), mask: mask() }
    }

    /// The established flow of this number: forward and reverse entry.
    pub(crate) fn flow<A: Net>(self, number: u32, protocol: u8) -> [Flow<A>; 2] {
        let service = self.service(number);
        let backend = Self::backend_id(service, number % ENDPOINTS);
        let (client, vip, pod) = (A::address(CLIENT, number), Self::vip::<A>(service), A::address(POD, backend));
        let sport = Be16::new(client_port(number));
        let (port, target) = (Be16::new(PORT), Be16::new(TARGET_PORT));
        let forward = FlowValue {
            src: client,
            dst: pod,
            sport,
            dport: target,
            kind: flow_kind::FORWARD,
            state: flow_state::REPLIED,
            backend,
            generation: backend,
            service: service + 1,
            ifindex: 1,
            addr_delta: checksum::delta(vip.sum(), pod.sum()),
            port_delta: checksum::delta(u64::from(port.0), u64::from(target.0)),
            ..FlowValue::default()
        };
        let reverse = FlowValue {
            src: vip,
            dst: client,
            sport: port,
            dport: sport,
            kind: flow_kind::REVERSE,
            addr_delta: !forward.addr_delta,
            port_delta: !forward.port_delta,
            ..forward
        };
        let key = |dst, dport| FlowKey { src: client, dst, sport, dport, proto: protocol, pad: [0; 3] };
        [(key(vip, port), forward), (key(pod, target), reverse)]
    }

    /// What a client sends on an established flow, and what is made of it.
    pub(crate) fn request<A: Net>(self, number: u32, protocol: u8, flags: u8) -> [Tuple; 2] {
        let [(key, value), _] = self.flow::<A>(number, protocol);
        [tuple([key.src, key.dst], [key.sport, key.dport], protocol, flags), written(&value, protocol, flags)]
    }

    /// What a Pod answers on an established flow, and what is made of it.
    pub(crate) fn reply<A: Net>(self, number: u32, protocol: u8, flags: u8) -> [Tuple; 2] {
        let [_, (key, value)] = self.flow::<A>(number, protocol);
        [tuple([key.dst, key.src], [key.dport, key.sport], protocol, flags), written(&value, protocol, flags)]
    }

    /// A first packet to a Service; the kernel side makes it another one each time.
    pub(crate) fn opening<A: Net>(self, number: u32, flags: u8) -> Tuple {
        let vip = Self::vip(self.service(number));
        tuple([A::address(FRESH_CLIENT, 0), vip], [Be16(0), Be16::new(PORT)], proto::TCP, flags)
    }

    /// A first packet to a Service without endpoints.
    pub(crate) fn refused<A: Net>(self, number: u32, flags: u8) -> Tuple {
        let vip = Self::vip(self.services + number % EMPTY_SERVICES);
        let ports = [Be16::new(client_port(number)), Be16::new(PORT)];
        tuple([A::address(CLIENT, number), vip], ports, proto::TCP, flags)
    }

    /// A packet between others.
    pub(crate) fn foreign<A: Net>(number: u32, flags: u8) -> Tuple {
        let ports = [Be16::new(client_port(number)), Be16::new(443)];
        tuple([A::address(CLIENT, number), A::address(STRANGER, number)], ports, proto::TCP, flags)
    }

    /// Whether an address is a backend's.
    pub(crate) fn is_pod<A: Net>(self, address: &[u8]) -> bool {
        let pods = self.services * ENDPOINTS;
        (1..=pods).any(|id| A::address(POD, id).bytes() == address)
    }
}

fn client_port(number: u32) -> u16 {
    32_768 + u16::try_from(number % 16_384).unwrap_or(0)
}

/// The octets that hold an address's kind.
fn mask<A: Net>() -> A {
    A::address(255, 0)
}

fn written<A: Net>(value: &FlowValue<A>, protocol: u8, flags: u8) -> Tuple {
    tuple([value.src, value.dst], [value.sport, value.dport], protocol, flags)
}

fn tuple<A: Net>([src, dst]: [A; 2], ports: [Be16; 2], protocol: u8, flags: u8) -> Tuple {
    Tuple { addresses: [src.bytes(), dst.bytes()], ports: ports.map(Be16::get), protocol, flags }
}
