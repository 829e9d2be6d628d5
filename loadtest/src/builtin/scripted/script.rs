//! The script of a scripted server.

use std::time::Duration;

/// The longest delay or stall; a longer one is cut to it.
const DURATION_MAX: Duration = Duration::from_secs(3600);

/// What a [`ScriptedServer`](super::ScriptedServer) does besides echoing. The default is a plain,
/// correct echo.
///
/// Messages are counted over all connections, from 0, in the order in which the server read their
/// last bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Script {
    /// The delay of every reply, from the read of the message to the write of
    /// the reply.
    ///
    /// The delay is never shorter. It is longer if the previous reply of the same connection is
    /// later still, as order is kept, and during a stall.
    pub delay: Delay,
    /// A single stall of reading and writing.
    pub stall: Option<Stall>,
    /// One fault, and the number of the message it happens with.
    pub fault: Option<(u64, Fault)>,
}

/// The delay of replies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Delay {
    /// No delay.
    #[default]
    None,
    /// All the same.
    Constant(Duration),
    /// Every `n`-th message takes longer, or shorter, than the others.
    EveryNth {
        /// With 100, the messages 99, 199 and so on; with 0, none.
        n: u64,
        /// The delay of the others.
        usual: Duration,
        /// The delay of every `n`-th.
        rare: Duration,
    },
}

/// A time in which the server does not read, write or accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// The start, counted from the first message.
    pub at: Duration,
    /// Its length.
    pub length: Duration,
}

/// One thing that an echo server must not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The lowest bit of the payload's last byte is flipped, so that ASCII stays
    /// ASCII. (An empty payload has no such byte and stays as it is.)
    WrongByte,
    /// The message is not answered.
    Drop,
    /// The message is answered after the next one of the same connection, and
    /// not at all if there is none.
    Swap,
    /// The message is answered twice.
    Duplicate,
    /// Text is answered as binary and binary as text.
    WrongType,
    /// The first Close after this number of messages is answered with 1001, or 1000 if it was
    /// 1001.
    WrongCloseCode,
    /// Instead of the reply, when that is due, the connection ends without a
    /// Close: with FIN, or RST where the client had sent more.
    Disconnect,
}

impl Delay {
    /// The delay of a message, and whether it is the rare one.
    pub(super) fn of(self, message: u64) -> (Duration, bool) {
        let (delay, is_rare) = match self {
            Self::None => (Duration::ZERO, false),
            Self::Constant(delay) => (delay, false),
            Self::EveryNth { n, rare, .. } if (message + 1).is_multiple_of(n) => (rare, true),
            Self::EveryNth { usual, .. } => (usual, false),
        };
        (delay.min(DURATION_MAX), is_rare)
    }
}

impl Stall {
    /// The same, within the range of the clock.
    pub(super) fn bounded(self) -> Self {
        Self {
            at: self.at.min(DURATION_MAX),
            length: self.length.min(DURATION_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nth_message_is_the_rare_one() {
        let (usual, rare) = (Duration::from_millis(1), Duration::from_millis(2));
        let rare_ones = |n| {
            let delay = Delay::EveryNth { n, usual, rare };
            let is_rare = move |message: &u64| match delay.of(*message) {
                (delay, true) => delay == rare,
                (delay, false) => delay != usual,
            };
            (0..10).filter(is_rare).collect::<Vec<_>>()
        };
        assert_eq!(rare_ones(4), [3, 7]);
        assert_eq!(rare_ones(1).len(), 10);
        assert!(rare_ones(0).is_empty());
    }

    #[test]
    fn durations_are_bounded() {
        let (delay, _) = Delay::Constant(Duration::MAX).of(0);
        assert_eq!(delay, DURATION_MAX);
    }
}
