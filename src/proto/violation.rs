//! Every way a peer can break the rules. Which close code each earns stands
//! in [`close`](super::close).

use thiserror::Error;

/// What a client did that RFC 6455 or a configured limit forbids.
///
/// "More bytes are needed" is not among them: that is a state, not a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Violation {
    /// RSV1, RSV2 or RSV3 is set and no extension was negotiated (section 5.2).
    #[error("a reserved bit is set")]
    ReservedBits,
    /// Opcode 3 to 7 or 11 to 15 (section 5.2).
    #[error("the opcode is reserved")]
    ReservedOpcode,
    /// A client's frame without a mask (section 5.1).
    #[error("the frame is not masked")]
    Unmasked,
    /// A length in more bytes than it needs (section 5.2).
    #[error("the length is not in its shortest form")]
    NonMinimalLength,
    /// A 64-bit length with its top bit set (section 5.2).
    #[error("the length has its top bit set")]
    LengthOverflow,
    /// A control frame in fragments (section 5.5).
    #[error("a control frame is fragmented")]
    FragmentedControl,
    /// A control frame of more than 125 bytes (section 5.5).
    #[error("a control frame is longer than 125 bytes")]
    LongControl,
    /// A continuation frame outside of a message (section 5.4).
    #[error("a continuation frame continues nothing")]
    UnexpectedContinuation,
    /// A new message before the last one ended (section 5.4).
    #[error("a message starts inside another")]
    InterleavedMessage,
    /// A close payload of one byte (section 5.5.1).
    #[error("the close payload has one byte")]
    TruncatedCloseCode,
    /// A close code that may not be sent (section 7.4).
    #[error("the close code may not be sent")]
    InvalidCloseCode,
    /// A close reason that is not UTF-8 (section 5.5.1).
    #[error("the close reason is not UTF-8")]
    InvalidCloseReason,
    /// A text message that is not UTF-8 (section 8.1).
    #[error("the text is not UTF-8")]
    InvalidText,
    /// A message of more bytes than [`Limits::message_bytes`](super::Limits).
    #[error("the message is longer than the limit")]
    MessageTooLong,
    /// A message in more frames than [`Limits::fragments`](super::Limits).
    #[error("the message has more fragments than the limit")]
    TooManyFragments,
}

impl Violation {
    /// All of them, for those who count by kind.
    pub const ALL: [Self; 15] = [
        Self::ReservedBits,
        Self::ReservedOpcode,
        Self::Unmasked,
        Self::NonMinimalLength,
        Self::LengthOverflow,
        Self::FragmentedControl,
        Self::LongControl,
        Self::UnexpectedContinuation,
        Self::InterleavedMessage,
        Self::TruncatedCloseCode,
        Self::InvalidCloseCode,
        Self::InvalidCloseReason,
        Self::InvalidText,
        Self::MessageTooLong,
        Self::TooManyFragments,
    ];

    /// Its place in [`ALL`](Self::ALL).
    pub const fn index(self) -> usize {
        self as usize
    }

    /// A name for machines: lowercase words with underscores.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReservedBits => "reserved_bits",
            Self::ReservedOpcode => "reserved_opcode",
            Self::Unmasked => "unmasked",
            Self::NonMinimalLength => "non_minimal_length",
            Self::LengthOverflow => "length_overflow",
            Self::FragmentedControl => "fragmented_control",
            Self::LongControl => "long_control",
            Self::UnexpectedContinuation => "unexpected_continuation",
            Self::InterleavedMessage => "interleaved_message",
            Self::TruncatedCloseCode => "truncated_close_code",
            Self::InvalidCloseCode => "invalid_close_code",
            Self::InvalidCloseReason => "invalid_close_reason",
            Self::InvalidText => "invalid_text",
            Self::MessageTooLong => "message_too_long",
            Self::TooManyFragments => "too_many_fragments",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_them_stand_in_their_places() {
        for (index, violation) in Violation::ALL.into_iter().enumerate() {
            assert_eq!(violation.index(), index, "{violation:?}");
        }
    }
}
