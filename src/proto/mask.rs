//! Masking (RFC 6455 section 5.3): payload byte `i` is XORed with key byte
//! `i mod 4`. Masking and unmasking are the same operation.

#![allow(
    clippy::inline_always,
    reason = "an `isa::Work` is compiled as a whole"
)]

use super::isa::{Isa, Work};

/// A masking key, as it stands on the wire.
pub type Key = [u8; 4];

/// The key as seen from `offset` bytes into the payload.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "two bits are left")]
pub const fn rotate(key: Key, offset: usize) -> Key {
    let bits = 8 * (offset & 3) as u32;
    u32::from_le_bytes(key).rotate_right(bits).to_le_bytes()
}

/// Unmasks `payload` where it stands; its first byte meets `key[0]`.
#[inline]
pub fn unmask(payload: &mut [u8], key: Key) {
    unmask_on(Isa::best(), payload, key);
}

/// [`unmask`] with the instructions of `isa`.
#[inline]
pub fn unmask_on(isa: Isa, payload: &mut [u8], key: Key) {
    let len = payload.len();
    unmask_left_on(isa, payload, len, key);
}

/// Unmasks the last `len` bytes of `span` while moving them to its front, and
/// says whether all of them are ASCII.
///
/// What lies behind the `len` bytes has no defined value afterwards.
///
/// # Panics
/// If `span` is shorter than `len`.
#[inline]
pub fn unmask_left(span: &mut [u8], len: usize, key: Key) -> bool {
    unmask_left_on(Isa::best(), span, len, key)
}

/// [`unmask_left`] with the instructions of `isa`.
///
/// # Panics
/// As [`unmask_left`].
#[inline]
pub fn unmask_left_on(isa: Isa, span: &mut [u8], len: usize, key: Key) -> bool {
    isa.run(Unmask { span, len, key })
}

struct Unmask<'a> {
    span: &'a mut [u8],
    len: usize,
    key: Key,
}

impl Work for Unmask<'_> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        move_left(self.span, self.len, self.key)
    }
}

/// What one vector instruction handles, or two where they are half as wide.
const STEP: usize = 32;

/// What a loop over a long payload handles in one turn.
const TURN: usize = 4 * STEP;

/// Unmasks the last `len` bytes of `span` while moving them to its front, and
/// says whether all of them are ASCII.
///
/// Nothing behind the target is written, so this works at the end of a buffer
/// as well as between two frames: the last step ends where the payload ends and
/// overlaps the one before it. It is read before anything is written, as every
/// step is, and each writes at or before the place it read from, so that
/// sources are intact however far they move.
#[inline(always)]
pub(super) fn move_left(span: &mut [u8], len: usize, key: Key) -> bool {
    assert!(len <= span.len(), "a payload longer than its span");
    let gap = span.len() - len;
    if len > 2 * STEP {
        move_steps(span, gap, key)
    } else if len >= STEP {
        move_ends::<8>(span, gap, key)
    } else if len >= 16 {
        move_ends::<4>(span, gap, key)
    } else if len >= 8 {
        move_words(span, gap, key)
    } else if len >= 4 {
        move_ends::<1>(span, gap, key)
    } else {
        move_bytes(span, gap, key)
    }
}

/// [`move_left`] for more than two steps.
#[inline(always)]
fn move_steps(span: &mut [u8], gap: usize, key: Key) -> bool {
    const LANES: usize = STEP / 4;
    let len = span.len() - gap;
    let last: [u32; LANES] = load(span, span.len() - STEP);
    let last = xor(last, rotate(key, len));
    let mut seen = last;
    let mut at = 0;
    while len - at > TURN {
        let turn: [u32; 4 * LANES] = xor(load(span, at + gap), key);
        for step in turn.as_chunks::<LANES>().0 {
            seen = or(seen, *step);
        }
        store(span, at, turn);
        at += TURN;
    }
    while len - at > STEP {
        let step = xor(load(span, at + gap), key);
        seen = or(seen, step);
        store(span, at, step);
        at += STEP;
    }
    store(span, len - STEP, last);
    is_ascii(seen)
}

/// [`move_left`] for one to two steps of so many lanes.
#[inline(always)]
fn move_ends<const LANES: usize>(span: &mut [u8], gap: usize, key: Key) -> bool {
    let len = span.len() - gap;
    let first: [u32; LANES] = xor(load(span, gap), key);
    let last: [u32; LANES] = load(span, span.len() - 4 * LANES);
    let last = xor(last, rotate(key, len));
    store(span, 0, first);
    store(span, len - 4 * LANES, last);
    is_ascii(or(first, last))
}

/// [`move_left`] for 8 to 16 bytes: two words, where lanes would become vectors
/// that are not full.
#[inline(always)]
fn move_words(span: &mut [u8], gap: usize, key: Key) -> bool {
    let len = span.len() - gap;
    let word = |at, key: Key| {
        let mut word = [0; 8];
        word.copy_from_slice(&span[at..at + 8]);
        let key = u64::from(u32::from_ne_bytes(key));
        u64::from_ne_bytes(word) ^ (key | key << 32)
    };
    let first = word(gap, key);
    let last = word(span.len() - 8, rotate(key, len));
    span[..8].copy_from_slice(&first.to_ne_bytes());
    span[len - 8..len].copy_from_slice(&last.to_ne_bytes());
    (first | last) & 0x8080_8080_8080_8080 == 0
}

/// [`move_left`] for up to three bytes.
#[inline(always)]
fn move_bytes(span: &mut [u8], gap: usize, key: Key) -> bool {
    let mut seen = 0;
    for (from, key) in (gap..span.len()).zip(key) {
        let byte = span[from] ^ key;
        seen |= byte;
        span[from - gap] = byte;
    }
    seen.is_ascii()
}

#[inline(always)]
fn load<const LANES: usize>(span: &[u8], at: usize) -> [u32; LANES] {
    let (chunks, _) = span[at..at + 4 * LANES].as_chunks::<4>();
    let mut lanes = [0; LANES];
    for (lane, chunk) in lanes.iter_mut().zip(chunks) {
        *lane = u32::from_ne_bytes(*chunk);
    }
    lanes
}

#[inline(always)]
fn store<const LANES: usize>(span: &mut [u8], at: usize, lanes: [u32; LANES]) {
    let (chunks, _) = span[at..at + 4 * LANES].as_chunks_mut::<4>();
    for (lane, chunk) in lanes.into_iter().zip(chunks) {
        *chunk = lane.to_ne_bytes();
    }
}

#[inline(always)]
fn xor<const LANES: usize>(mut lanes: [u32; LANES], key: Key) -> [u32; LANES] {
    for lane in &mut lanes {
        *lane ^= u32::from_ne_bytes(key);
    }
    lanes
}

#[inline(always)]
fn or<const LANES: usize>(mut seen: [u32; LANES], lanes: [u32; LANES]) -> [u32; LANES] {
    for (seen, lane) in seen.iter_mut().zip(lanes) {
        *seen |= lane;
    }
    seen
}

#[inline(always)]
fn is_ascii<const LANES: usize>(seen: [u32; LANES]) -> bool {
    seen.map(|lane| lane & 0x8080_8080) == [0; LANES]
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "numbers below 256")]
mod tests {
    use super::*;

    const KEY: Key = [0x37, 0xfa, 0x21, 0x3d];

    fn reference(payload: &[u8], key: Key) -> Vec<u8> {
        payload
            .iter()
            .enumerate()
            .map(|(index, byte)| byte ^ key[index % 4])
            .collect()
    }

    fn payload(len: usize) -> Vec<u8> {
        (0..len).map(|index| (index * 7 % 256) as u8).collect()
    }

    #[test]
    fn the_example_of_section_5_7_unmasks() {
        let mut hello = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        unmask(&mut hello, KEY);
        assert_eq!(&hello, b"Hello");
    }

    #[test]
    fn every_length_unmasks_in_place_on_every_isa() {
        for isa in Isa::available() {
            for len in 0..600 {
                let mut buf = payload(len);
                unmask_on(isa, &mut buf, KEY);
                assert_eq!(buf, reference(&payload(len), KEY), "{isa:?}, length {len}");
            }
        }
    }

    #[test]
    fn every_length_and_gap_unmasks_while_moving_on_every_isa() {
        for isa in Isa::available() {
            for len in (0..140).chain([256, 257, 300, 511, 513]) {
                for gap in 0..300 {
                    let mut span = vec![0xee; gap];
                    span.extend(payload(len));
                    let source = span[len.max(gap)..].to_vec();
                    unmask_left_on(isa, &mut span, len, KEY);
                    assert_eq!(
                        span[..len],
                        reference(&payload(len), KEY),
                        "{isa:?}, length {len}, gap {gap}"
                    );
                    assert_eq!(
                        span[len.max(gap)..],
                        source,
                        "nothing behind the target changes"
                    );
                }
            }
        }
    }

    #[test]
    fn one_byte_beyond_ascii_is_seen_wherever_it_is_on_every_isa() {
        for isa in Isa::available() {
            for len in 0..600 {
                for gap in [0, 4, 40] {
                    let mut text = vec![b'x'; len];
                    assert!(sees_ascii(isa, &text, gap), "length {len}");
                    for at in 0..len {
                        text[at] = 0x80;
                        assert!(!sees_ascii(isa, &text, gap), "length {len}, byte {at}");
                        text[at] = 0x7f;
                    }
                }
            }
        }
    }

    /// What surrounds the text is not ASCII, and neither is the masked text.
    fn sees_ascii(isa: Isa, text: &[u8], gap: usize) -> bool {
        const KEY: Key = [0xff, 0x80, 0x91, 0xee];
        let mut span = vec![0xff; gap];
        span.extend(reference(text, KEY));
        unmask_left_on(isa, &mut span, text.len(), KEY)
    }

    #[test]
    fn a_rotated_key_continues_where_the_first_piece_ended() {
        for cut in 0..16 {
            let mut buf = payload(16);
            let (first, second) = buf.split_at_mut(cut);
            unmask(first, KEY);
            unmask(second, rotate(KEY, cut));
            assert_eq!(buf, reference(&payload(16), KEY), "cut at {cut}");
        }
    }

    #[test]
    #[should_panic(expected = "longer than its span")]
    fn a_move_to_the_right_is_a_bug() {
        unmask_left(&mut [0; 4], 8, KEY);
    }
}
