//! The servers' addresses, and the source addresses.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{Domain, Protocol, Socket, Type};

use super::race::race;
use super::transport::Transport;
use crate::failure::Failure;
use crate::plan::Plan;
use crate::source::SourceRange;
use crate::target::{Scheme, Target};
use crate::tls;

/// The receive buffer of a slow reader, in bytes; the kernel doubles it.
const SLOW_RECEIVE_LEN: usize = 4 << 10;

/// The most source addresses of 127.0.0.0/8 that are added when the first one has no port left:
/// with some 28,000 ports each, more than a plan can need.
const ADDED_SOURCES_MAX: u32 = 1024;

/// A server, its addresses, and its TLS configuration.
pub(super) struct Endpoint {
    pub(super) target: Target,
    addresses: Vec<SocketAddr>,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// All the servers of a plan.
pub struct Endpoints {
    list: Vec<Endpoint>,
    sources: Option<SourceRange>,
    /// Source addresses of 127.0.0.0/8 that were added because ports ran out.
    added_sources: AtomicU32,
}

impl Endpoints {
    /// Resolves the plan's servers, and reads the certificates to trust.
    ///
    /// # Errors
    /// [`Failure::Resolve`] and [`Failure::Trust`].
    pub fn of(plan: &Plan) -> Result<Self, Failure> {
        let config = tls::config_for(plan)?;
        let endpoint = |target: &Target| {
            let resolve = |source| Failure::Resolve {
                target: target.to_string(),
                source,
            };
            let mut addresses = target.resolve().map_err(resolve)?;
            if plan.sources.is_some() {
                // Source addresses are IPv4, so they reach no other.
                addresses.retain(SocketAddr::is_ipv4);
                if addresses.is_empty() {
                    return Err(resolve(io::Error::other(
                        "it has no IPv4 address, as source addresses need",
                    )));
                }
            }
            let tls = match (target.scheme(), &config) {
                (Scheme::Wss, Some(config)) => {
                    let name = ServerName::try_from(target.host().to_owned())
                        .map_err(|error| resolve(io::Error::other(error)))?;
                    Some((Arc::clone(config), name))
                }
                _ => None,
            };
            Ok(Endpoint {
                target: target.clone(),
                addresses,
                tls,
            })
        };
        Ok(Self {
            list: plan
                .targets
                .iter()
                .map(endpoint)
                .collect::<Result<_, _>>()?,
            sources: plan.sources,
            added_sources: AtomicU32::new(0),
        })
    }

    /// The addresses of all servers: one for each, once chosen.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.list
            .iter()
            .flat_map(|endpoint| endpoint.addresses.iter().copied())
    }

    /// The number of source addresses of 127.0.0.0/8 that were added because ports ran out.
    pub(super) fn added_sources(&self) -> u32 {
        self.added_sources.load(Relaxed)
    }

    /// The server of a connection: they are assigned in turn.
    pub(super) fn of_connection(&self, number: u32) -> &Endpoint {
        &self.list[number as usize % self.list.len()]
    }

    /// All the servers.
    pub(super) fn all(&self) -> impl Iterator<Item = &Endpoint> {
        self.list.iter()
    }

    /// Chooses, for each server whose name has several addresses, the one that answers first.
    /// `goes_on` is polled meanwhile.
    ///
    /// # Errors
    /// [`Failure::Connect`] when none of them answers, and [`Failure::Interrupted`] when
    /// `goes_on` returns `false`.
    pub fn choose(
        mut self,
        timeout: Duration,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<Self, Failure> {
        for index in 0..self.list.len() {
            let endpoint = &self.list[index];
            if endpoint.addresses.len() == 1 {
                continue;
            }
            let deadline = Instant::now() + timeout;
            let raced = self.first_to_answer(endpoint, deadline, goes_on);
            let (address, _) = raced.map_err(|source| match source.kind() {
                io::ErrorKind::Interrupted => Failure::Interrupted,
                _ => Failure::Connect {
                    target: endpoint.target.to_string(),
                    connection: u32::try_from(index).unwrap_or(u32::MAX),
                    source,
                },
            })?;
            self.list[index].addresses = vec![address];
        }
        Ok(self)
    }

    /// Connects to the address of a server that answers first.
    pub(super) fn first_to_answer(
        &self,
        endpoint: &Endpoint,
        deadline: Instant,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> io::Result<(SocketAddr, TcpStream)> {
        let source = self.sources.map(|sources| sources.address(0));
        let connect = |address| begin(address, source, false);
        race(&endpoint.addresses, deadline, connect, goes_on)
    }

    /// Begins to connect to the server of the connection with this number.
    pub(super) fn connect(&self, number: u32, slow: bool) -> io::Result<Transport> {
        let endpoint = self.of_connection(number);
        // A name without any address is not resolved.
        let address = endpoint.addresses[0];
        let given = self.sources.map(|sources| sources.address(number));
        let may_add = given.is_none() && address.is_ipv4() && address.ip().is_loopback();
        loop {
            let added = self.added_sources();
            let source = given.or_else(|| (added > 0).then(|| added_source(added)));
            match begin(address, source, slow) {
                Err(error) if may_add && has_no_port(&error) && added < ADDED_SOURCES_MAX => {
                    // Another thread may have added it.
                    let next = added + 1;
                    let _ = self
                        .added_sources
                        .compare_exchange(added, next, Relaxed, Relaxed);
                }
                begun => return endpoint.transport(begun?),
            }
        }
    }
}

impl Endpoint {
    /// The transport over a socket that is being connected.
    pub(super) fn transport(&self, socket: TcpStream) -> io::Result<Transport> {
        match &self.tls {
            None => Ok(Transport::Plain(socket)),
            Some((config, name)) => Transport::tls(socket, config, name.clone()),
        }
    }
}

/// The source address added as number `added`, from 1.
fn added_source(added: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + added)
}

/// Whether a source address has no port left: `connect` fails so for an address that the kernel
/// chose, and `bind` for a given one.
fn has_no_port(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse
    )
}

/// Begins to connect, from a given address if there is one.
fn begin(address: SocketAddr, source: Option<Ipv4Addr>, slow: bool) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    socket.set_tcp_nodelay(true)?;
    if slow {
        socket.set_recv_buffer_size(SLOW_RECEIVE_LEN)?;
    }
    if let Some(source) = source {
        socket.bind(&SocketAddr::from(SocketAddrV4::new(source, 0)).into())?;
    }
    match socket.connect(&address.into()) {
        Err(error) if !is_under_way(&error) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// Whether the connect is in progress.
pub(super) fn is_under_way(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error())
}
