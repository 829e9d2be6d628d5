//! Attacks on TLS, before and after its handshake. The neighbour uses TLS, too.

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

use crate::attack::{Attack, Budget, IN_HANDSHAKE, LOG};
use crate::common::admin::Admin;
use crate::common::client::Raw;
use crate::common::engines::{Engine, on_every_engine_over_tls, plain_name};
use crate::common::pki::{self, Pair, Pki};
use crate::common::server::Server;
use crate::common::wait_until;
use crate::common::wire::{CLOSE, PING, PONG, REQUEST, frame, noise, unmasked};

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

/// The record and message header of a `ClientHello`, and its first fields.
const CLIENT_HELLO_START: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdefgh";

fn address(attack: &Attack) -> SocketAddr {
    attack.server().addresses()[0]
}

fn incomplete_client_hello_is_cut_at_handshake_timeout(engine: Engine) {
    const CONNECTIONS: usize = 1000;
    let attack = Attack::start(engine, &["--handshake-timeout=1500ms"]);
    let mut raws: Vec<_> = (0..CONNECTIONS)
        .map(|index| {
            let mut raw = Raw::dial(address(&attack));
            raw.send(&CLIENT_HELLO_START[..index % CLIENT_HELLO_START.len()]);
            raw
        })
        .collect();
    // Some send on, a byte at a time, which changes nothing.
    let mut bytes = 0;
    wait_until("all connections are cut", || {
        for raw in raws.iter_mut().step_by(4) {
            bytes += usize::from(!raw.is_readable() && raw.try_send(b"\0"));
        }
        raws.iter().all(Raw::is_readable)
    });
    for raw in &mut raws {
        raw.rest_until_cut();
    }
    attack.wait_for_disconnects();
    drop(raws);
    attack.finish(Budget::incomplete_handshakes(CONNECTIONS, bytes));
}

fn invalid_records_close_connection(engine: Engine) {
    const CONNECTIONS: usize = 300;
    let attack = Attack::start(engine, &[]);
    for index in 0..CONNECTIONS {
        let mut raw = Raw::dial(address(&attack));
        let len = [3, 5, 64, 16 * 1024][index % 4];
        let mut bytes = noise(index as u64, len);
        if index % 3 == 0 {
            // Without these bytes nearly all fail at the first byte.
            bytes[..3].copy_from_slice(b"\x16\x03\x01");
        }
        raw.try_send(&bytes);
        // It may be cut already.
        let _ = raw.stream().shutdown(Shutdown::Write);
        raw.rest_until_cut();
    }
    let budget = Budget::new()
        .connections(CONNECTIONS)
        .bytes(CONNECTIONS * 4200)
        .held(20, IN_HANDSHAKE);
    attack.finish(budget);
}

fn oversized_record_gets_alert_at_header(engine: Engine) {
    const CONNECTIONS: usize = 300;
    let attack = Attack::start(engine, &[]);
    for index in 0..CONNECTIONS {
        let mut raw = Raw::dial(address(&attack));
        let kind = [0x14, 0x15, 0x16, 0x17][index % 4];
        raw.send(&[kind, 3, 3, 0xff, 0xff]);
        // The answer comes at the header: an alert, and the end.
        let answer = raw.rest_until_cut();
        assert_eq!(answer.first(), Some(&0x15), "{answer:x?}");
    }
    let budget = Budget::new()
        .connections(CONNECTIONS)
        .held(20, IN_HANDSHAKE);
    attack.finish(budget);
}

/// A handshake message must fit in one record.
fn handshake_message_over_one_record_closes_connection(engine: Engine) {
    const CONNECTIONS: usize = 100;
    const PIECE: usize = 16 * 1024;
    let attack = Attack::start(engine, &[]);
    // A message of 64 KiB less one byte, in records of the largest size.
    let mut record = vec![0x16, 3, 1, 0x40, 0];
    record.extend_from_slice(&noise(1, PIECE));
    let mut first = record.clone();
    first[5..9].copy_from_slice(&[1, 0, 0xff, 0xff]);
    let mut raws: Vec<_> = (0..CONNECTIONS)
        .map(|_| Raw::dial(address(&attack)))
        .collect();
    for raw in &mut raws {
        raw.send(&first);
        raw.try_send(&record);
        assert!(raw.rest_until_cut().is_empty());
    }
    drop(raws);
    let budget = Budget::new()
        .connections(CONNECTIONS)
        .bytes(2 * CONNECTIONS * PIECE)
        .held(CONNECTIONS, IN_HANDSHAKE);
    attack.finish(budget);
}

fn end_during_tls_handshake_leaves_nothing(engine: Engine) {
    const CONNECTIONS: usize = 2000;
    let attack = Attack::start(engine, &[]);
    for index in 0..CONNECTIONS {
        let mut raw = Raw::dial(address(&attack));
        raw.send(&CLIENT_HELLO_START[..index % CLIENT_HELLO_START.len()]);
        if index % 2 == 0 {
            raw.reset();
        }
    }
    let budget = Budget::new()
        .connections(CONNECTIONS)
        .held(50, IN_HANDSHAKE);
    attack.finish(budget);
}

/// The close code for a violation of policy.
const POLICY: u16 = 1008;

/// Empty records before one with data: rustls takes 32.
const IN_A_ROW: usize = 30;

/// Rounds of them, if the server takes so many.
const ROUNDS: usize = 100;

/// A client's TLS stream, after its WebSocket handshake.
type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// Starts a server over TLS with an admin listener.
fn start(engine: Engine, flags: &[&str]) -> (Attack, Admin, Pair) {
    start_with(engine, pki::pair(), flags)
}

fn start_with(engine: Engine, pair: Pair, flags: &[&str]) -> (Attack, Admin, Pair) {
    let flags = [&["--threads=1", "--admin=127.0.0.1:0", LOG], flags].concat();
    let name = plain_name(engine);
    let server = Server::start_tls(name, Pki::of(&pair), &flags).with_tunnel(&pair);
    let (server, admin) = server.with_admin();
    (Attack::on(server), admin, pair)
}

fn upgrade(address: SocketAddr, config: &Arc<ClientConfig>) -> TlsStream {
    let stream = TcpStream::connect(address).expect("connected");
    let mut tls = pki::over(stream, config);
    tls.write_all(REQUEST.as_bytes()).expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        tls.read_exact(&mut byte).expect("a head");
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    tls
}

/// Connections that were closed for their use of TLS.
fn tls_closes(admin: &Admin, code: &str) -> u64 {
    let labels = [("reason", "tls"), ("code", code)];
    admin.metrics().count("ringback_closes_total", &labels)
}

/// The records of an attack: in each round some key updates, then a Ping.
fn key_updates(tls: &mut TlsStream, rounds: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..rounds {
        for _ in 0..IN_A_ROW {
            tls.conn.refresh_traffic_keys().expect("TLS 1.3");
        }
        tls.conn
            .writer()
            .write_all(&frame(PING, b""))
            .expect("taken");
        while tls.conn.wants_write() {
            tls.conn.write_tls(&mut bytes).expect("written");
        }
    }
    bytes
}

/// Expects a Close after any number of Pongs, and the end of the stream.
#[track_caller]
fn expect_close(tls: &mut TlsStream) {
    let mut rest = Vec::new();
    tls.read_to_end(&mut rest).expect("the end of TLS");
    let close = unmasked(CLOSE, &POLICY.to_be_bytes());
    assert!(rest.ends_with(&close), "{rest:x?}");
}

fn key_updates_with(engine: Engine, flags: &[&str]) {
    const CONNECTIONS: usize = 20;
    let (attack, admin, pair) = start(engine, flags);
    let config = pair.client(&[&TLS13], &[]);
    let address = address(&attack);
    thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let mut tls = upgrade(address, &config);
                let bytes = key_updates(&mut tls, ROUNDS);
                // Records after the limit are discarded.
                tls.sock.write_all(&bytes).expect("sent");
                expect_close(&mut tls);
            });
        }
    });
    let code = POLICY.to_string();
    assert_eq!(tls_closes(&admin, &code), CONNECTIONS as u64);
    let budget = Budget::new()
        .connections(4 * CONNECTIONS)
        .bytes(CONNECTIONS * ROUNDS * IN_A_ROW * 27)
        .held(CONNECTIONS, IN_HANDSHAKE);
    attack.finish(budget);
}

/// A key update costs as much as many frames; a Ping after 30 of them restarts the limit
/// of rustls.
fn key_update_flood_gets_close_1008(engine: Engine) {
    key_updates_with(engine, &[]);
}

fn key_update_flood_of_handler_gets_close_1008(engine: Engine) {
    key_updates_with(engine, &["--print-messages"]);
}

/// The encrypter of a connection, for records that rustls does not make.
fn encrypter(tls: TlsStream) -> (TcpStream, Box<dyn MessageEncrypter>, u64) {
    let StreamOwned { conn, sock } = tls;
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
    let (attack, admin, pair) = start(engine, &[]);
    let mut config = Arc::unwrap_or_clone(pair.client(&[&TLS13], &[]));
    config.enable_secret_extraction = true;
    let config = Arc::new(config);
    for _ in 0..CONNECTIONS {
        let (sock, mut encrypter, mut number) = encrypter(upgrade(address(&attack), &config));
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
        // Pongs, a Close and the end, which cannot be decrypted any more.
        raw.rest();
    }
    let code = POLICY.to_string();
    wait_until("all are counted", || {
        tls_closes(&admin, &code) == CONNECTIONS as u64
    });
    let budget = Budget::new()
        .connections(2 * CONNECTIONS)
        .bytes(CONNECTIONS * ROUNDS * IN_A_ROW * 22)
        .held(2, IN_HANDSHAKE);
    attack.finish(budget);
}

/// A few key updates are legitimate; TLS 1.2 has none.
fn few_key_updates_are_accepted(engine: Engine) {
    const UPDATES: usize = 10;
    let (attack, admin, pair) = start(engine, &[]);
    let mut tls = upgrade(address(&attack), &pair.client(&[&TLS13], &[]));
    for _ in 0..UPDATES {
        tls.conn.refresh_traffic_keys().expect("TLS 1.3");
    }
    let mut old = upgrade(address(&attack), &pair.client(&[&TLS12], &[]));
    for tls in [&mut tls, &mut old] {
        tls.write_all(&frame(PING, b"?")).expect("sent");
        let mut pong = [0; 3];
        tls.read_exact(&mut pong).expect("a Pong");
        assert_eq!(pong, unmasked(0x8a, b"?")[..]);
    }
    drop((tls, old));
    attack.wait_for_disconnects();
    assert_eq!(tls_closes(&admin, &POLICY.to_string()), 0);
    attack.finish(Budget::new().connections(3).held(2, IN_HANDSHAKE));
}

/// A read that fills the server's buffer suggests that more has come; it has not.
fn silence_after_full_read_costs_no_cpu_time(engine: Engine) {
    const READ: usize = 32 * 1024;
    const RECORDS: usize = 2;
    const PER_RECORD: usize = 22;
    let (attack, _admin, pair) = start(engine, &["--read-size=32k"]);
    let mut tls = upgrade(address(&attack), &pair.client(&[&TLS13], &[]));
    // Pongs get no answer, so that nothing else wakes the server.
    let pong = frame(PONG, b"");
    let pongs = pong.repeat((READ - RECORDS * PER_RECORD) / pong.len());
    tls.conn.writer().write_all(&pongs).expect("taken");
    let mut records = Vec::new();
    while tls.conn.wants_write() {
        tls.conn.write_tls(&mut records).expect("written");
    }
    assert_eq!(records.len(), READ);
    // All of it is in the socket when the server reads.
    attack.server().freeze();
    tls.sock.write_all(&records).expect("sent");
    attack.server().thaw();
    attack.expect_idle();
    drop(tls);
    attack.wait_for_disconnects();
    let budget = Budget::new().connections(2).bytes(READ);
    attack.finish(budget.held(2, IN_HANDSHAKE));
}

/// About the longest certificate that clients accept: each handshake makes the server
/// send it.
fn long_certificate_costs_its_length_per_handshake(engine: Engine) {
    const LEN: usize = 60_000;
    const CONNECTIONS: usize = 50;
    let pair = pki::pair_with(|params| {
        let padding = CustomExtension::from_oid_content(&[1, 3, 9999, 1], vec![4; LEN]);
        params.custom_extensions.push(padding);
    });
    let (attack, _admin, pair) = start_with(engine, pair, &[]);
    let config = pair.client(&[&TLS13, &TLS12], &[]);
    for _ in 0..CONNECTIONS {
        drop(upgrade(address(&attack), &config));
    }
    let budget = Budget::new()
        .connections(4 * CONNECTIONS)
        .bytes(CONNECTIONS * LEN)
        .held(4, IN_HANDSHAKE + LEN as u64);
    attack.finish(budget);
}
