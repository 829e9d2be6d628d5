//! A whole connection over a socket pair: handshake, frames, half-close, through the
//! worker, hyper, the gate and an engine, or whole messages and a handler.
//!
//! Input: server (1 byte), shape (1 byte: bit 0 any head, bit 1 any frames, bit 2 TLS),
//! cuts (1 byte and 2 for each), the head (as `Head::take` reads it, or 2 bytes of
//! length and the bytes), frames (as `take_frames` reads them, or any bytes).
//!
//! `RINGBACK_FUZZ_ENGINES`: names of engines, separated by commas; all of them if it is
//! not set. `messages` is the handler.

#![no_main]

use std::env;

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use ringback::EngineKind;
use ringback_fuzz::arrivals::Cuts;
use ringback_fuzz::client::Server;
use ringback_fuzz::frames::take_frames;
use ringback_fuzz::handshake::{GATE_CONFIGS, GateConfig, Head, Outcome};
use ringback_fuzz::reference::{Limits, Style};
use tungstenite::handshake::derive_accept_key;

/// One for each gate.
const LIMITS: [Limits; GATE_CONFIGS.len()] = [
    Limits {
        message_bytes: None,
        fragments: 1 << 20,
        window: 16 * 1024,
    },
    Limits {
        message_bytes: None,
        fragments: 3,
        window: 256,
    },
    Limits {
        message_bytes: Some(1000),
        fragments: 1 << 20,
        window: 512,
    },
    Limits {
        message_bytes: Some(70_000),
        fragments: 100,
        window: 4096,
    },
];

thread_local! {
    static SERVERS: &'static [(Server, &'static GateConfig)] = servers();
}

/// A server for each engine and gate. They run until the process ends.
fn servers() -> &'static [(Server, &'static GateConfig)] {
    // SAFETY: to ignore a signal takes no handler. Rust's own main does it as well;
    // libFuzzer's takes its place.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let chosen = env::var("RINGBACK_FUZZ_ENGINES")
        .unwrap_or_else(|_unset| "epoll,messages,ring,tokio-uring".to_owned());
    let mut servers = Vec::new();
    for name in chosen.split(',') {
        let style = match name {
            "messages" => Style::Messages,
            _ => Style::Frames,
        };
        let named = EngineKind::ALL.iter().find(|engine| engine.name() == name);
        let engine = match (style, named) {
            (Style::Messages, _) => EngineKind::Epoll,
            (_, Some(engine)) => *engine,
            _ => panic!("RINGBACK_FUZZ_ENGINES: there is no '{name}'"),
        };
        for (config, limits) in GATE_CONFIGS.iter().zip(LIMITS) {
            let server = Server::start(engine, style, limits, config);
            servers.push((
                server.unwrap_or_else(|error| panic!("{name}: {error}")),
                config,
            ));
        }
    }
    servers.leak()
}

fuzz_target!(|data: &[u8]| {
    if let Ok(case) = Case::take(&mut Unstructured::new(data)) {
        SERVERS.with(|servers| {
            let (server, config) = &servers[usize::from(case.server) % servers.len()];
            case.check(server, config);
        });
    }
});

struct Case {
    server: u8,
    is_secure: bool,
    cuts: Cuts,
    /// `None` if the outcome depends on more than the gate.
    head: Option<Head>,
    request: Vec<u8>,
    frames: Vec<u8>,
}

impl Case {
    fn take(input: &mut Unstructured<'_>) -> Result<Self> {
        let server = input.arbitrary()?;
        let shape: u8 = input.arbitrary()?;
        let cuts = Cuts::take(input)?;
        let (head, request) = if shape & 1 == 0 {
            let head = Head::take(input)?;
            let request = head.wire();
            (Some(head), request)
        } else {
            let len: u16 = input.arbitrary()?;
            let len = usize::from(len).min(input.len());
            (None, input.bytes(len)?.to_vec())
        };
        let mut frames = Vec::new();
        if shape & 2 == 0 {
            take_frames(input, &mut frames)?;
        } else {
            frames = input.bytes(input.len())?.to_vec();
        }
        Ok(Self {
            server,
            is_secure: shape & 4 != 0,
            cuts,
            head,
            request,
            frames,
        })
    }

    fn check(&self, server: &Server, config: &GateConfig) {
        let stream = [&self.request[..], &self.frames].concat();
        let exchange = server.exchange(&self.cuts.apply(&stream), self.is_secure);
        let (status, head, rest) = split(&exchange.answer);
        let known = self.head.as_ref().filter(|head| head.is_one());
        let Some(request) = known.map(Head::parsed) else {
            assert!(is_known(status), "status {status}");
            return;
        };
        match request.outcome(config) {
            Outcome::Upgraded(subprotocol) if request.is_plain() => {
                assert_eq!(status, 101, "{request:?}, answered {head}");
                check_101(head, &request, subprotocol.as_deref());
                server.check_echo(&exchange, rest, &self.frames);
            }
            Outcome::Refused(expected) if request.is_plain() => {
                assert_eq!(status, expected, "{request:?}, answered {head}");
            }
            // A body or an expectation concerns hyper as well.
            Outcome::Upgraded(_) => assert!(is_known(status), "status {status}: {request:?}"),
            Outcome::Refused(_) | Outcome::Plain => {
                assert!(
                    is_known(status) && status != 101,
                    "status {status}: {request:?}"
                );
            }
        }
    }
}

/// The statuses that a server may send, 0 for no response.
fn is_known(status: u16) -> bool {
    [0, 101, 200, 400, 403, 404, 405, 414, 426, 431].contains(&status)
}

/// The status, the head with its last line, and the bytes after it.
fn split(answer: &[u8]) -> (u16, &str, &[u8]) {
    // A TLS alert is no response.
    if answer.is_empty() || answer.starts_with(b"\x15\x03") {
        return (0, "", b"");
    }
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let (head, rest) = answer.split_at(end.expect("a whole head") + 4);
    let head = str::from_utf8(head).expect("ASCII");
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .or_else(|| head.strip_prefix("HTTP/1.0 "));
    let status = status.and_then(|status| status.get(..3)?.parse().ok());
    (status.expect("a status"), head, rest)
}

/// RFC 6455, section 4.2.2.
fn check_101(head: &str, request: &Head, subprotocol: Option<&str>) {
    let value = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        let mut values = lines.filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value);
        assert!(values.next().is_none(), "{name} twice");
        value
    };
    let accept = derive_accept_key(request.key().expect("a key"));
    assert_eq!(value("sec-websocket-accept"), Some(&accept[..]));
    assert!(value("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")));
    // Whatever else the client has offered.
    assert_eq!(
        value("connection"),
        Some("upgrade"),
        "{request:?}, answered {head}"
    );
    assert_eq!(value("sec-websocket-protocol"), subprotocol);
    assert_eq!(value("sec-websocket-extensions"), None);
}
