//! What stderr and stdout can do to a server: nothing. A disk may be full, a reader
//! dead, slow or missing: clients are served, a drain drains, and what is lost is
//! counted.

mod common;

use std::fs::File;
use std::io::pipe;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use rustix::pipe::fcntl_setpipe_size;
use rustix::process::{Pid, Signal, kill_process};
use tungstenite::Message;

use common::admin::Admin;
use common::client::{Client, Raw};
use common::engines::{Engine, on_every_engine};
use common::server::binary;
use common::wait_for;

on_every_engine! {
    a_full_disk_under_the_log_costs_lines_only,
    a_log_reader_that_has_died_costs_lines_only,
    a_log_that_is_not_read_stops_no_worker_and_no_drain,
    a_closed_stderr_stops_nothing,
    stdout_that_cannot_be_written_costs_lines_only,
    stdout_that_is_not_read_stops_no_worker_and_no_drain,
    a_second_signal_ends_a_server_whose_log_is_not_read,
}

const LOG_LOST: &str = "ringback_log_lines_lost_total";
const STDOUT_LOST: &str = "ringback_stdout_lines_lost_total";

/// As many lines as a connection can have.
const LOG: [&str; 3] = ["--access-log", "--log=trace", "--drain-timeout=10m"];

/// Bytes that a pipe takes which nobody reads.
const PIPE_BYTES: usize = 4096;

/// Where a stream of the server goes.
#[derive(Clone, Copy, Debug)]
enum Sink {
    /// To nowhere, as it should.
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
    /// The stream, and what must stay open meanwhile.
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
            // A shell does it: what is not there when a program of Rust starts,
            // it opens as /dev/null.
            Self::Null | Self::Closed => (Stdio::null(), None),
        }
    }
}

/// A server whose output goes wrong. It is killed when this is dropped.
struct Server {
    child: Child,
    address: SocketAddr,
    admin: Admin,
    _readers: [Option<OwnedFd>; 2],
}

impl Server {
    #[track_caller]
    fn start(engine: Engine, stdout: Sink, stderr: Sink, flags: &[&str]) -> Self {
        let [address, admin] = free_addresses();
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

    /// Clients come, are answered, and go, on each worker.
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

    /// Ends the server, and with it this client, in good order.
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
        // Both fail only if it has ended, which is what they are for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Addresses on which nobody listens, for the moment.
fn free_addresses() -> [SocketAddr; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("bound"))
}

/// With and without a handler.
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

fn a_full_disk_under_the_log_costs_lines_only(engine: Engine) {
    lose_log_lines(engine, Sink::FullDisk);
}

fn a_log_reader_that_has_died_costs_lines_only(engine: Engine) {
    lose_log_lines(engine, Sink::DeadReader);
}

fn a_log_that_is_not_read_stops_no_worker_and_no_drain(engine: Engine) {
    for way in WAYS_TO_SERVE {
        let server = Server::start(engine, Sink::Null, Sink::NotRead, &[&LOG[..], way].concat());
        let client = Raw::open(server.address);
        server.serve_some();
        server.drain(client);
    }
}

fn a_closed_stderr_stops_nothing(engine: Engine) {
    let server = Server::start(engine, Sink::Null, Sink::Closed, &LOG);
    let client = Raw::open(server.address);
    server.serve_some();
    server.drain(client);
}

fn stdout_that_cannot_be_written_costs_lines_only(engine: Engine) {
    for sink in [Sink::FullDisk, Sink::DeadReader] {
        let flags = ["--print-messages", "--drain-timeout=10m"];
        let server = Server::start(engine, sink, Sink::Null, &flags);
        let client = Raw::open(server.address);
        server.serve_some();
        // One for each message, and those that say where it listens.
        server.admin.wait_for("lost lines are counted", |page| {
            page.count(STDOUT_LOST, &[]) == 32
        });
        server.drain(client);
    }
    let server = Server::start(engine, Sink::Closed, Sink::Closed, &["--print-messages"]);
    let client = Raw::open(server.address);
    server.serve_some();
    server.drain(client);
}

fn stdout_that_is_not_read_stops_no_worker_and_no_drain(engine: Engine) {
    let flags = ["--print-messages", "--drain-timeout=10m"];
    let server = Server::start(engine, Sink::NotRead, Sink::Null, &flags);
    let client = Raw::open(server.address);
    server.serve_some();
    // More than a queue takes.
    let long = Message::text("x".repeat(1024 * 1024));
    let mut talker = Client::connect(server.address);
    for _ in 0..6 {
        talker.echo(long.clone());
    }
    talker.close();
    server.admin.wait_for("lost lines are counted", |page| {
        page.count(STDOUT_LOST, &[]) > 0
    });
    server.serve_some();
    server.drain(client);
}

fn a_second_signal_ends_a_server_whose_log_is_not_read(engine: Engine) {
    let server = Server::start(engine, Sink::Null, Sink::NotRead, &LOG);
    let mut client = Raw::open(server.address);
    server.serve_some();
    server.signal(Signal::TERM);
    // The drain waits for its answer.
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
fn a_command_whose_output_cannot_be_written_fails_with_a_line() {
    for args in [
        &["config"][..],
        &["doctor"],
        &["--help"],
        &["--version"],
        &["config", "--help"],
    ] {
        let full = Sink::FullDisk.open().0;
        let output = binary().args(args).stdout(full).output().expect("it runs");
        let line = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(1), "{args:?}: {line}");
        assert_eq!(
            line, "ringback: cannot write to stdout: No space left on device (os error 28)\n",
            "{args:?}"
        );
    }
}

#[test]
fn a_command_whose_reader_has_enough_is_quiet() {
    for args in [&["config"][..], &["doctor"], &["--help"], &["--version"]] {
        let gone = Sink::DeadReader.open().0;
        let output = binary().args(args).stdout(gone).output().expect("it runs");
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn what_cannot_be_said_on_stderr_changes_no_status() {
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
