//! stderr and stdout that fail: a disk may be full, a reader dead, slow or missing.
//! Clients are served, a drain completes, and lost lines are counted.

mod common;

use std::fs::File;
use std::io::{Read, pipe};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::pipe::fcntl_setpipe_size;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tungstenite::Message;

use common::admin::Admin;
use common::client::{Client, Raw};
use common::engines::{Engine, on_every_engine};
use common::loopback::unused_address;
use common::run::{run, run_with};
use common::server::binary;
use common::{wait_for, wait_until};

on_every_engine! {
    log_on_full_disk_loses_only_lines,
    log_with_dead_reader_loses_only_lines,
    unread_log_blocks_no_worker_and_no_drain,
    closed_stderr_loses_only_lines,
    unwritable_stdout_loses_only_lines,
    unread_stdout_blocks_no_worker_and_no_drain,
    second_signal_exits_with_unread_log,
}

const LOG_LOST: &str = "ringback_log_lines_lost_total";
const STDOUT_LOST: &str = "ringback_stdout_lines_lost_total";

/// All log lines of a connection.
const LOG: [&str; 3] = ["--access-log", "--log=trace", "--drain-timeout=10m"];

/// Capacity of a pipe that is not read.
const PIPE_BYTES: usize = 4096;

/// Where a stream of the server goes.
#[derive(Clone, Copy, Debug)]
enum Sink {
    /// `/dev/null`.
    Null,
    /// `ENOSPC`.
    FullDisk,
    /// `EPIPE`.
    DeadReader,
    /// A write never returns.
    NotRead,
    Closed,
}

impl Sink {
    /// The stream, and the descriptor that must stay open meanwhile.
    fn open(self) -> (Stdio, Option<OwnedFd>) {
        match self {
            Self::FullDisk => {
                let full = File::options().write(true).open("/dev/full");
                (full.expect("a device").into(), None)
            }
            Self::DeadReader => (pipe().expect("a pipe").1.into(), None),
            Self::NotRead => {
                let (reader, writer) = pipe().expect("a pipe");
                fcntl_setpipe_size(&writer, PIPE_BYTES).expect("small");
                (writer.into(), Some(reader.into()))
            }
            // A shell closes it.
            Self::Null | Self::Closed => (Stdio::null(), None),
        }
    }
}

/// A server with such streams. It is killed when this is dropped.
struct Server {
    child: Child,
    address: SocketAddr,
    admin: Admin,
    _readers: [Option<OwnedFd>; 2],
}

impl Server {
    #[track_caller]
    fn start(engine: Engine, stdout: Sink, stderr: Sink, flags: &[&str]) -> Self {
        let [address, admin] = [(); 2].map(|()| unused_address());
        let mut closed = String::new();
        for (sink, redirection) in [(stdout, " >&-"), (stderr, " 2>&-")] {
            if matches!(sink, Sink::Closed) {
                closed += redirection;
            }
        }
        let mut command = Command::new("sh");
        for (name, _value) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"RINGBACK_") {
                command.env_remove(name);
            }
        }
        let ((stdout, a), (stderr, b)) = (stdout.open(), stderr.open());
        let child = command
            .arg("-c")
            .arg(format!("exec \"$0\" \"$@\"{closed}"))
            .arg(env!("CARGO_BIN_EXE_ringback"))
            .args([
                format!("--listen={address}"),
                format!("--admin={admin}"),
                format!("--engine={engine}"),
            ])
            .args(["--threads=2", "--no-pin"])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .expect("a shell");
        let mut server = Self {
            child,
            address,
            admin: Admin { address: admin },
            _readers: [a, b],
        };
        wait_for("the server listens", || {
            let ended = server.child.try_wait().expect("our own child");
            assert!(ended.is_none(), "it has ended: {ended:?}");
            std::net::TcpStream::connect(address).ok()
        });
        server
    }

    /// Clients connect, get an echo, and close, on each worker.
    #[track_caller]
    fn serve_some(&self) {
        for _ in 0..30 {
            let mut client = Client::connect(self.address);
            client.echo("hello");
            client.close();
        }
        assert_eq!(self.admin.get("/healthz").status, 200);
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        kill_process(Pid::from_raw(id).expect("a process id"), signal).expect("our own child");
    }

    #[track_caller]
    fn wait(mut self) -> Option<i32> {
        wait_for("the server ends", || {
            self.child.try_wait().expect("our own child")
        })
        .code()
    }

    /// Drains the server with this client connected.
    #[track_caller]
    fn drain(self, mut client: Raw) {
        self.signal(Signal::TERM);
        assert_eq!(client.rest(), [0x88, 0x02, 0x03, 0xe9]);
        drop(client);
        assert_eq!(self.wait(), Some(0));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Without and with a handler.
const WAYS_TO_SERVE: [&[&str]; 2] = [&[], &["--print-messages"]];

#[track_caller]
fn lose_log_lines(engine: Engine, sink: Sink) {
    for way in WAYS_TO_SERVE {
        let server = Server::start(engine, Sink::Null, sink, &[&LOG[..], way].concat());
        let client = Raw::open(server.address);
        server.serve_some();
        server.admin.wait_for("lost lines are counted", |page| {
            page.count(LOG_LOST, &[]) > 30
        });
        server.drain(client);
    }
}

fn log_on_full_disk_loses_only_lines(engine: Engine) {
    lose_log_lines(engine, Sink::FullDisk);
}

fn log_with_dead_reader_loses_only_lines(engine: Engine) {
    lose_log_lines(engine, Sink::DeadReader);
}

fn unread_log_blocks_no_worker_and_no_drain(engine: Engine) {
    for way in WAYS_TO_SERVE {
        let server = Server::start(engine, Sink::Null, Sink::NotRead, &[&LOG[..], way].concat());
        let client = Raw::open(server.address);
        server.serve_some();
        server.drain(client);
    }
}

fn closed_stderr_loses_only_lines(engine: Engine) {
    lose_log_lines(engine, Sink::Closed);
}

fn unwritable_stdout_loses_only_lines(engine: Engine) {
    for sink in [Sink::FullDisk, Sink::DeadReader, Sink::Closed] {
        let flags = ["--print-messages", "--drain-timeout=10m"];
        let server = Server::start(engine, sink, Sink::Null, &flags);
        let client = Raw::open(server.address);
        server.serve_some();
        // One for each message, and the start lines.
        server.admin.wait_for("lost lines are counted", |page| {
            page.count(STDOUT_LOST, &[]) == 32
        });
        server.drain(client);
    }
}

fn unread_stdout_blocks_no_worker_and_no_drain(engine: Engine) {
    let flags = ["--print-messages", "--drain-timeout=10m"];
    let server = Server::start(engine, Sink::NotRead, Sink::Null, &flags);
    let client = Raw::open(server.address);
    server.serve_some();
    // More than the queue takes, in the longest lines.
    let long = Message::text("x".repeat(64 * 1024));
    let mut talker = Client::connect(server.address);
    for _ in 0..96 {
        talker.echo(long.clone());
    }
    talker.close();
    server.admin.wait_for("lost lines are counted", |page| {
        page.count(STDOUT_LOST, &[]) > 0
    });
    server.serve_some();
    server.drain(client);
}

fn second_signal_exits_with_unread_log(engine: Engine) {
    let server = Server::start(engine, Sink::Null, Sink::NotRead, &LOG);
    let mut client = Raw::open(server.address);
    server.serve_some();
    server.signal(Signal::TERM);
    // The drain waits for the client's Close.
    client.expect_frame(common::wire::CLOSE, &[0x03, 0xe9]);
    server.signal(Signal::TERM);
    assert_eq!(server.wait(), Some(128 + 15));
}

#[test]
fn auto_starts_on_a_full_disk() {
    let server = Server::start("auto", Sink::FullDisk, Sink::FullDisk, &[]);
    let client = Raw::open(server.address);
    server.serve_some();
    server.drain(client);
}

#[test]
fn command_with_unwritable_stdout_exits_with_one_line() {
    for args in [
        &["config"][..],
        &["doctor"],
        &["--help"],
        &["--version"],
        &["config", "--help"],
    ] {
        for (sink, reason) in [
            (">/dev/full", "No space left on device (os error 28)"),
            (">&-", "it is closed"),
            ("1</dev/null", "Bad file descriptor (os error 9)"),
        ] {
            let script = format!("exec \"$0\" \"$@\" {sink}");
            let mut command = Command::new("sh");
            let output = command
                .args(["-c", &script, env!("CARGO_BIN_EXE_ringback")])
                .args(args)
                .output()
                .expect("it runs");
            let line = String::from_utf8(output.stderr).expect("UTF-8");
            assert_eq!(output.status.code(), Some(1), "{args:?} {sink}: {line}");
            let expected = format!("ringback: cannot write to stdout: {reason}\n");
            assert_eq!(line, expected, "{args:?} {sink}");
        }
    }
}

#[test]
fn command_with_closed_reader_is_quiet() {
    for args in [&["config"][..], &["doctor"], &["--help"], &["--version"]] {
        let gone = Sink::DeadReader.open().0;
        let output = binary().args(args).stdout(gone).output().expect("it runs");
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn unwritable_stderr_keeps_exit_status() {
    for sink in [Sink::FullDisk, Sink::DeadReader, Sink::NotRead] {
        for (args, status) in [
            (&["--no-such-flag"][..], 2),
            (&["--max-connections=x"], 2),
            (&["reload"], 1),
            (&["health"], 1),
            (&["--listen=192.0.2.1:1"], 1),
        ] {
            let (stderr, _reader) = sink.open();
            let status_is = binary()
                .args(args)
                .stderr(stderr)
                .stdout(Stdio::null())
                .status();
            assert_eq!(
                status_is.expect("it runs").code(),
                Some(status),
                "{sink:?}: {args:?}"
            );
        }
    }
}

/// Runs a server with both streams in one pipe; returns all output.
#[track_caller]
fn log_of(flags: &[&str], variables: &[(&str, &str)], session: impl FnOnce(SocketAddr)) -> String {
    let address = unused_address();
    let (reader, writer) = pipe().expect("a pipe");
    let mut command = binary();
    command
        .args(flags)
        .envs(variables.iter().copied())
        .stdout(writer.try_clone().expect("a descriptor"))
        .stderr(writer);
    let (child, log) = serve(command, address, reader, "listening");
    session(address);
    end(&child, &log)
}

/// Starts a server and waits until it has written `word`.
#[track_caller]
fn serve(
    mut command: Command,
    address: SocketAddr,
    mut reader: impl Read + Send + 'static,
    word: &str,
) -> (KillOnDrop, Log) {
    command
        .args([format!("--listen={address}"), "--engine=epoll".into()])
        .args(["--threads=1", "--no-pin"])
        .stdin(Stdio::null());
    let child = KillOnDrop(command.spawn().expect("started"));
    // The command holds the writing end of the pipe.
    drop(command);
    let log = Log::default();
    let text = Arc::clone(&log);
    thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(len @ 1..) = reader.read(&mut piece) {
            let piece = String::from_utf8_lossy(&piece[..len]);
            text.lock().expect("not poisoned").push_str(&piece);
        }
    });
    wait_until("the server serves", || {
        let text = log.lock().expect("not poisoned");
        assert!(
            Arc::strong_count(&log) > 1 || text.contains(word),
            "it has ended: {text}"
        );
        text.contains(word)
    });
    (child, log)
}

/// Ends a server; returns all output.
#[track_caller]
fn end(child: &KillOnDrop, log: &Log) -> String {
    terminate(&child.0);
    whole(log)
}

/// All output, after the last writer has closed.
#[track_caller]
fn whole(log: &Log) -> String {
    // The thread that collects it drops its reference at the end.
    wait_until("the end of the log", || Arc::strong_count(log) == 1);
    log.lock().expect("not poisoned").clone()
}

/// The output so far.
type Log = Arc<Mutex<String>>;

/// A process that is killed when this is dropped.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // Both fail only if it has exited already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn terminate(child: &Child) {
    let id = i32::try_from(child.id()).expect("a process id");
    kill_process(Pid::from_raw(id).expect("a process id"), Signal::TERM).expect("our own child");
}

fn objects(log: &str) -> Vec<Value> {
    let object =
        |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    log.lines().map(object).collect()
}

#[track_caller]
fn with_message<'a>(lines: &'a [Value], message: &str) -> &'a Value {
    let found = lines.iter().find(|line| line["message"] == message);
    found.unwrap_or_else(|| panic!("no {message}: {lines:#?}"))
}

#[test]
fn json_makes_every_line_an_object() {
    let flags = [
        "--log-format=json",
        "--print-messages",
        "--access-log",
        "--log=trace",
    ];
    let admin = "--admin=127.0.0.1:0";
    let mut listen = None;
    let log = log_of(&[&flags[..], &[admin]].concat(), &[], |address| {
        listen = Some(address);
        let mut client = Client::connect(address);
        client.echo("a \"text\"\n");
        client.echo(Message::binary(vec![0; 3]));
        client.close();
        let mut wrong = Raw::dial(address);
        wrong.send(b"what?\r\n\r\n");
        wrong.rest();
    });
    let lines = objects(&log);
    for line in &lines {
        for field in ["timestamp", "level", "message", "target"] {
            assert!(line[field].is_string(), "{field}: {line}");
        }
    }
    let listening = with_message(&lines, "listening");
    let listen = listen.expect("an address");
    assert_eq!(listening["url"], format!("ws://{listen}"));
    assert_eq!(
        (&listening["engine"], &listening["threads"]),
        (&"epoll".into(), &1.into())
    );
    let admin = with_message(&lines, "admin")["url"]
        .as_str()
        .expect("a URL")
        .to_owned();
    assert!(admin.starts_with("http://127.0.0.1:"), "{admin}");
    let sent: Vec<_> = lines
        .iter()
        .filter(|line| line["message"] == "sent")
        .collect();
    assert_eq!(sent[0]["text"], "a \"text\"\n");
    assert_eq!(sent[1]["bytes"], 3);
}

#[test]
fn json_makes_fatal_error_an_object() {
    for (flags, variables, status) in [
        (
            &["--log-format=json", "--listen=192.0.2.1:1"][..],
            &[][..],
            1,
        ),
        (&["--log-format", "json", "--threads=none"], &[], 2),
        (&["--no-such-flag"], &[("RINGBACK_LOG_FORMAT", "json")], 2),
        (
            &["--max-connections=1"],
            &[("RINGBACK_LOG_FORMAT", "json"), ("RINGBACK_X", "")],
            2,
        ),
    ] {
        let output = run_with(flags, variables);
        assert_eq!(output.status.code(), Some(status), "{flags:?}");
        let log = String::from_utf8(output.stderr).expect("UTF-8");
        let lines = objects(&log);
        assert_eq!(
            (lines.len(), &lines[0]["level"]),
            (1, &"ERROR".into()),
            "{log}"
        );
    }
    let flags = ["--log-format=text", "--no-such-flag"];
    let output = run_with(&flags, &[("RINGBACK_LOG_FORMAT", "json")]);
    assert!(output.stderr.starts_with(b"ringback: "), "{output:?}");
}

#[test]
fn start_logs_version_addresses_and_limits() {
    let flags = [
        "--log-format=json",
        "--max-connections=77",
        "--max-message=2k",
        "--max-held-bytes=0",
    ];
    let mut listen = None;
    let lines = objects(&log_of(&flags, &[], |address| listen = Some(address)));
    let listen = listen.expect("an address");
    let serving = with_message(&lines, "serving");
    assert_eq!(serving["version"], env!("CARGO_PKG_VERSION"));
    assert!(serving["commit"].is_string());
    assert_eq!(serving["listen"], listen.to_string());
    assert_eq!(serving["engine"], "epoll");
    assert_eq!(serving["threads"], 1);
    assert_eq!(serving["max_connections"], 77);
    assert_eq!(serving["max_message"], 2048);
    assert_eq!(serving["max_held_bytes"], Value::Null);
    assert!(serving["open_files"].is_u64());
}

#[test]
fn drain_logs_closed_and_cut_off_connections() {
    for (timeout, answers, expected) in [("10m", true, (1, 0)), ("10ms", false, (0, 1))] {
        let flags = ["--log-format=json", &*format!("--drain-timeout={timeout}")];
        let mut client = None;
        let address = unused_address();
        let (reader, writer) = pipe().expect("a pipe");
        let mut command = binary();
        command.args(flags).stdout(Stdio::null()).stderr(writer);
        let (child, log) = serve(command, address, reader, "serving");
        let raw = client.insert(Raw::open(address));
        terminate(&child.0);
        if answers {
            raw.expect_close(1001);
            client = None;
        }
        let log = whole(&log);
        drop(client);
        let lines = objects(&log);
        let drained = with_message(&lines, "drained");
        let counts = (
            &drained["connections_closed"],
            &drained["connections_cut_off"],
        );
        assert_eq!(counts, (&expected.0.into(), &expected.1.into()), "{log}");
        assert!(drained["duration_ms"].is_u64());
    }
}

#[test]
fn invalid_rust_log_is_ignored_with_warning() {
    for wrong in [
        "loud",
        "ringback=loud",
        "info,loud",
        "ringback=debug=1",
        "é",
    ] {
        let log = log_of(&[], &[("RUST_LOG", wrong)], |_address| {});
        let warning = log
            .lines()
            .find(|line| line.contains("RUST_LOG is ignored"));
        let warning = warning.unwrap_or_else(|| panic!("{wrong}: {log}"));
        assert!(
            warning.contains("WARN") && warning.contains("MODULE=LEVEL"),
            "{warning}"
        );
        assert!(log.contains("draining"), "{wrong}: {log}");
    }
    for (flags, value) in [(&[][..], "warn"), (&[], ""), (&["--log=info"], "loud")] {
        let log = log_of(flags, &[("RUST_LOG", value)], |_address| {});
        assert!(!log.contains("RUST_LOG"), "{value}: {log}");
    }
}

#[test]
fn debug_logs_refused_request_with_reason() {
    let flags = [
        "--log-format=json",
        "--log=debug",
        "--path=/echo",
        "--origin=https://a.example",
    ];
    let filler = "x".repeat(2000);
    let log = log_of(&flags, &[], |address| {
        for (path, host, origin) in [
            ("/other?secret=1", "one.example", "https://a.example"),
            ("/echo", "two.example", "https://b.example"),
            (&*format!("/{filler}"), "three\\\".example", "null"),
        ] {
            let mut raw = Raw::dial(address);
            let head = format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n\
                 Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            );
            raw.send(head.as_bytes());
            raw.rest();
        }
    });
    let lines = objects(&log);
    let refused: Vec<_> = lines
        .iter()
        .filter(|line| line["message"] == "a request was refused")
        .collect();
    assert_eq!(refused.len(), 3, "{log}");
    let [path, origin, lengthy] = refused[..] else {
        unreachable!("three");
    };
    assert_eq!(
        (&path["path"], &path["status"]),
        (&"/other".into(), &"404 Not Found".into())
    );
    assert!(
        path["reason"].as_str().expect("text").contains("path"),
        "{path}"
    );
    assert_eq!(
        (&origin["host"], &origin["origin"]),
        (&"two.example".into(), &"https://b.example".into())
    );
    assert!(
        origin["span"]["peer"]
            .as_str()
            .expect("a peer")
            .starts_with("127.0.0.1:")
    );
    let shown = lengthy["path"].as_str().expect("text");
    assert!(shown.len() < 300 && shown.ends_with('…'), "{shown}");
    assert!(!log.contains("secret"), "{log}");
}

/// The prefix of `sd-daemon(3)`, and no timestamp.
#[test]
fn journal_lines_have_priorities() {
    for (format, is_named) in [("text", true), ("json", true), ("text", false)] {
        let (journal, stderr) = UnixStream::pair().expect("a pair");
        let metadata = File::from(stderr.try_clone().map(OwnedFd::from).expect("a descriptor"))
            .metadata()
            .expect("a socket");
        let inode = metadata.ino() + u64::from(!is_named);
        let address = unused_address();
        let mut command = binary();
        command
            .args([&*format!("--log-format={format}"), "--log=debug"])
            .env("JOURNAL_STREAM", format!("{}:{inode}", metadata.dev()))
            .stdout(Stdio::null())
            .stderr(OwnedFd::from(stderr));
        let (child, log) = serve(command, address, journal, "serving");
        let mut wrong = Raw::open(address);
        wrong.send(&common::wire::unmasked(common::wire::TEXT, b"unmasked"));
        wrong.expect_close(1002);
        drop(wrong);
        let log = end(&child, &log);
        let line = |text| {
            let line = log.lines().find(|line| line.contains(text));
            line.unwrap_or_else(|| panic!("no {text}: {log}"))
        };
        let (start, rule) = (line("serving"), line("a client broke the protocol"));
        match (format, is_named) {
            ("text", true) => {
                assert!(start.starts_with("<6> INFO "), "{start}");
                assert!(rule.starts_with("<7>DEBUG "), "{rule}");
            }
            ("json", true) => {
                assert!(start.starts_with("<6>{\"timestamp\":"), "{start}");
                assert!(rule.starts_with("<7>{\"timestamp\":"), "{rule}");
            }
            _ => assert!(start.starts_with("20"), "{start}"),
        }
    }
}

#[test]
fn version_and_metrics_have_the_commit() {
    let output = run(&["--version"]);
    let version = String::from_utf8(output.stdout).expect("UTF-8");
    let commit = version
        .trim_end()
        .strip_prefix(concat!("ringback ", env!("CARGO_PKG_VERSION"), " ("))
        .and_then(|rest| rest.strip_suffix(')'))
        .unwrap_or_else(|| panic!("{version}"));
    let (_server, admin) = common::server::Server::start_with_admin("epoll", &["--threads=1"]);
    let page = admin.metrics();
    page.count("ringback_build_info", &[("commit", commit)]);
    let is_known = commit.len() >= 40 && commit != "unknown";
    let is_checkout = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.git")).exists();
    assert!(is_known || !is_checkout, "{commit}");
    assert_eq!(commit, option_env!("BUILD_COMMIT").unwrap_or("unknown"));
}

/// A variable of the build may be set when the server runs.
#[test]
fn build_commit_variable_is_no_setting() {
    let output = run_with(&["config"], &[("RINGBACK_COMMIT", "abc")]);
    assert!(output.status.success(), "{output:?}");
}
