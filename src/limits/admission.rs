//! Limits on connections: of one worker, of all, and per address.
//!
//! A connection is counted twice: in total when it is accepted
//! ([`Admission::enter`]), and for its client's address once that is known
//! ([`Admission::admit`]). A bounded number of connections over a limit is answered.

mod address_counts;
mod rate_limiter;
mod source;

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use host::Root;
use tokio::sync::Notify;

use crate::config::Config;
use crate::limits::memory_budget::MemoryBudget;
use crate::limits::tcp_memory::TcpMemory;
use crate::net::peer::Peer;
use crate::observe::access::AccessContext;
use crate::observe::connection_record::ConnectionRecord;
use crate::observe::log_limit::LogLimit;
use crate::observe::metrics::Counters;
use crate::observe::metrics::label::RefusalReason;
use address_counts::AddressCounts;
use rate_limiter::RateLimiter;
use source::Source;

/// The connections of all workers. Accessed only when one opens or closes.
#[derive(Debug)]
pub(crate) struct ServerLimits {
    accepted: AtomicU64,
    open: AtomicUsize,
    rejecting: AtomicUsize,
    capacity: NonZeroUsize,
    /// Connections over a limit that are answered at a time. More are closed without
    /// an answer.
    rejects_max: usize,
    /// `None` without a limit per address.
    address_counts: Option<AddressCounts>,
    /// `None` without a rate per address.
    rate_limiter: Option<RateLimiter>,
    epoch: Instant,
    held: MemoryBudget,
    tcp_memory: TcpMemory,
    handshakes_max: usize,
    /// `None` without a rate of access lines.
    access_limit: Option<Arc<LogLimit>>,
}

impl ServerLimits {
    pub(crate) fn new(config: &Config, rejects_max: usize) -> Arc<Self> {
        let rate_limiter = config.handshake_rate.map(|rate| {
            let burst = config.handshake_burst.unwrap_or(rate.count());
            RateLimiter::new(rate, burst)
        });
        Arc::new(Self {
            accepted: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            rejecting: AtomicUsize::new(0),
            capacity: config.max_connections,
            rejects_max,
            address_counts: config.max_connections_per_address.map(AddressCounts::new),
            rate_limiter,
            epoch: Instant::now(),
            held: MemoryBudget::new(config.max_held_bytes),
            tcp_memory: TcpMemory::new(&Root::of_this_machine(), config.max_tcp_memory),
            handshakes_max: config.effective_max_handshakes(),
            access_limit: config
                .access_log_rate
                .map(|rate| Arc::new(LogLimit::of_rate("access lines", rate))),
        })
    }

    /// The limit on access lines.
    pub(crate) fn access_limit(&self) -> Option<&Arc<LogLimit>> {
        self.access_limit.as_ref()
    }

    pub(crate) fn held(&self) -> &MemoryBudget {
        &self.held
    }

    pub(crate) fn tcp_memory(&self) -> &TcpMemory {
        &self.tcp_memory
    }

    /// Handshakes that may be in progress at a time; `None` if there is no limit.
    pub(crate) fn handshakes_max(&self) -> Option<NonZeroUsize> {
        NonZeroUsize::new(self.handshakes_max).filter(|&max| max < NonZeroUsize::MAX)
    }

    /// Connections that may be open at a time.
    pub(crate) fn capacity(&self) -> NonZeroUsize {
        self.capacity
    }

    /// Whether the next connection is rejected.
    pub(crate) fn is_full(&self) -> bool {
        self.open.load(Relaxed) >= self.capacity.get()
    }

    /// Counts a connection of this address, unless it is over a limit.
    fn admit(&self, source: Source) -> Result<(), Rejection> {
        if let Some(rate_limiter) = &self.rate_limiter {
            rate_limiter
                .take(source, self.epoch.elapsed())
                .map_err(|wait| Rejection::Rate { wait })?;
        }
        match &self.address_counts {
            Some(address_counts) if !address_counts.enter(source) => Err(Rejection::Address),
            _ => Ok(()),
        }
    }
}

/// The connections of one worker.
#[derive(Debug)]
pub(crate) struct Admission {
    server_limits: Arc<ServerLimits>,
    counters: Arc<Counters>,
    open: Cell<usize>,
    rejecting: Cell<usize>,
    released: Notify,
}

/// The decision on an accepted connection.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Serve it.
    Accept(Permit),
    /// Answer why it is not served.
    Reject(Rejection, RejectSlot),
    /// Close it.
    Drop,
}

/// The limit that a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// `max-connections`.
    Full,
    /// `max-connections-per-address`.
    Address,
    /// `handshake-rate`.
    Rate {
        /// The time until the next token.
        wait: Duration,
    },
}

impl Rejection {
    pub(crate) fn reason(self) -> RefusalReason {
        match self {
            Self::Full => RefusalReason::Full,
            Self::Address => RefusalReason::Address,
            Self::Rate { .. } => RefusalReason::Rate,
        }
    }
}

/// A connection's permit, returned when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    /// `None` for a [companion](Self::companion), which is not counted.
    admission: Option<Rc<Admission>>,
    /// `None` if neither a log line nor a limit needs it.
    record: Option<Rc<ConnectionRecord>>,
}

/// Held by a connection over a limit while it is answered.
#[derive(Debug)]
pub(crate) struct RejectSlot {
    admission: Rc<Admission>,
}

impl Admission {
    pub(crate) fn new(server_limits: Arc<ServerLimits>, counters: Arc<Counters>) -> Rc<Self> {
        Rc::new(Self {
            server_limits,
            counters,
            open: Cell::new(0),
            rejecting: Cell::new(0),
            released: Notify::new(),
        })
    }

    /// Gives an accepted connection a permit, if there is one.
    pub(crate) fn enter(self: &Rc<Self>) -> Decision {
        if acquire(&self.server_limits.open, self.server_limits.capacity.get()) {
            self.set_open(self.open.get() + 1);
            Decision::Accept(Permit {
                admission: Some(Rc::clone(self)),
                record: None,
            })
        } else {
            self.reject(Rejection::Full)
        }
    }

    /// Decides again once the client's address is known. Called once per connection.
    pub(crate) fn admit(
        self: &Rc<Self>,
        decision: Decision,
        record: &Rc<ConnectionRecord>,
    ) -> Decision {
        let Decision::Accept(mut permit) = decision else {
            return decision;
        };
        let source = Source::of(record.peer());
        if let Some(Err(rejection)) = source.map(|source| self.server_limits.admit(source)) {
            drop(permit);
            return self.reject(rejection);
        }
        permit.record = Some(Rc::clone(record));
        Decision::Accept(permit)
    }

    fn reject(self: &Rc<Self>, rejection: Rejection) -> Decision {
        if !acquire(
            &self.server_limits.rejecting,
            self.server_limits.rejects_max,
        ) {
            return Decision::Drop;
        }
        self.set_rejecting(self.rejecting.get() + 1);
        let admission = Rc::clone(self);
        Decision::Reject(rejection, RejectSlot { admission })
    }

    /// The record of a connection of this peer, with a new id.
    pub(crate) fn record(
        &self,
        peer: Peer,
        access: Option<Rc<AccessContext>>,
    ) -> Rc<ConnectionRecord> {
        let id = self.server_limits.accepted.fetch_add(1, Relaxed) + 1;
        Rc::new(ConnectionRecord::new(id, peer, access))
    }

    pub(crate) fn held(&self) -> &MemoryBudget {
        self.server_limits.held()
    }

    pub(crate) fn tcp_memory(&self) -> &TcpMemory {
        self.server_limits.tcp_memory()
    }

    /// The number of this worker's open connections, including those being rejected.
    pub(crate) fn open(&self) -> usize {
        self.open.get() + self.rejecting.get()
    }

    fn set_open(&self, open: usize) {
        self.open.set(open);
        self.counters.open.set(open as u64);
    }

    fn set_rejecting(&self, rejecting: usize) {
        self.rejecting.set(rejecting);
        self.counters.rejecting.set(rejecting as u64);
    }

    /// Waits until a connection of this worker ends.
    pub(crate) async fn one_left(&self) {
        self.released.notified().await;
    }
}

impl Permit {
    #[inline]
    pub(crate) fn record(&self) -> Option<&Rc<ConnectionRecord>> {
        self.record.as_ref()
    }

    /// Drops the record if neither a log line nor a limit needs it.
    pub(crate) fn forget_record_if_unwanted(&mut self) {
        let is_counted =
            |admission: &Rc<Admission>| admission.server_limits.address_counts.is_some();
        let is_counted = self.admission.as_ref().is_some_and(is_counted);
        if !is_counted
            && self
                .record
                .as_ref()
                .is_some_and(|record| !record.is_wanted())
        {
            self.record = None;
        }
    }

    /// One that tells of the same connection, and is no place of its own.
    pub(crate) fn companion(&self) -> Self {
        Self {
            admission: None,
            record: self.record.clone(),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(admission) = &self.admission else {
            return;
        };
        let server_limits = &admission.server_limits;
        if let (Some(address_counts), Some(record)) = (&server_limits.address_counts, &self.record)
            && let Some(source) = Source::of(record.peer())
        {
            address_counts.leave(source);
        }
        // The gauge first: it never exceeds the limit.
        admission.set_open(admission.open.get() - 1);
        server_limits.open.fetch_sub(1, Relaxed);
        admission.released.notify_waiters();
    }
}

impl Drop for RejectSlot {
    fn drop(&mut self) {
        let Self { admission } = self;
        admission.set_rejecting(admission.rejecting.get() - 1);
        admission.server_limits.rejecting.fetch_sub(1, Relaxed);
        admission.released.notify_waiters();
    }
}

/// Acquires one of `capacity` permits, if one is free.
fn acquire(taken: &AtomicUsize, capacity: usize) -> bool {
    let is_free = taken.fetch_add(1, Relaxed) < capacity;
    if !is_free {
        taken.fetch_sub(1, Relaxed);
    }
    is_free
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::descriptors::REJECTS_MAX;

    fn limits(config: &Config) -> Arc<ServerLimits> {
        ServerLimits::new(config, REJECTS_MAX)
    }

    fn server_limits(capacity: usize) -> Arc<ServerLimits> {
        limits(&Config {
            max_connections: NonZeroUsize::new(capacity).expect("not zero"),
            ..Config::default()
        })
    }

    #[test]
    fn max_connections_holds_over_all_workers() {
        let server_limits = server_limits(2);
        let first = Admission::new(Arc::clone(&server_limits), Arc::default());
        let second = Admission::new(Arc::clone(&server_limits), Arc::default());
        let one = first.enter();
        let two = second.enter();
        assert!(matches!(
            (&one, &two),
            (Decision::Accept(_), Decision::Accept(_))
        ));
        let full = first.enter();
        assert!(matches!(full, Decision::Reject(Rejection::Full, _)));
        assert_eq!((first.open(), second.open()), (2, 1));
        let counters = &first.counters;
        assert_eq!((counters.open.get(), counters.rejecting.get()), (1, 1));
        assert!(server_limits.is_full());
        drop(two);
        assert!(!server_limits.is_full());
        let three = second.enter();
        assert!(
            matches!(three, Decision::Accept(_)),
            "a rejected connection takes no permit"
        );
        drop((one, three, full));
        assert_eq!((first.open(), second.open()), (0, 0));
        assert_eq!(first.counters.open.get(), 0);
        assert_eq!(first.counters.rejecting.get(), 0);
    }

    #[test]
    fn rejected_connections_are_bounded_and_more_are_dropped() {
        let admission = Admission::new(server_limits(1), Arc::default());
        let _accepted = admission.enter();
        let mut full: Vec<_> = (0..REJECTS_MAX).map(|_| admission.enter()).collect();
        assert!(
            full.iter()
                .all(|decision| matches!(decision, Decision::Reject(Rejection::Full, _)))
        );
        assert!(matches!(admission.enter(), Decision::Drop));
        assert_eq!(
            admission.open(),
            1 + REJECTS_MAX,
            "a dropped connection is not counted"
        );
        assert_eq!(admission.counters.open.get(), 1, "the limit");
        full.pop();
        assert!(matches!(admission.enter(), Decision::Reject(..)));
    }

    /// Accepts a connection of this peer.
    fn connect(admission: &Rc<Admission>, peer: Peer) -> Decision {
        let record = admission.record(peer, None);
        admission.admit(admission.enter(), &record)
    }

    fn host(last: u8) -> Peer {
        std::net::SocketAddr::from(([192, 0, 2, last], 1)).into()
    }

    #[test]
    fn max_connections_per_address_holds_over_all_workers() {
        let server_limits = limits(&Config {
            max_connections: NonZeroUsize::new(3).expect("not zero"),
            max_connections_per_address: NonZeroUsize::new(1),
            ..Config::default()
        });
        let first = Admission::new(Arc::clone(&server_limits), Arc::default());
        let second = Admission::new(Arc::clone(&server_limits), Arc::default());
        let one = connect(&first, host(1));
        assert!(matches!(one, Decision::Accept(_)));
        let over = connect(&second, host(1));
        assert!(matches!(over, Decision::Reject(Rejection::Address, _)));
        let other = connect(&second, host(2));
        assert!(matches!(other, Decision::Accept(_)));
        let local = connect(&first, Peer::Local);
        assert!(
            matches!(local, Decision::Accept(_)),
            "a connection over the limit of its address takes no permit"
        );
        let full = connect(&first, Peer::Local);
        assert!(matches!(full, Decision::Reject(Rejection::Full, _)));
        drop(one);
        assert!(matches!(connect(&second, host(1)), Decision::Accept(_)));
        drop((over, other, local, full));
        assert_eq!((first.open(), second.open()), (0, 0));
    }

    #[test]
    fn rejection_by_a_full_server_takes_no_token_of_the_address() {
        let server_limits = limits(&Config {
            max_connections: NonZeroUsize::MIN,
            handshake_rate: "2/h".parse().ok(),
            ..Config::default()
        });
        let admission = Admission::new(server_limits, Arc::default());
        let accepted = connect(&admission, host(1));
        assert!(matches!(
            connect(&admission, host(1)),
            Decision::Reject(Rejection::Full, _)
        ));
        drop(accepted);
        assert!(matches!(connect(&admission, host(1)), Decision::Accept(_)));
        let Decision::Reject(Rejection::Rate { wait }, _) = connect(&admission, host(1)) else {
            panic!("three in a moment");
        };
        assert!(wait > Duration::from_secs(29 * 60), "{wait:?}");
        assert!(matches!(connect(&admission, host(2)), Decision::Accept(_)));
    }
}
