//! Sockets: a Service's address is translated once, when a process connects or sends, and never in its packets.
//!
//! The processes of a node and of its Pods are clients inside the cluster, so the frontend's internal set is theirs.
//! What a hook leaves alone goes on as packets, and the hooks behind (TC) do with it what they do with any packet.

use super::echo;
use super::env::SocketEnv;
use super::outlier;
use super::schedule::{Choice, member_flag, select};
use super::scope::known_vip;
use super::silence;
use super::transport;
use crate::abi::{
    Address, AffinityKey, Be16, Counter, FrontendKey, FrontendValue, SocketKey, SocketValue, SourceRangeKey, algorithm,
    frontend_flag, frontend_kind, frontend_scope, proto, rest, socket_kind, socket_state,
};

/// What an unconnected socket's idle entry is kept for, in units of 2^30 ns: as long as a UDP flow without traffic.
const IDLE: u32 = 168;

/// The port that `ping` of iputils probes.
const PING: Be16 = Be16::new(1025);

/// Frontends that an unconnected socket may have asked and still goes on with their backends.
const ASKED: u32 = 16;

/// A socket that connects, or sends to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketCall<A> {
    /// The socket's cookie, low half first.
    pub cookie: [u32; 2],
    /// Cookie of its network namespace, low half first.
    pub netns: [u32; 2],
    /// Whether that is the node's own namespace.
    pub host: bool,
    /// Address that is connected or sent to.
    pub addr: A,
    /// Its port.
    pub port: Be16,
    /// IP protocol number.
    pub proto: u8,
}

/// What becomes of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketVerdict<A> {
    /// It goes where it wanted to.
    Pass,
    /// It goes here instead.
    To(A, Be16),
    /// `ECONNREFUSED`.
    Refused,
}

impl<A: Address> SocketCall<A> {
    #[inline(always)]
    fn key(&self, kind: u8, addr: A, port: Be16) -> SocketKey<A> {
        SocketKey { cookie: self.cookie, addr, port, proto: self.proto, kind }
    }

    /// A place in the list of what the socket has asked.
    #[inline(always)]
    fn place(&self, index: u32) -> SocketKey<A> {
        self.key(socket_kind::ASKED, A::ZERO, Be16(u16::try_from(index).unwrap_or(0)))
    }

    /// The frontend's key. Loopback addresses stand for the node's `NodePort`s, for its own processes alone.
    #[inline(always)]
    fn frontend(&self) -> FrontendKey<A> {
        if self.host && self.addr.is_loopback() {
            FrontendKey { addr: A::LOOPBACK, port: self.port, proto: self.proto, scope: frontend_scope::HOST }
        } else {
            FrontendKey { addr: self.addr, port: self.port, proto: self.proto, scope: frontend_scope::ALL }
        }
    }
}

#[inline(always)]
#[allow(clippy::as_conversions, reason = "wraps after 146 years")]
#[allow(clippy::cast_possible_truncation, reason = "wraps after 146 years")]
fn coarse_time<A: Address, E: SocketEnv<A>>(env: &E) -> u32 {
    (env.now_ns() >> 30) as u32
}

/// A socket connects.
#[inline(always)]
pub fn socket_connect<A: Address, E: SocketEnv<A>>(env: &E, call: &SocketCall<A>) -> SocketVerdict<A> {
    // Sockets for ICMP echo come here as well.
    if !transport::is_served(call.proto) {
        return SocketVerdict::Pass;
    }
    let Some(frontend) = env.frontend(&call.frontend()) else {
        if !transport::has_handshake(call.proto) {
            forget_reply(env, call);
        }
        return if is_probe_of_ping(env, call) { SocketVerdict::Pass } else { not_a_frontend(env, call) };
    };
    // Disconnected (AF_UNSPEC), an IPv6 socket still hears its former peer alone: it has to go on with that.
    choose(env, call, frontend, !transport::has_handshake(call.proto))
}

/// An unconnected socket sends a datagram.
#[inline(always)]
pub fn socket_send<A: Address, E: SocketEnv<A>>(env: &E, call: &SocketCall<A>) -> SocketVerdict<A> {
    let Some(frontend) = env.frontend(&call.frontend()) else {
        forget_reply(env, call);
        return not_a_frontend(env, call);
    };
    let mut to = (A::ZERO, Be16(0));
    if goes_on(env, call, frontend.service, &mut to) {
        return SocketVerdict::To(to.0, to.1);
    }
    // What the former backend says now is its own affair. Calls, for the sake of the stack.
    if !forget(env, call, false) {
        let count = asked(env, call);
        displace(env, call, 1 + count % ASKED);
        note(env, call, 1 + count % ASKED, 0);
        note(env, call, 0, count.wrapping_add(1));
    }
    choose(env, call, frontend, true)
}

/// Whether an unconnected socket goes on with the backend that it has, and with which.
#[inline(never)]
fn goes_on<A: Address, E: SocketEnv<A>>(env: &E, call: &SocketCall<A>, service: u32, to: &mut (A, Be16)) -> bool {
    let key = call.key(socket_kind::REQUEST, call.addr, call.port);
    let now = coarse_time(env);
    let Some(mut known) = env.socket(&key) else { return false };
    if known.generation != env.generation(known.backend)
        || known.service != service
        || now.wrapping_sub(known.seen) > IDLE
    {
        return false;
    }
    *to = (known.addr, known.port);
    let reply = call.key(socket_kind::REPLY, known.addr, known.port);
    if now != known.seen || env.socket(&reply).is_none() {
        known.seen = now;
        env.set_socket(&key, &known);
        (known.addr, known.port) = (call.addr, call.port);
        env.set_socket(&reply, &known);
    }
    true
}

/// How many frontends an unconnected socket has asked so far.
#[inline(never)]
fn asked<A: Address, E: SocketEnv<A>>(env: &E, call: &SocketCall<A>) -> u32 {
    env.socket(&call.place(0)).map_or(0, |head| head.backend)
}

/// Forgets what a place in the list stands for: a socket that asks many keeps the last ones.
#[inline(never)]
fn displace<A: Address, E: SocketEnv<A>>(env: &E, call: &SocketCall<A>, place: u32) {
    let Some(SocketValue { addr, port, .. }) = env.socket(&call.place(place)) else { return };
    forget(env, &SocketCall { addr, port, ..*call }, false);
}

/// Writes a place in the list of what an unconnected socket asks, which no hook will say when it is closed.
#[inline(never)]
fn note<A: Address, E: SocketEnv<A>>(env: &E, call: &SocketCall<A>, place: u32, count: u32) {
    let (seen, SocketCall { addr, port, netns, .. }) = (coarse_time(env), *call);
    let value = SocketValue { addr, port, backend: count, seen, netns, ..SocketValue::default() };
    env.set_socket(&call.place(place), &value);
}

/// Removes both entries of an unconnected socket and the frontend that it has asked. What the backend says may be another
/// frontend's by now: unless `whole`, that stays. False: there were none.
#[inline(never)]
fn forget<A: Address, E: SocketEnv<A>>(env: &E, call: &SocketCall<A>, whole: bool) -> bool {
    let mut key = call.key(socket_kind::REQUEST, call.addr, call.port);
    let Some(SocketValue { addr, port, .. }) = env.socket(&key) else { return false };
    env.remove_socket(&key);
    (key.addr, key.port, key.kind) = (addr, port, socket_kind::REPLY);
    let own = |value: SocketValue<A>| value.addr == call.addr && value.port == call.port;
    let known = env.socket(&key);
    if whole || known.is_some_and(own) {
        end(env, &key, known);
    }
    true
}

/// Removes a socket's entry of its peer: the connection is open no more.
#[inline(always)]
fn end<A: Address, E: SocketEnv<A>>(env: &E, key: &SocketKey<A>, known: Option<SocketValue<A>>) {
    let Some(known) = known else { return };
    env.remove_socket(key);
    if known.state & socket_state::COUNTED != 0 {
        env.ended(known.backend, known.generation);
    }
}

/// A socket may have been led to an address before that it now goes to on its own account.
#[inline(always)]
fn forget_reply<A: Address, E: SocketEnv<A>>(env: &E, call: &SocketCall<A>) {
    let key = call.key(socket_kind::REPLY, call.addr, call.port);
    let known = env.socket(&key);
    end(env, &key, known);
}

/// What is to be told of a new socket's end, by its frontend and its backend.
#[inline(always)]
fn initial_state<A: Address>(choice: &Choice<A>, stay: bool) -> u16 {
    let counted = algorithm::counts_connections(choice.frontend.algorithm);
    let judged = !stay && choice.backend.rest != rest::OFF;
    (u16::from(counted) * socket_state::COUNTED) | (u16::from(judged) * socket_state::JUDGED)
}

/// Notes what the socket will be told of its peer, and whether it is to `stay` there. Apart from `choose`, for the sake of
/// the stack.
#[inline(never)]
fn remember<A: Address, E: SocketEnv<A>>(env: &E, call: &SocketCall<A>, choice: &Choice<A>, stay: bool) {
    let mut key = call.key(socket_kind::REPLY, choice.backend.addr, choice.backend.port);
    let mut value = SocketValue {
        addr: call.addr,
        port: call.port,
        state: initial_state(choice, stay),
        backend: choice.id,
        generation: choice.backend.generation,
        service: choice.frontend.service,
        seen: coarse_time(env),
        netns: call.netns,
        born: if stay || choice.frontend.internal.count < 2 { 0 } else { env.ticks().max(1) },
    };
    if !env.set_socket(&key, &value) {
        env.count(Counter::SocketInsertFailed);
    }
    if stay {
        (value.addr, value.port) = (key.addr, key.port);
        (key.addr, key.port, key.kind) = (call.addr, call.port, socket_kind::REQUEST);
        env.set_socket(&key, &value);
    }
}

/// Selects a backend for a frontend's call and notes what the socket will be told of its peer, and whether it is to
/// `stay` there. A call, for the sake of the stack.
#[inline(never)]
fn choose<A: Address, E: SocketEnv<A>>(
    env: &E,
    call: &SocketCall<A>,
    frontend: FrontendValue,
    stay: bool,
) -> SocketVerdict<A> {
    let choice = &mut Choice { frontend, source: call.cookie[0], ..Choice::default() };
    let FrontendValue { flags, service, internal: set, .. } = frontend;
    if flags & frontend_flag::SOURCE_RANGES != 0 {
        // A socket has no source address yet. The node's own is known; a Pod's is looked at in its packets.
        let node = env.config().node;
        if !call.host || !env.in_source_range(&SourceRangeKey { service, addr: node }) {
            return SocketVerdict::Pass;
        }
    }
    if set.count == 0 {
        // Silence is for packets to keep.
        if flags & frontend_flag::INTERNAL_EMPTY_DROPS != 0 {
            return SocketVerdict::Pass;
        }
        env.blame(service, Counter::RejectNoEndpoints.index());
        return refused(env);
    }
    let local = flags & frontend_flag::INTERNAL_LOCAL != 0;
    let client = AffinityKey { client: A::ZERO, service, netns: call.netns };
    if let Err(counter) = select(env, choice, &client, set, member_flag(local), !stay) {
        env.count(counter);
        return SocketVerdict::Pass;
    }
    let (addr, port) = (choice.backend.addr, choice.backend.port);
    remember(env, call, choice, stay);
    count(env, choice);
    SocketVerdict::To(addr, port)
}

/// Counts a connection. A call, for the sake of the stack.
#[inline(never)]
fn count<A: Address, E: SocketEnv<A>>(env: &E, choice: &Choice<A>) {
    env.count(Counter::SocketConnected);
    env.connected(choice.id, choice.backend.generation, false);
    if algorithm::counts_connections(choice.frontend.algorithm) {
        env.opened(choice.id, choice.backend.generation);
    }
}

#[inline(always)]
fn refused<A: Address, E: SocketEnv<A>>(env: &E) -> SocketVerdict<A> {
    env.count(Counter::SocketRefused);
    SocketVerdict::Refused
}

/// No frontend has this address, port and protocol: a port that a `ClusterIP` lacks is refused.
#[inline(always)]
fn not_a_frontend<A: Address, E: SocketEnv<A>>(env: &E, call: &SocketCall<A>) -> SocketVerdict<A> {
    if known_vip(env, call.addr) { refused(env) } else { SocketVerdict::Pass }
}

/// Whether the call is `ping`'s, which connects a UDP socket only to hear the source address, and then asks by ICMP.
#[inline(always)]
fn is_probe_of_ping<A: Address, E: SocketEnv<A>>(env: &E, call: &SocketCall<A>) -> bool {
    call.proto == proto::UDP && call.port == PING && echo::served_at(env, call.addr).is_some()
}

/// The frontend that a socket's peer stands for, if a hook has led it there.
#[inline(always)]
pub fn socket_peer<A: Address, E: SocketEnv<A>>(
    env: &E,
    cookie: [u32; 2],
    proto: u8,
    addr: A,
    port: Be16,
) -> Option<(A, Be16)> {
    let known = env.socket(&SocketKey { cookie, addr, port, proto, kind: socket_kind::REPLY })?;
    Some((known.addr, known.port))
}

/// A TCP socket that connects has to send its SYN again: this is its peer.
#[inline(always)]
pub fn socket_unanswered<A: Address, E: SocketEnv<A>>(env: &E, cookie: [u32; 2], addr: A, port: Be16) {
    if let Some(known) = env.socket(&SocketKey { cookie, addr, port, proto: proto::TCP, kind: socket_kind::REPLY })
        && known.born != 0
    {
        silence::unanswered(env, known.backend, known.generation, known.born);
    }
}

/// A TCP socket is connected: its peer has answered.
#[inline(always)]
pub fn socket_answered<A: Address, E: SocketEnv<A>>(env: &E, cookie: [u32; 2], addr: A, port: Be16) {
    if let Some(known) = env.socket(&SocketKey { cookie, addr, port, proto: proto::TCP, kind: socket_kind::REPLY })
        && silence::answered(env, known.backend, known.generation)
    {
        env.went(known.backend, known.generation, outlier::of_netns(known.netns), 1, 0);
    }
}

/// A TCP socket's connection has failed: its peer has refused it, or has reset it before it had sent anything.
#[inline(always)]
pub fn socket_failed<A: Address, E: SocketEnv<A>>(env: &E, cookie: [u32; 2], addr: A, port: Be16, refused: bool) {
    if let Some(known) = env.socket(&SocketKey { cookie, addr, port, proto: proto::TCP, kind: socket_kind::REPLY }) {
        outlier::socket_failed(env, known.backend, known.generation, known.netns, refused);
    }
}

/// What a socket that is about to send its SYN wants to be told of, if it has been led to this peer: whether also of its end.
#[inline(always)]
pub fn socket_is_led<A: Address, E: SocketEnv<A>>(env: &E, cookie: [u32; 2], addr: A, port: Be16) -> Option<bool> {
    let known = env.socket(&SocketKey { cookie, addr, port, proto: proto::TCP, kind: socket_kind::REPLY })?;
    Some(known.state != 0)
}

/// A socket is closed: what is known of it and its peer goes.
#[inline(always)]
pub fn socket_closed<A: Address, E: SocketEnv<A>>(env: &E, cookie: [u32; 2], proto: u8, addr: A, port: Be16) {
    let key = SocketKey { cookie, addr, port, proto, kind: socket_kind::REPLY };
    let known = env.socket(&key);
    if !transport::has_handshake(proto)
        && let Some(SocketValue { addr, port, .. }) = known
    {
        env.remove_socket(&SocketKey { cookie, addr, port, proto, kind: socket_kind::REQUEST });
    }
    end(env, &key, known);
}

/// A socket for datagrams is closed: all that it has asked without being connected goes.
#[inline(always)]
pub fn socket_released<A: Address, E: SocketEnv<A>>(env: &E, cookie: [u32; 2], proto: u8) {
    let mut call = SocketCall { cookie, netns: [0; 2], host: false, addr: A::ZERO, port: Be16(0), proto };
    let head = call.place(0);
    if env.socket(&head).is_none() {
        return;
    }
    for index in 1..=ASKED {
        let place = call.place(index);
        let Some(SocketValue { addr, port, .. }) = env.socket(&place) else { break };
        (call.addr, call.port) = (addr, port);
        forget(env, &call, true);
        env.remove_socket(&place);
    }
    env.remove_socket(&head);
}

/// Whether a process of the node may bind: not to a `NodePort` that is served. An unspecified address stands for all.
#[inline(always)]
pub fn socket_bind<A: Address, E: SocketEnv<A>>(env: &E, proto: u8, addr: A, port: Be16) -> bool {
    let addr = if addr.is_zero() { env.config().node } else { addr };
    let key = FrontendKey { addr, port, proto, scope: frontend_scope::ALL };
    let taken = env.frontend(&key).is_some_and(|frontend| frontend.kind == frontend_kind::NODE_PORT);
    if taken {
        env.count(Counter::SocketBindRefused);
    }
    !taken
}
