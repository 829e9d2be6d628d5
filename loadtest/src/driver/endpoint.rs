//! Where connections go, and from where.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{Domain, Protocol, Socket, Type};

use super::transport::Transport;
use crate::failure::Failure;
use crate::plan::Plan;
use crate::source::SourceRange;
use crate::target::{Scheme, Target};
use crate::tls;

/// What a slow reader's kernel keeps for it, in bytes; the kernel doubles it.
const SLOW_RECEIVE_LEN: usize = 4 << 10;

/// A server, its addresses, and what is needed to connect to it.
pub(super) struct Endpoint {
    pub(super) target: Target,
    addresses: Vec<SocketAddr>,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// All the servers of a plan.
pub struct Endpoints {
    list: Vec<Endpoint>,
    sources: Option<SourceRange>,
}

impl Endpoints {
    /// Looks up the plan's servers, and the certificates to trust.
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
                // Sources are IPv4, so they reach no other.
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
        })
    }

    /// The addresses of all servers.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.list
            .iter()
            .flat_map(|endpoint| endpoint.addresses.iter().copied())
    }

    /// Connections go to the servers in turn.
    pub(super) fn of_connection(&self, number: u32) -> &Endpoint {
        &self.list[number as usize % self.list.len()]
    }

    /// Begins to connect to the server of the connection with this number, at
    /// its address number `attempt`, `None` when there is no such address.
    pub(super) fn connect(
        &self,
        number: u32,
        attempt: usize,
        slow: bool,
    ) -> Option<io::Result<Transport>> {
        let endpoint = self.of_connection(number);
        let address = *endpoint.addresses.get(attempt)?;
        let source = self.sources.map(|sources| sources.address(number));
        let connect = || {
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
                _ => match &endpoint.tls {
                    None => Ok(Transport::Plain(socket.into())),
                    Some((config, name)) => Transport::tls(socket.into(), config, name.clone()),
                },
            }
        };
        Some(connect())
    }
}

fn is_under_way(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error())
}
