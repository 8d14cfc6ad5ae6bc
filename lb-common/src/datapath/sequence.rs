//! TCP's sequence numbers (RFC 9293 section 3.4), as far as a translator needs them: whether a RST or FIN can be true.
//!
//! Each entry of a flow knows the number behind the newest byte of its direction. A receiver takes a RST only at exactly
//! that number (RFC 5961 section 3.2), so one at another changes nothing here either, as in the kernel's connection
//! tracking: whoever cannot see a connection's packets has one chance in 2^32 a RST. A FIN may be one that is sent
//! again, and ends nothing alone. Numbers are compared modulo 2^32; 0 stands for "not known".

/// How far from the newest byte a FIN or an answer may be: what was in flight when it was sent may be lost.
const NEAR: i32 = 1 << 16;
/// How far ahead of the newest byte a segment moves it: more than one offloaded segment, and what was lost before it.
const AHEAD: i32 = 1 << 20;

/// Distance from one number to another, negative when `to` is older.
#[inline(always)]
#[allow(clippy::as_conversions, clippy::cast_possible_wrap, reason = "RFC 9293's arithmetic modulo 2^32")]
const fn distance(from: u32, to: u32) -> i32 {
    to.wrapping_sub(from) as i32
}

/// Whether a segment that begins at `seq` can be true where the newest byte is before `next`.
#[inline(always)]
pub(super) const fn is_plausible(next: u32, seq: u32) -> bool {
    let far = distance(next, seq);
    next == 0 || (far >= -NEAR && far <= NEAR)
}

/// Whether a RST with this number is one that the receiver takes, where the newest byte is before `next`.
#[inline(always)]
pub(super) const fn resets(next: u32, seq: u32) -> bool {
    next == 0 || next == seq
}

/// The newest byte's number after a segment that ends before `end`.
#[inline(always)]
pub(super) const fn advanced(next: u32, end: u32) -> u32 {
    let far = distance(next, end);
    if next == 0 || (far > 0 && far <= AHEAD) { end } else { next }
}

/// Whether an acknowledgement number answers a segment that ended before `next`, or what soon followed it.
#[inline(always)]
pub(super) const fn acknowledges(ack: u32, next: u32) -> bool {
    let far = distance(next, ack);
    next == 0 || (far >= 0 && far < NEAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_believed_at_the_newest_byte_alone() {
        assert!(resets(0xffff_fff0, 0xffff_fff0) && resets(0, 12_345));
        assert!(!resets(0xffff_fff0, 0xffff_ffef) && !resets(0xffff_fff0, 0xffff_fff1));
    }

    #[test]
    fn a_blind_fin_is_not_believed_and_a_true_one_is() {
        let next: u32 = 0xffff_fff0;
        for seq in [next, next.wrapping_add(100), next - 1_000] {
            assert!(is_plausible(next, seq), "{seq:#x}");
        }
        let believed = (0..u32::MAX).step_by(65_521).filter(|seq| is_plausible(next, *seq)).count();
        assert!(believed <= 3, "{believed} of 65,550");
        assert!(is_plausible(0, 12_345), "nothing is known");
    }

    #[test]
    fn the_newest_byte_moves_forward_over_the_wrap_and_not_far() {
        assert_eq!(advanced(0xffff_ff00, 0x100), 0x100);
        assert_eq!(advanced(0x100, 0xffff_ff00), 0x100, "a repetition");
        assert_eq!(advanced(1_000, 1_000 + (1 << 21)), 1_000, "a blind segment");
        assert_eq!(advanced(0, 7), 7);
    }

    #[test]
    fn only_an_acknowledgement_of_what_was_sent_counts() {
        assert!(acknowledges(101, 101) && acknowledges(200, 101));
        assert!(!acknowledges(100, 101) && !acknowledges(0x8000_0000, 101));
    }
}
