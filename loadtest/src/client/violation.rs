//! Violations of the echo.

use thiserror::Error;

use super::frame::{
    OPCODE_BINARY, OPCODE_CLOSE, OPCODE_CONTINUATION, OPCODE_PING, OPCODE_PONG, OPCODE_TEXT,
};
use super::stamp::MessageId;

/// How a server's bytes differ from the expected echo.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Violation {
    /// A reserved bit is set though no extension was agreed on.
    #[error("a reserved bit is set in the reply (first byte 0x{0:02x})")]
    Reserved(u8),
    /// Another opcode than the message's.
    #[error("the reply is {} instead of {}{}", name(*.got), name(*.expected), type_hint(*.got))]
    WrongType {
        /// The received value.
        got: u8,
        /// The expected value.
        expected: u8,
    },
    /// Servers must not mask (RFC 6455, section 5.1).
    #[error("the reply is masked")]
    Masked,
    /// Another length than the message's; `None` while the length is incomplete.
    #[error("the reply has {} bytes instead of {expected}", or_other(*.got))]
    WrongLength {
        /// The received value.
        got: Option<u64>,
        /// The expected value.
        expected: usize,
    },
    /// The right length in a longer form (RFC 6455, section 5.2).
    #[error("the reply's length is not in the minimal form")]
    LongLength,
    /// The payload is that of another message.
    #[error("got message {} of connection {} instead", .0.sequence + 1, .0.connection + 1)]
    WrongMessage(MessageId),
    /// A byte of the payload differs.
    #[error("payload byte {at} is 0x{got:02x} instead of 0x{expected:02x}")]
    WrongByte {
        /// Its index in the payload, from 0.
        at: usize,
        /// The received value.
        got: u8,
        /// The expected value.
        expected: u8,
    },
    /// A reply while none was due.
    #[error("an unsolicited reply")]
    Unsolicited,
    /// Bytes after a Close frame.
    #[error("more bytes after the Close frame")]
    AfterClose,
    /// A control frame that violates RFC 6455, section 5.5.
    #[error("a broken control frame (0x{0:02x} 0x{1:02x})")]
    BrokenControl(u8, u8),
}

/// The name of an opcode (RFC 6455, section 11.8).
fn name(opcode: u8) -> String {
    let name = match opcode {
        OPCODE_CONTINUATION => "a continuation",
        OPCODE_TEXT => "a text message",
        OPCODE_BINARY => "a binary message",
        OPCODE_CLOSE => "a Close",
        OPCODE_PING => "a Ping",
        OPCODE_PONG => "a Pong",
        _ => return format!("a frame with the reserved opcode 0x{opcode:x}"),
    };
    name.to_owned()
}

/// The flag for a server that answers in one type only.
fn type_hint(got: u8) -> &'static str {
    match got {
        OPCODE_TEXT => "; if that is all the server sends, use --type text",
        OPCODE_BINARY => "; if that is all the server sends, use --type binary",
        _ => "",
    }
}

fn or_other(len: Option<u64>) -> String {
    len.map_or_else(|| "another number of".to_owned(), |len| len.to_string())
}
