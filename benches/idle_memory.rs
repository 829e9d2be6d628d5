//! User memory of an idle connection: 10,000 of them, each upgraded and used for one
//! message, on every engine.
//!
//! The server is the real binary in a process of its own; the figure is its anonymous
//! resident memory, which does not include the kernel's socket buffers.

#[allow(dead_code, reason = "each bench uses a part of it")]
mod server;

use std::io::{Read, Write};
use std::net::TcpStream;

use host::Root;
use ringback::EngineKind;
use ringback::binary::raise_descriptor_limit;

use server::{Server, ringback};

const CONNECTIONS: u64 = 10_000;

/// The largest share of the limit on open files to use.
const SPARE_DESCRIPTORS: u64 = 100;

const MESSAGE: &[u8] = b"\x82\x83\x00\x00\x00\x00abc";
const ECHO: &[u8] = b"\x82\x03abc";

fn main() {
    // `cargo test --benches` only checks that this runs.
    let is_test = !std::env::args().any(|arg| arg == "--bench");
    let limit = raise_descriptor_limit().expect("a limit on open files");
    let connections = if is_test {
        10
    } else {
        CONNECTIONS.min(limit.unwrap_or(u64::MAX) - SPARE_DESCRIPTORS)
    };
    for &engine in EngineKind::ALL {
        match engine.probe() {
            Ok(()) => println!(
                "{engine:<12} {:>6} bytes per idle connection ({connections} connections)",
                measure(engine, connections)
            ),
            Err(error) => println!("{engine:<12} {error}"),
        }
    }
}

fn measure(engine: EngineKind, connections: u64) -> u64 {
    // In huge pages, memory would grow in steps of 2 MiB.
    let server = Server::start(ringback(engine).env("MIMALLOC_ALLOW_THP", "0"));
    // The first connections allocate what all share.
    let warm_up: Vec<_> = (0..100).map(|_| use_once(&server)).collect();
    drop(warm_up);
    let before = anonymous_bytes(&server);
    let idle: Vec<_> = (0..connections).map(|_| use_once(&server)).collect();
    let after = anonymous_bytes(&server);
    drop(idle);
    after.saturating_sub(before) / connections
}

/// An upgraded connection that has had one message echoed.
fn use_once(server: &Server) -> TcpStream {
    let mut stream = server.upgrade();
    stream.write_all(MESSAGE).expect("sent");
    let mut echo = [0; ECHO.len()];
    stream.read_exact(&mut echo).expect("an echo");
    assert_eq!(echo, ECHO);
    stream
}

fn anonymous_bytes(server: &Server) -> u64 {
    let status = format!("proc/{}/status", server.id());
    let bytes = Root::of_this_machine().bytes(status, "RssAnon");
    bytes.expect("the server runs")
}
