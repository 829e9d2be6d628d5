//! Frames as a client might write them, from bytes that describe them: payloads that are
//! masked on the wire are mutated here in clear.

use arbitrary::{Result, Unstructured};

/// The longest stream.
const STREAM_MAX: usize = 160 * 1024;

const FIRST: [u8; 16] = [
    0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8a, 0x88, 0x81, 0x01, 0x80, 0xc1, 0x83, 0x09, 0xf8,
];

/// Appends frames to `stream` for as long as there is input. One is
///
/// ```text
/// first and form    key    length    [repeat]    payload
/// ```
///
/// of a byte each: the low half of the first byte is an index into [`FIRST`], the
/// high half a form; the key is `k, 3k, 5k, 7k`; the payload is as long as the
/// low seven bits of the length say, and with the eighth it is repeated 8 times
/// `repeat`.
///
/// # Errors
/// None for any input.
pub fn take_frames(input: &mut Unstructured<'_>, stream: &mut Vec<u8>) -> Result<()> {
    while !input.is_empty() && stream.len() < STREAM_MAX {
        let shape: u8 = input.arbitrary()?;
        let key: u8 = input.arbitrary()?;
        let len: u8 = input.arbitrary()?;
        let repeat = if len >= 0x80 {
            8 * usize::from(input.arbitrary::<u8>()?)
        } else {
            1
        };
        let len = usize::from(len % 0x80).min(input.len());
        let payload = input.bytes(len)?.repeat(repeat);
        let key = [1u8, 3, 5, 7].map(|factor| key.wrapping_mul(factor));
        put_frame(
            FIRST[usize::from(shape % 16)],
            shape / 16,
            key,
            &payload,
            stream,
        );
    }
    Ok(())
}

fn put_frame(first: u8, form: u8, key: [u8; 4], payload: &[u8], stream: &mut Vec<u8>) {
    let announced = match form {
        // More than there is, or less.
        11 => payload.len() as u64 + 1000,
        10 => payload.len() as u64 / 2,
        9 => u64::MAX / 2,
        _ => payload.len() as u64,
    };
    let masked = if form == 15 { 0 } else { 0x80 };
    let digits = announced.to_be_bytes();
    stream.push(first);
    match announced {
        _ if form == 13 => {
            stream.push(masked + 127);
            stream.extend(digits);
        }
        _ if form == 14 => stream.extend([masked + 126, digits[6], digits[7]]),
        0..=125 => stream.push(masked + digits[7]),
        126..=0xffff => stream.extend([masked + 126, digits[6], digits[7]]),
        _ => {
            stream.push(masked + 127);
            stream.extend(digits);
        }
    }
    if form == 15 {
        stream.extend(payload);
        return;
    }
    stream.extend(key);
    stream.extend(
        payload
            .iter()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
}
