//! The limit on open files, which limits connections.

use rustix::process::{Pid, Signal, kill_process};

use crate::common::admin::Admin;
use crate::common::client::{Client, Raw};
use crate::common::engines::{Engine, on_every_engine, on_every_engine_and_over_tls};
use crate::common::loopback::unused_address;
use crate::common::process::pid_in;
use crate::common::prometheus::Page;
use crate::common::server::{Server, binary_with, run_to_end};
use crate::common::wait_until;
use crate::common::wire::{REQUEST, TEXT, frame};

on_every_engine_and_over_tls![
    connections_over_open_files_limit_get_503_and_admin_answers,
    refused_connections_do_not_count_as_open,
];

mod replaced {
    use super::*;

    on_every_engine![server_at_open_files_limit_can_be_replaced,];

    fn server_at_open_files_limit_can_be_replaced(engine: Engine) {
        let directory = tempfile::tempdir().expect("a directory");
        let pid_file = directory.path().join("pid");
        let served_by = || pid_in(&pid_file);
        // The replacement has the same flags.
        let [listen, admin] = [(); 2].map(|()| unused_address().to_string());
        let mut command = binary_with(&format!("ulimit -n {LIMIT}"));
        command
            .args(["--threads=2", "--no-pin", "--engine", engine])
            .args(["--listen", &listen, "--admin", &admin])
            .arg("--pid-file")
            .arg(&pid_file);
        let mut server = Server::spawn(&mut command, 1);
        let admin = Admin::from_line(&server.printed().expect("an admin line"));
        wait_until("the pid file is written", || served_by().is_some());
        let first = served_by();

        let (accepted, _refused) = fill(&server, LIMIT);
        expect_full(admin, accepted.len());
        server.signal(Signal::USR2);
        for mut raw in accepted {
            raw.expect_close(1001);
        }
        // Until it has ended, it may accept queued connections and close them with 1001.
        server.wait_for_success();
        Client::connect(server.address()).echo("replaced");
        wait_until("another process serves", || {
            served_by().is_some_and(|pid| Some(pid) != first)
        });
        let second = Pid::from_raw(served_by().expect("a process serves")).expect("a process");
        kill_process(second, Signal::TERM).expect("it serves");
        wait_until("it has ended", || served_by().is_none());
    }
}

/// The limit on open files, and the number of clients.
const LIMIT: usize = 80;

/// Connects all clients; returns those that got 101 and those that got 503.
#[track_caller]
fn fill(server: &Server, clients: usize) -> (Vec<Raw>, Vec<Raw>) {
    let mut raws: Vec<_> = (0..clients).map(|_| Raw::dial(server.address())).collect();
    for raw in &mut raws {
        raw.send(REQUEST.as_bytes());
    }
    let (mut accepted, mut refused) = (Vec::new(), Vec::new());
    for mut raw in raws {
        // Over TLS and on a slow machine, all reject slots may be in use for too long.
        let Some(head) = raw.head_unless_cut() else {
            continue;
        };
        match head.get(..12) {
            Some("HTTP/1.1 101") => accepted.push(raw),
            Some("HTTP/1.1 503") => refused.push(raw),
            _ => panic!("{head:?}"),
        }
    }
    (accepted, refused)
}

fn count(page: &Page, name: &str) -> usize {
    usize::try_from(page.count(name, &[])).expect("few")
}

#[track_caller]
fn expect_full(admin: Admin, open: usize) {
    assert_eq!(admin.get("/healthz").status, 200);
    let response = admin.get("/readyz");
    let expected = format!("full: {open} connections are open\n");
    assert_eq!((response.status, response.body), (503, expected));
    let page = admin.metrics();
    assert_eq!(count(&page, "ringback_connections_open"), open);
    assert_eq!(count(&page, "ringback_connections_max"), open);
    assert_eq!(count(&page, "ringback_accept_pauses_total"), 0);
    assert!(count(&page, "process_open_fds") <= LIMIT);
}

fn connections_over_open_files_limit_get_503_and_admin_answers(engine: Engine) {
    for flags in [&["--threads=2"][..], &["--threads=2", "--print-messages"]] {
        let (server, admin) = Server::start_with_descriptor_limit(engine, LIMIT, flags);
        server.wait_for_log("limit on open files");
        let log = server.log();
        let warnings = log
            .lines()
            .filter(|line| line.contains("limit on open files"));
        let warnings: Vec<_> = warnings.collect();
        let [warning] = &warnings[..] else {
            panic!("one warning: {log}");
        };
        for part in ["max_connections=1000000", "open_files=80", "LimitNOFILE="] {
            assert!(warning.contains(part), "{part}: {warning}");
        }
        let (mut accepted, refused) = fill(&server, LIMIT);
        assert!(
            accepted.len() > 10 && refused.len() > 10,
            "{}",
            accepted.len()
        );
        expect_full(admin, accepted.len());
        // The start line has the effective limit.
        server.wait_for_log(&format!(" max_connections={} ", accepted.len()));
        for raw in &mut accepted {
            raw.send(&frame(TEXT, b"served"));
            raw.expect_frame(TEXT, b"served");
        }
        drop(accepted.pop());
        admin.wait_for("a slot is free", |page| {
            count(page, "ringback_connections_open") == accepted.len()
        });
        assert_eq!(admin.get("/readyz").status, 200);
        let (new_client, _refused) = fill(&server, 1);
        assert_eq!(new_client.len(), 1);
        expect_full(admin, accepted.len() + 1);
    }
}

fn refused_connections_do_not_count_as_open(engine: Engine) {
    let (server, admin) = Server::start_with_admin(engine, &["--max-connections=5", "--threads=2"]);
    let (accepted, _refused) = fill(&server, 5);
    assert_eq!(accepted.len(), 5);
    // The 503 is sent after the request, so these stay until then.
    let mut over: Vec<_> = (0..3).map(|_| Raw::dial(server.address())).collect();
    let page = admin.wait_for("three are over the limit", |page| {
        assert!(count(page, "ringback_connections_open") <= 5);
        count(page, "ringback_connections_rejecting") == 3
    });
    assert_eq!(count(&page, "ringback_connections_open"), 5);
    for raw in &mut over {
        raw.send(REQUEST.as_bytes());
        raw.expect_refusal(503);
    }
    let page = admin.wait_for("all rejected connections are closed", |page| {
        count(page, "ringback_connections_rejecting") == 0
    });
    assert_eq!(count(&page, "ringback_connections_open"), 5);
}

#[test]
fn open_files_limit_without_room_exits_with_status_1() {
    for limit in [8, 12, 20, 32, 48] {
        let mut command = binary_with(&format!("ulimit -n {limit}"));
        command.args(["--listen=127.0.0.1:0", "--threads=2", "--log=off"]);
        let output = run_to_end(&mut command);
        let line = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(1), "{limit}: {line}");
        assert_eq!(line.lines().count(), 1, "{limit}: {line}");
        let found = format!("the limit on open files is {limit}");
        assert!(
            line.contains(&found) && line.contains("ulimit -Hn"),
            "{line}"
        );
    }
}
