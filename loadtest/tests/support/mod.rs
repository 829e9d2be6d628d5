//! Servers to drive, and the binary that drives them.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use tungstenite::{Message, WebSocket};

/// What a finished run of the binary left behind.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// The line that says why it failed. Asserts that it is the only one that
    /// is no progress line.
    pub(crate) fn complaint(&self) -> &str {
        let last = self.stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("loadtest: "), "{self:?}");
        for line in self.stderr.lines() {
            assert!(line.starts_with("loadtest: "), "{self:?}");
        }
        last
    }
}

/// Runs the binary to its end.
pub(crate) fn loadtest(arguments: &[&str]) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(arguments)
        .output()
        .expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Run {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
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
