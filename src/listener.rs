//! Listening sockets: one for each worker and address, which share the port.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU32;

use socket2::{Domain, Protocol, Socket, Type};

use crate::error::Error;

/// Binds `address` once for each of `workers`.
///
/// All sockets are bound before any of them listens, so the kernel spreads
/// connections over all of them from the first on.
///
/// # Errors
/// [`Error::Listen`], also if another socket listens there that would share the
/// port with us: two servers on one port would each get half of the clients.
pub(crate) fn bind_all(
    address: SocketAddr,
    workers: usize,
    backlog: NonZeroU32,
) -> Result<(SocketAddr, Vec<TcpListener>), Error> {
    let in_context = |source| Error::Listen { address, source };
    if address.port() != 0 {
        // Without SO_REUSEPORT, so that nobody else may have it either. A port
        // that the kernel chooses is free.
        bind(address, false).map_err(in_context)?;
    }
    let first = bind(address, true).map_err(in_context)?;
    let address = local_address(&first).map_err(in_context)?;
    let mut bound = vec![first];
    for _ in 1..workers {
        bound.push(bind(address, true).map_err(in_context)?);
    }
    let backlog = i32::try_from(backlog.get()).unwrap_or(i32::MAX);
    for socket in &bound {
        socket.listen(backlog).map_err(in_context)?;
    }
    Ok((address, bound.into_iter().map(TcpListener::from).collect()))
}

fn bind(address: SocketAddr, share_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        // Otherwise 0.0.0.0 and [::] could not be listened on side by side.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share_port)?;
    socket.set_nonblocking(true)?;
    // A reply is complete when it is written; nothing is worth waiting for.
    // Linux hands this on to every socket that is accepted.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    const BACKLOG: NonZeroU32 = NonZeroU32::new(128).expect("not zero");

    #[test]
    fn workers_share_one_port() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (address, listeners) = bind_all(any, 3, BACKLOG).expect("bound");
        assert_ne!(address.port(), 0);
        for listener in &listeners {
            assert_eq!(listener.local_addr().expect("bound"), address);
        }
        TcpStream::connect(address).expect("somebody listens");
    }

    #[test]
    fn a_port_that_another_server_shares_out_is_in_use() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (address, _listeners) = bind_all(any, 2, BACKLOG).expect("bound");
        let refused = bind_all(address, 2, BACKLOG).expect_err("in use");
        assert!(
            refused.to_string().contains(&address.to_string()),
            "{refused}"
        );
        assert!(matches!(
            refused,
            Error::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse
        ));
    }

    #[test]
    fn ipv6_listens_beside_ipv4() {
        let any: SocketAddr = "[::1]:0".parse().expect("an address");
        let (address, _six) = bind_all(any, 1, BACKLOG).expect("IPv6 loopback");
        let four = SocketAddr::from(([127, 0, 0, 1], address.port()));
        bind_all(four, 1, BACKLOG).expect("the same port on IPv4");
    }
}
