//! The flags of the load: its effect on a server, and the result.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::child_server::status;
use crate::support::frames::Transcript;
use crate::support::peer::{Peer, Seen, Tap, echo, ringback, url_of};
use crate::support::poll;
use crate::support::program::{Program, loadtest, result_of};
use loadtest::plan::{Arrival, Extent, Load, Pace};
use loadtest::result::{ResultFile, Status};
use loadtest::verdict::{Reason, Verdict};
use tungstenite::Message;

/// Asserts that a run counted `count` messages and lost none of them.
fn assert_counted(result: &ResultFile, count: u64) {
    let counts = &result.counts;
    assert_eq!(counts.due, count, "{counts:?}");
    assert_eq!((counts.sent, counts.answered), (count, count), "{counts:?}");
    assert_eq!((counts.unanswered, counts.timed_out), (0, 0), "{counts:?}");
    assert_eq!(result.status, Status::Complete);
    let latencies = result.latencies().expect("it was read");
    assert_eq!(latencies.response_ns.len(), count);
}

#[test]
fn a_number_of_messages_is_sent_exactly() {
    let peer = Peer::echo();
    let url = peer.url();
    for (load, connections) in [
        (&["-c1"][..], 1),
        (&["-c3", "-w7"], 3),
        (&["-c5", "-w4", "-t2"], 5),
        (&["-c3", "--rate=5k"], 3),
        (&["-c5", "--rate=5k", "-t2"], 5),
        (&["-c3", "--rate=5k", "--arrival=poisson"], 3),
    ] {
        let result = result_of(&[load, &["-n1001", "--warmup=0s", &url]].concat());
        assert_counted(&result, 1001);
        assert_eq!(result.plan.extent, Extent::Messages(1001));
        let transcripts = peer.transcripts(connections);
        let messages = transcripts.iter().map(Transcript::messages);
        assert_eq!(messages.sum::<usize>(), 1001, "{load:?}");
    }
}

#[test]
fn messages_of_the_warm_up_count_in_sent_total_only() {
    let peer = Peer::echo();
    let url = peer.url();
    let result = result_of(&["-c2", "-w2", "-n500", "--warmup=100ms", &url]);
    assert_counted(&result, 500);
    let transcripts = peer.transcripts(2);
    let messages: usize = transcripts.iter().map(Transcript::messages).sum();
    assert!(messages > 500);
    assert_eq!(result.counts.sent_total, messages as u64);
}

/// Holds back the first messages, answers them all at once, and the others as they come.
fn answer_late(tap: Tap, mut held_back: usize) {
    let Ok(mut socket) = tungstenite::accept(tap) else {
        return;
    };
    let mut held = Vec::new();
    while let Ok(message) = socket.read() {
        if matches!(message, Message::Text(_) | Message::Binary(_)) {
            held.push(message);
        }
        if held.len() < held_back {
            continue;
        }
        held_back = 0;
        for message in held.drain(..) {
            if socket.send(message).is_err() {
                return;
            }
        }
    }
}

#[test]
fn replies_to_the_warm_up_do_not_count_for_the_rate() {
    // The warm-up has a second of the load, the measurement half a second.
    let server = Peer::serving(|tap, _| answer_late(tap, 1_500));
    let load = ["-c1", "--rate=1k", "-d3s", "--warmup=1s", "--timeout=30s"];
    let result = result_of(&[&load[..], &[&server.url()]].concat());
    assert!(result.counts.echoed_of_warmup > 500, "{:?}", result.counts);
    let judgement = &result.judgement;
    assert!(judgement.verdict >= Verdict::Suspect, "{judgement:?}");
    let is_told = |reason: &Reason| {
        reason
            .what
            .contains("replies were to messages of the warm-up")
    };
    assert!(judgement.reasons.iter().any(is_told), "{judgement:?}");
}

#[test]
fn a_rate_for_a_time_is_a_number_of_messages() {
    let peer = Peer::echo();
    let url = peer.url();
    let result = result_of(&["-c4", "--rate=1k", "-d700ms", "--warmup=100ms", &url]);
    assert_counted(&result, 700);
    assert_eq!(result.elapsed_ns, 700_000_000);
    // In turn, including the 100 of the warm-up.
    let transcripts = peer.transcripts(4);
    for transcript in &transcripts {
        assert_eq!(transcript.messages(), 200);
        assert!(transcript.ended_well());
    }
}

#[test]
fn a_rate_per_connection_is_multiplied() {
    let peer = Peer::echo();
    let url = peer.url();
    let result = result_of(&["-c4", "--rate-per-conn=250", "-n400", "--warmup=0s", &url]);
    let expected = Load::Open {
        rate: 1000.0,
        arrival: Arrival::Fixed,
    };
    assert_eq!(result.plan.load, expected);
    assert_counted(&result, 400);
    for transcript in peer.transcripts(4) {
        assert_eq!(transcript.messages(), 100);
    }
}

#[test]
fn random_arrivals_choose_their_connection_at_random() {
    let peer = Peer::echo();
    let url = peer.url();
    let arguments = ["-c4", "--rate=4k", "--arrival=poisson", "--seed=1", "-n800"];
    let mut runs = BTreeSet::new();
    for _ in 0..2 {
        let result = result_of(&[&arguments[..], &["--warmup=0s", &url]].concat());
        assert_counted(&result, 800);
        let transcripts = peer.transcripts(4);
        let mut shares: Vec<_> = transcripts.iter().map(Transcript::messages).collect();
        assert_eq!(shares.iter().sum::<usize>(), 800);
        // Four standard deviations around the mean.
        assert!(shares.iter().all(|share| (151..=249).contains(share)));
        assert!(shares.iter().any(|&share| share != 200), "{shares:?}");
        shares.sort_unstable();
        runs.insert(shares);
    }
    assert_eq!(runs.len(), 1, "the same seed, the same arrivals: {runs:?}");
}

#[test]
fn reports_are_labelled_with_their_loop() {
    let server = ringback(|_| {});
    let url = url_of(&server);
    for (load, label) in [
        (
            &["-w2"][..],
            "closed loop, 3 connections × 2 in flight, 32 B binary, 90 messages",
        ),
        (
            &["--rate=2k"],
            "open loop, 2,000/s fixed over 3 connections, 32 B binary, 90 messages",
        ),
        (
            &["--rate-per-conn=100", "--arrival=poisson"],
            "open loop, 300/s Poisson over 3 connections, 32 B binary, 90 messages",
        ),
    ] {
        let arguments = [&["run", "-c3", "-n90", "--warmup=20ms"], load, &[&url]].concat();
        let run = loadtest(&arguments).assert_ok();
        let first = run.stdout.lines().next().unwrap_or_default();
        assert_eq!(first, format!("{label} after 20ms warm-up"), "{run:?}");
    }
}

#[test]
fn a_sleeping_generator_is_suspect() {
    let server = ringback(|_| {});
    let url = url_of(&server);
    let arguments = [
        "-c2",
        "--rate=500",
        "--pace=sleep",
        "-n200",
        "--warmup=0s",
        &url,
    ];
    let result = result_of(&arguments);
    assert_counted(&result, 200);
    assert_eq!(result.plan.pace, Pace::Sleep);
    assert!(result.judgement.verdict >= Verdict::Suspect);
    let mut reasons = result.judgement.reasons.iter();
    let sleeps = reasons.any(|reason| reason.what.starts_with("--pace sleep: "));
    assert!(sleeps, "{:?}", result.judgement);
    let run = loadtest(&[&["run"], &arguments[..]].concat()).assert_ok();
    assert!(
        run.stdout.contains("\n  SUSPECT  --pace sleep: "),
        "{run:?}"
    );
}

/// Waits until the window is full and no more messages come, then answers all of them. Records
/// the most that were unanswered.
fn answer_in_heaps(tap: Tap, seen: &Seen, window: usize, most: &AtomicUsize) {
    let Ok(mut socket) = tungstenite::accept(tap) else {
        return;
    };
    let mut heap = Vec::new();
    loop {
        // At the end of a run there are fewer, without a sign that it is the end.
        let quiet = if heap.len() < window { 2_000 } else { 50 };
        let stream = socket.get_ref().stream();
        let quiet = Duration::from_millis(quiet);
        stream.set_read_timeout(Some(quiet)).expect("an option");
        match socket.read() {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => {
                seen.message();
                heap.push(message);
                most.fetch_max(heap.len(), Ordering::Relaxed);
            }
            Ok(_) => {}
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                if heap.drain(..).any(|message| socket.send(message).is_err()) {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

#[test]
fn no_more_messages_are_in_flight_than_the_window_has() {
    for window in [1, 16, 300] {
        let most = Arc::new(AtomicUsize::new(0));
        let shared = Arc::clone(&most);
        let peer = Peer::serving(move |tap, seen| answer_in_heaps(tap, seen, window, &shared));
        let (url, flag) = (peer.url(), format!("-w{window}"));
        let result = result_of(&["-c2", &flag, "-d400ms", "--warmup=0s", &url]);
        assert_eq!(result.counts.due, result.counts.answered);
        assert_eq!(most.load(Ordering::Relaxed), window);
        assert!(peer.seen.messages() as u64 >= result.counts.due);
    }
}

#[test]
fn all_connections_are_open_at_the_same_time() {
    let peer = Peer::echo();
    let url = peer.url();
    for threads in ["-t1", "-t2"] {
        let result = result_of(&["-c21", threads, "-n210", "--warmup=0s", &url]);
        assert_counted(&result, 210);
        assert_eq!(result.counts.handshakes, 21);
        assert_eq!(result.summary.handshake_ns.samples, 21);
        for transcript in peer.transcripts(21) {
            assert!(transcript.ended_well());
        }
        assert_eq!(peer.open_max(), 21);
    }
}

#[test]
fn a_connection_for_each_thread_is_needed() {
    let run = loadtest(&["run", "-c1", "-t2", "ws://127.0.0.1:9/"]);
    let error = run.refused(2);
    assert!(
        error.contains("threads: 2 are too many for 1 connections"),
        "{run:?}"
    );
}

/// A core that this process may run on.
fn allowed_core() -> usize {
    let list = status("/proc/self/status", "Cpus_allowed_list").expect("a list");
    let first = list.split([',', '-']).next().expect("a core");
    first.parse().expect("a number")
}

#[test]
fn threads_stay_on_their_cores() {
    let server = ringback(|_| {});
    let url = url_of(&server);
    let core = allowed_core().to_string();
    let pin = format!("--pin={core}");
    // Long enough to be observed, then interrupted.
    let program = Program::start(&["run", "--format=json", "-d5m", "--warmup=0s", &pin, &url]);
    let tasks = format!("/proc/{}/task", program.pid());
    let cores = poll("a thread of the generator", || {
        let mut tasks = fs::read_dir(&tasks).ok()?.flatten();
        tasks
            .find_map(|task| {
                let file = task.path().join("status");
                let file = file.to_str()?;
                let is_load = status(file, "Name")? == "load-0";
                // It is pinned once it has an epoll instance.
                is_load.then(|| status(file, "Cpus_allowed_list"))?
            })
            .filter(|cores| *cores == core)
    });
    assert_eq!(cores, core);
    program.wait_for_stderr("measuring");
    program.interrupt();
    let run = program.finish();
    assert_eq!(run.code, Some(130), "{run:?}");
    let plan = run.result().plan;
    assert_eq!((plan.threads, plan.pin), (1, vec![allowed_core()]));
}

#[test]
fn a_core_that_is_not_there_is_one_clear_line() {
    let server = ringback(|_| {});
    let url = url_of(&server);
    for command in [
        &["run", &url][..],
        &["sweep", "--rates=1k", &url],
        &["floor"],
        &[],
    ] {
        let run = loadtest(&[command, &["--pin=1023"]].concat());
        let error = run.refused(2);
        let expected = "--pin: nothing of this program may run on core 1023; online are ";
        assert!(error.starts_with(expected), "{run:?}");
        assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
    }
    let run = loadtest(&["ab", "--a=x", "--b=y", "--", "--pin=1023"]);
    assert!(run.refused(2).starts_with("--pin: nothing "), "{run:?}");
    let run = loadtest(&["ab", "--a=x", "--b=y", "--server-pin=1023"]);
    assert!(
        run.refused(2).starts_with("--server-pin: nothing "),
        "{run:?}"
    );
}

#[test]
fn a_late_reply_has_timed_out_and_is_waited_for() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let peer = Peer::serving(|tap, seen| {
        let Ok(mut socket) = tungstenite::accept(tap) else {
            return;
        };
        while let Ok(message) = socket.read() {
            if !message.is_binary() {
                continue;
            }
            seen.message();
            // One message of all is answered late; others are answered meanwhile.
            if seen.messages() == 20 {
                thread::sleep(2 * TIMEOUT);
            }
            if socket.send(message).is_err() {
                return;
            }
        }
        echo(&mut socket, seen);
    });
    let url = peer.url();
    let arguments = ["-c4", "--rate=100", "-d3s", "--warmup=0s", "--timeout=1s"];
    let result = result_of(&[&arguments[..], &[&url]].concat());
    let counts = &result.counts;
    assert_eq!(
        (counts.due, counts.answered, counts.unanswered),
        (300, 300, 0)
    );
    assert!(counts.timed_out > 0, "{counts:?}");
    assert_eq!(result.status, Status::Complete);
    let max_ns = result.summary.response_ns.max.expect("samples");
    assert!(
        u128::from(max_ns) >= 2 * TIMEOUT.as_nanos() * 99 / 100,
        "{max_ns}"
    );
}

/// Threads that ended before they were sampled still count.
#[test]
fn the_generators_cost_is_reported() {
    let server = ringback(|_| {});
    let url = url_of(&server);
    for extent in ["-d500ms", "-n100k"] {
        let result = result_of(&["-c4", "-w8", extent, "--warmup=0s", &url]);
        let usage = &result.generator.usage;
        assert!(usage.cpu_ns > 0 && usage.threads > 0, "{extent}: {usage:?}");
        let cost = result.summary.generator.cpu_ns_per_message;
        assert!(cost.is_some_and(|cost_ns| cost_ns > 0.0), "{extent}");
    }
}
