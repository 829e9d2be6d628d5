//! Counters of one worker, merged when somebody reads them.
//!
//! Each counter has one writer, its worker, so counting is a plain load and
//! store: no locked instruction, no cache line that two workers write.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One number that only grows, written by one thread and read by any.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Counts `n` more. Only the thread that owns the counter may call this.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Declares the counters once: as a worker counts them, as they are read.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What one worker has counted; aligned so that two workers never
        /// write to one cache line, nor to one pair of lines.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        /// Counters at one moment, of one worker or of several.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Snapshot {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Adds what has been counted to `snapshot`.
            pub(crate) fn merge_into(&self, snapshot: &mut Snapshot) {
                $(snapshot.$name += self.$name.get();)*
            }
        }
    };
}

counters! {
    /// Connections accepted.
    accepted,
    /// Connections turned away because of the connection limit.
    refused_full,
    /// Times that accepting paused for want of file descriptors.
    accept_pauses,
    /// Handshakes that ended in an upgrade.
    upgraded,
    /// Requests answered with an error status.
    refused_request,
    /// Handshakes that took too long.
    handshake_timeouts,
    /// Messages that came in whole.
    messages,
    /// Bytes of frames read, headers included.
    bytes_in,
    /// Bytes of frames written, headers included.
    bytes_out,
    /// Reads that brought bytes.
    reads,
    /// Writes.
    writes,
    /// Close frames of clients that were answered.
    closes,
    /// Connections ended because the client broke a rule or a limit.
    violations,
    /// Pings sent to silent clients.
    pings,
    /// Connections closed because the client stayed silent.
    idle_timeouts,
    /// Connections cut because the client did not read.
    write_timeouts,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_added_up() {
        let (first, second) = (Counters::default(), Counters::default());
        first.messages.add(2);
        second.messages.add(3);
        second.bytes_in.add(u64::MAX);
        let mut merged = Snapshot::default();
        first.merge_into(&mut merged);
        second.merge_into(&mut merged);
        assert_eq!(
            (merged.messages, merged.bytes_in, merged.closes),
            (5, u64::MAX, 0)
        );
    }
}
