//! Work that one connection can make for its worker at once: it must leave the others
//! their turn, which the siege measures when it is lifted.

use std::thread;

use crate::common::client::Raw;
use crate::common::engines::{Engine, on_every_engine_and_over_tls};
use crate::common::wait_until;
use crate::common::wire::{
    BINARY, FRAGMENT, LAST_FRAGMENT, PING, PONG, REQUEST, TEXT, TEXT_FRAGMENT, frame, unmasked,
};
use crate::siege::{NOT_READ, SHAKING_HANDS, Siege, Toll};

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

/// Sends this on a connection while it reads; gets exactly that answer.
#[track_caller]
fn exchange(siege: &Siege, request: &[u8], answer: &[u8]) {
    let mut raw = Raw::open(siege.address());
    let mut writer = Raw::over(raw.stream().try_clone().expect("a descriptor"));
    thread::scope(|scope| {
        scope.spawn(move || writer.send(request));
        raw.expect(answer);
    });
}

/// What has come of a head is looked at again with each piece, and there is another
/// one whenever that is done.
fn head_of_1_mib_in_pieces_keeps_turns_short(engine: Engine) {
    const END: usize = 40_000;
    let flags = ["--max-header-bytes=2m", "--handshake-timeout=1m"];
    let siege = Siege::lay(engine, &flags);
    let request = REQUEST.strip_suffix("\r\n").expect("an empty line");
    let head = format!("{request}X: {}\r\n\r\n", "y".repeat(MIB));
    let mut raw = Raw::dial(siege.address());
    let (start, end) = head.as_bytes().split_at(head.len() - END);
    raw.send(start);
    for byte in end {
        raw.send(&[*byte]);
    }
    raw.expect_upgrade();
    drop(raw);
    // How often it is looked at is a matter of who is faster.
    let toll = Toll::new().segments(2 * END).bytes(64 * head.len());
    siege.lift(toll.held(3, MIB as u64));
}

fn text_frame_of_64_mib_keeps_turns_short(engine: Engine) {
    const LEN: usize = 64 * MIB;
    let siege = Siege::lay(engine, &[]);
    let text = "aé日🦀".repeat(LEN / 10);
    let request = frame(TEXT, text.as_bytes());
    let answer = unmasked(TEXT, text.as_bytes());
    exchange(&siege, &request, &answer);
    siege.lift(
        Toll::new()
            .bytes(4 * LEN)
            .held(1, NOT_READ + 8 * MIB as u64),
    );
}

/// In a frame and in fragments, as long as they may be by default.
fn long_messages_of_handler_keep_turns_short(engine: Engine) {
    const LEN: usize = 16 * MIB;
    const ROUNDS: usize = 3;
    const PIECE: usize = 60_000;
    let siege = Siege::lay(engine, &["--print-messages"]);
    let text = "aé日🦀".repeat(LEN / 10);
    let bytes = text.as_bytes();
    let mut request = frame(TEXT_FRAGMENT, b"");
    for piece in bytes.chunks(PIECE) {
        request.extend(frame(FRAGMENT, piece));
    }
    request.extend(frame(LAST_FRAGMENT, b""));
    for _ in 0..ROUNDS {
        exchange(&siege, &frame(BINARY, bytes), &unmasked(BINARY, bytes));
        exchange(&siege, &request, &unmasked(TEXT, bytes));
    }
    let toll = Toll::new().bytes(32 * ROUNDS * LEN);
    siege.lift(toll.held(8, LEN as u64));
}

fn empty_messages_of_handler_keep_turns_short(engine: Engine) {
    const MESSAGES: usize = 100_000;
    let siege = Siege::lay(engine, &["--print-messages"]);
    let request = frame(BINARY, b"").repeat(MESSAGES);
    exchange(&siege, &request, &unmasked(BINARY, b"").repeat(MESSAGES));
    let toll = Toll::new()
        .segments(MESSAGES)
        .held(1, NOT_READ + 8 * MIB as u64);
    siege.lift(toll);
}

/// The handler hears of none of them.
fn pings_of_handler_keep_turns_short(engine: Engine) {
    const PINGS: usize = 100_000;
    let siege = Siege::lay(engine, &["--print-messages"]);
    let request = frame(PING, b"").repeat(PINGS);
    exchange(&siege, &request, &unmasked(PONG, b"").repeat(PINGS));
    siege.lift(Toll::new().frames(PINGS).held(1, NOT_READ + MIB as u64));
}

fn long_access_log_fields_keep_turns_short(engine: Engine) {
    const LEN: usize = 500 * 1024;
    let flags = [
        "--max-header-bytes=2m",
        "--access-log",
        "--access-log-fields=query,user-agent,origin",
    ];
    let siege = Siege::lay(engine, &flags);
    let noise = "\u{9b}\"".repeat(LEN / 3);
    let request = REQUEST.strip_suffix("\r\n").expect("an empty line");
    let request = request.replacen("GET /", &format!("GET /?{}", "%".repeat(60_000)), 1);
    let head = format!("{request}User-Agent: {noise}\r\nOrigin: http://x\r\n\r\n");
    let mut raw = Raw::dial(siege.address());
    raw.send(head.as_bytes());
    raw.expect_upgrade();
    drop(raw);
    let toll = Toll::new().bytes(16 * head.len()).held(3, MIB as u64);
    siege.lift(toll.held(1, SHAKING_HANDS));
}

/// All of it is given back at once.
fn resets_with_backlog_of_64_mib_keep_turns_short(engine: Engine) {
    const CONNECTIONS: usize = 3;
    const LEN: usize = 64 * MIB;
    let siege = Siege::lay(engine, &["--max-backlog=64m"]);
    let message = frame(BINARY, &vec![b'x'; MIB]);
    let mut sent = 0;
    for _ in 0..CONNECTIONS {
        let mut raw = Raw::open_narrow(siege.address());
        let mut len = 0;
        wait_until("the backlog is full, or nearly", || {
            len += raw.send_what_fits(&message);
            len > LEN as u64
        });
        raw.reset();
        sent += usize::try_from(len).expect("as much as is held");
    }
    siege.lift(Toll::new().bytes(3 * sent).held(2, LEN as u64));
}
