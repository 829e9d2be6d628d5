//! Operations of a ring that complete late, are not started yet, or are not cancelled.

use std::array;
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;

use super::client::{Client, End, Step, TEXT, frame, reply};
use super::rig::{Rig, on_engine};
use crate::config::engine_kind::EngineKind;
use crate::sys::calls::{self, Call, Fault, Plan, Shift, When};

fn word() -> Step {
    Step {
        send: frame(TEXT, b"a word"),
        expect: reply(TEXT, b"a word"),
    }
}

#[test]
fn a_late_completion_reaches_no_other_connection() {
    super::run(EngineKind::Ring, |kind| {
        on_engine(kind, async |rig| {
            let mut first = Client::new(rig.connect(b""));
            rig.clients(move || {
                first.take(&word());
                first.close();
            })
            .await;
            rig.run_until("the first is over", || rig.open() == 0).await;
            let mut second = Client::new(rig.connect(b""));
            let mut second = rig
                .clients(move || {
                    second.take(&word());
                    second
                })
                .await;
            rig.ring().complete_again_for_the_first();
            rig.clients(move || {
                second.take(&word());
                second.close();
                assert_eq!(second.end, Some(End::Closed));
            })
            .await;
        });
    });
}

/// A timer or an eviction would send a Ping or a Close before it.
#[test]
fn no_reply_is_unsent_while_others_run() {
    super::run(EngineKind::Ring, |kind| {
        on_engine(kind, async |rig| {
            let streams: [_; 4] = array::from_fn(|_| rig.connect(b""));
            let is_done = Cell::new(false);
            let clients = async {
                rig.clients(move || flood(&streams)).await;
                is_done.set(true);
            };
            let others = async {
                while !is_done.get() {
                    assert!(!rig.ring().has_unsent_replies());
                    tokio::task::yield_now().await;
                }
            };
            tokio::join!(clients, others);
        });
    });
}

/// Sends without a pause what is received again.
fn flood(streams: &[TcpStream]) {
    const MESSAGES: usize = 20_000;
    thread::scope(|scope| {
        for mut stream in streams {
            scope.spawn(move || {
                stream
                    .write_all(&word().send.repeat(MESSAGES))
                    .expect("sent");
            });
            scope.spawn(move || {
                let mut received = vec![0; word().expect.len() * MESSAGES];
                stream.read_exact(&mut received).expect("received");
                assert!(received == word().expect.repeat(MESSAGES));
            });
        }
    });
}

/// The kernel does not find a read that is about to start.
#[test]
fn a_cancellation_that_is_missed_is_made_again() {
    super::run(EngineKind::TokioUring, |kind| {
        let ends = [(Rig::drain as fn(&Rig), 1001_u16), (Rig::evict, 1013)];
        for (end, code) in ends {
            on_engine(kind, async |rig| {
                let mut stream = rig.connect(b"");
                let mut client = Client::new(stream.try_clone().expect("a descriptor"));
                rig.clients(move || client.take(&word())).await;
                calls::plan(Some(Plan {
                    call: Call::Cancel,
                    fault: Fault::Fails(Errno::ALREADY),
                    when: When::At(0),
                }));
                end(rig);
                rig.run_until("a cancellation is missed", || calls::tally().faults == 1)
                    .await;
                calls::shift_clock(Shift::Ahead(Duration::from_secs(2)));
                rig.clients(move || {
                    // `Client` has made it non-blocking.
                    stream.set_nonblocking(false).expect("set");
                    let mut close = [0; 4];
                    stream.read_exact(&mut close).expect("a Close");
                    assert_eq!(close, [&[0x88, 2][..], &code.to_be_bytes()].concat()[..]);
                })
                .await;
            });
        }
    });
}
