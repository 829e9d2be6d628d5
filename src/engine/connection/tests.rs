use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::config::Config;
use crate::engine::tests::rig;
use crate::limits::admission::{Admission, Decision, ServerLimits};
use crate::observe::metrics::Counters;
use crate::proto::{Limits, TAIL_ROOM};

/// What a connection does, in each state that it can be in, about each thing that can
/// happen to it. "close 1001" is to send that Close, and half-close behind it.
const SPECIFICATION: &str = "
                   | message | Close      | violation  | end of stream | timer      | all sent   | drain      | drain at once | evict
open               | echo    | half-close | half-close | end           | ping       | -          | close 1001 | close 1001    | close 1013
part of a frame    | -       | -          | -          | end           | ping       | -          | wait       | close 1001    | close 1013
streamed frame     | -       | -          | -          | end           | end        | -          | wait       | wait          | end
between fragments  | -       | half-close | half-close | end           | ping       | -          | wait       | close 1001    | close 1013
pinged             | echo    | half-close | half-close | end           | close 1001 | -          | close 1001 | close 1001    | close 1013
closing            | wait    | wait       | wait       | end           | end        | -          | wait       | wait          | end
blocked            | wait    | wait       | wait       | wait          | end        | wait       | close 1001 | close 1001    | end
blocked, closing   | wait    | wait       | wait       | wait          | end        | half-close | wait       | wait          | end
blocked, hung up   | -       | -          | -          | -             | end        | end        | close 1001 | close 1001    | end
";

const KEY: [u8; 4] = [0, 0, 0, 0];
const MESSAGE: [u8; 2] = [0x82, 0x80];
const FRAGMENT: [u8; 2] = [0x02, 0x80];
const CLOSE: [u8; 2] = [0x88, 0x80];
const RESERVED_OPCODE: [u8; 2] = [0x83, 0x80];

/// A connection without a socket.
struct Bench {
    settings: Settings,
    connection: Connection,
    now: Millis,
}

impl Bench {
    fn new() -> Self {
        let counters = Arc::<Counters>::default();
        let server_limits = ServerLimits::new(&Config::default(), 1);
        let admission = Admission::new(server_limits, Arc::clone(&counters));
        let Decision::Accept(permit) = Rc::clone(&admission).enter() else {
            unreachable!("nobody else is there");
        };
        let settings = Settings {
            limits: Limits {
                window: 16,
                ..rig::settings(Arc::clone(&counters)).limits
            },
            ..rig::settings(counters)
        };
        Self {
            settings,
            connection: Connection::new(permit, None, Millis(0), None),
            now: Millis(0),
        }
    }

    /// One that has come into this state.
    fn in_state(state: &str) -> Self {
        let mut bench = Self::new();
        match state {
            "open" => {}
            "part of a frame" => _ = bench.receive(&MESSAGE[..1]),
            "streamed frame" => {
                let header = [&[0x82, 0x80 | 100], &KEY[..], &[7; 20]].concat();
                assert_eq!(bench.receive(&header), "echo");
            }
            "between fragments" => assert_eq!(bench.frame(FRAGMENT), "echo"),
            "pinged" => assert_eq!(bench.timer(), "ping"),
            "closing" => assert_eq!(bench.frame(CLOSE), "half-close"),
            "blocked" => bench.block(),
            "blocked, closing" => {
                bench.block();
                assert_eq!(bench.frame(CLOSE), "wait");
            }
            "blocked, hung up" => {
                bench.block();
                assert_eq!(bench.happens("end of stream"), "wait");
            }
            _ => unreachable!("a state: {state}"),
        }
        bench
    }

    /// What the connection does when this happens.
    fn happens(&mut self, event: &str) -> String {
        let context = self.settings.at(self.now);
        let connection = &mut self.connection;
        let action = match event {
            "message" => return self.frame(MESSAGE),
            "Close" => return self.frame(CLOSE),
            "violation" => return self.frame(RESERVED_OPCODE),
            "timer" => return self.timer(),
            "end of stream" => connection.end_of_stream(),
            "all sent" => {
                // It stands in pieces.
                let mut action = Action::Wait;
                while connection.is_blocked() {
                    action = connection.sent_unsent(context, connection.unsent().len());
                }
                action
            }
            "drain" => {
                connection.start_drain(Drain::WhenQuiet);
                connection.drain(context, true)
            }
            "drain at once" => {
                connection.start_drain(Drain::Now);
                connection.drain(context, false)
            }
            "evict" => connection.evict(context, EndReason::HeldBytes),
            _ => unreachable!("an event: {event}"),
        };
        self.describe(action)
    }

    fn frame(&mut self, header: [u8; 2]) -> String {
        self.receive(&[&header[..], &KEY].concat())
    }

    fn receive(&mut self, bytes: &[u8]) -> String {
        let context = self.settings.at(self.now);
        let mut buf = [0; 256];
        let before = self.connection.partial.len();
        buf[before..before + bytes.len()].copy_from_slice(bytes);
        assert!(before + bytes.len() + TAIL_ROOM <= buf.len());
        let mut joined = self.connection.partial.join(&mut buf, bytes.len());
        let filled = joined.filled;
        let step = self.connection.receive(context, &mut joined, filled);
        let reply = joined[step.reply.clone()].to_vec();
        self.connection.partial.keep(joined, step.consumed);
        let is_sent = !reply.is_empty() && !self.connection.put_behind(context, &reply);
        if is_sent {
            self.connection.sent(context, &reply, reply.len());
        }
        let action = self.connection.after_reply(step.next);
        if is_sent && action == Action::Wait {
            return "echo".to_owned();
        }
        self.describe(action)
    }

    /// The longest of the timeouts passes.
    fn timer(&mut self) -> String {
        let longest = Duration::from_secs(600).as_millis();
        self.now = Millis(self.now.0 + u64::try_from(longest).expect("short"));
        let context = self.settings.at(self.now);
        assert!(self.connection.is_due(context));
        let action = self.connection.timeout(context);
        self.describe(action)
    }

    /// The socket takes only a part of a reply.
    fn block(&mut self) {
        let context = self.settings.at(self.now);
        self.connection.sent(context, &[0x82, 1, 7], 1);
        assert!(self.connection.is_blocked());
    }

    /// Performs an action, as an engine does whose socket takes everything or nothing.
    fn describe(&mut self, action: Action) -> String {
        let context = self.settings.at(self.now);
        match action {
            Action::Wait => "wait".to_owned(),
            Action::End => "end".to_owned(),
            Action::HalfClose => {
                self.connection.half_closed(self.now);
                "half-close".to_owned()
            }
            Action::Send(frame) => {
                let was_blocked = self.connection.is_blocked();
                frame.with_bytes(|bytes| {
                    if !self.connection.put_behind(context, bytes) {
                        self.connection.sent(context, bytes, bytes.len());
                    }
                });
                let then = self.connection.then(frame);
                let expected = match frame {
                    Frame::Close(_) if !was_blocked => Action::HalfClose,
                    _ => Action::Wait,
                };
                assert_eq!(then, expected);
                match frame {
                    Frame::Ping => "ping".to_owned(),
                    Frame::Close(code) => format!("close {}", code.get()),
                }
            }
        }
    }
}

#[test]
fn each_state_answers_each_event_as_specified() {
    let mut lines = SPECIFICATION.lines().filter(|line| !line.is_empty());
    let cells = |line: &'static str| line.split('|').map(str::trim);
    let events: Vec<_> = cells(lines.next().expect("a head")).skip(1).collect();
    let mut checked = 0;
    for line in lines {
        let mut cells = cells(line);
        let state = cells.next().expect("a state");
        for (event, expected) in events.iter().zip(cells) {
            if expected == "-" {
                continue;
            }
            let does = Bench::in_state(state).happens(event);
            assert_eq!(does, expected, "{state}: {event}");
            checked += 1;
        }
    }
    assert_eq!(checked, 64);
}

#[test]
fn nothing_is_sent_behind_the_last_frame() {
    for state in ["open", "pinged", "between fragments", "blocked"] {
        for end in ["Close", "violation", "drain at once"] {
            let mut bench = Bench::in_state(state);
            bench.happens(end);
            assert!(bench.connection.is_closing(), "{state}: {end}");
            let unsent = bench.connection.unsent().len();
            for event in ["message", "Close", "violation", "drain", "drain at once"] {
                assert_eq!(bench.happens(event), "wait", "{state}: {end}, {event}");
                assert_eq!(bench.connection.unsent().len(), unsent);
            }
        }
    }
}

#[test]
fn the_close_timeout_counts_from_the_half_close() {
    let mut bench = Bench::in_state("blocked, closing");
    bench.now = Millis(9_000);
    assert_eq!(bench.happens("all sent"), "half-close");
    let context = |now| bench.settings.at(now);
    let close_timeout = u64::try_from(bench.settings.close_timeout.as_millis()).expect("short");
    let is_due = |now| bench.connection.is_due(context(now));
    assert!(!is_due(Millis(9_000 + close_timeout - 1)));
    assert!(is_due(Millis(9_000 + close_timeout)));
}
