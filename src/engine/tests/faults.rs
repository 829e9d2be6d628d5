//! Every call of a conversation fails once, in every way in which the kernel may
//! let it fail; and all of them fail many times in a row.
//!
//! Two connections talk in turn, so each fault meets one of them, or both. What
//! the kernel means as "not now" or "not all" must not be seen by any client.
//! What it means as the end is the end of one connection, and of no other.

use std::thread;
use std::time::Duration;

use rustix::io::Errno;

use super::client::{
    BINARY, Client, End, Step, TEXT, converse, everything, frame, noise, reply, script,
};
use super::on_every_engine;
use super::rig::on_engine;
use crate::config::engine_kind::EngineKind;
use crate::sys::calls::{self, Call, Fault, Plan, Tally, When};

on_every_engine![
    every_call_fails_once,
    every_call_fails_often,
    every_call_fails_once_for_slow_readers,
];

/// More calls than a conversation takes.
const CALLS_MAX: u64 = 5000;

/// How many times the calls of a conversation without faults one with faults may
/// take, for each fault in a row; and some for turns that find nothing.
const EFFORT: u64 = 4;
const EFFORT_SLACK: u64 = 400;

/// In which nothing may happen on idle connections.
const SILENCE: Duration = Duration::from_millis(30);

/// Bytes that a short call moves: part of a header.
const SHORT: Fault = Fault::Short(1);

/// What a fault is to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    None,
    End,
}

/// What the kernel may do to the calls of an engine.
///
/// `ENOBUFS` is the ring's way to say that the pool is empty. On a plain socket it
/// is the end of the connection: there is no event that would tell when to try
/// again (and TCP on Linux knows no such error).
fn faults(kind: EngineKind) -> Vec<(Call, Fault, Effect)> {
    let fails = |call, errno, effect| (call, Fault::Fails(errno), effect);
    let mut faults = vec![
        (Call::Receive, SHORT, Effect::None),
        fails(Call::Receive, Errno::AGAIN, Effect::None),
        fails(Call::Receive, Errno::INTR, Effect::None),
        fails(Call::Receive, Errno::CONNRESET, Effect::End),
    ];
    let sends = [
        (Call::Send, SHORT, Effect::None),
        fails(Call::Send, Errno::AGAIN, Effect::None),
        fails(Call::Send, Errno::INTR, Effect::None),
        fails(Call::Send, Errno::CONNRESET, Effect::End),
        fails(Call::Send, Errno::PIPE, Effect::End),
        fails(Call::Send, Errno::NOBUFS, Effect::End),
    ];
    match kind {
        EngineKind::Epoll => {
            faults.extend(sends);
            faults.extend([
                fails(Call::Receive, Errno::NOBUFS, Effect::End),
                fails(Call::Events, Errno::INTR, Effect::None),
            ]);
        }
        EngineKind::TokioUring => faults.extend([
            fails(Call::Receive, Errno::NOBUFS, Effect::End),
            (Call::Write, SHORT, Effect::None),
            fails(Call::Write, Errno::AGAIN, Effect::None),
            fails(Call::Write, Errno::INTR, Effect::None),
            fails(Call::Write, Errno::CONNRESET, Effect::End),
            fails(Call::Write, Errno::PIPE, Effect::End),
            fails(Call::Write, Errno::NOBUFS, Effect::End),
            // What cannot be written at once is written through the ring.
            (Call::Send, SHORT, Effect::None),
            fails(Call::Send, Errno::AGAIN, Effect::None),
            fails(Call::Send, Errno::INTR, Effect::None),
        ]),
        EngineKind::Ring => {
            faults.extend(sends);
            faults.extend([
                fails(Call::Receive, Errno::NOBUFS, Effect::None),
                fails(Call::Received, Errno::CONNRESET, Effect::End),
                (Call::Enter, SHORT, Effect::None),
                fails(Call::Enter, Errno::AGAIN, Effect::None),
                fails(Call::Enter, Errno::BUSY, Effect::None),
                fails(Call::Enter, Errno::INTR, Effect::None),
            ]);
        }
    }
    faults
}

/// A conversation of two clients, the first with a frame behind its request, the
/// second with more than a read takes, before anybody reads.
/// Returns what was counted, and how many of them were cut off.
fn conversation(
    kind: EngineKind,
    steps: &[Step],
    plan: Plan,
    slow_readers: bool,
) -> (Tally, usize) {
    let hello = frame(TEXT, b"I am in a hurry");
    let burst = noise(60_000);
    let begins = [reply(TEXT, b"I am in a hurry"), reply(BINARY, &burst)];
    let steps = steps.to_vec();
    let _note = Note(plan);
    on_engine(kind, async |rig| {
        calls::plan(Some(plan));
        let streams = [&hello[..], b""].map(|leftover| {
            if slow_readers {
                rig.connect_narrow(leftover)
            } else {
                rig.connect(leftover)
            }
        });
        let mut clients = streams.map(Client::new);
        clients[1].say(&frame(BINARY, &burst));
        let (clients, begins, steps) = rig
            .clients(move || {
                converse(&mut clients, &begins, &steps);
                (clients, begins, steps)
            })
            .await;
        let mut cut = 0;
        for (client, begin) in clients.iter().zip(&begins) {
            let expected = everything(begin, &steps);
            if client.end == Some(End::Closed) {
                assert!(client.received == expected, "{plan:?}: the echo is wrong");
            } else {
                assert!(
                    expected.starts_with(&client.received),
                    "{plan:?}: the echo is wrong"
                );
                cut += 1;
            }
        }
        (calls::tally(), cut)
    })
}

fn at_every_call(kind: EngineKind, steps: &[Step], slow_readers: bool) {
    for (call, fault, effect) in faults(kind) {
        let plan = |when| Plan { call, fault, when };
        let whole = conversation(kind, steps, plan(When::At(u64::MAX)), slow_readers).0;
        let (mut met, mut cut) = (0, 0);
        for number in 0..=CALLS_MAX {
            assert!(
                number < CALLS_MAX,
                "{call:?} {fault:?}: the calls do not end"
            );
            let plan = plan(When::At(number));
            let (tally, cut_now) = conversation(kind, steps, plan, slow_readers);
            assert!(
                cut_now <= usize::from(effect == Effect::End),
                "{plan:?}: {cut_now} are cut off"
            );
            assert_effort(plan, tally, whole, 1);
            cut += cut_now;
            if tally.faults == 0 {
                break;
            }
            met += 1;
        }
        // With the end of the stream, everything was said already.
        let is_seldom = kind == EngineKind::TokioUring && call == Call::Send;
        assert!(met >= 4 || is_seldom, "{call:?} {fault:?} met {met} calls");
        if effect == Effect::End {
            assert!(
                2 * cut >= met,
                "{call:?} {fault:?}: {cut} cut off by {met} faults"
            );
        }
    }
}

/// Says which plan a test has failed with.
struct Note(Plan);

impl Drop for Note {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("with {:?}, {:?}", self.0, calls::tally());
        }
    }
}

/// Nothing goes round in circles.
#[track_caller]
fn assert_effort(plan: Plan, tally: Tally, whole: Tally, faults: u64) {
    let most = whole.calls * EFFORT * faults + EFFORT_SLACK;
    assert!(
        tally.calls <= most,
        "{plan:?}: {} calls instead of {}",
        tally.calls,
        whole.calls
    );
}

fn every_call_fails_once(kind: EngineKind) {
    at_every_call(kind, &script(), false);
}

fn every_call_fails_once_for_slow_readers(kind: EngineKind) {
    at_every_call(kind, &script()[6..8], true);
}

fn every_call_fails_often(kind: EngineKind) {
    const TIMES: u64 = 5;
    for (call, fault, effect) in faults(kind) {
        if effect == Effect::End {
            continue;
        }
        for slow_readers in [false, true] {
            let plan = |when| Plan { call, fault, when };
            let whole = conversation(kind, &script(), plan(When::At(u64::MAX)), slow_readers).0;
            let often = plan(When::Before(TIMES));
            let (tally, cut) = conversation(kind, &script(), often, slow_readers);
            assert_eq!(cut, 0, "{often:?}");
            assert_effort(often, tally, whole, TIMES + 1);
        }
    }
}

/// An engine that is content does nothing.
#[test]
fn after_a_storm_there_is_silence() {
    for &kind in EngineKind::ALL {
        super::run(kind, |kind| {
            on_engine(kind, async |rig| {
                calls::plan(Some(Plan {
                    call: Call::Receive,
                    fault: Fault::Fails(Errno::AGAIN),
                    when: When::Before(3),
                }));
                let stream = rig.connect(b"");
                let stream = rig
                    .clients(move || {
                        let mut client = Client::new(stream);
                        for step in &script() {
                            client.take(step);
                        }
                        client
                    })
                    .await;
                // What the storm has left over.
                rig.run_for(SILENCE).await;
                let before = calls::tally().calls;
                rig.run_for(SILENCE).await;
                assert_eq!(calls::tally().calls, before, "{kind} does not sleep");
                rig.clients(move || {
                    let mut client = stream;
                    client.close();
                })
                .await;
            });
        });
    }
}

/// A reply whose send is linked to a receive, where the kernel takes the one with
/// one call and the other with the next: it leaves the send to a thread then, and
/// its end came after that of the call. The bytes that the socket had not taken
/// were lost, and the buffer was another's already.
#[test]
fn a_link_that_is_cut_loses_nothing() {
    const CONVERSATIONS: usize = 50;
    super::run(EngineKind::Ring, |kind| {
        let plan = Plan {
            call: Call::Enter,
            fault: SHORT,
            when: When::Before(2),
        };
        for _ in 0..CONVERSATIONS {
            let (tally, cut) = conversation(kind, &script()[6..8], plan, true);
            assert!(tally.faults > 0);
            assert_eq!(cut, 0);
        }
    });
}
