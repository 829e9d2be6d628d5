//! How far a script has got.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::script::{Misdeed, Script, Stall};

/// What really happened, for whoever wants to compare.
#[derive(Debug, Default)]
pub(super) struct Truth {
    echoed: AtomicU64,
    rare: AtomicU64,
}

impl Truth {
    pub(super) fn echoed(&self) -> u64 {
        self.echoed.load(Ordering::Acquire)
    }

    pub(super) fn rare(&self) -> u64 {
        self.rare.load(Ordering::Acquire)
    }
}

/// A script that is being followed, over all connections.
#[derive(Debug)]
pub(super) struct Progress {
    script: Script,
    truth: Arc<Truth>,
    /// Messages read.
    messages: u64,
    /// When the stall begins and how long it lasts, from the first message on
    /// and until it began.
    stall: Option<(Instant, Duration)>,
}

/// What is to be done with one message.
#[derive(Debug)]
pub(super) struct Direction {
    /// When its reply is due.
    pub(super) due: Instant,
    pub(super) misdeed: Option<Misdeed>,
}

impl Progress {
    pub(super) fn new(script: Script, truth: Arc<Truth>) -> Self {
        Self {
            script,
            truth,
            messages: 0,
            stall: None,
        }
    }

    /// Counts a message that was read `now`.
    pub(super) fn message(&mut self, now: Instant) -> Direction {
        let number = self.messages;
        self.messages += 1;
        if number == 0 {
            let stall = self.script.stall.map(Stall::bounded);
            self.stall = stall.map(|stall| (now + stall.at, stall.length));
        }
        let (delay, is_rare) = self.script.delay.of(number);
        if is_rare {
            self.truth.rare.fetch_add(1, Ordering::Release);
        }
        let misdeed = match self.script.misdeed {
            // Waits for a Close instead.
            Some((_, Misdeed::WrongCloseCode)) | None => None,
            Some((which, misdeed)) => (which == number).then_some(misdeed),
        };
        Direction {
            due: now + delay,
            misdeed,
        }
    }

    /// Whether the Close that was read now is to be answered wrongly.
    pub(super) fn close_is_wrong(&mut self) -> bool {
        match self.script.misdeed {
            Some((which, Misdeed::WrongCloseCode)) if which <= self.messages => {
                self.script.misdeed = None;
                true
            }
            _ => false,
        }
    }

    /// Counts messages whose replies are about to be written.
    pub(super) fn echo(&self, messages: u64) {
        self.truth.echoed.fetch_add(messages, Ordering::Release);
    }

    /// When the stall begins, if it is still to come.
    pub(super) fn stall_at(&self) -> Option<Instant> {
        self.stall.map(|(at, _)| at)
    }

    /// The length of the stall if it is to begin now; it does so once.
    pub(super) fn begin_stall(&mut self, now: Instant) -> Option<Duration> {
        let (_, length) = self.stall.take_if(|(at, _)| *at <= now)?;
        Some(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(script: Script) -> Progress {
        Progress::new(script, Arc::default())
    }

    #[test]
    fn a_misdeed_happens_with_its_message_only() {
        let mut progress = progress(Script {
            misdeed: Some((2, Misdeed::Drop)),
            ..Script::default()
        });
        let misdeeds: Vec<_> = (0..4)
            .map(|_| progress.message(Instant::now()).misdeed)
            .collect();
        assert_eq!(misdeeds, [None, None, Some(Misdeed::Drop), None]);
        assert!(!progress.close_is_wrong());
    }

    #[test]
    fn one_close_is_wrong_once_its_messages_came() {
        let mut progress = progress(Script {
            misdeed: Some((1, Misdeed::WrongCloseCode)),
            ..Script::default()
        });
        assert!(!progress.close_is_wrong());
        assert!(progress.message(Instant::now()).misdeed.is_none());
        assert!(progress.close_is_wrong());
        assert!(!progress.close_is_wrong());
    }

    #[test]
    fn the_stall_counts_from_the_first_message_and_begins_once() {
        let (at, length) = (Duration::from_millis(5), Duration::from_millis(7));
        let mut progress = progress(Script {
            stall: Some(Stall { at, length }),
            ..Script::default()
        });
        let start = Instant::now();
        assert_eq!(progress.begin_stall(start + at), None);
        progress.message(start);
        progress.message(start + at);
        assert_eq!(progress.stall_at(), Some(start + at));
        assert_eq!(progress.begin_stall(start + at / 2), None);
        assert_eq!(progress.begin_stall(start + at), Some(length));
        assert_eq!(progress.begin_stall(start + at), None);
        assert_eq!(progress.stall_at(), None);
    }
}
