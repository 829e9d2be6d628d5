//! The WebSocket protocol (RFC 6455) as a server meets it, without any I/O.
//!
//! This module contains no networking code, starts no timer, allocates nothing
//! and imports nothing of the project. Bytes go in, bytes and a verdict come
//! out; who reads and writes them, and when, is the engine's business.
//!
//! * [`frame`]: frame headers, read and written
//! * [`isa`]: the vector instructions that all of it may use
//! * [`mask`]: masking, in place and while moving
//! * [`utf8`]: text that arrives in pieces
//! * [`close`]: close codes and close payloads
//! * [`violation`]: every way a peer can break the rules, and its close code
//! * [`sequence`]: how frames make up messages, and their limits
//! * [`echo`]: the echo state machine over all of the above

pub mod close;
pub mod echo;
pub mod frame;
pub mod isa;
pub mod mask;
pub mod sequence;
pub mod utf8;
pub mod violation;

pub use close::CloseCode;
pub use echo::{Echo, FrameCounts, Next, Step, TAIL_ROOM};
pub use frame::{Header, OpCode};
pub use isa::Isa;
pub use sequence::{Limits, Sequence};
pub use violation::Violation;
