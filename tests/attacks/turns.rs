//! Work that one connection can cause at once: others must get their turn meanwhile,
//! which `Attack::finish` measures.

use std::thread;

use crate::attack::{Attack, Budget, IN_HANDSHAKE, UNREAD};
use crate::common::client::Raw;
use crate::common::engines::{Engine, on_every_engine_and_over_tls};
use crate::common::wait_until;
use crate::common::wire::{
    BINARY, FRAGMENT, LAST_FRAGMENT, PING, PONG, REQUEST, TEXT, TEXT_FRAGMENT, frame, unmasked,
};

on_every_engine_and_over_tls![
    head_of_1_mib_in_pieces_keeps_turns_short,
    text_frame_of_64_mib_keeps_turns_short,
    long_messages_of_handler_keep_turns_short,
    empty_messages_of_handler_keep_turns_short,
    pings_of_handler_keep_turns_short,
    long_access_log_fields_keep_turns_short,
    resets_with_backlog_of_64_mib_keep_turns_short,
];

const MIB: usize = 1 << 20;

/// Sends `request` while it reads; expects exactly `answer`.
#[track_caller]
fn exchange(attack: &Attack, request: &[u8], answer: &[u8]) {
    let mut raw = Raw::open(attack.address());
    let mut writer = Raw::over(raw.stream().try_clone().expect("a descriptor"));
    thread::scope(|scope| {
        scope.spawn(move || writer.send(request));
        raw.expect(answer);
    });
}

/// The head is parsed again as pieces of it arrive.
fn head_of_1_mib_in_pieces_keeps_turns_short(engine: Engine) {
    const END: usize = 40_000;
    let flags = ["--max-header-bytes=2m", "--handshake-timeout=1m"];
    let attack = Attack::start(engine, &flags);
    let request = REQUEST.strip_suffix("\r\n").expect("an empty line");
    let head = format!("{request}X: {}\r\n\r\n", "y".repeat(MIB));
    let mut raw = Raw::dial(attack.address());
    let (start, end) = head.as_bytes().split_at(head.len() - END);
    raw.send(start);
    for byte in end {
        raw.send(&[*byte]);
    }
    raw.expect_upgrade();
    drop(raw);
    // How often it is parsed depends on the timing of both sides.
    let budget = Budget::new().segments(2 * END).bytes(64 * head.len());
    attack.finish(budget.held(3, MIB as u64));
}

fn text_frame_of_64_mib_keeps_turns_short(engine: Engine) {
    const LEN: usize = 64 * MIB;
    let attack = Attack::start(engine, &[]);
    let text = "aé日🦀".repeat(LEN / 10);
    let request = frame(TEXT, text.as_bytes());
    let answer = unmasked(TEXT, text.as_bytes());
    exchange(&attack, &request, &answer);
    attack.finish(
        Budget::new()
            .bytes(4 * LEN)
            .held(1, UNREAD + 8 * MIB as u64),
    );
}

/// In one frame and in fragments, of the default maximum length.
fn long_messages_of_handler_keep_turns_short(engine: Engine) {
    const LEN: usize = 16 * MIB;
    const ROUNDS: usize = 3;
    const PIECE: usize = 60_000;
    let attack = Attack::start(engine, &["--print-messages"]);
    let text = "aé日🦀".repeat(LEN / 10);
    let bytes = text.as_bytes();
    let mut request = frame(TEXT_FRAGMENT, b"");
    for piece in bytes.chunks(PIECE) {
        request.extend(frame(FRAGMENT, piece));
    }
    request.extend(frame(LAST_FRAGMENT, b""));
    for _ in 0..ROUNDS {
        exchange(&attack, &frame(BINARY, bytes), &unmasked(BINARY, bytes));
        exchange(&attack, &request, &unmasked(TEXT, bytes));
    }
    let budget = Budget::new().bytes(32 * ROUNDS * LEN);
    attack.finish(budget.held(8, LEN as u64));
}

fn empty_messages_of_handler_keep_turns_short(engine: Engine) {
    const MESSAGES: usize = 100_000;
    let attack = Attack::start(engine, &["--print-messages"]);
    let request = frame(BINARY, b"").repeat(MESSAGES);
    exchange(&attack, &request, &unmasked(BINARY, b"").repeat(MESSAGES));
    let budget = Budget::new()
        .segments(MESSAGES)
        .held(1, UNREAD + 8 * MIB as u64);
    attack.finish(budget);
}

/// Pings do not reach the handler.
fn pings_of_handler_keep_turns_short(engine: Engine) {
    const PINGS: usize = 100_000;
    let attack = Attack::start(engine, &["--print-messages"]);
    let request = frame(PING, b"").repeat(PINGS);
    exchange(&attack, &request, &unmasked(PONG, b"").repeat(PINGS));
    attack.finish(Budget::new().frames(PINGS).held(1, UNREAD + MIB as u64));
}

fn long_access_log_fields_keep_turns_short(engine: Engine) {
    const LEN: usize = 500 * 1024;
    let flags = [
        "--max-header-bytes=2m",
        "--access-log",
        "--access-log-fields=query,user-agent,origin",
    ];
    let attack = Attack::start(engine, &flags);
    let noise = "\u{9b}\"".repeat(LEN / 3);
    let request = REQUEST.strip_suffix("\r\n").expect("an empty line");
    let request = request.replacen("GET /", &format!("GET /?{}", "%".repeat(60_000)), 1);
    let head = format!("{request}User-Agent: {noise}\r\nOrigin: http://x\r\n\r\n");
    let mut raw = Raw::dial(attack.address());
    raw.send(head.as_bytes());
    raw.expect_upgrade();
    drop(raw);
    let budget = Budget::new().bytes(16 * head.len()).held(3, MIB as u64);
    attack.finish(budget.held(1, IN_HANDSHAKE));
}

/// All of it is freed at once.
fn resets_with_backlog_of_64_mib_keep_turns_short(engine: Engine) {
    const CONNECTIONS: usize = 3;
    const LEN: usize = 64 * MIB;
    let attack = Attack::start(engine, &["--max-backlog=64m"]);
    let message = frame(BINARY, &vec![b'x'; MIB]);
    let mut sent = 0;
    for _ in 0..CONNECTIONS {
        let mut raw = Raw::open_with_small_buffers(attack.address());
        let mut len = 0;
        wait_until("the backlog is full, or nearly", || {
            len += raw.send_what_fits(&message);
            len > LEN as u64
        });
        raw.reset();
        sent += usize::try_from(len).expect("it fits in memory");
    }
    attack.finish(Budget::new().bytes(3 * sent).held(2, LEN as u64));
}
