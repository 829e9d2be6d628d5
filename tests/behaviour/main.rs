//! The server as clients see it, on every engine.
//!
//! Each module holds functions that take an engine, and makes a test of each for every
//! engine: `closing::epoll::half_closed_client_gets_every_reply`.

#[path = "../common/mod.rs"]
mod common;

mod access;
mod addresses;
mod backlog;
mod busy_poll;
mod closing;
mod cores;
mod descriptors;
mod drain;
mod echo;
mod fairness;
mod forwarded;
mod handshake;
mod limits;
mod metrics;
mod pauses;
mod proxy;
mod resources;
mod tcp_memory;
mod tls;
mod violations;
