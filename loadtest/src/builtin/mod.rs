//! Servers that come with the generator, to judge it and its results by.
//!
//! Neither is what is measured. [`RawEcho`] is the floor beside a result: what
//! the kernel alone asks for an echo. [`ScriptedServer`] is the known truth: it
//! is late, stalls or misbehaves exactly as told, so that a run against it
//! shows whether the generator reports what happened.
//!
//! Each serves on one thread of this process, on a free port of 127.0.0.1 unless
//! told otherwise:
//!
//! - `ServerThread` is that thread, from its start to its end.
//! - `Reactor` is what it waits on: the listener, the connections, the stop.
//! - `ConnectionTable` holds its connections.

mod connection_table;
mod raw_echo;
mod reactor;
mod scripted;
mod server_thread;

pub use raw_echo::RawEcho;
pub use scripted::{Delay, Fault, Script, ScriptedServer, Stall};
