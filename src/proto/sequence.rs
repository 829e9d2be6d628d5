//! How frames make up messages (RFC 6455 section 5.4), and how much of that a
//! peer may have.

use super::frame::{Header, OpCode, Start};
use super::utf8::Utf8;
use super::violation::Violation;

/// What one peer may send. Shared by all connections of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of payload in a message, over all its fragments.
    pub message_bytes: u64,
    /// Frames in a message.
    pub fragments: u32,
    /// Bytes of an incomplete frame that are kept, header included; a longer
    /// frame streams through. At least [`MIN_WINDOW`].
    pub window: usize,
}

/// The smallest window: a control frame, which is never streamed, fits in it.
pub const MIN_WINDOW: usize = 256;

impl Default for Limits {
    /// No limit on a message's bytes, 2^20 fragments, a window of 16 KiB.
    fn default() -> Self {
        Self {
            message_bytes: u64::MAX,
            fragments: 1 << 20,
            window: 16 * 1024,
        }
    }
}

/// The type of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Anything.
    Binary,
}

/// The message in progress: its type, its size so far and, if it is text, the
/// state of its validation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sequence {
    message: Option<Kind>,
    fragments: u32,
    bytes: u64,
    utf8: Utf8,
}

impl Sequence {
    /// A sequence between two messages.
    pub const fn new() -> Self {
        Self {
            message: None,
            fragments: 0,
            bytes: 0,
            utf8: Utf8::new(),
        }
    }

    /// The message in progress, `None` between two messages.
    #[inline]
    pub const fn message(&self) -> Option<Kind> {
        self.message
    }

    /// Whether a frame with this first byte may come now.
    ///
    /// # Errors
    /// A continuation of nothing, or a message within a message.
    #[inline]
    pub const fn check_start(&self, start: Start) -> Result<(), Violation> {
        match (start.opcode, self.message) {
            (OpCode::Continuation, None) => Err(Violation::UnexpectedContinuation),
            (OpCode::Text | OpCode::Binary, Some(_)) => Err(Violation::InterleavedMessage),
            _ => Ok(()),
        }
    }

    /// Starts a frame that [`check_start`](Self::check_start) let pass.
    /// Control frames change nothing.
    ///
    /// # Errors
    /// A message over one of the limits.
    #[inline]
    pub fn begin_frame(&mut self, header: &Header, limits: &Limits) -> Result<(), Violation> {
        let kind = match header.opcode {
            OpCode::Text => Kind::Text,
            OpCode::Binary => Kind::Binary,
            OpCode::Continuation => return self.grow(header.payload_len, limits),
            OpCode::Close | OpCode::Ping | OpCode::Pong => return Ok(()),
        };
        *self = Self {
            message: Some(kind),
            ..Self::new()
        };
        self.grow(header.payload_len, limits)
    }

    /// Takes the next unmasked bytes of a data frame.
    ///
    /// # Errors
    /// Text that is not UTF-8.
    #[inline]
    pub fn feed(&mut self, payload: &[u8]) -> Result<(), Violation> {
        match self.message {
            Some(Kind::Text) => self
                .utf8
                .feed(payload)
                .map_err(|_invalid| Violation::InvalidText),
            _ => Ok(()),
        }
    }

    /// As [`feed`](Self::feed), for bytes of which is known that they are ASCII.
    ///
    /// # Errors
    /// Text that has to go on in the middle of a character.
    #[inline]
    pub fn feed_ascii(&mut self, payload: &[u8]) -> Result<(), Violation> {
        match self.message {
            Some(Kind::Text) => self
                .utf8
                .feed_ascii(payload)
                .map_err(|_invalid| Violation::InvalidText),
            _ => Ok(()),
        }
    }

    /// Ends a data frame; `fin` ends the message with it.
    ///
    /// # Errors
    /// Text that ends inside a character.
    #[inline]
    pub fn end_frame(&mut self, fin: bool) -> Result<(), Violation> {
        if !fin {
            return Ok(());
        }
        self.message = None;
        if self.utf8.is_complete() {
            Ok(())
        } else {
            Err(Violation::InvalidText)
        }
    }

    fn grow(&mut self, payload_len: u64, limits: &Limits) -> Result<(), Violation> {
        // Both operands stay below 2^63 as long as the sum is checked, but a
        // message of many fragments may come to more than any integer holds.
        self.bytes = self.bytes.saturating_add(payload_len);
        self.fragments = self.fragments.saturating_add(1);
        if self.bytes > limits.message_bytes {
            Err(Violation::MessageTooLong)
        } else if self.fragments > limits.fragments {
            Err(Violation::TooManyFragments)
        } else {
            Ok(())
        }
    }
}
