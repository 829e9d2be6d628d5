//! The connections of an engine, with what runs for each of them beside its bytes: a
//! timer, its part of the held bytes, its turn in a drain.
//!
//! None of that takes a look at all connections. What a connection holds, and which timer
//! it needs, is compared with what is noted of it whenever it was served. A timer that
//! was put off meanwhile is found when it is due, and set again. A drain goes from one
//! connection to the next, some in each turn.

use std::time::Duration;

use super::connection::{Context, Timer};
use super::eviction::EvictionCandidate;
use super::wheel::{Link, Links, Wheel};
use super::{Buffered, Drain, Millis, Settings};
use crate::sys::turn::turn;

/// Connections whose memory is allocated together: it does not double with their
/// number, and none of them moves.
const CHUNK: usize = 256;

const NEXT_TURN: Duration = Duration::from_millis(1);

/// Connections that a drain comes to in one turn.
const DRAINED_PER_TURN: u32 = 256;

/// What a table keeps.
pub(crate) trait Served {
    /// The timer that it needs.
    fn timer(&self) -> Timer;

    /// Whether that is due.
    fn is_due(&self, context: Context) -> bool;

    /// When it is, if ever.
    fn deadline(&self, context: Context) -> Option<Millis>;

    /// Bytes that it holds.
    fn held(&self) -> usize;

    /// What it holds.
    fn buffered(&self, now: Millis) -> Buffered;
}

pub(crate) struct Table<T> {
    slots: Slots<T>,
    wheel: Wheel,
    /// Slots that are free, the last one first.
    free: Vec<u32>,
    held: Buffered,
    drain: Option<Progress>,
}

struct Slots<T>(Vec<Box<[Slot<T>]>>);

struct Slot<T> {
    link: Link,
    noted: Noted,
    value: Option<T>,
}

/// What was found when a connection was last served: its timer, and [`Buffered`] in less
/// memory.
#[derive(Clone, Copy, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a count of 0 or 1")]
struct Noted {
    bytes: usize,
    is_slow_reader: bool,
    is_stalled: bool,
    is_unread: bool,
    is_paused: bool,
    timer: Timer,
}

/// How far a drain has come.
struct Progress {
    drain: Drain,
    initiated: Millis,
    spread: Duration,
    next: u32,
}

impl<T: Served> Table<T> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Slots(Vec::new()),
            wheel: Wheel::new(),
            free: Vec::new(),
            held: Buffered::default(),
            drain: None,
        }
    }

    /// The key that the next connection will have.
    pub(crate) fn next_key(&mut self) -> u32 {
        if self.free.is_empty() {
            self.grow();
        }
        *self.free.last().expect("it has grown")
    }

    /// Takes a connection; answers its key.
    pub(crate) fn insert(&mut self, value: T, context: Context) -> u32 {
        let key = self.next_key();
        self.free.pop();
        self.slots.get(key).value = Some(value);
        self.note(key, context);
        key
    }

    pub(crate) fn get_mut(&mut self, key: u32) -> Option<&mut T> {
        let chunk = self.slots.0.get_mut(key as usize / CHUNK)?;
        chunk[key as usize % CHUNK].value.as_mut()
    }

    /// Gives a connection up.
    pub(crate) fn remove(&mut self, key: u32) -> Option<T> {
        let slot = self.slots.get(key);
        let value = slot.value.take()?;
        let noted = std::mem::take(&mut slot.noted);
        noted.leave(&mut self.held);
        self.wheel.cancel(&mut self.slots, key);
        self.free.push(key);
        Some(value)
    }

    /// Notes how a connection stands; to be called whenever it was served.
    #[inline]
    pub(crate) fn settle(&mut self, key: u32, settings: &Settings) {
        if !self.is_as_noted(key) {
            self.note(key, settings.context());
        }
    }

    #[inline]
    fn is_as_noted(&mut self, key: u32) -> bool {
        let slot = self.slots.get(key);
        let Some(value) = &slot.value else {
            return true;
        };
        let timer = value.timer();
        timer == slot.noted.timer && timer != Timer::Backlog && value.held() == slot.noted.bytes
    }

    /// As [`settle`](Self::settle), whatever is noted. Sets the timer anew if it was due,
    /// or is to be due sooner; one that was put off is found when it would have been.
    pub(crate) fn note(&mut self, key: u32, context: Context) {
        let slot = self.slots.get(key);
        let Some(value) = &slot.value else { return };
        let noted = Noted::of(value.buffered(context.now), value.timer());
        let deadline = value.deadline(context);
        slot.noted.leave(&mut self.held);
        noted.join(&mut self.held);
        slot.noted = noted;
        // One that is still due waits for the next turn.
        let next_turn = context.now.after(NEXT_TURN);
        if let Some(at) = deadline.map(|at| at.max(next_turn))
            && self.wheel.is_sooner(&mut self.slots, key, at)
        {
            self.wheel.set(&mut self.slots, key, at);
        }
    }

    /// What all of them hold.
    pub(crate) fn buffered(&self) -> Buffered {
        self.held
    }

    /// What each of them holds that holds something.
    pub(crate) fn eviction_candidates(&self, now: Millis) -> Vec<EvictionCandidate<u32>> {
        let slots = self.slots.0.iter().flatten().zip(0..);
        slots
            .filter(|(slot, _key)| slot.noted.bytes > 0)
            .filter_map(|(slot, key)| {
                EvictionCandidate::of(key, slot.value.as_ref()?.buffered(now))
            })
            .collect()
    }

    /// One turn of the timers and of the drain. Returns what all connections hold.
    pub(crate) fn tick(
        &mut self,
        context: Context,
        mut timeout: impl FnMut(&mut T),
        mut start_drain: impl FnMut(&mut T, Drain),
    ) -> Buffered {
        while let Some(key) = self.next_due(context) {
            if let Some(value) = self.get_mut(key) {
                turn(|| timeout(value));
                self.note(key, context);
            }
        }
        for (key, drain) in self.drained_in_turn(context) {
            if let Some(value) = self.get_mut(key) {
                start_drain(value, drain);
                self.note(key, context);
            }
        }
        self.held
    }

    /// A connection whose timer is due by now, if this turn may serve one more. It is to be
    /// [noted](Self::note) afterwards, which sets the timer again.
    pub(crate) fn next_due(&mut self, context: Context) -> Option<u32> {
        let budget = &context.settings.timers;
        if !self.wheel.has_due() {
            self.wheel.advance(&mut self.slots, context.now);
        }
        while self.wheel.has_due() && budget.take() {
            let key = self.wheel.next_due(&mut self.slots)?;
            let value = &self.slots.get(key).value;
            if value.as_ref().is_some_and(|it| it.is_due(context)) {
                return Some(key);
            }
            // It was put off.
            budget.put_back();
            self.note(key, context);
        }
        None
    }

    /// Begins a drain, over so much time.
    pub(crate) fn drain(&mut self, drain: Drain, spread: Duration, now: Millis) {
        self.drain = Some(Progress {
            drain,
            initiated: now,
            spread,
            next: 0,
        });
    }

    /// The connections that a drain comes to in this turn, and how each is closed.
    pub(crate) fn drained_in_turn(&mut self, context: Context) -> Vec<(u32, Drain)> {
        let Some(progress) = &mut self.drain else {
            return Vec::new();
        };
        let all = self.slots.len();
        let end = progress.reaches(all, context.now);
        let slots = progress.next..end.min(progress.next + DRAINED_PER_TURN);
        progress.next = slots.end;
        let drain = progress.drain;
        if slots.end < all {
            context.settings.timers.cut_short();
        } else {
            self.drain = None;
        }
        let keys = slots.filter(|&key| self.slots.get(key).value.is_some());
        keys.map(|key| (key, drain)).collect()
    }

    fn grow(&mut self) {
        let start = self.slots.len();
        let chunk = (0..CHUNK).map(|_| Slot {
            link: Link::default(),
            noted: Noted::default(),
            value: None,
        });
        self.slots.0.push(chunk.collect());
        // No more than descriptors, which are no more than these.
        self.free.extend((start..self.slots.len()).rev());
    }
}

impl<T> Slots<T> {
    fn get(&mut self, key: u32) -> &mut Slot<T> {
        &mut self.0[key as usize / CHUNK][key as usize % CHUNK]
    }

    fn len(&self) -> u32 {
        u32::try_from(self.0.len() * CHUNK).expect("fewer connections than descriptors")
    }
}

impl<T> Links for Slots<T> {
    fn link(&mut self, key: u32) -> &mut Link {
        &mut self.get(key).link
    }
}

impl Noted {
    fn of(buffered: Buffered, timer: Timer) -> Self {
        Self {
            bytes: buffered.bytes,
            is_slow_reader: buffered.slow_readers > 0,
            is_stalled: buffered.stalled > 0,
            is_unread: buffered.unread > 0,
            is_paused: buffered.paused > 0,
            timer,
        }
    }

    fn join(self, all: &mut Buffered) {
        all.bytes += self.bytes;
        all.slow_readers += usize::from(self.is_slow_reader);
        all.stalled += usize::from(self.is_stalled);
        all.unread += usize::from(self.is_unread);
        all.paused += usize::from(self.is_paused);
    }

    fn leave(self, all: &mut Buffered) {
        all.bytes -= self.bytes;
        all.slow_readers -= usize::from(self.is_slow_reader);
        all.stalled -= usize::from(self.is_stalled);
        all.unread -= usize::from(self.is_unread);
        all.paused -= usize::from(self.is_paused);
    }
}

impl Progress {
    /// Of `all` slots, those up to this one have had their time to come.
    fn reaches(&self, all: u32, now: Millis) -> u32 {
        let passed = u128::from(now.0.saturating_sub(self.initiated.0));
        let spread = self.spread.as_millis();
        if passed >= spread {
            return all;
        }
        u32::try_from(u128::from(all) * passed / spread).unwrap_or(all)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::tests::rig;
    use crate::observe::metrics::Counters;

    const IDLE: u64 = 1000;

    /// A connection that was last heard at this time, and holds so much.
    struct Fake {
        heard: u64,
        held: usize,
    }

    impl Served for Fake {
        fn timer(&self) -> Timer {
            Timer::Idle
        }

        fn is_due(&self, context: Context) -> bool {
            context.now.0 >= self.heard + IDLE
        }

        fn deadline(&self, _context: Context) -> Option<Millis> {
            Some(Millis(self.heard + IDLE))
        }

        fn held(&self) -> usize {
            self.held
        }

        fn buffered(&self, _now: Millis) -> Buffered {
            Buffered {
                bytes: self.held,
                ..Buffered::default()
            }
        }
    }

    fn filled(count: u32) -> (Table<Fake>, Settings) {
        let settings = rig::settings(Arc::<Counters>::default());
        let mut table = Table::new();
        for key in 0..count {
            let fake = Fake { heard: 0, held: 0 };
            assert_eq!(table.insert(fake, settings.at(Millis(0))), key);
        }
        (table, settings)
    }

    fn due(table: &mut Table<Fake>, settings: &Settings, now: u64) -> Vec<u32> {
        settings.timers.refill();
        let due = std::iter::from_fn(|| table.next_due(settings.at(Millis(now))));
        let mut due: Vec<_> = due.collect();
        due.sort_unstable();
        due
    }

    #[test]
    fn a_timer_that_was_put_off_is_set_again() {
        let (mut table, settings) = filled(3);
        table.get_mut(1).expect("it is there").heard = 500;
        assert!(due(&mut table, &settings, IDLE - 1).is_empty());
        assert_eq!(due(&mut table, &settings, IDLE), [0, 2]);
        assert!(due(&mut table, &settings, IDLE + 499).is_empty());
        assert_eq!(due(&mut table, &settings, IDLE + 500), [1]);
    }

    #[test]
    fn a_timer_that_is_due_sooner_is_found_in_time() {
        let (mut table, settings) = filled(1);
        let late = Fake {
            heard: 500,
            held: 0,
        };
        assert_eq!(table.insert(late, settings.at(Millis(0))), 1);
        let fake = table.get_mut(1).expect("it is there");
        // What is held has changed, so that it is looked at.
        (fake.heard, fake.held) = (100, 1);
        table.note(1, settings.at(Millis(0)));
        assert_eq!(due(&mut table, &settings, IDLE + 100), [0, 1]);
    }

    #[test]
    fn a_turn_serves_as_many_timers_as_it_may() {
        let (mut table, settings) = filled(2 * super::super::timers::PER_TURN);
        let half = super::super::timers::PER_TURN as usize;
        for _ in 0..2 {
            assert_eq!(due(&mut table, &settings, IDLE).len(), half);
        }
        assert!(due(&mut table, &settings, IDLE).is_empty());
    }

    #[test]
    fn what_is_held_is_the_sum_of_what_each_was_seen_to_hold() {
        let (mut table, settings) = filled(3);
        for (key, held) in [(0, 10), (1, 200), (2, 3000), (0, 0), (1, 50)] {
            table.get_mut(key).expect("it is there").held = held;
            table.note(key, settings.at(Millis(0)));
        }
        assert_eq!(table.buffered().bytes, 3050);
        assert_eq!(table.eviction_candidates(Millis(0)).len(), 2);
        table.remove(2);
        assert_eq!(table.buffered().bytes, 50);
        assert!(table.get_mut(2).is_none());
        let fake = Fake { heard: 0, held: 7 };
        assert_eq!(table.insert(fake, settings.at(Millis(0))), 2);
        assert_eq!(table.buffered().bytes, 57);
    }

    #[test]
    fn a_drain_comes_to_everybody_in_turns_and_over_its_time() {
        let count = 4 * DRAINED_PER_TURN;
        let (mut table, settings) = filled(count);
        let mut drained = |spread, now: &[u64]| -> Vec<usize> {
            table.drain(Drain::WhenQuiet, Duration::from_millis(spread), Millis(0));
            let mut turn = |now| table.drained_in_turn(settings.at(Millis(now)));
            now.iter().map(|&now| turn(now).len()).collect()
        };
        let turn = DRAINED_PER_TURN as usize;
        assert_eq!(drained(0, &[0; 5]), [turn, turn, turn, turn, 0]);
        assert_eq!(
            drained(400, &[0, 50, 100, 100, 399]),
            [0, turn / 2, turn / 2, 0, turn]
        );
        assert!(settings.timers.was_short());
    }
}
