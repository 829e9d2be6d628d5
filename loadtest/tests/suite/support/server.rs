//! Servers made from a closure, with a thread for each connection.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use tungstenite::{Message, WebSocket};

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
