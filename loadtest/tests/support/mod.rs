//! Servers to drive, and the binary that drives them.

// Not every test uses everything.
#![allow(dead_code)]

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tungstenite::{Message, WebSocket};

/// How long a run may take, however busy the machine is: far longer than any
/// that a test asks for.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a finished run of the binary left behind.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// The line that says why it failed. Asserts that it is the last one, and
    /// that all before it are this program's as well.
    pub(crate) fn complaint(&self) -> &str {
        let last = self.stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("loadtest: "), "{self:?}");
        for line in self.stderr.lines() {
            assert!(line.starts_with("loadtest: "), "{self:?}");
        }
        last
    }

    /// Its report on one line, as the width of a terminal cuts it anywhere.
    pub(crate) fn report(&self) -> String {
        self.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Asserts that nothing went wrong. An open loop may miss its rate on a busy
    /// machine; that it says so is no failure of the run.
    pub(crate) fn assert_fine(&self) {
        let was_late = self.code == Some(4) && self.stdout.contains("replies came in time");
        assert!(self.code == Some(0) || was_late, "{self:?}");
    }

    /// Asserts that it failed for this reason, and that its numbers, if it came
    /// to any, are not passed off as a result.
    pub(crate) fn assert_failed(&self, complaint: &str) {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert!(
            self.complaint().contains(complaint),
            "{complaint}: {self:?}"
        );
        // Whether measuring had begun by then is a matter of chance.
        if !self.stdout.is_empty() {
            assert!(self.stdout.contains("\nINVALID\n"), "{self:?}");
            assert!(self.stdout.contains(complaint), "{complaint}: {self:?}");
        }
    }

    /// Asserts that it failed for this reason before there were any numbers.
    pub(crate) fn assert_failed_early(&self, complaint: &str) {
        self.assert_failed(complaint);
        assert_eq!(self.stdout, "", "{self:?}");
    }
}

/// Runs the binary to its end.
pub(crate) fn loadtest(arguments: &[impl AsRef<OsStr>]) -> Run {
    finish(start(arguments))
}

/// Starts the binary.
pub(crate) fn start(arguments: &[impl AsRef<OsStr>]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts")
}

/// Waits for the end of the binary, but not forever.
pub(crate) fn finish(child: Child) -> Run {
    let pid = Pid::from_child(&child);
    let (tell, told) = channel();
    thread::spawn(move || tell.send(child.wait_with_output()));
    let Ok(output) = told.recv_timeout(PATIENCE) else {
        // It is not waited for before it has ended, so the number is its own.
        let _ = kill_process(pid, Signal::KILL);
        panic!("the binary does not end: {:?}", told.recv());
    };
    let Output {
        status,
        stdout,
        stderr,
    } = output.expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Run {
        code: status.code(),
        stdout: text(stdout),
        stderr: text(stderr),
    }
}

/// Serves each TCP connection on a thread of its own, for as long as the test
/// lives.
pub(crate) fn serve_tcp(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream.expect("a connection")));
        }
    });
    address
}

/// Serves each WebSocket connection, the handshake done by tungstenite.
pub(crate) fn serve(serve: impl Fn(WebSocket<TcpStream>) + Send + Sync + 'static) -> SocketAddr {
    serve_tcp(move |stream| {
        stream.set_nodelay(true).expect("an option");
        if let Ok(socket) = tungstenite::accept(stream) {
            serve(socket);
        }
    })
}

/// The next data message, `None` when the client closed or left.
pub(crate) fn next_message(socket: &mut WebSocket<TcpStream>) -> Option<Message> {
    loop {
        match socket.read() {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => return Some(message),
            Ok(Message::Close(_)) => {
                // Sends the answer and waits for the client to leave.
                while socket.read().is_ok() {}
                return None;
            }
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

/// Echoes `count` messages; `false` when the client left before.
pub(crate) fn echo(socket: &mut WebSocket<TcpStream>, count: usize) -> bool {
    (0..count).all(|_| match next_message(socket) {
        Some(message) => socket.send(message).is_ok(),
        None => false,
    })
}

/// Waits until there is an answer, but not forever.
pub(crate) fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(std::time::Instant::now() < deadline, "it never came");
        thread::yield_now();
    }
}
