//! Sockets: a Service's address is translated once, when a process connects or sends, and never in its packets.
//!
//! The processes of a node and of its Pods are clients inside the cluster, so the frontend's internal set is theirs.
//! What a hook leaves alone goes on as packets, and the hooks behind (TC) do with it what they do with any packet.

use super::env::SocketEnv;
use super::schedule::{Choice, member_flag, select};
use super::scope::known_vip;
use super::transport;
use crate::abi::{
    Address, AffinityKey, Be16, Counter, FrontendKey, FrontendValue, SocketKey, SocketValue, SourceRangeKey,
    frontend_flag, frontend_kind, frontend_scope, socket_kind,
};

/// What an unconnected socket's idle entry is kept for, in units of 2^30 ns: as long as a UDP flow without traffic.
const IDLE: u32 = 168;

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
    let Some(frontend) = env.frontend(&call.frontend()) else {
        if !transport::has_handshake(call.proto) {
            forget_reply(env, call);
        }
        return not_a_frontend(env, call);
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
    let key = call.key(socket_kind::REQUEST, call.addr, call.port);
    let now = coarse_time(env);
    if let Some(mut known) = env.socket(&key)
        && known.generation == env.generation(known.backend)
        && known.service == frontend.service
        && now.wrapping_sub(known.seen) <= IDLE
    {
        let (addr, port) = (known.addr, known.port);
        let reply = call.key(socket_kind::REPLY, addr, port);
        if now != known.seen || env.socket(&reply).is_none() {
            known.seen = now;
            env.set_socket(&key, &known);
            (known.addr, known.port) = (call.addr, call.port);
            env.set_socket(&reply, &known);
        }
        return SocketVerdict::To(addr, port);
    }
    choose(env, call, frontend, true)
}

/// A socket may have been led to an address before that it now goes to on its own account.
#[inline(always)]
fn forget_reply<A: Address, E: SocketEnv<A>>(env: &E, call: &SocketCall<A>) {
    let key = call.key(socket_kind::REPLY, call.addr, call.port);
    if env.socket(&key).is_some() {
        env.remove_socket(&key);
    }
}

#[inline(always)]
fn entry<A: Address, E: SocketEnv<A>>(
    env: &E,
    call: &SocketCall<A>,
    choice: &Choice<A>,
    addr: A,
    port: Be16,
) -> SocketValue<A> {
    SocketValue {
        addr,
        port,
        pad: 0,
        backend: choice.id,
        generation: choice.backend.generation,
        service: choice.frontend.service,
        seen: coarse_time(env),
        netns: call.netns,
        reserved: 0,
    }
}

/// Selects a backend for a frontend's call and notes what the socket will be told of its peer, and whether it is to
/// `stay` there.
#[inline(always)]
fn choose<A: Address, E: SocketEnv<A>>(
    env: &E,
    call: &SocketCall<A>,
    frontend: FrontendValue,
    stay: bool,
) -> SocketVerdict<A> {
    let choice = &mut Choice { frontend, ..Choice::default() };
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
        return if flags & frontend_flag::INTERNAL_EMPTY_DROPS != 0 { SocketVerdict::Pass } else { refused(env) };
    }
    let local = flags & frontend_flag::INTERNAL_LOCAL != 0;
    let client = AffinityKey { client: A::ZERO, service, netns: call.netns };
    if let Err(counter) = select(env, choice, &client, set, member_flag(local)) {
        env.count(counter);
        return SocketVerdict::Pass;
    }
    let (addr, port) = (choice.backend.addr, choice.backend.port);
    let reply = call.key(socket_kind::REPLY, addr, port);
    if !env.set_socket(&reply, &entry(env, call, choice, call.addr, call.port)) {
        env.count(Counter::SocketInsertFailed);
    }
    if stay {
        env.set_socket(&call.key(socket_kind::REQUEST, call.addr, call.port), &entry(env, call, choice, addr, port));
    }
    env.count(Counter::SocketConnected);
    env.connected(choice.id, choice.backend.generation);
    SocketVerdict::To(addr, port)
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

/// A socket is closed: what is known of it and its peer goes.
#[inline(always)]
pub fn socket_closed<A: Address, E: SocketEnv<A>>(env: &E, cookie: [u32; 2], proto: u8, addr: A, port: Be16) {
    let key = SocketKey { cookie, addr, port, proto, kind: socket_kind::REPLY };
    if !transport::has_handshake(proto) {
        let Some(SocketValue { addr, port, .. }) = env.socket(&key) else { return };
        env.remove_socket(&SocketKey { cookie, addr, port, proto, kind: socket_kind::REQUEST });
    }
    env.remove_socket(&key);
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
