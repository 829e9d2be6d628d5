//! The stamp that makes every payload unique.
//!
//! The first bytes of a payload carry the connection and sequence number, scrambled by a key of
//! the run. A reply that was swapped, repeated, left out or sent to another connection
//! therefore differs from the one that is due, and a whole stamp names the message. Payloads
//! shorter than a stamp carry its first bytes, which still differ for any messages of a
//! connection fewer than 2^(stamp bits) apart.

use super::frame::MessageKind;

/// The longest stamp: text carries 4 bits a byte.
pub(crate) const STAMP_LEN_MAX: usize = 16;

/// Bits of the sequence number in a whole stamp; the rest is the connection's.
const SEQUENCE_BITS: u32 = 40;

/// Any odd number is invertible modulo 2^64, and keeps low bits low: short
/// stamps stay distinct. This one is the golden ratio's, which spreads well.
const SCRAMBLE: u64 = 0x9e37_79b9_7f4a_7c15;
const UNSCRAMBLE: u64 = inverse(SCRAMBLE);

/// Identifies one message of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageId {
    /// The connection it is sent on, from 0, below 2^24.
    pub connection: u32,
    /// Its sequence number on the connection, from 0, below 2^40.
    pub sequence: u64,
}

/// Makes the stamps of messages of one kind and length.
#[derive(Debug, Clone)]
pub(crate) struct Stamper {
    kind: MessageKind,
    len: usize,
    whole: bool,
    key: u64,
}

impl Stamper {
    pub(crate) fn new(kind: MessageKind, payload_len: usize, key: u64) -> Self {
        let whole_len = match kind {
            MessageKind::Binary => 8,
            MessageKind::Text => 16,
        };
        Self {
            kind,
            len: payload_len.min(whole_len),
            whole: payload_len >= whole_len,
            key,
        }
    }

    /// The number of payload bytes that the stamp takes.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The stamp; bytes past [`len`](Self::len) are unused.
    #[inline]
    pub(crate) fn stamp(&self, id: MessageId) -> [u8; STAMP_LEN_MAX] {
        let connection = u64::from(id.connection);
        let identity = if self.whole {
            connection << SEQUENCE_BITS | id.sequence
        } else {
            // The high bits are cut off, so the connection has to affect the low ones.
            id.sequence.wrapping_add(connection.wrapping_mul(101))
        };
        let word = identity.wrapping_mul(SCRAMBLE) ^ self.key;
        let spread = match self.kind {
            MessageKind::Binary => u128::from(word),
            MessageKind::Text => spread_nibbles(word) + u128::from_ne_bytes([b'a'; 16]),
        };
        spread.to_le_bytes()
    }

    /// The message of a stamp, if the stamp is whole and valid.
    pub(crate) fn read(&self, stamp: &[u8]) -> Option<MessageId> {
        if !self.whole {
            return None;
        }
        let word = match self.kind {
            MessageKind::Binary => u64::from_le_bytes(stamp.try_into().ok()?),
            MessageKind::Text => stamp.iter().rev().try_fold(0, |word, letter| {
                let nibble = letter.checked_sub(b'a').filter(|nibble| *nibble < 16)?;
                Some(word << 4 | u64::from(nibble))
            })?,
        };
        let identity = (word ^ self.key).wrapping_mul(UNSCRAMBLE);
        Some(MessageId {
            connection: u32::try_from(identity >> SEQUENCE_BITS).ok()?,
            sequence: identity & ((1 << SEQUENCE_BITS) - 1),
        })
    }
}

/// Gives each of the 16 nibbles a byte of its own, the lowest first.
#[inline]
fn spread_nibbles(word: u64) -> u128 {
    let x = u128::from(word);
    let x = (x | x << 32) & 0x0000_0000_ffff_ffff_0000_0000_ffff_ffff;
    let x = (x | x << 16) & 0x0000_ffff_0000_ffff_0000_ffff_0000_ffff;
    let x = (x | x << 8) & 0x00ff_00ff_00ff_00ff_00ff_00ff_00ff_00ff;
    (x | x << 4) & 0x0f0f_0f0f_0f0f_0f0f_0f0f_0f0f_0f0f_0f0f
}

/// The inverse of an odd number modulo 2^64, by Newton's iteration: each step
/// doubles the number of right bits, of which an odd number starts with three.
const fn inverse(odd: u64) -> u64 {
    let mut inverse = odd;
    let mut bits_right = 3;
    while bits_right < u64::BITS {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
        bits_right *= 2;
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_whole_stamp_identifies_its_message() {
        for (kind, len) in [(MessageKind::Binary, 8), (MessageKind::Text, 16)] {
            let stamper = Stamper::new(kind, 32, 0x0123_4567_89ab_cdef);
            assert_eq!(stamper.len(), len);
            for connection in [0, 1, 99, (1 << 24) - 1] {
                for sequence in [0, 1, 12_345, (1 << 40) - 1] {
                    let id = MessageId {
                        connection,
                        sequence,
                    };
                    assert_eq!(stamper.read(&stamper.stamp(id)[..len]), Some(id));
                }
            }
        }
    }

    #[test]
    fn short_stamps_differ_within_their_bits() {
        for (kind, payload_len, distinct) in [
            (MessageKind::Binary, 1, 256),
            (MessageKind::Binary, 2, 65_536),
            (MessageKind::Text, 1, 16),
            (MessageKind::Text, 3, 4096),
        ] {
            let stamper = Stamper::new(kind, payload_len, 77);
            let stamps: HashSet<_> = (1_000..1_000 + distinct)
                .map(|sequence| {
                    let id = MessageId {
                        connection: 3,
                        sequence,
                    };
                    stamper.stamp(id)[..payload_len].to_vec()
                })
                .collect();
            assert_eq!(stamps.len() as u64, distinct);
            assert_eq!(stamper.read(&[0; 3][..payload_len]), None);
        }
    }
}
