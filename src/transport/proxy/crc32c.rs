//! The checksum of a header, CRC-32C (RFC 4960 appendix B).
//!
//! Bit by bit: a header is short, and few have a checksum, so a table would not pay.

/// The polynomial, its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The checksum of the concatenated pieces.
pub(super) fn of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let bytes = pieces.into_iter().flatten();
    !bytes.fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _bit| {
            (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn examples_of_rfc_3720_match() {
        let ascending: Vec<u8> = (0..32).collect();
        for (bytes, crc) in [
            (&[0; 32][..], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
            (b"123456789", 0xe306_9283),
        ] {
            assert_eq!(super::of([bytes]), crc);
            let (start, end) = bytes.split_at(bytes.len() / 3);
            assert_eq!(super::of([start, end]), crc);
        }
    }
}
