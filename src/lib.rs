//! ringback is a WebSocket echo server: thread per core, on epoll and
//! io_uring, correct to the last rule of RFC 6455.
//!
//! The library of the binary of the same name: it runs the echo server inside
//! another program ([`Server`]), or serves connections with your own handler on
//! the same threads ([`handler`]; `docs/handlers.md` says how to build a service on it).
//!
//! # How the bytes flow
//!
//! ```text
//!  accept ─▶ hyper http1 ─▶ strict gate ─▶ fastwebsockets::upgrade ─▶ raw socket + leftover bytes
//!  (worker,  (http)         (http::gate)                                    │
//!   one per core,                                     ┌─────────────────────┘
//!   SO_REUSEPORT)                                     ▼
//!                              engine (ring | epoll | tokio-uring, and TLS beside them):
//!                              read ─▶ proto::Echo ─▶ one write
//!                                      (no I/O, in place)
//!                              read ─▶ engine::messages ─▶ handler ─▶ one write
//! ```
//!
//! # Rooms
//!
//! Each imports from those below it only, and no two files import each other, except a
//! module and its own parts; `.ci/imports` reads this list and checks it.
//!
//! * `fuzzing`: what the fuzz targets reach beyond the public interface
//! * `cli/`: arguments, settings, the log, `--print-messages`. **A new flag begins here**, as
//!   a field of `args`, of which variable and key of the file are derived
//!   (`settings/schema`), and ends as a field of `config/`; `worker` hands the numbers on to
//!   engines and HTTP, and `deploy/ringback.toml` lists it
//! * `doctor/`: what this machine lacks for a configuration; one check per file, over
//!   `system`, which reads the machine
//! * `server/`: all workers from start to end, signals, the certificate's reload;
//!   `restart/`: the replacement of a running server, the descriptors that it inherits, the
//!   PID file, systemd
//! * `admin/`: health and metrics over HTTP, on a thread of its own; and the client that
//!   probes a running server (`ringback health`)
//! * `worker/`: one core: accept, handshake, then an engine, and the task of a handler; the
//!   tick, which is the turn of timers and limits
//! * `handler/`: the interface of a connection for a handler
//! * `engine/`: the interface of engines, and `epoll`, `ring` (of our own), `tokio_uring` (a
//!   task for each connection) and, for TLS, beside whichever of them, `encrypted`; they do
//!   not import each other. The rules of a WebSocket connection on all of them, **such as an
//!   idle timeout**, are in `connection`, whose messages are echoed (`proto`) or given to a
//!   handler (`messages`); the timers' structure is `table` and `wheel`. `event_loop` says
//!   who is served when, for `epoll` and `ring`, and when the runtime gets its turn; how many
//!   that are is for each of them to say. **A new engine** is a variant of
//!   `config/engine_kind`, a row in `spec`, and a file that implements `event_loop::Driver`,
//!   or `Engine` where one loop is not its way
//! * `http/`: paths, the gate (**a new reason to refuse** a handshake), the upgrade,
//!   forwarded headers
//! * `transport/`: listening sockets, the PROXY header, TLS, and the stream over them
//! * `limits/`: connections and addresses (`admission`), handshakes, memory, descriptors
//! * `observe/`: `metrics` (**a new metric is a counter there**, a line in `admin/exposition`
//!   and a row in `docs/metrics.md`), lines of the access log, limits on log lines, stdout
//!   and stderr
//! * `config/`: the validated settings as types; errors of a start
//! * `net/`: addresses, peers, accepted sockets
//! * `sys/`: system calls, which fail on demand in tests; tasks; the shutdown channel
//! * `message/`: a whole message, text or binary, and one that is being received
//! * `proto/`: frames, masks, UTF-8, close codes, the echo: no I/O, and nothing of the rooms
//!   above
//!
//! The crate `host` below all of them reads the machine, for the load generator (`loadtest`)
//! as well.
//!
//! # Example
//!
//! ```
//! use ringback::{Config, Server};
//!
//! let config = Config {
//!     listen: vec!["127.0.0.1:0".parse().expect("an address")],
//!     ..Config::default()
//! };
//! let server = Server::start(config).expect("started");
//! println!("listening on {}", server.addresses()[0]);
//! server.stop().expect("stopped");
//! ```

mod admin;
pub mod config;
#[doc(hidden)]
pub mod doctor;
mod engine;
pub mod handler;
mod http;
mod limits;
mod message;
mod net;
mod observe;
pub mod proto;
mod server;
mod sys;
mod transport;
mod worker;

// For the fuzz targets; the binary's modules import the library by its name.
#[cfg(fuzzing)]
#[expect(dead_code, reason = "what starts a server is the binary's alone")]
mod cli;
#[cfg(fuzzing)]
extern crate self as ringback;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;

/// What the `ringback` binary needs besides, and this workspace's tests and tools: no part
/// of the library's interface.
#[doc(hidden)]
pub mod binary {
    pub use crate::admin::{Probe, ask};
    pub use crate::observe::{COMMIT, output};
    pub use crate::server::restart::inherited::Inherited;
    pub use crate::server::restart::reload::reload;
    pub use host::open_files::raise_limit as raise_descriptor_limit;
}

pub use config::access_field::AccessField;
pub use config::engine_kind::{EngineChoice, EngineKind};
pub use config::error::Error;
pub use config::forwarded_header::ForwardedHeader;
pub use config::origin::Origin;
pub use config::proxy_source::ProxySource;
pub use config::rate::Rate;
pub use config::{Config, TlsFiles};
pub use handler::{Handler, MessageError, MessageSocket};
pub use message::{Message, Utf8Bytes};
pub use net::address::Address;
pub use net::peer::Peer;
pub use observe::metrics::Snapshot;
pub use proto::CloseCode;
pub use server::builder::Builder;
pub use server::signals::Signals;
pub use server::{Server, serve};
