//! Measures ringback beside echo servers on other foundations.
//!
//! ```text
//!  args ─▶ contest: servers × shapes × rounds ──▶ for each, in an order drawn anew:
//!             │                                     run ─▶ loadtest ─▶ server, fresh
//!             │ who is there,                        │ (generator's     (its own core)
//!             ▼ of which version                     ▼  core)
//!          header ───────────────▶ report ◀── score ◀── results
//! ```
//!
//! The binary `side-by-side` is that command. The others are servers, each as its
//! library's own documentation would write it:
//!
//! - `peer-raw`, a TCP echo without WebSocket: the floor
//! - `peer-fastwebsockets`, on tokio and hyper
//! - `peer-tungstenite`, on tokio, replies flushed together where messages came
//!   together
//!
//! `gorilla/` and `ws/`, beside this package's manifest, hold those in other
//! languages. [`peer`] is what the servers here have in common. Everything that is
//! measured is measured by the program `loadtest`; nothing here opens a connection.

pub mod args;
pub mod contest;
pub mod header;
pub mod order;
pub mod peer;
pub mod process;
pub mod report;
pub mod results;
pub mod run;
pub mod score;
pub mod server;
pub mod shape;
pub mod spread;
