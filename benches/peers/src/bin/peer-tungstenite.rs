//! An echo server on tokio-tungstenite.

use std::process::ExitCode;

use clap::Parser;
use futures_util::{FutureExt, SinkExt, StreamExt};
use loadtest::units::parse_size;
use ringback_peers::{Listen, serve};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Echoes whole messages, and flushes the replies when no further message is there: the
/// best that the library can do for batches.
#[derive(Debug, Parser)]
#[command(
    name = "tokio-tungstenite",
    version = concat!(
        env!("TOKIO_TUNGSTENITE_VERSION"), ", tokio ", env!("TOKIO_VERSION"),
        ", rustc ", env!("RUSTC_VERSION")
    )
)]
struct Cli {
    #[command(flatten)]
    listen: Listen,

    /// Bytes to read at once. The library clears as many before each read, so its own
    /// 128k are slow for short messages, and less is slow for long ones
    #[arg(long, value_name = "BYTES", default_value = "32k", value_parser = parse_size)]
    read_buffer: usize,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let config = WebSocketConfig::default().read_buffer_size(cli.read_buffer);
    serve(&cli.listen, |stream| async move {
        // The client reports a connection that fails.
        if let Ok(socket) = accept_async_with_config(stream, Some(config)).await {
            let _ = echo(socket).await;
        }
    })
}

async fn echo(mut socket: WebSocketStream<TcpStream>) -> Result<(), Error> {
    while let Some(message) = socket.next().await {
        feed(&mut socket, message?).await?;
        while let Some(Some(message)) = socket.next().now_or_never() {
            feed(&mut socket, message?).await?;
        }
        socket.flush().await?;
    }
    Ok(())
}

/// The library answers control frames.
async fn feed(socket: &mut WebSocketStream<TcpStream>, message: Message) -> Result<(), Error> {
    if message.is_text() || message.is_binary() {
        socket.feed(message).await?;
    }
    Ok(())
}
