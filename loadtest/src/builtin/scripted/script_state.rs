//! The progress of a script.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::script::{Fault, Script, Stall};

/// Counters of what the server did.
#[derive(Debug, Default)]
pub(super) struct ScriptCounters {
    echoed: AtomicU64,
    rare: AtomicU64,
}

impl ScriptCounters {
    pub(super) fn echoed(&self) -> u64 {
        self.echoed.load(Ordering::Acquire)
    }

    pub(super) fn rare(&self) -> u64 {
        self.rare.load(Ordering::Acquire)
    }
}

/// A script that is being followed, over all connections.
#[derive(Debug)]
pub(super) struct ScriptState {
    script: Script,
    counters: Arc<ScriptCounters>,
    /// Messages read.
    messages: u64,
    /// The start and the length of the stall, from the first message until it begins.
    stall: Option<(Instant, Duration)>,
}

/// What to do with one message.
#[derive(Debug)]
pub(super) struct MessageAction {
    /// When its reply is due.
    pub(super) due: Instant,
    pub(super) fault: Option<Fault>,
}

impl ScriptState {
    pub(super) fn new(script: Script, counters: Arc<ScriptCounters>) -> Self {
        Self {
            script,
            counters,
            messages: 0,
            stall: None,
        }
    }

    /// Counts a message that was read `now`.
    pub(super) fn message(&mut self, now: Instant) -> MessageAction {
        let number = self.messages;
        self.messages += 1;
        if number == 0 {
            let stall = self.script.stall.map(Stall::bounded);
            self.stall = stall.map(|stall| (now + stall.at, stall.length));
        }
        let (delay, is_rare) = self.script.delay.of(number);
        if is_rare {
            self.counters.rare.fetch_add(1, Ordering::Release);
        }
        let fault = match self.script.fault {
            // Waits for a Close instead.
            Some((_, Fault::WrongCloseCode)) | None => None,
            Some((which, fault)) => (which == number).then_some(fault),
        };
        MessageAction {
            due: now + delay,
            fault,
        }
    }

    /// Whether the Close that was read now is to be answered wrongly.
    pub(super) fn close_is_wrong(&mut self) -> bool {
        match self.script.fault {
            Some((which, Fault::WrongCloseCode)) if which <= self.messages => {
                self.script.fault = None;
                true
            }
            _ => false,
        }
    }

    /// Counts messages whose replies are about to be written.
    pub(super) fn echo(&self, messages: u64) {
        self.counters.echoed.fetch_add(messages, Ordering::Release);
    }

    /// When the stall begins, if it has not begun.
    pub(super) fn stall_at(&self) -> Option<Instant> {
        self.stall.map(|(at, _)| at)
    }

    /// The length of the stall, once it is due; returned once.
    pub(super) fn begin_stall(&mut self, now: Instant) -> Option<Duration> {
        let (_, length) = self.stall.take_if(|(at, _)| *at <= now)?;
        Some(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script_state(script: Script) -> ScriptState {
        ScriptState::new(script, Arc::default())
    }

    #[test]
    fn a_fault_happens_with_its_message_only() {
        let mut script_state = script_state(Script {
            fault: Some((2, Fault::Drop)),
            ..Script::default()
        });
        let faults: Vec<_> = (0..4)
            .map(|_| script_state.message(Instant::now()).fault)
            .collect();
        assert_eq!(faults, [None, None, Some(Fault::Drop), None]);
        assert!(!script_state.close_is_wrong());
    }

    #[test]
    fn one_close_is_answered_wrongly_after_the_messages() {
        let mut script_state = script_state(Script {
            fault: Some((1, Fault::WrongCloseCode)),
            ..Script::default()
        });
        assert!(!script_state.close_is_wrong());
        assert!(script_state.message(Instant::now()).fault.is_none());
        assert!(script_state.close_is_wrong());
        assert!(!script_state.close_is_wrong());
    }

    #[test]
    fn the_stall_counts_from_the_first_message_and_begins_once() {
        let (at, length) = (Duration::from_millis(5), Duration::from_millis(7));
        let mut script_state = script_state(Script {
            stall: Some(Stall { at, length }),
            ..Script::default()
        });
        let start = Instant::now();
        assert_eq!(script_state.begin_stall(start + at), None);
        script_state.message(start);
        script_state.message(start + at);
        assert_eq!(script_state.stall_at(), Some(start + at));
        assert_eq!(script_state.begin_stall(start + at / 2), None);
        assert_eq!(script_state.begin_stall(start + at), Some(length));
        assert_eq!(script_state.begin_stall(start + at), None);
        assert_eq!(script_state.stall_at(), None);
    }
}
