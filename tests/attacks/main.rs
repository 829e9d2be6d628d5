//! What attackers do, on every engine, with a client beside them that keeps
//! the rules and must not notice.
//!
//! Each test is a [`Siege`](siege::Siege): the real binary in a process of its
//! own, one worker, so that attackers and their neighbour share everything. It
//! says what the attackers must get for an answer and what they may cost; the
//! siege checks the rest when it is lifted.

#[path = "../common/mod.rs"]
mod common;

mod fragments;
mod framing;
mod handshakes;
mod held;
mod proxy;
mod request;
mod siege;
mod slow;
mod sockets;
mod tls;
mod turns;
