//! The floor: a TCP echo without WebSocket, on epoll.

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::{hint, thread};

use clap::Parser;
use loadtest::builtin::RawEcho;
use loadtest::units::parse_size;
use ringback_peers::{Listen, announce, exit_with};
use rustix::io::Errno;
use rustix::net::RecvFlags;

/// One recv and one send for each connection that is ready, on one thread.
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

    /// One connection at a time, in a loop of recv and send that never sleeps: the
    /// lowest possible latency
    #[arg(long)]
    spin: bool,
}

fn main() -> ExitCode {
    exit_with(serve(&Cli::parse()))
}

fn serve(cli: &Cli) -> io::Result<()> {
    if cli.spin {
        return spin(cli);
    }
    ringback::binary::raise_descriptor_limit()?;
    let echo = RawEcho::start_at(cli.listen.address(), cli.read_len, None)?;
    announce("tcp", echo.address());
    // The echo has a thread of its own; signals end both.
    loop {
        thread::park();
    }
}

fn spin(cli: &Cli) -> io::Result<()> {
    let listener = TcpListener::bind(cli.listen.address())?;
    announce("tcp", listener.local_addr()?);
    let mut buf = vec![0; cli.read_len];
    loop {
        let (socket, _address) = listener.accept()?;
        // An error ends only its connection.
        let _ = echo_spinning(&socket, &mut buf);
    }
}

fn echo_spinning(mut socket: &TcpStream, buf: &mut [u8]) -> io::Result<()> {
    socket.set_nodelay(true)?;
    loop {
        match rustix::net::recv(socket, &mut *buf, RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Ok(()),
            Ok((len, _)) => socket.write_all(&buf[..len])?,
            Err(Errno::AGAIN) => hint::spin_loop(),
            Err(error) => return Err(error.into()),
        }
    }
}

fn read_len(text: &str) -> Result<usize, String> {
    match parse_size(text)? {
        0 => Err("at least 1".to_owned()),
        len => Ok(len),
    }
}
