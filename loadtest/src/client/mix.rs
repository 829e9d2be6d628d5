//! All the messages of a run: the pools, and the choice of a pool for each message.

use fastrand::Rng;

use super::frame_pool::{FramePool, Shape};
use super::stamp::MessageId;

/// Pools of different payload lengths. The length of a message is a function of its id and the
/// seed, so sender and checker agree without communication.
#[derive(Debug)]
pub struct Mix {
    pools: Vec<FramePool>,
    /// Indices of pools, repeated by their weights. Empty for one pool.
    choice: Vec<u8>,
    key: u64,
}

/// A position in a connection's outgoing bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The first message that is not wholly written.
    pub next: MessageId,
    /// The number of its bytes that are written.
    pub offset: usize,
}

impl Mix {
    /// Builds the pools; the same seed gives the same bytes.
    ///
    /// # Panics
    /// When there is no shape, or more than 256.
    pub fn new(shapes: &[(Shape, u32)], seed: u64) -> Self {
        assert!(!shapes.is_empty() && shapes.len() <= 256);
        let mut random = Rng::with_seed(seed);
        let pools = shapes
            .iter()
            .map(|(shape, _)| FramePool::new(*shape, random.u64(..)))
            .collect();
        let mut choice = Vec::new();
        if shapes.len() > 1 {
            for (index, (_, weight)) in (0u8..=255).zip(shapes) {
                choice.extend(std::iter::repeat_n(index, *weight as usize));
            }
        }
        Self {
            pools,
            choice,
            key: random.u64(..),
        }
    }

    /// Messages of one shape.
    pub fn of(shape: Shape, seed: u64) -> Self {
        Self::new(&[(shape, 1)], seed)
    }

    /// The pool of a message.
    #[inline]
    pub fn pool(&self, id: MessageId) -> &FramePool {
        if self.choice.is_empty() {
            return &self.pools[0];
        }
        &self.pools[self.choose(id)]
    }

    /// The pool, if there is only one.
    #[inline]
    pub fn only_pool(&self) -> Option<&FramePool> {
        self.choice.is_empty().then(|| &self.pools[0])
    }

    /// The longest message's frames, in bytes.
    pub fn frame_len_max(&self) -> usize {
        self.pools
            .iter()
            .map(FramePool::frame_len)
            .max()
            .unwrap_or(0)
    }

    /// The cursor after `written` more bytes.
    #[inline]
    pub fn advance(&self, cursor: Cursor, written: usize) -> Cursor {
        let mut next = cursor.next;
        let mut offset = cursor.offset + written;
        if let Some(pool) = self.only_pool() {
            next.sequence += (offset / pool.frame_len()) as u64;
            offset %= pool.frame_len();
            return Cursor { next, offset };
        }
        loop {
            let frame_len = self.pool(next).frame_len();
            if offset < frame_len {
                return Cursor { next, offset };
            }
            offset -= frame_len;
            next.sequence += 1;
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "below the table's length")]
    fn choose(&self, id: MessageId) -> usize {
        // SplitMix64's finalizer: neighbouring ids must not go together.
        let mut x = self.key ^ (u64::from(id.connection) << 40 ^ id.sequence);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
        let place = (u128::from(x) * self.choice.len() as u128) >> 64;
        usize::from(self.choice[place as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::MessageKind;

    fn id(sequence: u64) -> MessageId {
        MessageId {
            connection: 3,
            sequence,
        }
    }

    #[test]
    fn lengths_occur_as_often_as_their_weights_say() {
        let shape = |len| Shape::whole(MessageKind::Binary, len);
        let mix = Mix::new(&[(shape(64), 9), (shape(4096), 1)], 5);
        let long = (0..100_000)
            .filter(|&sequence| mix.pool(id(sequence)).payload_len() == 4096)
            .count();
        // Four standard deviations of a binomial distribution.
        assert!(long.abs_diff(10_000) < 380, "{long}");
        let again = Mix::new(&[(shape(64), 9), (shape(4096), 1)], 5);
        for sequence in 0..1_000 {
            let lens = [&mix, &again].map(|mix| mix.pool(id(sequence)).payload_len());
            assert_eq!(lens[0], lens[1]);
        }
    }

    #[test]
    fn a_cursor_advances_byte_by_byte_as_at_once() {
        let shape = |len| Shape::whole(MessageKind::Text, len);
        for mix in [
            Mix::of(shape(5), 1),
            Mix::new(&[(shape(0), 1), (shape(9), 1), (shape(130), 1)], 1),
        ] {
            let start = Cursor {
                next: id(0),
                offset: 0,
            };
            let mut step = start;
            for written in 1..2_000 {
                step = mix.advance(step, 1);
                assert_eq!(step, mix.advance(start, written));
                assert!(step.offset < mix.pool(step.next).frame_len());
            }
        }
    }
}
