//! The phases of a thread: connect, warm up, measure, drain. A measurement in slices has pauses
//! between them.

use super::shared::{ThreadEnd, ThreadEvent};
use super::thread_state::SendState;
use super::{Worker, as_ns};
use crate::cpu;
use crate::failure::Failure;
use crate::recorder::Window;

/// The index of the interval after the measurement.
pub const DRAIN_INTERVAL: u32 = u32::MAX;

const SECOND_NS: u64 = 1_000_000_000;

/// The parts of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Connections are opened.
    Connect,
    /// All connections of this thread are open; other threads or the start time are awaited.
    Ready,
    /// Load, not counted.
    WarmUp,
    /// Load, counted.
    Measure,
    /// A slice is over, and the next one has not begun. Nothing new is sent;
    /// replies still due are awaited.
    Pause,
    /// Nothing new is sent; replies still due are awaited, then connections
    /// are closed.
    Drain,
}

impl Phase {
    /// Whether the load has begun.
    pub(super) fn has_begun(self) -> bool {
        !matches!(self, Self::Connect | Self::Ready)
    }

    /// Whether nothing new is due.
    pub(super) fn is_over(self) -> bool {
        matches!(self, Self::Pause | Self::Drain)
    }
}

/// The totals of the slices so far, and the clocks at the start of the last one.
#[derive(Debug, Default)]
#[expect(clippy::struct_field_names, reason = "the unit belongs to each")]
pub(super) struct SliceTotals {
    wall_ns: u64,
    cpu_ns: u64,
    spin_ns: u64,
    cpu_began_ns: u64,
    spin_began_ns: u64,
}

impl Worker<'_> {
    /// Goes to the next phase when this one is over.
    pub(super) fn advance(&mut self, now_ns: u64) -> Result<(), Failure> {
        if self.phase == Phase::Measure {
            self.finish_interval(now_ns);
        }
        match self.phase {
            Phase::Connect if self.begun == self.planned() && self.opening == 0 => {
                self.phase = Phase::Ready;
                let thread_id = rustix::thread::gettid().as_raw_nonzero().get();
                let _ = self.events.send(ThreadEvent::Ready { thread_id });
            }
            // When the run is cut short, other threads may never be ready.
            Phase::Ready if !self.shared.is_cut_short() => {
                self.begin_when_due(now_ns)?;
            }
            Phase::WarmUp if now_ns >= self.phase_end_ns => self.measure(),
            Phase::Measure if now_ns >= self.phase_end_ns || self.is_all_answered() => {
                if self.slice + 1 < self.plan.slices {
                    self.pause(now_ns)?;
                } else {
                    self.drain(now_ns)?;
                }
            }
            Phase::Pause if !self.shared.is_cut_short() => self.wait_for_slice(now_ns)?,
            Phase::Drain if self.state.send_state == SendState::Backlog && !self.is_behind() => {
                self.state.send_state = SendState::Finished;
                self.work_all()?;
            }
            _ if self.shared.is_cut_short() && self.phase != Phase::Drain => {
                // Earlier slices keep their window: replies to them may be in flight.
                if self.phase != Phase::Pause {
                    self.recorder_window().end_ns = now_ns;
                }
                if !matches!(self.phase, Phase::Measure | Phase::Pause) {
                    self.recorder_window().start_ns = now_ns;
                    self.measure();
                }
                self.drain(now_ns)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn recorder_window(&mut self) -> &mut Window {
        &mut self.state.recorder.window
    }

    /// Begins the load at the common start time.
    fn begin_when_due(&mut self, now_ns: u64) -> Result<(), Failure> {
        let start_ns = self.shared.start_ns();
        self.phase_end_ns = start_ns;
        if now_ns >= start_ns {
            self.zero_ns = start_ns;
            self.warm_up(start_ns)?;
        }
        Ok(())
    }

    fn warm_up(&mut self, start_ns: u64) -> Result<(), Failure> {
        let slice = self.plan.slice(self.slice);
        let measure_ns = start_ns + as_ns(slice.warmup);
        *self.recorder_window() = Window {
            start_ns: measure_ns,
            end_ns: slice
                .length
                .map_or(u64::MAX, |length| measure_ns + as_ns(length)),
        };
        self.begun_ns = start_ns;
        self.phase = Phase::WarmUp;
        self.phase_end_ns = measure_ns;
        self.state.send_state = SendState::Unlimited;
        self.state.progress_ns = self.state.now_ns();
        self.work_all()
    }

    fn measure(&mut self) {
        self.phase = Phase::Measure;
        self.phase_end_ns = self.state.recorder.window.end_ns;
        let carried_in: u64 = self.sockets.iter().map(|(_, c)| c.carried_in()).sum();
        self.state.recorder.counts.carried_in += carried_in;
        self.measured.cpu_began_ns = cpu::this_thread_ns();
        self.measured.spin_began_ns = self.spin_ns;
    }

    /// Stops the load, until the next slice begins.
    fn pause(&mut self, now_ns: u64) -> Result<(), Failure> {
        self.end_measurement(now_ns);
        self.phase = Phase::Pause;
        self.phase_end_ns = u64::MAX;
        self.pause_ends_ns = now_ns.saturating_add(self.timeout_ns);
        self.is_quiet = false;
        self.state.send_state = SendState::NotStarted;
        let _ = self.events.send(ThreadEvent::Measured);
        self.wait_for_slice(now_ns)
    }

    /// Begins the next slice at its start time, once all replies are received.
    fn wait_for_slice(&mut self, now_ns: u64) -> Result<(), Failure> {
        if !self.is_quiet {
            self.is_quiet = self.state.in_flight == 0
                && !self.is_behind()
                && !self.sockets.iter().any(|(_, it)| it.has_outstanding());
            if self.is_quiet {
                let _ = self.events.send(ThreadEvent::Drained);
            } else if now_ns >= self.pause_ends_ns {
                // The server has too much to do for there to be a next slice.
                return self.drain(now_ns);
            }
            return Ok(());
        }
        let start_ns = self.shared.start_ns();
        if start_ns == self.begun_ns {
            return Ok(());
        }
        self.phase_end_ns = start_ns;
        if now_ns >= start_ns {
            // An open loop's schedule does not advance in a pause.
            let end_ns = self.state.recorder.window.end_ns;
            self.zero_ns += start_ns - end_ns;
            self.slice += 1;
            self.next_interval(self.slice);
            self.warm_up(start_ns)?;
        }
        Ok(())
    }

    /// In a run that counts messages: whether all are answered.
    fn is_all_answered(&self) -> bool {
        let counts = &self.state.recorder.counts;
        self.state.quota == Some(0) && counts.answered == counts.due
    }

    fn drain(&mut self, now_ns: u64) -> Result<(), Failure> {
        if self.phase == Phase::Measure {
            self.end_measurement(now_ns);
            let _ = self.events.send(ThreadEvent::Measured);
        }
        self.phase = Phase::Drain;
        self.phase_end_ns = now_ns.saturating_add(self.timeout_ns);
        // Messages due after the end belong to the drain, the rest is sent as is.
        self.next_interval(DRAIN_INTERVAL);
        self.state.send_state = if self.is_behind() {
            SendState::Backlog
        } else {
            SendState::Finished
        };
        for slot in std::mem::take(&mut self.slow_readers) {
            self.close(slot, None)?;
        }
        self.work_all()
    }

    /// Closes the window, unless it is over already, and adds up the slice.
    fn end_measurement(&mut self, now_ns: u64) {
        let window = &mut self.state.recorder.window;
        window.end_ns = window.end_ns.min(now_ns);
        // The end is that of the window, not the later time of this call.
        self.measured.wall_ns += window.end_ns.saturating_sub(window.start_ns);
        self.measured.cpu_ns += cpu::this_thread_ns() - self.measured.cpu_began_ns;
        self.measured.spin_ns += self.spin_ns - self.measured.spin_began_ns;
    }

    /// Lets every connection work after a change of the phase.
    fn work_all(&mut self) -> Result<(), Failure> {
        for slot in 0..self.sockets.slots() {
            let Some(connection) = self.sockets.at(slot) else {
                continue;
            };
            if connection.opening.is_some() {
                // A replacement that is not needed any more.
                self.close(slot, None)?;
                continue;
            }
            connection.begin(self.state.now_ns());
            self.work(slot, false, false)?;
        }
        Ok(())
    }

    /// Reports the seconds that are over; a slice is one interval.
    fn finish_interval(&mut self, now_ns: u64) {
        if self.plan.slices > 1 {
            return;
        }
        let window = self.state.recorder.window;
        let second = now_ns
            .min(window.end_ns - 1)
            .saturating_sub(window.start_ns)
            / SECOND_NS;
        let second = u32::try_from(second).unwrap_or(DRAIN_INTERVAL - 1);
        if second != self.state.recorder.interval_index() {
            self.next_interval(second);
        }
    }

    fn next_interval(&mut self, index: u32) {
        let empty = self.empty_histograms.try_recv().unwrap_or_default();
        let part = self.state.recorder.next_interval(index, empty);
        let thread = self.share.thread;
        let _ = self.events.send(ThreadEvent::Interval { thread, part });
    }

    /// The thread's results, whether or not it came to its end.
    pub(super) fn finish(&mut self, failure: Option<Failure>) -> ThreadEnd {
        let now_ns = self.state.now_ns();
        if self.phase == Phase::Measure {
            self.end_measurement(now_ns);
        }
        if self.phase.has_begun() {
            self.record_unsent(now_ns);
        }
        for slot in 0..self.sockets.slots() {
            if let Some(connection) = self.sockets.at(slot) {
                connection.abandon(now_ns, &mut self.state);
                self.state.recorder.counts.fragmented += connection.checker.fragmented();
            }
        }
        let span = std::mem::take(&mut self.measured);
        let recorder = &mut self.state.recorder;
        ThreadEnd {
            thread: self.share.thread,
            counts: recorder.counts,
            handshake_ns: recorder.handshake_ns.clone(),
            opening_max: self.opening_max,
            part: recorder.next_interval(DRAIN_INTERVAL, Box::default()),
            measured_ns: span.wall_ns,
            cpu_ns: span.cpu_ns,
            spin_ns: span.spin_ns,
            added_sources: self.endpoints.added_sources(),
            unclosed: self.unclosed.take(),
            failure,
        }
    }
}
