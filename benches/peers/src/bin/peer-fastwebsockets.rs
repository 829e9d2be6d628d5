//! An echo server on fastwebsockets, tokio and hyper.

use std::process::ExitCode;

use clap::Parser;
use fastwebsockets::upgrade::{UpgradeFut, upgrade};
use fastwebsockets::{FragmentCollector, OpCode, WebSocketError};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use ringback_peers::peer::{Listen, serve};
use tokio::net::TcpStream;
use tokio::task;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Reads whole messages and writes each back, which is all that the library
/// offers: it does not say whether another message has arrived already.
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
}

fn main() -> ExitCode {
    serve(&Cli::parse().listen, shake_hands)
}

async fn shake_hands(stream: TcpStream) {
    // A connection that fails is the client's to complain about.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service_fn(accept))
        .with_upgrades()
        .await;
}

async fn accept(mut request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    let (response, upgraded) = upgrade(&mut request)?;
    // The library's example takes the connection out of tokio's cooperation, too.
    task::spawn(task::unconstrained(async move {
        let _ = echo(upgraded).await;
    }));
    Ok(response)
}

async fn echo(upgraded: UpgradeFut) -> Result<(), WebSocketError> {
    let mut socket = FragmentCollector::new(upgraded.await?);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            // It was answered by the library.
            OpCode::Close => return Ok(()),
            OpCode::Ping | OpCode::Pong | OpCode::Continuation => {}
        }
    }
}
