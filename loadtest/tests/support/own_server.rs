//! A server that is a process: the test binary, run once more.
//!
//! A test file that starts one has to have the test [`TEST`], which calls
//! [`serve_if_asked`] and does nothing where nobody asked.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::process::{Child, Command, Stdio};
use std::{env, fs, process, thread};

use socket2::{Domain, Socket, Type};

use super::poll;
use super::scratch::Scratch;

/// The test that serves.
pub(crate) const TEST: &str = "serves_when_another_test_asks";

/// How it is asked: what to do, the address, and the file to leave its id in.
const REQUEST: &str = "LOADTEST_FLAGS_SERVE";

/// What a server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It echoes, until SIGTERM.
    Echoes,
    /// It takes connections and messages, and never answers one.
    KeepsMum,
}

/// A server that can be started, and the address that is kept free for it.
#[derive(Debug)]
pub(crate) struct OwnServer {
    manner: Manner,
    address: SocketAddr,
    scratch: Scratch,
    /// Bound, so that nobody else is given the port, but not listening.
    _reserved: Socket,
}

impl OwnServer {
    pub(crate) fn new(manner: Manner, name: &str) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let reserved = bound_to(any);
        let address = reserved.local_addr().expect("its address");
        Self {
            manner,
            address: address.as_socket().expect("an IP address"),
            scratch: Scratch::new(name),
            _reserved: reserved,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/", self.address)
    }

    /// The command that starts it, for `--server-cmd`. What the test harness
    /// prints is none of the program's business.
    pub(crate) fn command(&self) -> String {
        let quoted: Vec<_> = self
            .words()
            .iter()
            .map(|word| format!("'{word}'"))
            .collect();
        quoted.join(" ")
    }

    /// Starts it without the program's help.
    pub(crate) fn start(&self) -> Started {
        let words = self.words();
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .spawn()
            .expect("a shell");
        let started = Started(child);
        self.pid();
        started
    }

    fn words(&self) -> [String; 5] {
        let manner = match self.manner {
            Manner::Echoes => "echo",
            Manner::KeepsMum => "mum",
        };
        let request = format!("{manner} {} {}", self.address, self.scratch.file("process"));
        let script = format!("{REQUEST}=\"$1\" exec \"$0\" --exact {TEST} >/dev/null 2>&1");
        let own = env::current_exe().expect("a path");
        let own = own.to_str().expect("UTF-8").to_owned();
        ["sh".to_owned(), "-c".to_owned(), script, own, request]
    }

    /// Its process, which has left its id once it listens.
    pub(crate) fn pid(&self) -> u32 {
        self.left_behind()[0].parse().expect("a number")
    }

    /// The cores it was given.
    pub(crate) fn cores(&self) -> String {
        self.left_behind().swap_remove(1)
    }

    fn left_behind(&self) -> Vec<String> {
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

/// Whether a process is there and has not ended.
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

/// Serves, if this process was started to.
pub(crate) fn serve_if_asked() {
    let Ok(request) = env::var(REQUEST) else {
        return;
    };
    let mut words = request.splitn(3, ' ');
    let mut next = || words.next().expect("a word");
    let (manner, address, file) = (next(), next().parse().expect("an address"), next());
    match manner {
        "echo" => echo_at(address, file),
        _ => keep_mum_at(address, file),
    }
}

fn echo_at(address: SocketAddr, file: &str) {
    let signals = ringback::Signals::catch().expect("signals");
    let server = ringback::Server::start(ringback::Config {
        listen: vec![address.into()],
        threads: NonZeroUsize::new(1),
        pin: false,
        ..ringback::Config::default()
    });
    let server = server.expect("the server starts");
    leave_behind(file);
    server.run_until_signal(signals).expect("it ends well");
    // Without the harness's last words: nobody reads them.
    process::exit(0);
}

fn keep_mum_at(address: SocketAddr, file: &str) {
    let socket = bound_to(address);
    socket.listen(128).expect("it listens");
    let listener = std::net::TcpListener::from(socket);
    leave_behind(file);
    for stream in listener.incoming() {
        let stream = stream.expect("a connection");
        thread::spawn(move || {
            if let Ok(mut socket) = tungstenite::accept(stream) {
                while socket.read().is_ok() {}
            }
        });
    }
}

fn leave_behind(file: &str) {
    let cores = status("/proc/self/status", "Cpus_allowed_list").expect("a list");
    let unfinished = format!("{file}.unfinished");
    fs::write(&unfinished, format!("{}\n{cores}\n", process::id())).expect("a file");
    fs::rename(&unfinished, file).expect("a file");
}

fn bound_to(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    // Two sockets that both ask for it may have one port while none listens.
    socket.set_reuse_address(true).expect("an option");
    socket.bind(&address.into()).expect("a free port");
    socket
}
