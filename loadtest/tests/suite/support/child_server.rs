//! A server in a process of its own: the test binary, started again for one test that serves.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use socket2::{Domain, Socket, Type};
use tungstenite::WebSocket;

use super::poll;
use super::scratch::Scratch;

/// The test that serves.
const TEST: &str = "support::child_server::serves_when_another_test_asks";

/// The request: the behavior, the address, and the file for its process id.
const REQUEST: &str = "LOADTEST_FLAGS_SERVE";

/// The file in which each process records its id.
const STARTS: &str = "starts";

/// The behavior of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behavior {
    /// It echoes, until SIGTERM.
    Echo,
    /// It echoes, and uses [`BURNT`] of CPU time for each message.
    BurnCpu,
    /// It echoes, and [`POLLERS`] of its threads are always busy.
    Poll,
    /// It accepts connections and messages, and never answers one.
    NeverReply,
    /// It closes the first [`CLOSED`] connections unanswered, and then echoes.
    CloseFirst,
}

/// Enough to get a part of a core from any other load of the machine.
const POLLERS: usize = 4;

/// The CPU time of a message of [`BurnCpu`](Behavior::BurnCpu), many times that of an echo.
const BURNT: Duration = Duration::from_micros(500);

/// Connections that a server closes that [`CloseFirst`](Manner::ClosesFirst).
const CLOSED: usize = 5;

/// A server that can be started, and the address reserved for it.
#[derive(Debug)]
pub(crate) struct ChildServer {
    behavior: Behavior,
    address: SocketAddr,
    scratch: Scratch,
    /// Bound to reserve the port, but not listening.
    _reserved: Socket,
}

impl ChildServer {
    pub(crate) fn new(behavior: Behavior) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let reserved = bound_to(any);
        let address = reserved.local_addr().expect("its address");
        Self {
            behavior,
            address: address.as_socket().expect("an IP address"),
            scratch: Scratch::new(),
            _reserved: reserved,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/", self.address)
    }

    /// The command that starts it, for `--server-cmd`. The output of the test harness is
    /// discarded.
    pub(crate) fn command(&self) -> String {
        self.command_at(&self.address.to_string())
    }

    /// The same for `ab`, which gives it another port each time.
    pub(crate) fn command_at_free_port(&self) -> String {
        self.command_at("127.0.0.1:{port}")
    }

    fn command_at(&self, address: &str) -> String {
        let quoted: Vec<_> = self
            .words(address)
            .iter()
            .map(|word| format!("'{word}'"))
            .collect();
        quoted.join(" ")
    }

    /// Starts it without the program's help.
    pub(crate) fn start(&self) -> Started {
        let words = self.words(&self.address.to_string());
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .spawn()
            .expect("a shell");
        let started = Started(child);
        self.pid();
        started
    }

    fn words(&self, address: &str) -> [String; 5] {
        let behavior = match self.behavior {
            Behavior::Echo => "echo",
            Behavior::BurnCpu => "burn",
            Behavior::Poll => "poll",
            Behavior::NeverReply => "mum",
            Behavior::CloseFirst => "close",
        };
        let request = format!("{behavior} {address} {}", self.scratch.file("process"));
        let script = format!("{REQUEST}=\"$1\" exec \"$0\" --exact {TEST} >/dev/null 2>&1");
        let own = env::current_exe().expect("a path");
        let own = own.to_str().expect("UTF-8").to_owned();
        ["sh".to_owned(), "-c".to_owned(), script, own, request]
    }

    /// Its process id, which it writes once it listens.
    pub(crate) fn pid(&self) -> u32 {
        self.pid_file()[0].parse().expect("a number")
    }

    /// The cores it was given.
    pub(crate) fn cores(&self) -> String {
        self.pid_file().swap_remove(1)
    }

    /// The ids of all processes that were started, listening or not.
    pub(crate) fn starts(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.scratch.file(STARTS)).unwrap_or_default();
        text.lines()
            .map(|line| line.parse().expect("a number"))
            .collect()
    }

    fn pid_file(&self) -> Vec<String> {
        poll("the server's start", || {
            let text = fs::read_to_string(self.scratch.file("process")).ok()?;
            Some(text.lines().map(str::to_owned).collect())
        })
    }
}

/// A server that a test started. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Started(Child);

impl Started {
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a process exists and has not ended.
pub(crate) fn is_alive(pid: u32) -> bool {
    status(&format!("/proc/{pid}/status"), "State").is_some_and(|state| !state.starts_with('Z'))
}

/// A line of a `status` file in `/proc`.
pub(crate) fn status(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

#[test]
fn serves_when_another_test_asks() {
    let Ok(request) = env::var(REQUEST) else {
        return;
    };
    let mut words = request.splitn(3, ' ');
    let mut next = || words.next().expect("a word");
    let (behavior, address, file) = (next(), next().parse().expect("an address"), next());
    match behavior {
        "echo" => echo_at(address, file),
        "burn" => serve_each(address, file, 0, burn_and_echo),
        "close" => serve_each(address, file, CLOSED, echo),
        "poll" => {
            for _ in 0..POLLERS {
                thread::spawn(|| {
                    loop {
                        std::hint::spin_loop();
                    }
                });
            }
            echo_at(address, file);
        }
        _ => serve_each(address, file, 0, |socket| while socket.read().is_ok() {}),
    }
}

fn echo_at(address: SocketAddr, file: &str) {
    let signals = ringback::Signals::catch().expect("signals");
    record_start(file);
    let server = ringback::Server::start(ringback::Config {
        listen: vec![address.into()],
        threads: NonZeroUsize::new(1),
        pin: false,
        ..ringback::Config::default()
    });
    let server = server.expect("the server starts");
    write_pid_file(file);
    server.run_until_signal(signals).expect("it ends well");
    // Ends without the harness's last output.
    process::exit(0);
}

fn serve_each(
    address: SocketAddr,
    file: &str,
    closed: usize,
    serve: fn(&mut WebSocket<TcpStream>),
) {
    let socket = bound_to(address);
    // It may be killed as soon as it listens.
    record_start(file);
    socket.listen(128).expect("it listens");
    let listener = TcpListener::from(socket);
    write_pid_file(file);
    for stream in listener.incoming().skip(closed) {
        let stream = stream.expect("a connection");
        thread::spawn(move || {
            stream.set_nodelay(true).expect("an option");
            if let Ok(mut socket) = tungstenite::accept(stream) {
                serve(&mut socket);
            }
        });
    }
}

fn echo(socket: &mut WebSocket<TcpStream>) {
    while let Ok(message) = socket.read() {
        if message.is_binary() && socket.send(message).is_err() {
            return;
        }
    }
}

fn burn_and_echo(socket: &mut WebSocket<TcpStream>) {
    while let Ok(message) = socket.read() {
        if message.is_binary() {
            let began = Instant::now();
            while began.elapsed() < BURNT {
                std::hint::spin_loop();
            }
            if socket.send(message).is_err() {
                return;
            }
        }
    }
}

fn record_start(file: &str) {
    let starts = Path::new(file).with_file_name(STARTS);
    let starts = OpenOptions::new().append(true).create(true).open(starts);
    writeln!(starts.expect("a file"), "{}", process::id()).expect("a file");
}

fn write_pid_file(file: &str) {
    let cores = status("/proc/self/status", "Cpus_allowed_list").expect("a list");
    let unfinished = format!("{file}.unfinished");
    fs::write(&unfinished, format!("{}\n{cores}\n", process::id())).expect("a file");
    fs::rename(&unfinished, file).expect("a file");
}

fn bound_to(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    // Two sockets with the option may be bound to one port while none listens.
    socket.set_reuse_address(true).expect("an option");
    socket.bind(&address.into()).expect("a free port");
    socket
}
