//! What the kernel gives back with a completion: which operation, and whose.

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

/// `user_data`: the operation in the low bits, the connection's key above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) op: Op,
    pub(super) key: u32,
}

const OP_BITS: u32 = 2;

const _: () = assert!(
    (Op::Cancel as u64) < 1 << OP_BITS && u32::BITS + OP_BITS <= u64::BITS,
    "an operation and a key fit into the user data"
);

impl Token {
    pub(super) const fn new(op: Op, key: u32) -> Self {
        Self { op, key }
    }

    pub(super) const fn pack(self) -> u64 {
        ((self.key as u64) << OP_BITS) | self.op as u64
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
            key: (user_data >> OP_BITS) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back() {
        for op in [Op::Receive, Op::Reply, Op::Room, Op::Cancel] {
            for key in [0, 1, 77, u32::MAX] {
                let token = Token::new(op, key);
                assert_eq!(Token::unpack(token.pack()), token);
            }
        }
    }
}
