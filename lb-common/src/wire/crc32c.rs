//! `CRC32c` (Castagnoli), the checksum of SCTP (RFC 9260 appendix A).

/// The polynomial, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The checksum of these bytes as SCTP sends it: least significant byte first.
pub fn of(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 })
    });
    !crc
}

#[cfg(test)]
mod tests {
    use super::of;

    /// Test vectors of RFC 3720 appendix B.4, which uses the same CRC.
    #[test]
    fn known_answers_hold() {
        assert_eq!(of(&[0; 32]), 0x8a91_36aa);
        assert_eq!(of(&[0xff; 32]), 0x62a8_ab43);
        let rising: [u8; 32] = core::array::from_fn(|i| u8::try_from(i).unwrap_or(0));
        assert_eq!(of(&rising), 0x46dd_794e);
    }
}
