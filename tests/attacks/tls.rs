//! Attacks on TLS, before there is any, and in it. The neighbour comes over TLS, too.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;

use rcgen::CustomExtension;
use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, ContentType, ProtocolVersion,
    StreamOwned, SupportedCipherSuite,
};

use crate::common::admin::Admin;
use crate::common::client::Raw;
use crate::common::engines::{Engine, on_every_engine_over_tls, plain_name};
use crate::common::pki::{self, Pair, Pki};
use crate::common::server::Server;
use crate::common::wait_until;
use crate::common::wire::{CLOSE, PING, PONG, REQUEST, frame, noise, unmasked};
use crate::siege::{LOG, SHAKING_HANDS, Siege, Toll};

on_every_engine_over_tls![
    incomplete_client_hello_is_cut_at_handshake_timeout,
    invalid_records_close_connection,
    oversized_record_gets_alert_at_header,
    handshake_message_over_one_record_closes_connection,
    end_during_tls_handshake_leaves_nothing,
    key_update_flood_gets_close_1008,
    empty_record_flood_gets_close_1008,
    key_update_flood_of_handler_gets_close_1008,
    few_key_updates_are_accepted,
    silence_after_full_read_costs_no_cpu_time,
    long_certificate_costs_its_length_per_handshake,
];

/// A `ClientHello`'s record and message header, and its first fields: whoever
/// reads it waits for more.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdefgh";

fn address(siege: &Siege) -> SocketAddr {
    siege.server().addresses()[0]
}

fn incomplete_client_hello_is_cut_at_handshake_timeout(engine: Engine) {
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

fn invalid_records_close_connection(engine: Engine) {
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

fn oversized_record_gets_alert_at_header(engine: Engine) {
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
fn handshake_message_over_one_record_closes_connection(engine: Engine) {
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

fn end_during_tls_handshake_leaves_nothing(engine: Engine) {
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

/// The code of a Close that ends what no rule of RFC 6455 forbids.
const POLICY: u16 = 1008;

/// Records without data that are sent before one with some: rustls takes 32.
const IN_A_ROW: usize = 30;

/// Rounds of them that are sent, if the server lets them.
const ROUNDS: usize = 100;

/// A client of TLS that has come as far as WebSocket.
type Secret = StreamOwned<ClientConnection, TcpStream>;

/// A server over TLS with its neighbour, and what its attackers need to know.
fn lay(engine: Engine, flags: &[&str]) -> (Siege, Admin, Pair) {
    lay_with(engine, pki::pair(), flags)
}

fn lay_with(engine: Engine, pair: Pair, flags: &[&str]) -> (Siege, Admin, Pair) {
    let flags = [&["--threads=1", "--admin=127.0.0.1:0", LOG], flags].concat();
    let name = plain_name(engine);
    let server = Server::start_tls(name, Pki::of(&pair), &flags).with_tunnel(&pair);
    let (server, admin) = server.watched();
    (Siege::around(server), admin, pair)
}

fn upgrade(address: SocketAddr, config: &Arc<ClientConfig>) -> Secret {
    let stream = TcpStream::connect(address).expect("connected");
    let mut secret = pki::over(stream, config);
    secret.write_all(REQUEST.as_bytes()).expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        secret.read_exact(&mut byte).expect("a head");
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    secret
}

/// How many connections have ended because of how they used TLS.
fn ended(admin: &Admin, code: &str) -> u64 {
    let labels = [("reason", "tls"), ("code", code)];
    admin.metrics().count("ringback_closes_total", &labels)
}

/// The records of an attack: each time so many updates of the keys, then a Ping.
fn key_updates(secret: &mut Secret, rounds: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..rounds {
        for _ in 0..IN_A_ROW {
            secret.conn.refresh_traffic_keys().expect("TLS 1.3");
        }
        secret
            .conn
            .writer()
            .write_all(&frame(PING, b""))
            .expect("taken");
        while secret.conn.wants_write() {
            secret.conn.write_tls(&mut bytes).expect("written");
        }
    }
    bytes
}

/// The Close that a server sends behind some Pongs, and the end of its stream.
#[track_caller]
fn expect_close(secret: &mut Secret) {
    let mut rest = Vec::new();
    secret.read_to_end(&mut rest).expect("the end of TLS");
    let close = unmasked(CLOSE, &POLICY.to_be_bytes());
    assert!(rest.ends_with(&close), "{rest:x?}");
}

fn key_updates_with(engine: Engine, flags: &[&str]) {
    const CONNECTIONS: usize = 20;
    let (siege, admin, pair) = lay(engine, flags);
    let config = pair.client(&[&TLS13], &[]);
    let address = address(&siege);
    thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let mut secret = upgrade(address, &config);
                let bytes = key_updates(&mut secret, ROUNDS);
                // What is not taken any more is discarded, until it is enough.
                secret.sock.write_all(&bytes).expect("sent");
                expect_close(&mut secret);
            });
        }
    });
    let code = POLICY.to_string();
    assert_eq!(ended(&admin, &code), CONNECTIONS as u64);
    let toll = Toll::new()
        .connections(4 * CONNECTIONS)
        .bytes(CONNECTIONS * ROUNDS * IN_A_ROW * 27)
        .held(CONNECTIONS, SHAKING_HANDS);
    siege.lift(toll);
}

/// An update costs as much as many frames do, and 30 of them with a Ping behind them
/// were taken for as long as they came.
fn key_update_flood_gets_close_1008(engine: Engine) {
    key_updates_with(engine, &[]);
}

fn key_update_flood_of_handler_gets_close_1008(engine: Engine) {
    key_updates_with(engine, &["--print-messages"]);
}

/// What encrypts the records of a client that rustls does not make.
fn encrypter(secret: Secret) -> (TcpStream, Box<dyn MessageEncrypter>, u64) {
    let StreamOwned { conn, sock } = secret;
    let Some(SupportedCipherSuite::Tls13(suite)) = conn.negotiated_cipher_suite() else {
        panic!("no TLS 1.3");
    };
    let (number, secrets) = conn.dangerous_extract_secrets().expect("secrets").tx;
    let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
    | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
    | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = secrets
    else {
        panic!("another cipher");
    };
    (sock, suite.aead_alg.encrypter(key, iv), number)
}

fn empty_record_flood_gets_close_1008(engine: Engine) {
    const CONNECTIONS: usize = 20;
    let (siege, admin, pair) = lay(engine, &[]);
    let mut config = Arc::unwrap_or_clone(pair.client(&[&TLS13], &[]));
    config.enable_secret_extraction = true;
    let config = Arc::new(config);
    for _ in 0..CONNECTIONS {
        let (sock, mut encrypter, mut number) = encrypter(upgrade(address(&siege), &config));
        let ping = frame(PING, b"");
        let mut bytes = Vec::new();
        for _ in 0..ROUNDS {
            for payload in [&[][..]; IN_A_ROW].into_iter().chain([&ping[..]]) {
                let record = OutboundPlainMessage {
                    typ: ContentType::ApplicationData,
                    version: ProtocolVersion::TLSv1_2,
                    payload: OutboundChunks::Single(payload),
                };
                let record = encrypter.encrypt(record, number).expect("encrypted");
                bytes.extend(record.encode());
                number += 1;
            }
        }
        let mut raw = Raw::over(sock);
        raw.send(&bytes);
        // Pongs, a Close and the end, none of which can be read any more.
        raw.rest();
    }
    let code = POLICY.to_string();
    wait_until("all are counted", || {
        ended(&admin, &code) == CONNECTIONS as u64
    });
    let toll = Toll::new()
        .connections(2 * CONNECTIONS)
        .bytes(CONNECTIONS * ROUNDS * IN_A_ROW * 22)
        .held(2, SHAKING_HANDS);
    siege.lift(toll);
}

/// Those that a client needs are taken, as is TLS 1.2, which has none.
fn few_key_updates_are_accepted(engine: Engine) {
    const UPDATES: usize = 10;
    let (siege, admin, pair) = lay(engine, &[]);
    let mut secret = upgrade(address(&siege), &pair.client(&[&TLS13], &[]));
    for _ in 0..UPDATES {
        secret.conn.refresh_traffic_keys().expect("TLS 1.3");
    }
    let mut old = upgrade(address(&siege), &pair.client(&[&TLS12], &[]));
    for secret in [&mut secret, &mut old] {
        secret.write_all(&frame(PING, b"?")).expect("sent");
        let mut pong = [0; 3];
        secret.read_exact(&mut pong).expect("a Pong");
        assert_eq!(pong, unmasked(0x8a, b"?")[..]);
    }
    drop((secret, old));
    siege.wait_for_retreat();
    assert_eq!(ended(&admin, &POLICY.to_string()), 0);
    siege.lift(Toll::new().connections(3).held(2, SHAKING_HANDS));
}

/// A read that fills the server's buffer promises more, which does not come.
fn silence_after_full_read_costs_no_cpu_time(engine: Engine) {
    const READ: usize = 32 * 1024;
    const RECORDS: usize = 2;
    const PER_RECORD: usize = 22;
    let (siege, _admin, pair) = lay(engine, &["--read-size=32k"]);
    let mut secret = upgrade(address(&siege), &pair.client(&[&TLS13], &[]));
    // Nothing is answered, so that nothing else wakes the server.
    let pong = frame(PONG, b"");
    let pongs = pong.repeat((READ - RECORDS * PER_RECORD) / pong.len());
    secret.conn.writer().write_all(&pongs).expect("taken");
    let mut records = Vec::new();
    while secret.conn.wants_write() {
        secret.conn.write_tls(&mut records).expect("written");
    }
    assert_eq!(records.len(), READ);
    // All of it is there when the server reads.
    siege.server().freeze();
    secret.sock.write_all(&records).expect("sent");
    siege.server().thaw();
    siege.expect_rest();
    drop(secret);
    siege.wait_for_retreat();
    let toll = Toll::new().connections(2).bytes(READ);
    siege.lift(toll.held(2, SHAKING_HANDS));
}

/// Nearly as long as clients take one: whoever asks for it makes the server send it.
fn long_certificate_costs_its_length_per_handshake(engine: Engine) {
    const LEN: usize = 60_000;
    const CONNECTIONS: usize = 50;
    let pair = pki::pair_with(|params| {
        let padding = CustomExtension::from_oid_content(&[1, 3, 9999, 1], vec![4; LEN]);
        params.custom_extensions.push(padding);
    });
    let (siege, _admin, pair) = lay_with(engine, pair, &[]);
    let config = pair.client(&[&TLS13, &TLS12], &[]);
    for _ in 0..CONNECTIONS {
        drop(upgrade(address(&siege), &config));
    }
    let toll = Toll::new()
        .connections(4 * CONNECTIONS)
        .bytes(CONNECTIONS * LEN)
        .held(4, SHAKING_HANDS + LEN as u64);
    siege.lift(toll);
}
