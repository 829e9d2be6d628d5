//! Attacks on TLS, before there is any. The neighbour comes over TLS, too.

use std::net::{Shutdown, SocketAddr};

use crate::common::client::Raw;
use crate::common::engines::{Engine, on_every_engine_over_tls};
use crate::common::wait_until;
use crate::common::wire::noise;
use crate::siege::{SHAKING_HANDS, Siege, Toll};

on_every_engine_over_tls![
    half_a_hello_and_silence,
    garbage_instead_of_records,
    records_that_announce_too_much,
    a_hello_that_never_ends,
    leaving_in_the_middle_of_a_handshake,
];

/// A `ClientHello`'s record and message header, and its first fields: whoever
/// reads it waits for more.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdefgh";

fn address(siege: &Siege) -> SocketAddr {
    siege.server().addresses()[0]
}

fn half_a_hello_and_silence(engine: Engine) {
    const CONNECTIONS: usize = 1000;
    let siege = Siege::lay(engine, &["--handshake-timeout=1500ms"]);
    let mut raws: Vec<_> = (0..CONNECTIONS)
        .map(|index| {
            let mut raw = Raw::dial(address(&siege));
            raw.send(&HALF_A_HELLO[..index % HALF_A_HELLO.len()]);
            raw
        })
        .collect();
    // Some go on, a byte at a time, and it does not help them.
    let mut bytes = 0;
    wait_until("all are let go", || {
        for raw in raws.iter_mut().step_by(4) {
            bytes += usize::from(!raw.has_news() && raw.try_send(b"\0"));
        }
        raws.iter().all(Raw::has_news)
    });
    for raw in &mut raws {
        raw.rest_until_cut();
    }
    siege.wait_for_retreat();
    drop(raws);
    siege.lift(Toll::endless_handshakes(CONNECTIONS, bytes));
}

fn garbage_instead_of_records(engine: Engine) {
    const CONNECTIONS: usize = 300;
    let siege = Siege::lay(engine, &[]);
    for index in 0..CONNECTIONS {
        let mut raw = Raw::dial(address(&siege));
        let len = [3, 5, 64, 16 * 1024][index % 4];
        let mut bytes = noise(index as u64, len);
        if index % 3 == 0 {
            // Otherwise hardly any of it gets past the first byte.
            bytes[..3].copy_from_slice(b"\x16\x03\x01");
        }
        raw.try_send(&bytes);
        // It may be cut already.
        let _ = raw.stream().shutdown(Shutdown::Write);
        raw.rest_until_cut();
    }
    let toll = Toll::new()
        .connections(CONNECTIONS)
        .bytes(CONNECTIONS * 4200)
        .held(20, SHAKING_HANDS);
    siege.lift(toll);
}

fn records_that_announce_too_much(engine: Engine) {
    const CONNECTIONS: usize = 300;
    let siege = Siege::lay(engine, &[]);
    for index in 0..CONNECTIONS {
        let mut raw = Raw::dial(address(&siege));
        let kind = [0x14, 0x15, 0x16, 0x17][index % 4];
        raw.send(&[kind, 3, 3, 0xff, 0xff]);
        // The header is enough: an alert, and the end.
        let answer = raw.rest_until_cut();
        assert_eq!(answer.first(), Some(&0x15), "{answer:x?}");
    }
    let toll = Toll::new().connections(CONNECTIONS).held(20, SHAKING_HANDS);
    siege.lift(toll);
}

/// Records are of any length, but a message is not: it has to fit in one.
fn a_hello_that_never_ends(engine: Engine) {
    const CONNECTIONS: usize = 100;
    const PIECE: usize = 16 * 1024;
    let siege = Siege::lay(engine, &[]);
    // A message of 64 KiB, less a byte, in records that are as long as may be.
    let mut record = vec![0x16, 3, 1, 0x40, 0];
    record.extend_from_slice(&noise(1, PIECE));
    let mut first = record.clone();
    first[5..9].copy_from_slice(&[1, 0, 0xff, 0xff]);
    let mut raws: Vec<_> = (0..CONNECTIONS)
        .map(|_| Raw::dial(address(&siege)))
        .collect();
    for raw in &mut raws {
        raw.send(&first);
        raw.try_send(&record);
        assert!(raw.rest_until_cut().is_empty());
    }
    drop(raws);
    let toll = Toll::new()
        .connections(CONNECTIONS)
        .bytes(2 * CONNECTIONS * PIECE)
        .held(CONNECTIONS, SHAKING_HANDS);
    siege.lift(toll);
}

fn leaving_in_the_middle_of_a_handshake(engine: Engine) {
    const CONNECTIONS: usize = 2000;
    let siege = Siege::lay(engine, &[]);
    for index in 0..CONNECTIONS {
        let mut raw = Raw::dial(address(&siege));
        raw.send(&HALF_A_HELLO[..index % HALF_A_HELLO.len()]);
        if index % 2 == 0 {
            raw.reset();
        }
    }
    let toll = Toll::new().connections(CONNECTIONS).held(50, SHAKING_HANDS);
    siege.lift(toll);
}
