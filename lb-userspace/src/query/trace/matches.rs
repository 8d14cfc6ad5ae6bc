//! Matches of iptables that `iptables-nft` hands to nftables as they are, as far as they are understood.

use super::probe::Match;
use crate::linux::netlink_ask::{attribute, text};

/// Whether a match of iptables (`NFTA_MATCH_...`) holds for a packet of this state and mark.
pub(super) fn legacy_match(body: &[u8], state: u32, mark: Option<u32>) -> Match {
    let info = attribute(body, 3).unwrap_or_default();
    let known = match attribute(body, 1).map(text).as_deref() {
        Some("comment") => Some(true),
        Some("conntrack") => conntrack(info, state),
        Some("state") => half(info, 0).map(|mask| u32::from(mask) & state != 0),
        Some("mark") => mark.and_then(|mark| marked(info, mark)),
        _ => None,
    };
    known.map_or(Match::Maybe, Match::of)
}

fn half(info: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(info.get(at..at + 2)?.try_into().ok()?))
}

fn word(info: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(info.get(at..at + 4)?.try_into().ok()?))
}

/// `struct xt_conntrack_mtinfo3`, where it asks for the state alone.
fn conntrack(info: &[u8], state: u32) -> Option<bool> {
    const STATE: u16 = 1;
    let (asked, inverted, mask) = (half(info, 146)?, half(info, 148)?, half(info, 150)?);
    (asked == STATE).then_some((u32::from(mask) & state != 0) != (inverted & STATE != 0))
}

/// `struct xt_mark_mtinfo1`
fn marked(info: &[u8], mark: u32) -> Option<bool> {
    let (wanted, bits, inverted) = (word(info, 0)?, word(info, 4)?, *info.get(8)?);
    Some((mark & bits == wanted) != (inverted != 0))
}
