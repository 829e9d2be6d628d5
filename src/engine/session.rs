//! One connection's life as every engine lives it: the echo, the closing
//! handshake and the timeouts, without any I/O.
//!
//! ```text
//!            silence            silence
//!   Open ───────────▶ Probed ───────────▶ Closing ──▶ cut
//!    │  ▲───────────────┘ bytes             ▲  close_timeout, or the
//!    └──────────────────────────────────────┘  client's end of stream
//!      a Close either way, a violation, drain
//! ```

use std::io;
use std::os::fd::AsFd;

use super::{Millis, Settings};
use crate::admission::Permit;
use crate::metrics::label::EndReason;
use crate::proto::{CloseCode, Echo, Next, Others, Step};
use crate::stream::reset_when_closed;
use crate::throttle::{EVICTED, NO_TAKEOVER, SLOW_READER, TLS_BROKEN, VIOLATION, throttled};

/// A Ping without payload, as a server sends it.
pub(crate) const PING: [u8; 2] = [0x89, 0x00];

/// The state of one connection, less its socket and buffers.
#[derive(Debug)]
pub(crate) struct Session {
    echo: Echo,
    phase: Phase,
    /// When the phase began; in [`Phase::Open`], when bytes last came.
    since: Millis,
    /// The server has had enough of waiting for the client.
    is_cut: bool,
    permit: Permit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Frames are echoed.
    Open,
    /// As `Open`, but the client has been silent and was sent a Ping.
    Probed,
    /// A Close frame is out, or nothing more can be said. What still comes is
    /// discarded until the client's end of the stream, so that the Close
    /// reaches it: closing a socket with unread bytes would reset it.
    Closing,
}

/// What the clock asks of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    /// Send [`PING`].
    Ping,
    /// Send a Close frame and half-close.
    Close,
    /// End the connection without another word.
    Cut,
}

impl Session {
    /// A connection that was upgraded at `now`, and leaves when this is dropped.
    pub(crate) fn new(permit: Permit, now: Millis) -> Self {
        Self {
            permit,
            echo: Echo::new(),
            phase: Phase::Open,
            since: now,
            is_cut: false,
        }
    }

    /// Takes what has arrived; see [`Echo::advance`]. A step that ends the
    /// connection's talk also starts its [`Phase::Closing`].
    #[inline]
    pub(crate) fn receive(
        &mut self,
        settings: &Settings,
        buf: &mut [u8],
        filled: usize,
        now: Millis,
    ) -> Step {
        if self.phase == Phase::Closing {
            return Step {
                consumed: filled,
                reply: 0..0,
                next: Next::Read,
                messages: 0,
                others: Others::default(),
            };
        }
        self.phase = Phase::Open;
        self.since = now;
        let step = self.echo.advance(&settings.limits, buf, filled);
        settings.counters.count_step(&step);
        if let Some(visit) = self.permit.visit() {
            visit.count_step(&step);
        }
        if step.next != Next::Read {
            self.stop_talking(settings, step.next, now);
        }
        step
    }

    #[cold]
    fn stop_talking(&mut self, settings: &Settings, next: Next, now: Millis) {
        match next {
            Next::Read => return,
            Next::Close(code) => self.count_end(settings, EndReason::Client, code),
            Next::Fail(violation) => {
                self.count_end(settings, EndReason::Violation, Some(violation.close_code()));
            }
            Next::Abort(_) => self.count_end(settings, EndReason::Violation, None),
        }
        if let Next::Fail(violation) | Next::Abort(violation) = next {
            let _span = self.permit.visit().map(|visit| visit.span().entered());
            throttled!(debug, VIOLATION, %violation, "a client broke the protocol");
            settings.counters.violations.add(violation);
        }
        self.enter(Phase::Closing, now);
    }

    /// Counts a read that brought `len` bytes, or several that are served as one.
    #[inline]
    pub(crate) fn count_reads(&self, settings: &Settings, reads: u64, len: usize) {
        settings.counters.count_reads(reads, len);
        if let Some(visit) = self.permit.visit() {
            visit.read(len);
        }
    }

    /// Counts a write of `len` bytes.
    #[inline]
    pub(crate) fn count_write(&self, settings: &Settings, len: usize) {
        settings.counters.count_write(len);
        if let Some(visit) = self.permit.visit() {
            visit.wrote(len);
        }
    }

    fn count_end(&self, settings: &Settings, reason: EndReason, code: Option<CloseCode>) {
        settings.counters.count_end(reason, code);
        if let Some(visit) = self.permit.visit() {
            visit.ended(reason, code);
        }
        if reason.is_eviction() {
            let _span = self.permit.visit().map(|visit| visit.span().entered());
            log_end_of_slow_reader(reason);
        }
    }

    /// Whether the connection has said its last word.
    pub(crate) fn is_closing(&self) -> bool {
        self.phase == Phase::Closing
    }

    /// Whether everything that was received has been answered; `kept` is the
    /// number of bytes that the last step did not consume.
    pub(crate) fn is_quiet(&self, kept: usize) -> bool {
        kept == 0 && self.echo.between_messages()
    }

    /// Whether a frame of the server's own may be sent now.
    pub(crate) fn at_frame_boundary(&self) -> bool {
        self.echo.at_frame_boundary()
    }

    /// Closes the connection by the server's own wish. Returns the frame to be
    /// sent, or `None` inside a streamed frame, where none can be.
    pub(crate) fn close(
        &mut self,
        settings: &Settings,
        reason: EndReason,
        now: Millis,
    ) -> Option<[u8; 4]> {
        let code = self.at_frame_boundary().then(|| reason.close_code());
        self.count_end(settings, reason, code);
        self.enter(Phase::Closing, now);
        code.map(CloseCode::frame)
    }

    /// Notes that the connection is about to end without another word. If that
    /// was not foreseeable already, this is the reason.
    pub(crate) fn cut(&mut self, settings: &Settings, reason: EndReason) {
        self.is_cut |= reason.is_eviction() || reason == EndReason::Idle;
        if self.phase != Phase::Closing {
            self.count_end(settings, reason, None);
            self.phase = Phase::Closing;
        }
    }

    /// Logs that the connection ends for how its client uses TLS.
    pub(crate) fn log_broken_tls(&self, error: &io::Error) {
        let _span = self.permit.visit().map(|visit| visit.span().entered());
        log_broken_tls(error);
    }

    /// Notes that the connection is about to end because its client has not read
    /// for the write timeout.
    pub(crate) fn cut_slow_reader(&mut self, settings: &Settings) {
        settings.counters.write_timeouts.add(1);
        self.cut(settings, EndReason::SlowReader);
    }

    /// Notes that the end of the stream was sent: only from then on the client is
    /// waited for.
    pub(crate) fn half_closed(&mut self, now: Millis) {
        if self.phase == Phase::Closing {
            self.since = now;
        }
    }

    /// Notes that the connection is over; to be called for every one, before its
    /// socket is closed. Where nobody has ended it, its client is gone.
    pub(crate) fn over(&mut self, settings: &Settings, socket: impl AsFd) {
        self.cut(settings, EndReason::Gone);
        if self.is_cut {
            reset_when_closed(socket);
        }
    }

    /// Notes that an engine cannot serve this connection.
    pub(crate) fn lost(&mut self, settings: &Settings, error: &io::Error) {
        let visit = self.permit.visit();
        let _span = visit.map(|visit| visit.warning_span().entered());
        throttled!(warn, NO_TAKEOVER, %error, "cannot take over a connection");
        self.cut(settings, EndReason::Gone);
    }

    /// Whether the clock asks for something now that this turn may still do. To
    /// be called once for a connection in a turn.
    pub(crate) fn is_due_in_turn(&self, settings: &Settings, now: Millis) -> bool {
        self.due(settings, now) != Due::Nothing && settings.timers.take()
    }

    /// What the clock asks for now, without doing it.
    pub(crate) fn due(&self, settings: &Settings, now: Millis) -> Due {
        let over = |timeout| self.since.is_over(timeout, now);
        match self.phase {
            Phase::Open => match settings.idle_timeout {
                Some(timeout) if over(timeout) => {
                    if self.at_frame_boundary() {
                        Due::Ping
                    } else {
                        // Nothing can be asked inside a streamed frame.
                        Due::Cut
                    }
                }
                _ => Due::Nothing,
            },
            Phase::Probed if over(settings.pong_timeout) => Due::Close,
            Phase::Closing if over(settings.close_timeout) => Due::Cut,
            _ => Due::Nothing,
        }
    }

    /// Notes that the Ping that was [`Due`] is sent.
    pub(crate) fn probed(&mut self, settings: &Settings, now: Millis) {
        settings.counters.pings_sent.add(1);
        self.enter(Phase::Probed, now);
    }

    fn enter(&mut self, phase: Phase, now: Millis) {
        self.phase = phase;
        self.since = now;
    }
}

pub(crate) fn log_broken_tls(error: &io::Error) {
    throttled!(debug, TLS_BROKEN, %error, "a client broke TLS");
}

/// Logs why a connection ends that its client may not be told of: what waits for
/// it comes before a Close.
pub(crate) fn log_end_of_slow_reader(reason: EndReason) {
    match reason {
        EndReason::HeldBytes => throttled!(
            debug,
            EVICTED,
            "a client was evicted: buffered bytes exceed max-held-bytes, and it holds most"
        ),
        EndReason::TcpMemory => throttled!(
            debug,
            EVICTED,
            "a client was evicted: TCP has more memory than max-tcp-memory, and it does not read"
        ),
        _ => throttled!(
            debug,
            SLOW_READER,
            "a client was cut off: it has read too little for the write timeout"
        ),
    }
}
