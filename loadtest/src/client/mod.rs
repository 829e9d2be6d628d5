//! The client's side of the protocol: what it sends and what must come back.
//!
//! Nothing here is shared with the server, so that a bug cannot hide in both. Apart from
//! [`handshake`], which drives one blocking exchange, this module contains no networking code:
//!
//! - [`FramePool`] turns a [`MessageId`] into the bytes of its masked frame, and into the bytes
//!   of the one right reply. Both are a function of the id alone, so nothing is kept per message
//!   in flight.
//! - [`Checker`] compares a stream of replies, split anywhere, with the reply that the pool
//!   expects next.

mod checker;
mod excerpt;
mod fields;
pub(crate) mod frame;
mod frame_pool;
pub mod handshake;
mod mix;
mod refusal;
mod skip;
mod stamp;
mod violation;

pub use checker::{Checker, CloseReason, Control};
pub(crate) use excerpt::excerpt;
pub use frame::{Header, MessageKind, close_frame, pong_frame};
pub use frame_pool::{FramePool, HEAD_LEN_MAX, Reply, Shape};
pub use handshake::{Handshake, HandshakeError};
pub use mix::{Cursor, Mix};
pub use refusal::Refusal;
pub use skip::Skip;
pub use stamp::MessageId;
pub use violation::Violation;
