use std::collections::VecDeque;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::engine::tests::rig;
use crate::observe::metrics::Counters;

const READ: usize = 1000;
const MAX: usize = 8000;
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

fn settings() -> Settings {
    Settings {
        read_size: READ,
        max_backlog: MAX,
        write_timeout: WRITE_TIMEOUT,
        ..rig::settings(Arc::<Counters>::default())
    }
}

fn begun_with(bytes: &[u8], settings: &Settings, now: Millis) -> Backlog {
    let mut backlog = Backlog::begin(settings, now);
    backlog.push(bytes, settings, now);
    backlog
}

/// A backlog of one byte, whose socket has taken nothing for [`SLOW_READER`].
fn read_on(settings: &Settings) -> (Backlog, Millis) {
    let mut backlog = begun_with(&[1], settings, Millis(0));
    let now = after(Millis(0), SLOW_READER);
    assert_eq!(backlog.wait.judge(settings, now), Verdict::Wait);
    assert!(backlog.wait.reads_on());
    (backlog, now)
}

/// Many clients are read on at once, and the limit on held bytes is one for all.
#[test]
fn nobody_is_read_on_when_there_is_no_room_until_there_is() {
    let settings = settings();
    let (mut backlog, now) = read_on(&settings);
    settings.backlog_room.set(READ);
    backlog.push(&[1; READ - 1], &settings, now);
    assert!(backlog.wait.reads_on());
    backlog.push(&[1], &settings, now);
    assert!(
        !backlog.wait.reads_on(),
        "another one may have taken the rest"
    );
    let later = after(now, SLOW_READER);
    assert_eq!(backlog.wait.judge(&settings, later), Verdict::Wait);
    assert!(!backlog.wait.reads_on());
    settings.backlog_room.set(1);
    assert_eq!(backlog.wait.judge(&settings, later), Verdict::Wait);
    assert!(backlog.wait.reads_on());
}

fn after(now: Millis, duration: Duration) -> Millis {
    Millis(now.0 + u64::try_from(duration.as_millis()).expect("short"))
}

/// The socket has taken `len` bytes.
fn take(backlog: &mut Backlog, len: usize, settings: &Settings, now: Millis) {
    let mut left = len;
    while left > 0 {
        let part = backlog.unsent.front().len().min(left);
        backlog.unsent.advance(part);
        left -= part;
    }
    backlog.wait.taken(len, backlog.unsent.len(), settings, now);
}

#[test]
fn a_client_is_read_on_only_while_its_socket_takes_nothing() {
    let settings = settings();
    let mut backlog = begun_with(&[1; 100], &settings, Millis(0));
    let mut now = Millis(0);
    for _ in 0..50 {
        now = after(now, SLOW_READER / 2);
        take(&mut backlog, 1, &settings, now);
        assert!(!backlog.wait.is_due(&settings, now) && !backlog.wait.reads_on());
    }
    now = after(now, SLOW_READER);
    assert!(backlog.wait.is_due(&settings, now));
    assert_eq!(backlog.wait.judge(&settings, now), Verdict::Wait);
    assert!(backlog.wait.reads_on() && !backlog.wait.is_due(&settings, now));
    take(&mut backlog, 1, &settings, now);
    assert!(!backlog.wait.reads_on());
}

#[test]
fn a_full_backlog_is_drained_by_half_before_its_client_is_read_again() {
    let settings = settings();
    let (mut backlog, mut now) = read_on(&settings);
    while backlog.unsent.len() < MAX {
        assert!(backlog.wait.reads_on());
        backlog.push(&[1; 100], &settings, now);
    }
    now = after(now, SLOW_READER);
    while backlog.unsent.len() > MAX / 2 + 100 {
        take(&mut backlog, 100, &settings, now);
        now = after(now, SLOW_READER);
        assert_eq!(backlog.wait.judge(&settings, now), Verdict::Wait);
        assert!(!backlog.wait.reads_on());
    }
    take(&mut backlog, 100, &settings, now);
    now = after(now, SLOW_READER);
    assert_eq!(backlog.wait.judge(&settings, now), Verdict::Wait);
    assert!(backlog.wait.reads_on());
}

#[test]
fn a_client_that_sends_is_not_cut_for_not_reading_until_its_backlog_is_full() {
    let settings = settings();
    let (mut backlog, mut now) = read_on(&settings);
    while backlog.wait.reads_on() {
        now = after(now, WRITE_TIMEOUT * 3 / 4);
        assert_eq!(backlog.wait.judge(&settings, now), Verdict::Wait);
        backlog.push(&[1; READ], &settings, now);
    }
    assert!(backlog.unsent.len() >= MAX);
    now = after(now, WRITE_TIMEOUT);
    assert_eq!(backlog.wait.judge(&settings, now), Verdict::Cut);
}

/// In whichever direction.
#[test]
fn a_trickle_does_not_keep_a_client_from_being_cut() {
    for is_read in [false, true] {
        let settings = settings();
        let mut backlog = begun_with(&[1; MAX / 2], &settings, Millis(0));
        let mut seconds = 0;
        loop {
            assert!(
                seconds <= 2 * WRITE_TIMEOUT.as_secs(),
                "it goes on for ever"
            );
            seconds += 1;
            let now = Millis(1000 * seconds);
            if is_read {
                take(&mut backlog, 10, &settings, now);
            } else {
                backlog.push(&[1; 10], &settings, now);
            }
            if backlog.wait.judge(&settings, now) == Verdict::Cut {
                break;
            }
        }
        assert!(seconds >= WRITE_TIMEOUT.as_secs());
    }
}

/// As after a pause of the machine, in which the client has read.
#[test]
fn a_socket_that_takes_something_at_the_last_moment_is_given_as_long_again() {
    let settings = settings();
    let mut backlog = begun_with(&[1; MAX / 2], &settings, Millis(0));
    let mut now = after(Millis(0), 10 * WRITE_TIMEOUT);
    take(&mut backlog, 1, &settings, now);
    assert_eq!(backlog.wait.judge(&settings, now), Verdict::Wait);
    now = after(now, WRITE_TIMEOUT / 2);
    take(&mut backlog, READ, &settings, now);
    now = after(now, 10 * WRITE_TIMEOUT);
    take(&mut backlog, 1, &settings, now);
    assert_eq!(backlog.wait.judge(&settings, now), Verdict::Wait);
    now = after(now, WRITE_TIMEOUT);
    take(&mut backlog, 1, &settings, now);
    assert_eq!(backlog.wait.judge(&settings, now), Verdict::Cut);
}

#[test]
fn who_moves_no_byte_for_a_second_makes_no_progress() {
    let settings = settings();
    let mut backlog = begun_with(&[1; 500], &settings, Millis(0));
    let held = |backlog: &Backlog, now| Backlog::buffered(Some(backlog), 7, now);
    assert_eq!(held(&backlog, Millis(99)).slow_readers, 0);
    let seen = held(&backlog, after(Millis(0), SLOW_READER));
    assert_eq!((seen.slow_readers, seen.stalled, seen.paused), (1, 0, 1));
    assert!(seen.bytes >= 507, "{seen:?}");
    let stalled = after(Millis(0), STALLED);
    assert_eq!(held(&backlog, stalled).stalled, 1);
    backlog.push(&[1], &settings, stalled);
    assert_eq!(held(&backlog, stalled).stalled, 0);
}

proptest! {
    #[test]
    fn bytes_come_out_as_they_went_in_and_their_memory_goes_with_them(
        steps in proptest::collection::vec((0_usize..200_000, 0_usize..200_000), 1..40),
    ) {
        let mut queue = ByteQueue::default();
        let mut model = VecDeque::new();
        let mut next = 0_u8;
        for (put, take) in steps {
            let bytes: Vec<u8> = (0..put)
                .map(|_| {
                    next = next.wrapping_mul(5).wrapping_add(3);
                    next
                })
                .collect();
            queue.push(&bytes);
            model.extend(bytes);
            let mut left = take.min(model.len());
            while left > 0 {
                let len = queue.front().len().min(left);
                prop_assert!(len > 0);
                let expected: Vec<u8> = model.drain(..len).collect();
                prop_assert_eq!(&queue.front()[..len], &expected[..]);
                queue.advance(len);
                left -= len;
            }
            prop_assert_eq!(queue.len(), model.len());
            prop_assert_eq!(queue.is_empty(), model.is_empty());
            // A chunk at each end is in use in part, and there is a list of them.
            prop_assert!(queue.capacity() <= queue.len() + queue.len() / 32 + 140_000);
            prop_assert!(queue.capacity() >= queue.len());
            prop_assert!(!queue.is_empty() || queue.capacity() == 0);
        }
    }
}
