//! The flags of the load.

use std::time::Duration;

use clap::Args;

use super::{CoreList, Sizes, protocol_of, values};
use crate::client::MessageKind;
use crate::plan::{Arrival, Extent, Load, Pace, Plan};
use crate::target::Target;

/// Defaults that differ between commands.
#[derive(Debug, Clone, Copy)]
pub struct Defaults {
    duration: Duration,
    warmup: Duration,
}

impl Defaults {
    /// Long enough for a p99.9, short enough to watch.
    pub const DEMO: Self = Self {
        duration: Duration::from_secs(3),
        warmup: Duration::from_millis(500),
    };
    /// Long enough for a p99.9 and some slices, short enough for two of them to
    /// see the same disturbances.
    pub const AB: Self = Self {
        duration: Duration::from_millis(400),
        warmup: Duration::from_millis(200),
    };
    /// A full measurement.
    pub const RUN: Self = Self {
        duration: Duration::from_secs(10),
        warmup: Duration::from_secs(1),
    };
    /// For one of many measurements.
    pub const SWEEP: Self = Self {
        duration: Duration::from_secs(5),
        warmup: Duration::from_secs(1),
    };
}

/// The load.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
pub struct Workload {
    /// Connections that carry messages, all open at the same time
    #[arg(short, long, value_name = "N", default_value = "100", value_parser = values::connections)]
    pub connections: u32,

    /// Closed loop: messages in flight per connection; the next one is sent when
    /// a reply came in. For maximum throughput [default: 1]
    #[arg(short, long, value_name = "N", value_parser = values::window)]
    pub window: Option<u32>,

    /// Open loop: messages per second over all connections, independent of the server. For
    /// latency
    #[arg(long, value_name = "RATE", value_parser = values::rate, conflicts_with_all = ["window", "rate_per_connection"])]
    pub rate: Option<f64>,

    /// Open loop: messages per second on each connection
    #[arg(long = "rate-per-conn", value_name = "RATE", value_parser = values::rate, conflicts_with = "window")]
    pub rate_per_connection: Option<f64>,

    /// Distribution of an open loop's messages over time [default: fixed]
    #[arg(long, value_name = "KIND")]
    pub arrival: Option<Arrival>,

    /// How to wait for the next send or reply [default: spin in an open loop, sleep in a closed
    /// one]
    #[arg(long, value_name = "HOW")]
    pub pace: Option<Pace>,

    /// Length of the measurement: 500ms, 3s, 2m [default: 3s, `run`: 10s, `sweep`: 5s]
    #[arg(short, long, value_name = "TIME", value_parser = values::positive)]
    pub duration: Option<Duration>,

    /// Measure until this number of messages is answered, instead of a time
    #[arg(short = 'n', long = "messages", value_name = "N", value_parser = values::messages, conflicts_with = "duration")]
    pub messages: Option<u64>,

    /// Load before the measurement, not counted [default: 500ms, `run` and
    /// `sweep`: 1s]
    #[arg(long, value_name = "TIME", value_parser = values::phase)]
    pub warmup: Option<Duration>,

    /// A message without a reply for this time has timed out; a server that makes no progress for
    /// this time ends the run
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = values::timeout)]
    pub timeout: Duration,

    /// Payload bytes per message: 32, 16k, 1m, or several with their weights,
    /// 64:9,4k:1
    #[arg(
        short,
        long,
        value_name = "BYTES",
        default_value = "32",
        help_heading = "Messages"
    )]
    pub size: Sizes,

    /// Type of the messages
    #[arg(
        long = "type",
        value_name = "KIND",
        default_value = "binary",
        help_heading = "Messages"
    )]
    pub kind: MessageKind,

    /// The same as --type text
    #[arg(long, conflicts_with = "kind", help_heading = "Messages")]
    pub text: bool,

    /// Number of fragments of each message
    #[arg(long = "fragment", value_name = "N", default_value = "1", value_parser = values::fragments, help_heading = "Messages")]
    pub fragments: u32,

    /// Split frames across TCP writes, at random positions
    #[arg(long, help_heading = "Messages")]
    pub split: bool,

    /// Repeat the payloads, masks and arrivals of another run [default: random]
    #[arg(long, value_name = "N", value_parser = values::seed, help_heading = "Messages")]
    pub seed: Option<u64>,

    /// Connections to open per second at the start [default: 1000, or more to open all within 10
    /// seconds]
    #[arg(long, value_name = "RATE", value_parser = values::rate, help_heading = "Additional connections")]
    pub connect_rate: Option<f64>,

    /// Additional idle connections
    #[arg(long, value_name = "N", default_value = "0", value_parser = values::extra_connections, help_heading = "Additional connections")]
    pub idle: u32,

    /// Number of connections to replace per second
    #[arg(long, value_name = "RATE", value_parser = values::rate, help_heading = "Additional connections")]
    pub churn: Option<f64>,

    /// Additional connections that send without pause and read slowly
    #[arg(long, value_name = "N", default_value = "0", value_parser = values::extra_connections, help_heading = "Additional connections")]
    pub slow_readers: u32,

    /// Threads that generate load [default: one for each core of --pin, or 1]
    #[arg(short, long, value_name = "N", value_parser = values::threads, help_heading = "Generator")]
    pub threads: Option<u32>,

    /// Cores for the threads, in turn: 1 or 2,4-7 [default: the second one, `run` and `sweep`:
    /// any]
    #[arg(
        long,
        value_name = "CORES",
        default_value = "",
        hide_default_value = true,
        help_heading = "Generator"
    )]
    pub pin: CoreList,
}

impl Workload {
    /// The plan for these servers.
    ///
    /// # Errors
    /// A sentence for the user when the flags do not fit together.
    pub(super) fn plan(&self, targets: Vec<Target>, defaults: Defaults) -> Result<Plan, String> {
        let pins = u32::try_from(self.pin.0.len()).unwrap_or(u32::MAX);
        let load = self.load()?;
        Ok(Plan {
            protocol: protocol_of(&targets),
            targets,
            extent: match self.messages {
                Some(count) => Extent::Messages(count),
                None => Extent::Duration(self.duration.unwrap_or(defaults.duration)),
            },
            slices: 1,
            warmup: self.warmup.unwrap_or(defaults.warmup),
            timeout: self.timeout,
            connections: self.connections,
            connect_rate: self.connect_rate,
            churn_rate: self.churn,
            idle_connections: self.idle,
            slow_readers: self.slow_readers,
            threads: self.threads.unwrap_or(pins.clamp(1, self.connections)),
            pin: self.pin.0.clone(),
            pace: self.pace.unwrap_or_else(|| Pace::default_for(&load)),
            sizes: self.size.0.clone(),
            kind: if self.text {
                MessageKind::Text
            } else {
                self.kind
            },
            fragments: self.fragments,
            split: self.split,
            headers: Vec::new(),
            subprotocols: Vec::new(),
            skip: 0,
            insecure: false,
            ca_file: None,
            sources: None,
            seed: self.seed.unwrap_or_else(|| fastrand::u64(..)),
            load,
        })
    }

    fn load(&self) -> Result<Load, String> {
        let per_connection = self.rate_per_connection;
        let rate = self
            .rate
            .or_else(|| per_connection.map(|rate| rate * f64::from(self.connections)));
        if let Some(rate) = rate {
            return Ok(Load::Open {
                rate,
                arrival: self.arrival.unwrap_or(Arrival::Fixed),
            });
        }
        if self.arrival.is_some() {
            return Err("--arrival is for an open loop: give a --rate".to_owned());
        }
        Ok(Load::Closed {
            window: self.window.unwrap_or(1),
        })
    }
}
