//! The Close frame, valid and invalid: the first and last frame of a connection. The
//! time of the references includes making their connections, which cannot be separated.

use std::time::{Duration, Instant};

use criterion::Criterion;
use fastwebsockets::{Role, WebSocket};
use ringback::proto::{Echo, Limits, Next, TAIL_ROOM, Violation};
use tungstenite::protocol;

use crate::reference::{Endless, finish};
use crate::support::{ASCII, Apart, Batch, CLOSE, MIXED, masked_frame, measure, text};

const NORMAL: [u8; 2] = [0x03, 0xe8];
const LONGEST_REASON: usize = 123;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("close");
    let with_reason = |reason: &[u8]| [&NORMAL, reason].concat();
    let wrong = |violation| Some(violation);
    for (kind, first_byte, payload, violation) in [
        ("empty", CLOSE, vec![], None),
        ("code", CLOSE, NORMAL.to_vec(), None),
        (
            "ascii",
            CLOSE,
            with_reason(&text(ASCII, LONGEST_REASON)),
            None,
        ),
        (
            "mixed",
            CLOSE,
            with_reason(&text(MIXED, LONGEST_REASON)),
            None,
        ),
        (
            "one-byte",
            CLOSE,
            vec![3],
            wrong(Violation::TruncatedCloseCode),
        ),
        (
            "code-1005",
            CLOSE,
            vec![0x03, 0xed],
            wrong(Violation::InvalidCloseCode),
        ),
        (
            "not-utf8",
            CLOSE,
            with_reason(b"\xff"),
            wrong(Violation::InvalidCloseReason),
        ),
        (
            "too-long",
            CLOSE,
            with_reason(&text(ASCII, 124)),
            wrong(Violation::LongControl),
        ),
        (
            "fragment",
            CLOSE & 0x0f,
            NORMAL.to_vec(),
            wrong(Violation::FragmentedControl),
        ),
    ] {
        let frame = masked_frame(first_byte, &payload);
        let apart = Apart::new(&frame);
        let alone = Batch {
            bytes: frame,
            frames: 1,
        };
        for (who, time) in [
            ("ringback", &mut |n| {
                time_echo(&apart, violation, n) as Duration
            }),
            ("fastwebsockets", &mut |n| time_fastwebsockets(&alone, n)),
            ("tungstenite", &mut |n| time_tungstenite(&alone, n)),
        ] as [(_, &mut dyn FnMut(u64) -> Duration); 3]
        {
            measure(&mut group, &format!("{who}/{kind}"), payload.len(), time);
        }
    }
}

fn time_echo(apart: &Apart, violation: Option<Violation>, iterations: u64) -> Duration {
    let limits = Limits::default();
    apart.time(iterations, |slot| {
        let filled = slot.len() - TAIL_ROOM;
        match Echo::new().advance(&limits, slot, filled).next {
            Next::Close(_) => assert!(violation.is_none()),
            next => assert!(violation.map(Next::CloseWith) == Some(next)),
        }
    })
}

fn time_fastwebsockets(alone: &Batch, iterations: u64) -> Duration {
    let start = Instant::now();
    for _ in 0..iterations {
        let mut socket = WebSocket::after_handshake(Endless::new(alone), Role::Server);
        // It answers a valid close by itself, and an invalid one not at all.
        let _ = finish(socket.read_frame());
    }
    start.elapsed()
}

fn time_tungstenite(alone: &Batch, iterations: u64) -> Duration {
    let start = Instant::now();
    for _ in 0..iterations {
        let stream = Endless::new(alone);
        let mut socket =
            tungstenite::WebSocket::from_raw_socket(stream, protocol::Role::Server, None);
        // As above; the answer is sent with the flush.
        let _ = socket.read();
        let _ = socket.flush();
    }
    start.elapsed()
}
