//! What the kernel gives back with a completion: which operation, and whose.

/// A connection of a ring, and no other that had its place before or gets it after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Its place among the connections.
    pub(super) place: u32,
    generation: u32,
}

impl Key {
    /// Of the connection at `place` before which the ring had `earlier` others. They
    /// are told apart until a place has lived through 2³⁰ of them.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the remainder fits in 30 bits"
    )]
    pub(super) const fn new(place: u32, earlier: u64) -> Self {
        Self {
            place,
            generation: (earlier % (1 << GENERATION_BITS)) as u32,
        }
    }
}

/// An operation on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// A receive into the pool, of one buffer or of many.
    Receive = 0,
    /// The send of a reply that stands in a buffer of the pool.
    Reply = 1,
    /// The wait for room in the socket.
    Room = 2,
    /// A cancellation, whose answer nobody needs.
    Cancel = 3,
}

/// `user_data`: the operation in the low bits, the connection's place above, and
/// its generation on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) op: Op,
    pub(super) key: Key,
}

const OP_BITS: u32 = 2;
const GENERATION_BITS: u32 = 30;

const _: () = assert!(
    (Op::Cancel as u64) < 1 << OP_BITS && GENERATION_BITS + u32::BITS + OP_BITS == u64::BITS,
    "an operation and a key fit into the user data"
);

impl Token {
    pub(super) const fn new(op: Op, key: Key) -> Self {
        Self { op, key }
    }

    pub(super) const fn pack(self) -> u64 {
        let Key { place, generation } = self.key;
        ((generation as u64) << (u32::BITS + OP_BITS))
            | ((place as u64) << OP_BITS)
            | self.op as u64
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "what `pack` has put there fits"
    )]
    pub(super) const fn unpack(user_data: u64) -> Self {
        let op = match user_data & ((1 << OP_BITS) - 1) {
            0 => Op::Receive,
            1 => Op::Reply,
            2 => Op::Room,
            _ => Op::Cancel,
        };
        Self {
            op,
            key: Key {
                place: (user_data >> OP_BITS) as u32,
                generation: (user_data >> (u32::BITS + OP_BITS)) as u32,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back() {
        for op in [Op::Receive, Op::Reply, Op::Room, Op::Cancel] {
            for place in [0, 1, 77, u32::MAX] {
                for earlier in [0, 1, (1 << GENERATION_BITS) - 1] {
                    let token = Token::new(op, Key::new(place, earlier));
                    assert_eq!(Token::unpack(token.pack()), token);
                }
            }
        }
    }
}
