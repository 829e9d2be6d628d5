//! Built-in servers, for comparison with the server under test and for the self-test.
//!
//! Neither is the server under test. [`RawEcho`] is the floor: the kernel's share of the cost
//! of an echo. [`ScriptedServer`] delays, stalls and misbehaves as its [`Script`] says, so that
//! a run against it shows whether the generator reports correctly.
//!
//! Each runs on one thread of this process, by default on a free port of 127.0.0.1:
//!
//! - `ServerThread` is that thread, from its start to its end.
//! - `Reactor` is its event loop: the listener, the connections, the stop signal.
//! - `ConnectionTable` holds its connections.

mod connection_table;
mod raw_echo;
mod reactor;
mod scripted;
mod server_thread;

pub use raw_echo::RawEcho;
pub use scripted::{Delay, Fault, Script, ScriptedServer, Stall};
