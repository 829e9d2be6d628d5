//! How a stream is split into arrivals, and the limits on it.

use arbitrary::{Result, Unstructured};

use crate::reference::Limits;

/// A longer stream is not cut at every byte: the reference decodes a frame from its
/// start with each arrival.
const EVERY_BYTE_MAX: usize = 2048;

/// More cuts find nothing new.
const CUTS_MAX: u8 = 32;

/// The places at which a stream is cut.
#[derive(Clone, Debug)]
pub enum Cuts {
    /// None.
    Whole,
    /// At these places, modulo the stream's length.
    At(Vec<u16>),
    /// Every byte.
    EveryByte,
}

impl Cuts {
    /// One byte: 0 for none, 255 for every byte, else their number; two bytes each,
    /// little-endian.
    ///
    /// # Errors
    /// None for any input.
    pub fn take(input: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match input.arbitrary()? {
            0 => Self::Whole,
            255 => Self::EveryByte,
            count => {
                let count = count % CUTS_MAX;
                Self::At(
                    (0..count)
                        .map(|_| input.arbitrary())
                        .collect::<Result<_>>()?,
                )
            }
        })
    }

    /// The pieces of `stream`, in order; none is empty unless the stream is.
    pub fn apply<'a>(&self, stream: &'a [u8]) -> Vec<&'a [u8]> {
        let mut places: Vec<usize> = match self {
            Self::EveryByte if stream.len() <= EVERY_BYTE_MAX => (1..stream.len()).collect(),
            Self::Whole | Self::EveryByte => Vec::new(),
            Self::At(places) => places
                .iter()
                .filter_map(|&place| usize::from(place).checked_rem(stream.len()))
                .collect(),
        };
        places.sort_unstable();
        places.dedup();
        let mut pieces = Vec::new();
        let mut rest = stream;
        for place in places.into_iter().rev().filter(|&place| place > 0) {
            let (before, piece) = rest.split_at(place);
            pieces.push(piece);
            rest = before;
        }
        pieces.push(rest);
        pieces.reverse();
        pieces
    }
}

/// One byte: small and large values of each limit.
///
/// # Errors
/// None for any input.
pub fn take_limits(input: &mut Unstructured<'_>) -> Result<Limits> {
    let byte: u8 = input.arbitrary()?;
    Ok(Limits {
        message_bytes: [
            None,
            Some(0),
            Some(125),
            Some(126),
            Some(700),
            Some(4096),
            Some(70_000),
            None,
        ][usize::from(byte % 8)],
        fragments: [1 << 20, 1, 2, 5][usize::from(byte / 8 % 4)],
        window: [16_384, 256, 257, 300, 512, 1024, 4096, 16_384][usize::from(byte / 32)],
    })
}
