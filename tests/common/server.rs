//! The real server, in a process of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use super::admin::Admin;
use super::engines::{self, Engine, OVER_TLS, RESTRICTION, WITH_HANDLER};
use super::pki::{self, Pair, Pki};
use super::process::Process;
use super::{POLL_INTERVAL, TIMEOUT, tunnel, wait_for};

const ADMIN: &str = "--admin=127.0.0.1:0";

/// A running server. It is killed when this is dropped.
pub(crate) struct Server {
    child: Child,
    stdout: Receiver<String>,
    stderr: Arc<Mutex<String>>,
    addresses: Vec<SocketAddr>,
    start_lines: Vec<String>,
    /// The address for plain clients, if the server speaks TLS.
    tunnel: Option<SocketAddr>,
    /// The server's certificate files.
    pki: Option<Pki>,
}

impl Server {
    /// Starts the binary on a free port; `flags` come last.
    ///
    /// Workers are not pinned, since several servers share the cores here.
    #[track_caller]
    pub(crate) fn start(engine: Engine, flags: &[&str]) -> Self {
        Self::start_from(binary(), engine, flags)
    }

    /// As [`start`](Self::start), with a command that takes further flags.
    #[track_caller]
    fn start_from(mut command: Command, engine: Engine, flags: &[&str]) -> Self {
        let name = engines::plain_name(engine);
        if engine.ends_with(WITH_HANDLER) {
            command.args(["--print-messages", "--max-message=64m"]);
        }
        if engine.contains(OVER_TLS) {
            let pair = pki::pair();
            let server = Self::start_tls_from(command, name, Pki::of(&pair), flags);
            return server.with_tunnel(&pair);
        }
        command
            .args(["--listen=127.0.0.1:0", "--no-pin", "--engine", name])
            .args(flags);
        Self::spawn(&mut command, 1).on(name)
    }

    /// As [`start`](Self::start), with TLS only.
    #[track_caller]
    pub(crate) fn start_tls(engine: Engine, pki: Pki, flags: &[&str]) -> Self {
        Self::start_tls_from(binary(), engine, pki, flags)
    }

    #[track_caller]
    fn start_tls_from(mut command: Command, engine: Engine, pki: Pki, flags: &[&str]) -> Self {
        command
            .args(["--tls-listen=127.0.0.1:0", "--no-pin", "--engine", engine])
            .args(pki.flags())
            .args(flags);
        let mut server = Self::spawn(&mut command, 1).on(engine);
        assert!(server.start_lines[0].starts_with("listening wss://"));
        server.pki = Some(pki);
        server
    }

    /// Adds a tunnel for plain clients; see [`address`](Self::address).
    pub(crate) fn with_tunnel(mut self, pair: &Pair) -> Self {
        let client = pair.client(rustls::ALL_VERSIONS, &[]);
        self.tunnel = Some(tunnel::open(self.addresses[0], client));
        self
    }

    /// Checks that it runs on this engine.
    #[track_caller]
    fn on(self, engine: Engine) -> Self {
        let server = self;
        assert!(
            server.start_lines[0].contains(&format!(" engine={engine} ")),
            "asked for {engine}: {:?}",
            server.start_lines
        );
        server
    }

    /// As [`start_with_admin`](Self::start_with_admin), with a limit on descriptors.
    #[track_caller]
    pub(crate) fn start_with_descriptor_limit(
        engine: Engine,
        descriptors: usize,
        flags: &[&str],
    ) -> (Self, Admin) {
        let command = binary_with(&format!("ulimit -n {descriptors}"));
        Self::start_from(command, engine, &[&[ADMIN], flags].concat()).with_admin()
    }

    /// Lowers the limit of the running process to `more` descriptors than are open.
    pub(crate) fn limit_free_descriptors(&self, more: usize) {
        let most = (self.process().descriptors().len() + more) as u64;
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        prlimit(Some(self.process_id()), Resource::Nofile, limit).expect("our own child");
    }

    /// As [`start`](Self::start), with an admin listener.
    #[track_caller]
    pub(crate) fn start_with_admin(engine: Engine, flags: &[&str]) -> (Self, Admin) {
        Self::start(engine, &[&[ADMIN], flags].concat()).with_admin()
    }

    /// The admin listener of a server that was started with one.
    #[track_caller]
    pub(crate) fn with_admin(self) -> (Self, Admin) {
        let line = self.printed().expect("an admin line");
        let admin = Admin::from_line(&line);
        (self, admin)
    }

    /// Starts `command` and waits until it listens on this number of addresses.
    #[track_caller]
    pub(crate) fn spawn(command: &mut Command, addresses: usize) -> Self {
        // The clients of all connections are in this process.
        ringback::binary::raise_descriptor_limit().expect("the limit can be raised");
        let mut child = command
            // A variable of the tests, and an unknown setting for the server.
            .env_remove(RESTRICTION)
            // Huge pages would add memory that is not in use to what the tests measure.
            .env("MIMALLOC_ALLOW_THP", "0")
            // The kernel counts TCP memory of all tests on this machine.
            .env("RINGBACK_MAX_TCP_MEMORY", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut server = Self {
            stdout: lines_of(child.stdout.take().expect("piped")),
            stderr: text_of(child.stderr.take().expect("piped")),
            child,
            addresses: Vec::new(),
            start_lines: Vec::new(),
            tunnel: None,
            pki: None,
        };
        for _ in 0..addresses {
            let line = server.stdout.recv_timeout(TIMEOUT).unwrap_or_else(|error| {
                panic!(
                    "the server does not listen ({error}). Its log:\n{}\
                     If an engine cannot work on this machine, name the others: \
                     {RESTRICTION}=epoll cargo test",
                    server.log()
                )
            });
            server.addresses.push(address_of(&line));
            server.start_lines.push(line);
        }
        server
    }

    /// The address for plain clients.
    pub(crate) fn address(&self) -> SocketAddr {
        self.tunnel.unwrap_or(self.addresses[0])
    }

    /// The certificate files of a server that speaks TLS.
    pub(crate) fn pki(&self) -> &Pki {
        self.pki.as_ref().expect("it speaks TLS")
    }

    /// All listening addresses.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The lines that it printed when it began to listen.
    pub(crate) fn start_lines(&self) -> &[String] {
        &self.start_lines
    }

    /// The next line on stdout after the start lines; `None` at the end.
    #[track_caller]
    pub(crate) fn printed(&self) -> Option<String> {
        match self.stdout.recv_timeout(TIMEOUT) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line is printed"),
        }
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        self.stderr.lock().expect("not poisoned").clone()
    }

    /// The whole log, after its end.
    #[track_caller]
    pub(crate) fn whole_log(&self) -> String {
        wait_for("the end of the log", || {
            // The thread that collects the log drops its reference at the end.
            (Arc::strong_count(&self.stderr) == 1).then(|| self.log())
        })
    }

    /// Waits for a log line that contains `text`.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, text: &str) {
        wait_for(&format!("the server logs {text:?}"), || {
            let has_ended = self.process().has_ended();
            let found = self.log().contains(text);
            assert!(
                found || !has_ended,
                "the server ended without logging {text:?}"
            );
            found.then_some(())
        });
    }

    /// Its process.
    pub(crate) fn process(&self) -> Process {
        Process {
            id: self.child.id(),
        }
    }

    /// Sends SIGTERM, so that it drains.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.process_id(), signal).expect("our own child");
    }

    fn process_id(&self) -> Pid {
        let id = i32::try_from(self.child.id()).expect("a process id");
        Pid::from_raw(id).expect("a process id")
    }

    /// Waits until exactly `count` descriptors are open.
    #[track_caller]
    pub(crate) fn wait_for_descriptors(&self, count: usize) {
        let deadline = Instant::now() + TIMEOUT;
        while self.process().descriptors().len() != count {
            let open = self.process().descriptors();
            assert!(
                Instant::now() < deadline,
                "{} descriptors are open instead of {count}: {open:#?}",
                open.len()
            );
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Stops the process: all that happens until [`thaw`](Self::thaw) arrives at once.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
        wait_for("every thread has stopped", || {
            self.process().is_stopped().then_some(())
        });
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits for its exit.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_for("the server ends", || {
            self.child.try_wait().expect("our own child")
        })
    }

    /// Waits for its exit with status 0.
    #[track_caller]
    pub(crate) fn wait_for_success(&mut self) {
        let status = self.wait();
        assert!(status.success(), "{status}:\n{}", self.log());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.log();
        if thread::panicking() {
            eprintln!("the server's log:\n{log}");
        } else {
            assert!(
                !log.contains("panicked"),
                "a part of the server panicked:\n{log}"
            );
        }
    }
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn run_to_end(command: &mut Command) -> Output {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let status = wait_for(&format!("the end of {command:?}"), || {
        child.try_wait().expect("our own child")
    });
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let read = child.stdout.take().expect("piped").read_to_end(&mut stdout);
    read.expect("read");
    let read = child.stderr.take().expect("piped").read_to_end(&mut stderr);
    read.expect("read");
    Output {
        status,
        stdout,
        stderr,
    }
}

/// The binary, without environment variables that change its settings.
pub(crate) fn binary() -> Command {
    without_settings(Command::new(env!("CARGO_BIN_EXE_ringback")))
}

/// The same, after a shell command.
pub(crate) fn binary_with(before: &str) -> Command {
    let mut command = Command::new("sh");
    let script = format!("{before} && exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_ringback")]);
    without_settings(command)
}

fn without_settings(mut command: Command) -> Command {
    command.env_remove("RUST_LOG");
    for (name, _value) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"RINGBACK_") {
            command.env_remove(name);
        }
    }
    command
}

fn address_of(line: &str) -> SocketAddr {
    line.strip_prefix("listening ws://")
        .or_else(|| line.strip_prefix("listening wss://"))
        .and_then(|rest| rest.split(' ').next())
        .and_then(|address| address.parse().ok())
        .unwrap_or_else(|| panic!("no listening line: {line:?}"))
}

/// The text form of a start line in JSON.
fn start_line(line: &str) -> Option<String> {
    let object: serde_json::Value = serde_json::from_str(line).ok()?;
    let url = object["url"].as_str()?;
    match object["message"].as_str()? {
        "listening" => {
            let engine = object["engine"].as_str()?;
            let threads = object["threads"].as_u64()?;
            Some(format!("listening {url} engine={engine} threads={threads}"))
        }
        "admin" => Some(format!("admin {url}")),
        _ => None,
    }
}

fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // The test may be over.
            let _ = sender.send(start_line(&line).unwrap_or(line));
        }
    });
    lines
}

fn text_of(mut stream: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let shared = Arc::clone(&text);
    thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(len @ 1..) = stream.read(&mut piece) {
            let piece = String::from_utf8_lossy(&piece[..len]);
            shared.lock().expect("not poisoned").push_str(&piece);
        }
    });
    text
}
