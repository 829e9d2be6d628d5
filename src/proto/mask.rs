//! Masking (RFC 6455 section 5.3): payload byte `i` is XORed with key byte
//! `i mod 4`. Masking and unmasking are the same operation.

/// A masking key, as it stands on the wire.
pub type Key = [u8; 4];

/// How many bytes one step handles; the compiler turns it into vector
/// instructions of whatever width the target has.
const STEP: usize = 32;

/// The step that pays for itself in short payloads.
const WIDE: usize = 16;

/// The key as seen from `offset` bytes into the payload.
#[inline]
pub const fn rotate(key: Key, offset: usize) -> Key {
    [
        key[offset & 3],
        key[(offset + 1) & 3],
        key[(offset + 2) & 3],
        key[(offset + 3) & 3],
    ]
}

/// Unmasks `payload` where it stands; its first byte meets `key[0]`.
#[inline]
pub fn unmask(payload: &mut [u8], key: Key) {
    let (steps, rest) = payload.as_chunks_mut::<STEP>();
    for step in steps {
        *step = xor(*step, key);
    }
    let (steps, rest) = rest.as_chunks_mut::<8>();
    for step in steps {
        *step = xor(*step, key);
    }
    let (steps, rest) = rest.as_chunks_mut::<4>();
    for step in steps {
        *step = xor(*step, key);
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}

/// Unmasks the `len` bytes at `from` while moving them left to `to`.
///
/// The two ranges may overlap. What lies between the end of the target and the
/// end of the source has no defined value afterwards.
///
/// # Panics
/// If `to > from`, or if the source reaches beyond the buffer.
#[inline]
pub fn unmask_left(buf: &mut [u8], from: usize, to: usize, len: usize, key: Key) {
    assert!(to <= from, "a payload moves left");
    let gap = from - to;
    // With a gap as wide as a step, the last step may write a little too far:
    // that still lies before the end of the source.
    if gap >= WIDE
        && let Some(span) = buf.get_mut(to..from + len.next_multiple_of(WIDE))
    {
        move_steps::<WIDE>(span, gap, 0, len.next_multiple_of(WIDE), key);
        return;
    }
    let span = &mut buf[to..from + len];
    // Every step reads its source whole before it writes, and writes at or
    // before the place it read from, so later sources are still intact.
    let mut at = move_steps::<STEP>(span, gap, 0, len, key);
    at = move_steps::<8>(span, gap, at, len, key);
    at = move_steps::<4>(span, gap, at, len, key);
    for (index, key) in (at..len).zip(key) {
        span[index] = span[index + gap] ^ key;
    }
}

/// As many whole steps of `N` bytes as fit; returns how far they got.
#[inline]
fn move_steps<const N: usize>(
    span: &mut [u8],
    gap: usize,
    mut at: usize,
    len: usize,
    key: Key,
) -> usize {
    while len - at >= N {
        let mut step = [0; N];
        step.copy_from_slice(&span[at + gap..at + gap + N]);
        span[at..at + N].copy_from_slice(&xor(step, key));
        at += N;
    }
    at
}

/// `N` is a multiple of four, so that the key starts over after each step.
#[inline]
fn xor<const N: usize>(mut step: [u8; N], key: Key) -> [u8; N] {
    const { assert!(N.is_multiple_of(4)) };
    let (words, _) = step.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(key)).to_ne_bytes();
    }
    step
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
    fn every_length_unmasks_in_place() {
        for len in 0..200 {
            let mut buf = payload(len);
            unmask(&mut buf, KEY);
            assert_eq!(buf, reference(&payload(len), KEY), "length {len}");
        }
    }

    #[test]
    fn every_length_and_gap_unmasks_while_moving() {
        for len in 0..140 {
            for gap in 0..70 {
                let mut buf = vec![0xee; 3 + gap];
                buf.extend(payload(len));
                buf.extend([0xdd; 8]);
                unmask_left(&mut buf, 3 + gap, 3, len, KEY);
                assert_eq!(buf[3..3 + len], reference(&payload(len), KEY));
                assert_eq!(buf[..3], [0xee; 3], "nothing before the target changes");
                assert_eq!(
                    buf[3 + gap + len..],
                    [0xdd; 8],
                    "nothing behind the source changes"
                );
            }
        }
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
    #[should_panic(expected = "moves left")]
    fn a_move_to_the_right_is_a_bug() {
        unmask_left(&mut [0; 8], 0, 4, 4, KEY);
    }
}
