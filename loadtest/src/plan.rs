//! The plan of a run: validated, and independent of the machine.
//!
//! A plan is data. It is written into result files whole, so that a run can be
//! repeated from its file.

mod validate;

pub use validate::{PHASE_MAX, TIMEOUT_MAX};

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::MessageKind;
use crate::source::SourceRange;
use crate::target::Target;
use crate::units;

/// The largest payload, in bytes. The prebuilt frames of a pool are a few times as large as this.
pub const PAYLOAD_LEN_MAX: usize = 64 << 20;

/// The most connections: their number has 24 bits in the stamp of a message.
pub const CONNECTIONS_MAX: u32 = 1 << 24;

/// The most messages in flight per connection.
pub const WINDOW_MAX: u32 = 1 << 20;

/// The highest rate an open loop may ask for, in messages per second.
pub const RATE_MAX: f64 = 1e9;

/// The most different payload lengths in a run.
pub const SIZES_MAX: usize = 64;

/// The largest sum of all payload lengths of a run, in bytes: their frame pools
/// are in memory together.
pub const PAYLOAD_LEN_SUM_MAX: usize = 128 << 20;

/// The largest sum of the weights of payload lengths.
pub const WEIGHT_SUM_MAX: u32 = 4096;

/// The most fragments of a message.
pub const FRAGMENTS_MAX: u32 = 1024;

/// The most parts a measurement may have.
pub const SLICES_MAX: u32 = 1 << 20;

/// The warm-up before each slice but the first, as a divisor of its length: caches and queues
/// have to fill again.
const SLICE_WARMUP_DIVISOR: u32 = 5;

/// The most messages of the server that a connection skips.
pub const SKIP_MAX: u32 = 1 << 16;

/// The most threads.
pub const THREADS_MAX: u32 = 1024;

/// Everything that a run depends on, except the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// The servers, at least one. Connections are assigned to them in turn.
    pub targets: Vec<Target>,
    /// The protocol.
    pub protocol: Protocol,
    /// When messages are sent.
    pub load: Load,
    /// The extent of the measurement.
    pub extent: Extent,
    /// The number of slices of the measurement, of the same length, 1 to [`SLICES_MAX`]. Between
    /// two of them the load stops, for those of other runs.
    #[serde(default = "one_slice")]
    pub slices: u32,
    /// Load before the measurement, which is not counted, in nanoseconds.
    #[serde(rename = "warmup_ns", with = "units::nanoseconds")]
    #[schemars(with = "u64")]
    pub warmup: Duration,
    /// A message without a reply for this long, in nanoseconds, has timed out.
    #[serde(rename = "timeout_ns", with = "units::nanoseconds")]
    #[schemars(with = "u64")]
    pub timeout: Duration,
    /// Connections that carry messages, all open at the same time, 1 to
    /// [`CONNECTIONS_MAX`].
    pub connections: u32,
    /// Connections opened per second at the start; by default [`Plan::connect_pace`].
    pub connect_rate: Option<f64>,
    /// Connections per second that are replaced by new ones.
    pub churn_rate: Option<f64>,
    /// Additional connections without messages.
    pub idle_connections: u32,
    /// Additional connections that send without pause and read slowly.
    pub slow_readers: u32,
    /// Threads that generate load.
    pub threads: u32,
    /// The cores they are pinned to, one after the other; empty leaves them to
    /// the scheduler.
    pub pin: Vec<usize>,
    /// How to wait for the next send or reply.
    pub pace: Pace,
    /// Payload lengths in bytes and how often each occurs.
    pub sizes: Vec<SizeShare>,
    /// Text or binary.
    pub kind: MessageKind,
    /// Fragments each message is sent in, 1 to [`FRAGMENTS_MAX`].
    pub fragments: u32,
    /// Whether writes end in the middle of frames.
    pub split: bool,
    /// Additional header fields of the handshake, name and value.
    pub headers: Vec<(String, String)>,
    /// Subprotocols to offer; the server has to choose one of them.
    pub subprotocols: Vec<String>,
    /// Messages that the server sends first on each connection, and that are
    /// awaited and skipped before the load, at most [`SKIP_MAX`].
    #[serde(default)]
    pub skip: u32,
    /// Whether a `wss://` server's certificate is accepted without verification.
    pub insecure: bool,
    /// The certificates to trust instead of the system's, a PEM file.
    pub ca_file: Option<PathBuf>,
    /// The addresses to connect from.
    pub sources: Option<SourceRange>,
    /// The seed of payloads, masks and arrivals: the same seed gives the same bytes.
    pub seed: u64,
}

/// The protocol of the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// RFC 6455.
    WebSocket,
    /// None: the same bytes have to come back over TCP.
    RawTcp,
}

/// When messages are sent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "loop", rename_all = "kebab-case")]
pub enum Load {
    /// When a reply came: this number of messages is in flight per connection.
    Closed {
        /// Messages in flight per connection, 1 to [`WINDOW_MAX`].
        window: u32,
    },
    /// At times that do not depend on the server.
    Open {
        /// Messages per second over all connections, at most [`RATE_MAX`].
        rate: f64,
        /// Their distribution over time.
        arrival: Arrival,
    },
}

/// The distribution of an open loop's messages over time.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Arrival {
    /// Evenly, on the connections in turn.
    Fixed,
    /// At random, as from many independent clients.
    Poisson,
}

/// The extent of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Extent {
    /// For this time.
    #[serde(rename = "duration_ns", with = "units::nanoseconds")]
    #[schemars(with = "u64")]
    Duration(Duration),
    /// Until this number of messages, without the warm-up, was sent and answered.
    Messages(u64),
}

/// How a generator thread waits for the next event.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Pace {
    /// Polls near the next send or the last event; sleeps otherwise.
    Spin,
    /// Always sleeps. The kernel's timer wakes an open loop late.
    Sleep,
}

impl Pace {
    /// The default for a load: a thread that spins in a closed loop has its latencies without the
    /// time that waking it takes, and takes the core of a server that shares it.
    pub const fn default_for(load: &Load) -> Self {
        match load {
            Load::Open { .. } => Self::Spin,
            Load::Closed { .. } => Self::Sleep,
        }
    }
}

/// A payload length and its share of the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SizeShare {
    /// Bytes, at most [`PAYLOAD_LEN_MAX`].
    pub len: usize,
    /// The share of the messages with this length: the weight over the sum of all weights.
    pub weight: u32,
}

/// Connections opened per second, unless more are needed to open all within
/// [`CONNECT_TIME_MAX_S`]: a millisecond for each, in which most servers complete a handshake,
/// TLS included.
const CONNECT_PACE_PER_S: f64 = 1_000.0;

/// The longest time to open all connections at the default pace, in seconds.
const CONNECT_TIME_MAX_S: f64 = 10.0;

/// The default of files without the field.
fn one_slice() -> u32 {
    1
}

/// A part of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// Load before it, which is not counted.
    pub warmup: Duration,
    /// Its length, unless it ends with its messages.
    pub length: Option<Duration>,
}

impl Plan {
    /// One of the parts of the measurement, from 0.
    pub fn slice(&self, index: u32) -> Slice {
        let length = match self.extent {
            Extent::Duration(time) => Some(time / self.slices),
            Extent::Messages(_) => None,
        };
        let warmup = match length {
            Some(length) if index > 0 => length / SLICE_WARMUP_DIVISOR,
            _ => self.warmup,
        };
        Slice { warmup, length }
    }

    /// The target rate in messages per second, in an open loop.
    pub fn rate(&self) -> Option<f64> {
        match self.load {
            Load::Open { rate, .. } => Some(rate),
            Load::Closed { .. } => None,
        }
    }

    /// Whether messages are sent whatever the server does.
    pub fn is_open_loop(&self) -> bool {
        self.rate().is_some()
    }

    /// All sockets that are open at the same time, except those of churn.
    pub fn sockets(&self) -> u64 {
        u64::from(self.connections)
            + u64::from(self.idle_connections)
            + u64::from(self.slow_readers)
    }

    /// Connections opened per second at the start. Opened faster, each would wait in the accept
    /// queue, and the handshake time would be that of the queue.
    pub fn connect_pace(&self) -> f64 {
        let default_for = CONNECT_PACE_PER_S.max(self.sockets() as f64 / CONNECT_TIME_MAX_S);
        self.connect_rate.unwrap_or(default_for)
    }

    /// The label of servers without a name: their URLs.
    pub fn label(&self) -> String {
        let urls: Vec<_> = self.targets.iter().map(ToString::to_string).collect();
        urls.join(" ")
    }

    /// Whether all servers are reached over the loopback interface, by their names.
    pub fn is_loopback(&self) -> bool {
        self.targets.iter().all(Target::is_loopback)
    }
}

/// The label every report carries: open or closed loop, and the workload.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connections = units::format_count(u64::from(self.connections));
        match self.load {
            Load::Closed { window } => write!(
                f,
                "closed loop, {connections} connections × {window} in flight, "
            )?,
            Load::Open { rate, arrival } => {
                let arrival = match arrival {
                    Arrival::Fixed => "fixed",
                    Arrival::Poisson => "Poisson",
                };
                write!(
                    f,
                    "open loop, {}/s {arrival} over {connections} connections, ",
                    units::format_rate(rate)
                )?;
            }
        }
        for (index, share) in self.sizes.iter().enumerate() {
            let comma = if index > 0 { " + " } else { "" };
            write!(f, "{comma}{}", units::format_size(share.len))?;
            if self.sizes.len() > 1 {
                write!(f, ":{}", share.weight)?;
            }
        }
        match self.protocol {
            Protocol::WebSocket => write!(f, " {}", self.kind)?,
            Protocol::RawTcp => write!(f, " raw TCP")?,
        }
        if self.fragments > 1 {
            write!(f, " in {} fragments", self.fragments)?;
        }
        if self.split {
            write!(f, ", split writes")?;
        }
        match self.extent {
            Extent::Duration(time) if self.slices > 1 => {
                let time = units::format_duration(time);
                write!(f, ", {time} in {} slices", self.slices)?;
            }
            Extent::Duration(time) => write!(f, ", {}", units::format_duration(time))?,
            Extent::Messages(count) => {
                write!(f, ", {} messages", units::format_count(count))?;
            }
        }
        write!(f, " after {} warm-up", units::format_duration(self.warmup))?;
        if self.idle_connections > 0 {
            let count = units::format_count(u64::from(self.idle_connections));
            write!(f, ", {count} idle connections")?;
        }
        if let Some(rate) = self.churn_rate {
            write!(f, ", {} reconnects/s", units::format_rate(rate))?;
        }
        if self.slow_readers > 0 {
            let count = units::format_count(u64::from(self.slow_readers));
            write!(f, ", {count} slow readers")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::fixture;

    #[test]
    fn connections_are_opened_by_a_pace_of_their_own() {
        let pace = |connections, connect_rate| {
            let mut plan = fixture::plan();
            plan.connections = connections;
            plan.connect_rate = connect_rate;
            Some(plan.connect_pace())
        };
        assert_eq!(pace(1, None), Some(1_000.0));
        assert_eq!(pace(10_000, None), Some(1_000.0));
        assert_eq!(pace(50_000, None), Some(5_000.0), "within ten seconds");
        assert_eq!(pace(50_000, Some(7.0)), Some(7.0), "as it was asked for");
    }
}
