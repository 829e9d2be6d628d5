//! The command line's contract: exit codes, and what is on which stream.

mod support;

use std::net::TcpListener;

use support::{echo, loadtest, serve};

#[test]
fn wrong_arguments_are_one_line_and_exit_2() {
    for (argument, complaint) in [
        ("--nonsense", "unexpected argument '--nonsense'"),
        ("-c0", "--connections <N>"),
        ("-w0", "--window <N>"),
        ("-s1x", "write bytes as 32, 16k or 1m"),
        ("-s65m", "at most 64 MiB"),
        ("-d3", "write a duration as 500ms, 3s or 2m"),
        ("-d0s", "at least 1ms"),
        ("localhost:9001", "write the target as ws://HOST:PORT/PATH"),
        ("http://localhost", "http:// is not ws://"),
        ("wss://localhost", "wss:// is not supported yet"),
    ] {
        let run = loadtest(&[argument]);
        assert_eq!(run.code, Some(2), "{run:?}");
        assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
        assert!(run.complaint().contains(complaint), "{run:?}");
        assert_eq!(run.stdout, "");
    }
}

#[test]
fn help_teaches_by_example() {
    let run = loadtest(&["--help"]);
    assert_eq!(run.code, Some(0));
    assert!(run.stdout.contains("loadtest -c 50 -w 256"), "{run:?}");
    assert_eq!(run.stderr, "");
}

#[test]
fn a_refused_connection_is_one_clear_line() {
    // A port that was free a moment ago.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    drop(listener);
    let run = loadtest(&[&url]);
    assert_eq!(run.code, Some(1), "{run:?}");
    let complaint = run.complaint();
    assert!(
        complaint.contains(&format!("cannot connect to {url}")),
        "{run:?}"
    );
    assert!(complaint.contains("refused"), "{run:?}");
    assert_eq!(run.stdout, "");
}

#[test]
fn a_name_without_an_address_is_one_clear_line() {
    let run = loadtest(&["ws://nowhere.invalid/"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(
        run.complaint()
            .contains("cannot resolve ws://nowhere.invalid:80/")
    );
}

#[test]
fn a_running_server_gets_a_table_without_cpu() {
    let server = serve(|mut socket| {
        echo(&mut socket, usize::MAX);
    });
    let url = format!("ws://{server}/");
    for arguments in [
        ["-c3", "-w1", "-s0"],
        ["-c3", "-w16", "-s1"],
        ["-c3", "-w16", "--text"],
        ["-c2", "-w4", "-s1024"],
        ["-c2", "-w4", "-s70k"],
        ["-c1", "-w3", "-s2m"],
    ] {
        let common = ["--warmup=20ms", "-d100ms", &url];
        let run = loadtest(&[&arguments[..], &common].concat());
        assert_eq!(run.code, Some(0), "{run:?}");
        let lines: Vec<_> = run.stdout.lines().collect();
        let [plan, titles, row] = lines[..] else {
            panic!("{run:?}");
        };
        assert!(plan.starts_with("closed loop, "), "{run:?}");
        assert!(titles.starts_with("server "), "{run:?}");
        assert!(row.starts_with(&url) && row.ends_with('–'), "{run:?}");
        let rate: String = row.split_whitespace().nth(1).unwrap().replace(',', "");
        assert!(rate.parse::<u64>().unwrap() > 0, "{run:?}");
    }
}

#[test]
fn no_argument_compares_the_engines_that_work_here() {
    let run = loadtest(&["-c4", "-w2", "--warmup=20ms", "-d200ms"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    for engine in ringback::EngineKind::ALL {
        let engine = engine.to_string();
        let rows = run.stdout.lines().filter(|line| line.starts_with(&engine));
        assert_eq!(rows.count(), 1, "{run:?}");
    }
    assert!(run.stdout.contains(" ns\n"), "CPU per message: {run:?}");
}
