//! Echo servers on other foundations, each as its library's own documentation would
//! write it, to be measured beside ringback by `benches/side-by-side`:
//!
//! - `peer-raw`, a TCP echo without WebSocket: the floor
//! - `peer-fastwebsockets`, on tokio and hyper
//! - `peer-tungstenite`, on tokio, replies flushed together where messages came
//!   together
//!
//! `gorilla/` and `ws/`, beside this package's manifest, hold those in other
//! languages. Below is what the servers here have in common: where they listen, and
//! how they accept.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use clap::Args;
use tokio::net::{TcpListener, TcpStream};

/// The address to listen on, from the command line.
#[derive(Debug, Clone, Args)]
pub struct Listen {
    /// The port to listen on; 0 takes a free one
    port: u16,

    /// The address to listen on
    #[arg(default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
}

impl Listen {
    /// The address and the port.
    pub fn address(&self) -> SocketAddr {
        (self.host, self.port).into()
    }
}

/// Accepts connections on a tokio runtime of one thread, and runs `connection` as a task
/// for each, until the process ends. Returns only with an error.
pub fn serve<F>(listen: &Listen, connection: impl Fn(TcpStream) -> F) -> ExitCode
where
    F: Future<Output = ()> + Send + 'static,
{
    exit_with(accept_all(listen.address(), connection))
}

/// Prints the error that ended a server, in one line.
pub fn exit_with(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints where a server listens.
pub fn announce(scheme: &str, address: SocketAddr) {
    println!("listening {scheme}://{address}");
}

fn accept_all<F>(address: SocketAddr, connection: impl Fn(TcpStream) -> F) -> io::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    ringback::binary::raise_descriptor_limit()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        announce("ws", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(connection(stream));
        }
    })
}
