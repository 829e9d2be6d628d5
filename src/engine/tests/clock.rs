//! A clock that jumps, as after a suspended machine, and one that goes back, which
//! the kernel's does not: then nothing is due, and nothing breaks.

use std::cell::Cell;
use std::time::Duration;

use super::client::{
    BINARY, CLOSE, Client, End, PING, PONG, Step, TEXT, everything, frame, noise, reply,
};
use super::on_every_engine;
use super::rig::{Rig, on_engine};
use crate::config::Config;
use crate::config::engine_kind::EngineKind;
use crate::engine::SLOW_READER;
use crate::engine::timers::PER_TURN;
use crate::observe::metrics::label::EndReason;
use crate::sys::calls::{self, Shift};

on_every_engine![
    a_jump_makes_due_what_has_run_out,
    a_jump_does_not_make_due_what_has_not,
    many_silent_connections_are_pinged_turn_by_turn,
    a_jump_closes_nobody_whose_answer_lies_in_the_socket,
    a_jump_cuts_off_who_does_not_read,
    a_jump_cuts_off_nobody_whose_socket_has_room,
    a_jump_has_a_client_read_on_that_does_not_read,
    a_jump_ends_a_closing_handshake,
    a_clock_that_goes_back_makes_nothing_due,
    a_clock_at_its_end,
];

/// Time for an engine to do what it must not do.
const A_WHILE: Duration = Duration::from_millis(20);

fn idle_timeout() -> Duration {
    Config::default().idle_timeout.expect("there is one")
}

/// Has clients say hello on connections that live on.
async fn greeted(rig: &Rig) -> Client {
    let stream = rig.connect(b"");
    rig.clients(move || {
        let mut client = Client::new(stream);
        client.take(&hello());
        client
    })
    .await
}

fn hello() -> Step {
    Step {
        send: frame(TEXT, b"hello"),
        expect: reply(TEXT, b"hello"),
    }
}

/// Sees the client out, who must have heard nothing in between.
async fn say_good_bye(rig: &Rig, mut client: Client) {
    rig.clients(move || {
        client.take(&hello());
        client.close();
        assert_eq!(client.end, Some(End::Closed));
        let expected = everything(&[], &[hello(), hello()]);
        assert_eq!(client.received, expected);
    })
    .await;
}

async fn tick_for_a_while(rig: &Rig) {
    for _ in 0..5 {
        rig.run_for(A_WHILE / 5).await;
        rig.tick();
    }
}

fn a_jump_makes_due_what_has_run_out(kind: EngineKind) {
    for jump in [idle_timeout(), Duration::from_secs(24 * 3600)] {
        on_engine(kind, async |rig| {
            let mut client = greeted(rig).await;
            calls::shift_clock(Shift::Ahead(jump));
            client = rig
                .clients(move || {
                    client.expect(&reply(PING, b""));
                    client
                })
                .await;
            assert_eq!(rig.counters().pings_sent.get(), 1, "once, after {jump:?}");
            calls::shift_clock(Shift::Ahead(2 * jump + Config::default().pong_timeout));
            rig.clients(move || client.expect(&reply(CLOSE, &1001_u16.to_be_bytes())))
                .await;
            assert_eq!(rig.counters().all_ends(EndReason::Idle), 1);
        });
    }
}

fn many_silent_connections_are_pinged_turn_by_turn(kind: EngineKind) {
    let silent = u64::from(PER_TURN) * 2 + 1;
    on_engine(kind, async |rig| {
        let hello = frame(TEXT, b"hello");
        let streams: Vec<_> = (0..silent).map(|_| rig.connect(&hello)).collect();
        // One that begins later is due later.
        rig.run_until("all are served", || {
            rig.counters().messages_received.get() == silent
        })
        .await;
        calls::shift_clock(Shift::Ahead(idle_timeout()));
        let pings = || rig.counters().pings_sent.get();
        let turns = Cell::new(0);
        rig.run_while(|| {
            rig.tick();
            turns.set(turns.get() + 1);
            assert!(pings() <= turns.get() * u64::from(PER_TURN));
            pings() < silent
        })
        .await;
        assert!(turns.get() >= 3);
        drop(streams);
    });
}

fn a_jump_does_not_make_due_what_has_not(kind: EngineKind) {
    on_engine(kind, async |rig| {
        let client = greeted(rig).await;
        calls::shift_clock(Shift::Ahead(idle_timeout() / 2));
        tick_for_a_while(rig).await;
        assert_eq!(rig.counters().pings_sent.get(), 0);
        say_good_bye(rig, client).await;
    });
}

fn a_jump_cuts_off_who_does_not_read(kind: EngineKind) {
    on_engine(kind, async |rig| {
        let stream = rig.connect_narrow(b"");
        let mut client = Client::new(stream);
        // More than all buffers on the way take, in messages that are answered.
        let message = frame(BINARY, &noise(60_000));
        rig.run_until("a reply waits for its client", || {
            client.say_what_fits(&message);
            rig.tick().slow_readers == 1
        })
        .await;
        assert_eq!(rig.counters().slow_readers_cut.get(), 0);
        let mut ahead = Duration::ZERO;
        rig.run_until("it is cut off", || {
            // What it has sent is read first, which is progress.
            ahead += Config::default().write_timeout;
            calls::shift_clock(Shift::Ahead(ahead));
            rig.counters().slow_readers_cut.get() == 1
        })
        .await;
        rig.clients(move || client.read_to_end()).await;
    });
}

/// A machine that was paused has overdue timers, and healthy peers.
fn a_jump_closes_nobody_whose_answer_lies_in_the_socket(kind: EngineKind) {
    on_engine(kind, async |rig| {
        let mut client = greeted(rig).await;
        calls::shift_clock(Shift::Ahead(idle_timeout()));
        client = rig
            .clients(move || {
                client.expect(&reply(PING, b""));
                client
            })
            .await;
        // The engine does not run meanwhile: this is its thread.
        client.say(&frame(PONG, b""));
        let pause = 2 * Config::default().pong_timeout;
        calls::shift_clock(Shift::Ahead(idle_timeout() + pause));
        rig.tick();
        rig.clients(move || {
            client.take(&hello());
            client.close();
            assert_eq!(client.end, Some(End::Closed));
        })
        .await;
        assert_eq!(rig.counters().all_ends(EndReason::Idle), 0);
    });
}

/// Has a client send until its replies wait, and says how much of `messages`.
async fn send_until_replies_wait(rig: &Rig, client: &Client, messages: &[u8]) -> usize {
    let sent = Cell::new(0);
    rig.run_until("a reply waits for its client", || {
        sent.set(sent.get() + client.say_what_fits(&messages[sent.get()..]));
        rig.tick().slow_readers == 1
    })
    .await;
    sent.get()
}

fn a_jump_cuts_off_nobody_whose_socket_has_room(kind: EngineKind) {
    on_engine(kind, async |rig| {
        let (message, echo) = (frame(BINARY, &noise(60_000)), reply(BINARY, &noise(60_000)));
        let (messages, echoes) = (message.repeat(200), echo.repeat(200));
        let mut client = Client::new(rig.connect_narrow(b""));
        let initiated = send_until_replies_wait(rig, &client, &messages).await;
        // The engine does not run meanwhile.
        client.read_what_is_there();
        calls::shift_clock(Shift::Ahead(3 * Config::default().write_timeout));
        rig.tick();
        assert_eq!(rig.counters().slow_readers_cut.get(), 0);
        rig.clients(move || {
            let expect = echoes[client.received.len()..].to_vec();
            let send = messages[initiated..].to_vec();
            client.take(&Step { send, expect });
            assert!(client.received == echoes, "the echo is wrong");
            client.close();
        })
        .await;
    });
}

/// A client that sends all it has before it reads.
fn a_jump_has_a_client_read_on_that_does_not_read(kind: EngineKind) {
    on_engine(kind, async |rig| {
        let (message, echo) = (frame(BINARY, &noise(60_000)), reply(BINARY, &noise(60_000)));
        let (messages, echoes) = (message.repeat(50), echo.repeat(50));
        let mut client = Client::new(rig.connect_narrow(b""));
        let sent = Cell::new(send_until_replies_wait(rig, &client, &messages).await);
        calls::shift_clock(Shift::Ahead(SLOW_READER));
        rig.run_until("all of it is sent", || {
            sent.set(sent.get() + client.say_what_fits(&messages[sent.get()..]));
            sent.get() == messages.len()
        })
        .await;
        assert!(rig.tick().bytes > 0);
        rig.clients(move || {
            client.expect(&echoes);
            client.close();
        })
        .await;
    });
}

fn a_jump_ends_a_closing_handshake(kind: EngineKind) {
    on_engine(kind, async |rig| {
        let mut client = greeted(rig).await;
        client = rig
            .clients(move || {
                client.take(&Step {
                    send: frame(CLOSE, &1000_u16.to_be_bytes()),
                    expect: reply(CLOSE, &1000_u16.to_be_bytes()),
                });
                client
            })
            .await;
        // The client does not hang up.
        tick_for_a_while(rig).await;
        assert_eq!(rig.open(), 1);
        calls::shift_clock(Shift::Ahead(Config::default().close_timeout));
        rig.run_until("the server does", || rig.open() == 0).await;
        drop(client);
    });
}

fn a_clock_that_goes_back_makes_nothing_due(kind: EngineKind) {
    on_engine(kind, async |rig| {
        let client = greeted(rig).await;
        // Before its own start, even.
        calls::shift_clock(Shift::Behind(Duration::from_secs(3600)));
        tick_for_a_while(rig).await;
        let late = greeted(rig).await;
        calls::shift_clock(Shift::None);
        tick_for_a_while(rig).await;
        assert_eq!(rig.counters().pings_sent.get(), 0);
        say_good_bye(rig, client).await;
        say_good_bye(rig, late).await;
    });
}

/// The largest jump that a clock of 64 bits of seconds can show is beyond what
/// milliseconds in 64 bits can.
fn a_clock_at_its_end(kind: EngineKind) {
    for years in [1_000, 100_000_000_000] {
        on_engine(kind, async |rig| {
            let mut client = greeted(rig).await;
            let jump = Duration::from_secs(years * 365 * 24 * 3600);
            calls::shift_clock(Shift::Ahead(jump));
            client = rig
                .clients(move || {
                    client.expect(&reply(PING, b""));
                    client.take(&hello());
                    client
                })
                .await;
            rig.clients(move || client.close()).await;
        });
    }
}
