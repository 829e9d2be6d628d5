//! ringback is a WebSocket echo server: thread per core, on epoll and
//! io_uring, correct to the last rule of RFC 6455.
//!
//! This is the library under the binary of the same name. It starts the echo
//! server inside of another program ([`Server`]), and it serves connections
//! with a handler of one's own on the same threads ([`serve`]).
//!
//! # How the bytes flow
//!
//! ```text
//!  accept ─▶ hyper http1 ─▶ strict gate ─▶ fastwebsockets::upgrade ─▶ raw socket + leftover bytes
//!  (worker,  (http)         (http::gate)                                    │
//!   one per core,                                     ┌─────────────────────┤
//!   SO_REUSEPORT)                                     ▼                     ▼
//!                              engine (ring | epoll | tokio-uring):    message:
//!                              read ─▶ proto::Echo ─▶ one write        whole messages
//!                                      (no I/O, in place)              for a handler
//! ```
//!
//! # Who knows whom
//!
//! * [`proto`]: the protocol without I/O; knows nothing of the rest
//! * `engine`: the seam, and on it `ring`, `epoll`, `tokio_uring` and `encrypted`, which
//!   know `proto`, `admission` and `metrics`, but not each other. What they have in
//!   common: `connection` is everything that a WebSocket connection does, without I/O;
//!   `table` keeps their connections, with a timer on a `wheel`, their part of the held
//!   bytes and their turn in a drain; `schedule` says who is served next, `spin` when to
//!   go on looking instead of sleeping
//! * `http`: routes, the gate, the upgrade; knows none of the others but `handshakes`,
//!   which counts what those in progress hold
//! * `message`: whole messages over `proto`, for handlers, whose connections stand in its
//!   `registry`
//! * `runtime`: from an engine's name to the engine
//! * `worker`: one core, accept to engine; `server`: all of them, start to end
//! * `admin`: health and metrics, on a thread of its own; reads `metrics` and
//!   `admission`, and knows no engine
//! * `proxy`: what a proxy says of its client before anything else; `forwarded`: what
//!   it says in a request
//! * `tls`: certificate and key, and a stream that decrypts and encrypts over
//!   a `socket`; `engine::encrypted` serves what comes over it
//! * `systemd`: what the service manager is told
//! * `pid_file`, `reload`: who serves, and asking that server for its successor;
//!   `invocation`: what is started then, `successor`: how
//! * [`doctor`]: what this machine lacks for a configuration, found out by
//!   reading and trying
//! * `calls`: the kernel's calls of engines and workers, which fail on demand
//!   in tests
//! * `task`: what runs on a worker; its panic ends the worker
//! * [`output`]: lines for stderr and stdout, which nobody waits for
//! * `access`, `config`, `error`, `listener`, `address`, `admission`, `metrics`, `shutdown`,
//!   `cores`, `descriptors`, `engine_kind`, `held`, `origin`, `owned_path`, `peer`, `rate`,
//!   `socket`, `socket_memory`, `stream`, `task_kind`, `tcp_memory`, `throttle`, `turn`,
//!   `visit`: one noun each
//! * `host`, a crate: the machine, as the load generator sees it too
//!
//! No two files import each other, however long the way round, but for a module and
//! its own parts. `.ci/imports` sees to it.
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

mod access;
mod address;
mod admin;
mod admission;
#[cfg(not(test))]
mod calls;
#[cfg(test)]
#[path = "calls/faulty.rs"]
mod calls;
pub mod config;
mod cores;
mod descriptors;
pub mod doctor;
mod engine;
mod engine_kind;
mod error;
mod forwarded;
mod handshakes;
mod held;
mod http;
mod invocation;
mod listener;
pub mod message;
mod metrics;
mod origin;
pub mod output;
mod owned_path;
mod peer;
mod pid_file;
pub mod proto;
mod proxy;
mod rate;
mod reload;
mod runtime;
mod server;
mod shutdown;
mod socket;
mod socket_memory;
mod stream;
mod successor;
mod systemd;
mod task;
mod task_kind;
mod tcp_memory;
mod throttle;
mod tls;
mod turn;
mod visit;
mod worker;

// What the fuzz targets reach; the binary's modules are among it, and name the
// library by its name.
#[cfg(fuzzing)]
extern crate self as ringback;
#[cfg(fuzzing)]
#[expect(dead_code, reason = "what starts a server is the binary's alone")]
mod args;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(fuzzing)]
#[expect(dead_code, reason = "what starts a server is the binary's alone")]
mod logging;
#[cfg(fuzzing)]
mod settings;

/// The commit that this was built from, with `-dirty` if the sources are no longer
/// its; `None` if the build did not know.
pub const COMMIT: Option<&str> = option_env!("BUILD_COMMIT");

pub use access::AccessField;
pub use address::Address;
pub use admin::{Question, ask};
pub use config::{Config, TlsFiles};
pub use engine_kind::{EngineChoice, EngineKind};
pub use error::Error;
pub use forwarded::ForwardedHeader;
pub use host::open_files::raise_limit as raise_descriptor_limit;
pub use listener::inherited::Inherited;
pub use message::{Message, MessageError, MessageSocket};
pub use metrics::Snapshot;
pub use origin::Origin;
pub use peer::Peer;
pub use proto::CloseCode;
pub use proxy::ProxySource;
pub use rate::Rate;
pub use reload::reload;
pub use server::{Server, serve};
pub use shutdown::Signals;
