//! Fragments: later ones take their ports from the first (RFC 791, RFC 8200 section 4.5). Those that come before it wait
//! for it, as bytes in cells, and all of them are put into the hook anew when it is there: then the first has come first.

use super::arrival::Arrival;
use super::env::Env;
use super::frame::Frame;
use super::gate;
use super::headers::Headers;
use super::outcome::{Outcome, Reason, Verdict};
use super::scratch::Holding;
use super::transport;
use crate::abi::{
    Address, Be16, Counter, FlowKey, FragmentKey, FragmentValue, FrontendKey, HeldKey, SenderKey, Waiting, flow_kind,
    frontend_scope,
};
use crate::wire::bytes::{hi, lo};
use crate::wire::{Fragment, IpVersion};

/// The fragment's ports are known: it goes the way of other packets.
pub(super) const KNOWN: Outcome = Outcome::pass(Reason::TRANSLATED);
/// Cells of one datagram that wait at most: 64 KiB in the smallest fragments of ordinary networks.
const OF_A_DATAGRAM: u32 = 64;
/// Cells that are let go at a time: the verifier walks through each.
const AT_A_TIME: u32 = 16;
/// Cells of one sender that wait at most, of 1,024 for all.
const OF_A_SENDER: u32 = 128;
/// Cells that a packet takes at most.
const OF_A_PACKET: u32 = 8;
/// How long fragments wait, and their first is remembered: 17 s, in units of 2^20 ns. Identifications come again.
const PATIENCE: u32 = 1 << 14;

/// Notes a first fragment's ports for those that follow it, and lets those go on that wait for it; or completes a later
/// one's from the first. [`KNOWN`]: the packet's ports are known, and it goes on its way.
#[inline(never)]
pub(super) fn complete<A: IpVersion, F: Frame, E: Env<A>>(
    frame: &mut F,
    env: &E,
    arrival: Arrival,
    headers: &mut Headers<A>,
) -> Outcome {
    let key = datagram(headers);
    if headers.fragment == Fragment::Later {
        return later(frame, env, arrival, headers, &key);
    }
    // Whatever later ones may wait for is noted, also where it is not for Sluice after all.
    if !is_claimed(env, arrival, headers) && !gate::may_wait(env, headers, arrival) {
        return KNOWN;
    }
    first(frame, env, arrival, headers, &key)
}

#[inline(never)]
fn first<A: IpVersion, F: Frame, E: Env<A>>(
    frame: &mut F,
    env: &E,
    arrival: Arrival,
    headers: &Headers<A>,
    key: &FragmentKey<A>,
) -> Outcome {
    let (sport, dport, proto) = (headers.key.sport, headers.key.dport, u32::from(headers.key.proto));
    env.set_fragment(key, &FragmentValue { sport, dport, proto, seen: now(env) });
    match env.early(key) {
        Some(_) if !F::REPLAYS => Outcome::pass(Reason::HANDED_OVER),
        Some(waiting) => release(frame, env, arrival, key, &waiting),
        None => KNOWN,
    }
}

/// A packet without ports that can be read. As a first fragment it may be of another protocol, which only it says in IPv6
/// (RFC 8200 section 4.5); or it ends within its transport header, and so hides what the packet is (RFC 1858 section 3,
/// RFC 7112 section 5): no sender has a reason to make such a one.
#[inline(never)]
pub(super) fn without_ports<A: IpVersion, F: Frame, E: Env<A>>(
    frame: &mut F,
    env: &E,
    arrival: Arrival,
    headers: &mut Headers<A>,
) -> Outcome {
    let pass = Outcome::pass(Reason::OTHER_PROTOCOL);
    if headers.fragment != Fragment::First {
        return pass;
    }
    if transport::is_served(headers.key.proto) {
        let Some([ports]) = frame.u32s_at::<1>(usize::from(headers.l4)) else { return pass };
        (headers.key.sport, headers.key.dport) = (Be16(hi(ports)), Be16(lo(ports)));
        return if is_of_service(env, arrival, &headers.key) { Outcome::drop(Counter::DropTinyFragment) } else { pass };
    }
    if !A::IS_V6 || !gate::may_wait(env, headers, arrival) {
        return pass;
    }
    let key = datagram(headers);
    let outcome = first(frame, env, arrival, headers, &key);
    if outcome == KNOWN { pass } else { outcome }
}

/// Whether a packet is for a frontend, or of an established flow.
#[inline(never)]
fn is_of_service<A: Address, E: Env<A>>(env: &E, arrival: Arrival, key: &FlowKey<A>) -> bool {
    if !E::is_ingress(arrival) {
        return env.flow(&key.flipped()).is_some_and(|flow| flow.kind == flow_kind::REVERSE);
    }
    let front = FrontendKey { addr: key.dst, port: key.dport, proto: key.proto, scope: frontend_scope::ALL };
    env.frontend(&front).is_some() || env.flow(key).is_some_and(|flow| flow.kind == flow_kind::REVERSE_SNAT)
}

#[inline(always)]
fn datagram<A: Address>(headers: &Headers<A>) -> FragmentKey<A> {
    let proto = if A::IS_V6 { 0 } else { u32::from(headers.key.proto) };
    FragmentKey { src: headers.key.src, dst: headers.key.dst, id: headers.fragment_id, proto }
}

#[inline(always)]
#[allow(clippy::as_conversions, clippy::cast_possible_truncation, reason = "the clock's low bits are what is meant")]
fn now<A: Address, E: Env<A>>(env: &E) -> u32 {
    (env.now_ns() >> 20) as u32
}

/// Whether a first fragment may belong to Sluice.
#[inline(never)]
fn is_claimed<A: Address, E: Env<A>>(env: &E, arrival: Arrival, headers: &Headers<A>) -> bool {
    if E::is_ingress(arrival) { gate::ingress(env, headers, arrival) != 0 } else { gate::egress(env, headers) }
}

#[inline(never)]
fn later<A: IpVersion, F: Frame, E: Env<A>>(
    frame: &mut F,
    env: &E,
    arrival: Arrival,
    headers: &mut Headers<A>,
    key: &FragmentKey<A>,
) -> Outcome {
    if learn(env, headers, key) {
        return known(headers);
    }
    if !gate::may_wait(env, headers, arrival) {
        return Outcome::pass(Reason::FRAGMENT_ALONE);
    }
    if !F::REPLAYS {
        return Outcome::pass(Reason::HANDED_OVER);
    }
    if hold(frame, env, key).is_none() {
        return Outcome::pass(Reason::FRAGMENT_ALONE);
    }
    // The first may have come by another processor, and found nothing that waited.
    if learn(env, headers, key) {
        known(headers)
    } else {
        Outcome::leave(Verdict::Drop, 0, Reason::counted(Counter::FragmentHeld))
    }
}

/// Takes ports and protocol from the datagram's first fragment.
#[inline(always)]
fn learn<A: Address, E: Env<A>>(env: &E, headers: &mut Headers<A>, key: &FragmentKey<A>) -> bool {
    let Some(first) = env.fragment(key) else { return false };
    if is_over(first.seen, now(env)) {
        return false;
    }
    let Ok(proto) = u8::try_from(first.proto) else { return false };
    (headers.key.sport, headers.key.dport, headers.key.proto) = (first.sport, first.dport, proto);
    true
}

/// A later fragment whose first has been seen.
#[inline(always)]
const fn known<A>(headers: &Headers<A>) -> Outcome {
    if transport::is_served(headers.key.proto) { KNOWN } else { Outcome::pass(Reason::OTHER_PROTOCOL) }
}

#[inline(always)]
const fn is_over(seen: u32, now: u32) -> bool {
    now.wrapping_sub(seen) > PATIENCE
}

/// What waits, unless that is long ago.
#[inline(always)]
fn recent(waiting: Option<Waiting>, now: u32) -> Waiting {
    match waiting {
        Some(waiting) if !is_over(waiting.since, now) => waiting,
        _ => Waiting { since: now, cells: 0, released: 0 },
    }
}

/// Copies a fragment to where it waits for its first. `None`: there is no room for it.
#[inline(never)]
fn hold<A: Address, F: Frame, E: Env<A>>(frame: &mut F, env: &E, key: &FragmentKey<A>) -> Option<()> {
    let now = now(env);
    let source = SenderKey { src: key.src };
    let mut scratch = env.scratch()?;
    let holding = &mut scratch.holding;
    (holding.piece.at, holding.piece.length, holding.piece.total) = (0, 0, frame.length()?);
    holding.datagram = recent(env.early(key), now);
    holding.sender = recent(env.sender(&source), now);
    for _ in 0..OF_A_PACKET {
        if holding.is_whole() {
            break;
        }
        hold_piece(frame, env, key, holding)?;
    }
    if !holding.is_whole() {
        return None;
    }
    env.set_early(key, Some(holding.datagram));
    env.set_sender(&source, &holding.sender);
    Some(())
}

/// Copies the next piece of a fragment into a cell.
#[inline(never)]
fn hold_piece<A: Address, F: Frame, E: Env<A>>(
    frame: &F,
    env: &E,
    key: &FragmentKey<A>,
    holding: &mut Holding,
) -> Option<()> {
    if holding.datagram.cells >= OF_A_DATAGRAM || holding.sender.cells >= OF_A_SENDER {
        return None;
    }
    frame.copy_out(holding.piece.at + holding.piece.length, &mut holding.piece)?;
    env.set_held(&HeldKey { datagram: *key, index: holding.datagram.cells }, Some(&holding.piece));
    holding.datagram.cells += 1;
    holding.sender.cells += 1;
    Some(())
}

/// Puts a first fragment into the hook anew, and behind it those that wait for it. If they are many, the first lets go
/// the rest when it comes again.
#[inline(never)]
fn release<A: Address, F: Frame, E: Env<A>>(
    frame: &mut F,
    env: &E,
    arrival: Arrival,
    key: &FragmentKey<A>,
    waiting: &Waiting,
) -> Outcome {
    let over = waiting.released + AT_A_TIME >= waiting.cells;
    env.set_early(key, if over { None } else { Some(Waiting { released: waiting.released + AT_A_TIME, ..*waiting }) });
    let now = now(env);
    let source = SenderKey { src: key.src };
    let mut sender = recent(env.sender(&source), now);
    sender.cells = sender.cells.saturating_sub(AT_A_TIME.min(waiting.cells - waiting.released));
    env.set_sender(&source, &sender);
    if is_over(waiting.since, now) || frame.replay(arrival).is_none() {
        return KNOWN;
    }
    let mut held = HeldKey { datagram: *key, index: 0 };
    for step in 0..AT_A_TIME {
        held.index = waiting.released + step;
        if held.index >= waiting.cells {
            break;
        }
        // What is missing, by eviction, is lost on the way.
        let _lost = replay_piece(frame, env, arrival, &held);
        env.set_held(&held, None);
    }
    Outcome::leave(Verdict::Drop, 0, Reason::counted(Counter::FragmentReleased))
}

/// Writes a piece into the packet, which has been sent already; the last piece of a fragment sends that.
#[inline(never)]
fn replay_piece<A: Address, F: Frame, E: Env<A>>(
    frame: &mut F,
    env: &E,
    arrival: Arrival,
    key: &HeldKey<A>,
) -> Option<()> {
    let piece = env.held(key)?;
    if piece.at == 0 {
        frame.resize(usize::from(piece.total))?;
    }
    frame.copy_in(&piece)?;
    if piece.at + piece.length == piece.total { frame.replay(arrival) } else { Some(()) }
}
