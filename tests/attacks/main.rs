//! Attacks on every engine, with a client beside them that keeps the rules and must not
//! notice.
//!
//! Each test is an [`Attack`](attack::Attack) on the real binary in a process of its
//! own, with one worker, so that attackers and their neighbour share everything. The
//! test checks the answers that the attackers get and sets the budget; `Attack::finish`
//! checks the rest.

#[path = "../common/mod.rs"]
mod common;

mod attack;
mod fragments;
mod framing;
mod handshakes;
mod held;
mod proxy;
mod request;
mod slow;
mod sockets;
mod tls;
mod turns;
