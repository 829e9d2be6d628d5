//! The floor: a TCP echo that knows nothing of WebSocket, on epoll.

use std::process::ExitCode;
use std::{io, thread};

use clap::Parser;
use loadtest::builtin::RawEcho;
use loadtest::units::parse_size;
use ringback_peers::peer::{Listen, announce, exit_with};

/// Sends back what it gets: one recv and one send for each connection that is
/// ready, on one thread.
#[derive(Debug, Parser)]
#[command(
    name = "raw TCP echo",
    version = concat!(env!("CARGO_PKG_VERSION"), ", rustc ", env!("RUSTC_VERSION"))
)]
struct Cli {
    #[command(flatten)]
    listen: Listen,

    /// Bytes to read at once
    #[arg(long, value_name = "BYTES", default_value = "64k", value_parser = read_len)]
    read_len: usize,
}

fn main() -> ExitCode {
    exit_with(serve(&Cli::parse()))
}

fn serve(cli: &Cli) -> io::Result<()> {
    ringback::raise_descriptor_limit()?;
    let echo = RawEcho::start_at(cli.listen.address(), cli.read_len, None)?;
    announce("tcp", echo.address());
    // The echo has a thread of its own; signals end both.
    loop {
        thread::park();
    }
}

fn read_len(text: &str) -> Result<usize, String> {
    match parse_size(text)? {
        0 => Err("at least 1".to_owned()),
        len => Ok(len),
    }
}
