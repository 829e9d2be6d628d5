//! A check of the reference: tungstenite, as a server.
//!
//! It is no reference for the core: it does not report the rule or the byte of a
//! violation, and echoes no fragments. But it must read the same messages as the
//! reference, and must not get further than the reference's first violation.

use std::io::{self, Read, Write};

use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Message, WebSocket};

use crate::reference::{End, Limits, Reference, Style};

/// A close code that was registered later than the others, and that tungstenite does not
/// know.
const BAD_GATEWAY: u16 = 1014;

/// A stream that has arrived as a whole; replies are discarded.
struct Arrived<'a>(&'a [u8]);

impl Read for Arrived<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Arrived<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A frame is no longer than its stream; a longer one never ends.
const FRAME_MAX: usize = 1 << 20;

/// Compares the reference with tungstenite.
///
/// # Panics
/// If they differ.
pub fn compare(stream: &[u8]) {
    let limits = Limits {
        message_bytes: None,
        fragments: u32::MAX,
        window: u64::MAX,
    };
    let answer = Reference::new(limits, Style::Messages).arrive(stream);
    let mut expected = answer.reply;
    let found = tungstenite(stream);
    if answer.end == Some(End::Closed(Some(BAD_GATEWAY))) {
        return;
    }
    if let Some(End::Failed(fault)) = answer.end {
        expected.truncate(expected.len() - 4);
        match fault.name {
            // tungstenite does not have these rules, or not the whole of the last one.
            "non_minimal_length" | "length_overflow" | "long_control" => {
                assert!(found.starts_with(&expected), "tungstenite reads less");
                return;
            }
            // Of two faults, it finds the other one first.
            "invalid_close_code" if found != expected => {
                put(0x88, b"\x03\xeaProtocol violation", &mut expected);
            }
            _ => {}
        }
    }
    assert_eq!(found, expected, "tungstenite reads otherwise");
}

/// The messages that it reads, in the form of echoes, and the Close.
fn tungstenite(stream: &[u8]) -> Vec<u8> {
    let config = WebSocketConfig::default()
        .max_frame_size(Some(FRAME_MAX))
        .max_message_size(None);
    let mut socket = WebSocket::from_raw_socket(Arrived(stream), Role::Server, Some(config));
    let mut echo = Vec::new();
    loop {
        let (first, payload) = match socket.read() {
            Ok(Message::Text(text)) => (0x81, text.as_bytes().to_vec()),
            Ok(Message::Binary(bytes)) => (0x82, bytes.to_vec()),
            Ok(Message::Ping(bytes)) => (0x8a, bytes.to_vec()),
            Ok(Message::Pong(_)) => continue,
            Ok(Message::Close(frame)) => {
                let payload = frame.map_or_else(Vec::new, |frame| {
                    [
                        &u16::from(frame.code).to_be_bytes(),
                        frame.reason.as_bytes(),
                    ]
                    .concat()
                });
                put(0x88, &payload, &mut echo);
                return echo;
            }
            Ok(Message::Frame(_)) | Err(_) => return echo,
        };
        put(first, &payload, &mut echo);
    }
}

fn put(first: u8, payload: &[u8], echo: &mut Vec<u8>) {
    echo.push(first);
    let len = payload.len().to_be_bytes();
    match payload.len() {
        0..=125 => echo.push(len[7]),
        126..=0xffff => echo.extend([126, len[6], len[7]]),
        _ => {
            echo.push(127);
            echo.extend(len);
        }
    }
    echo.extend(payload);
}
