//! What a run is to do: validated, and free of where it will be done.

use std::fmt;
use std::time::Duration;

use crate::client::MessageKind;
use crate::units;

/// The largest payload a plan may ask for, in bytes. The prebuilt frames of a
/// deck are a few times as large as this.
pub const PAYLOAD_LEN_MAX: usize = 64 << 20;

/// The most connections a plan may ask for: their number has 24 bits in the
/// stamp that tells messages apart.
pub const CONNECTIONS_MAX: u32 = 1 << 24;

/// The most messages in flight per connection.
pub const WINDOW_MAX: u32 = 1 << 20;

/// A closed-loop load.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Connections open at the same time, 1 to [`CONNECTIONS_MAX`].
    pub connections: u32,
    /// Messages in flight per connection, 1 to [`WINDOW_MAX`].
    pub window: u32,
    /// Payload bytes per message, at most [`PAYLOAD_LEN_MAX`].
    pub payload_len: usize,
    /// Text or binary.
    pub kind: MessageKind,
    /// Load before the measurement, which is not counted.
    pub warmup: Duration,
    /// How long to measure.
    pub duration: Duration,
    /// How long a connection may make no progress before the run fails.
    pub timeout: Duration,
    /// Where payloads and masks come from: the same seed, the same bytes.
    pub seed: u64,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "closed loop, {} connections × {} in flight, {} {}, {} after {} warm-up",
            self.connections,
            self.window,
            units::format_size(self.payload_len),
            self.kind,
            units::format_duration(self.duration),
            units::format_duration(self.warmup),
        )
    }
}
