//! An echo server on fastwebsockets, tokio and hyper.

use std::future::ready;
use std::hint;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use fastwebsockets::upgrade::{UpgradeFut, upgrade};
use fastwebsockets::{FragmentCollector, OpCode, WebSocketError};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use loadtest::units::parse_duration;
use ringback_peers::{Listen, serve};
use tokio::net::TcpStream;
use tokio::task;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Reads whole messages and writes each back: the library does not tell whether another
/// message has arrived.
#[derive(Debug, Parser)]
#[command(
    name = "fastwebsockets",
    version = concat!(
        env!("FASTWEBSOCKETS_VERSION"), ", hyper ", env!("HYPER_VERSION"),
        ", tokio ", env!("TOKIO_VERSION"), ", rustc ", env!("RUSTC_VERSION")
    )
)]
struct Cli {
    #[command(flatten)]
    listen: Listen,

    /// Time to keep the core busy before each reply: slower on purpose, to test a
    /// comparison
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    burn: Duration,
}

fn main() -> ExitCode {
    let Cli { listen, burn } = Cli::parse();
    serve(&listen, move |stream| shake_hands(stream, burn))
}

async fn shake_hands(stream: TcpStream, burn: Duration) {
    let service = service_fn(move |request| ready(accept(request, burn)));
    // The client reports a connection that fails.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

fn accept(
    mut request: Request<Incoming>,
    burn: Duration,
) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    let (response, upgraded) = upgrade(&mut request)?;
    // The library's example takes the connection out of tokio's cooperation, too.
    task::spawn(task::unconstrained(async move {
        let _ = echo(upgraded, burn).await;
    }));
    Ok(response)
}

async fn echo(upgraded: UpgradeFut, burn: Duration) -> Result<(), WebSocketError> {
    let mut socket = FragmentCollector::new(upgraded.await?);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Text | OpCode::Binary => {
                keep_busy(burn);
                socket.write_frame(frame).await?;
            }
            // The library has answered it.
            OpCode::Close => return Ok(()),
            OpCode::Ping | OpCode::Pong | OpCode::Continuation => {}
        }
    }
}

fn keep_busy(time: Duration) {
    if time.is_zero() {
        return;
    }
    let began = Instant::now();
    while began.elapsed() < time {
        hint::spin_loop();
    }
}
