//! A server that did not run for a while, as in a paused virtual machine: its timers are
//! overdue, and its clients have answered.

use std::thread;
use std::time::{Duration, Instant};

use crate::common::client::Raw;
use crate::common::engines::{Engine, on_every_engine_and_over_tls, on_every_engine_with_handler};
use crate::common::server::Server;
use crate::common::wire::{PING, PONG, TEXT, frame};

on_every_engine_and_over_tls![pause_closes_no_client_that_answers,];
on_every_engine_with_handler![pause_closes_no_client_that_answers,];

const PONG_TIMEOUT: Duration = Duration::from_secs(3);

/// Rounds until one is not delayed by other work on this machine.
const ROUNDS: usize = 10;

fn pause_closes_no_client_that_answers(engine: Engine) {
    const CLIENTS: usize = 20;
    let flags = ["--idle-timeout=300ms", "--pong-timeout=3s"];
    let server = Server::start(engine, &flags);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut raws: Vec<_> = (0..CLIENTS).map(|_| Raw::open(server.address())).collect();
        for raw in &mut raws {
            raw.expect_frame(PING, b"");
        }
        server.freeze();
        // After so long a delay the server may close a client rightly.
        let is_disturbed = start.elapsed() > PONG_TIMEOUT / 2;
        for raw in &mut raws {
            raw.send(&frame(PONG, b""));
        }
        thread::sleep(PONG_TIMEOUT + PONG_TIMEOUT / 4);
        server.thaw();
        if is_disturbed {
            continue;
        }
        for raw in &mut raws {
            raw.send(&frame(TEXT, b"still here"));
            loop {
                let next = raw.frame();
                if next.first == TEXT {
                    assert_eq!(next.payload, b"still here");
                    break;
                }
                assert_eq!((next.first, &next.payload[..]), (PING, &b""[..]));
                raw.send(&frame(PONG, b""));
            }
        }
        return;
    }
    panic!("no round was undisturbed");
}
