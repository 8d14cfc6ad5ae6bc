//! Fragments: later ones take their ports from the first (RFC 791, RFC 8200 section 4.5).

use super::env::Flows;
use super::headers::Headers;
use crate::abi::{Address, FragmentKey, FragmentValue};
use crate::wire::Fragment;

/// Notes a first fragment's ports for those that follow it, or completes a later one's from the first. False: the first
/// was not seen.
#[inline(never)]
pub(super) fn complete<A: Address, E: Flows<A>>(env: &E, headers: &mut Headers<A>) -> bool {
    let key = FragmentKey {
        src: headers.key.src,
        dst: headers.key.dst,
        id: headers.fragment_id,
        proto: u32::from(headers.key.proto),
    };
    if headers.fragment == Fragment::Later {
        let Some(FragmentValue { sport, dport }) = env.fragment(&key) else { return false };
        (headers.key.sport, headers.key.dport) = (sport, dport);
    } else {
        env.set_fragment(&key, &FragmentValue { sport: headers.key.sport, dport: headers.key.dport });
    }
    true
}
