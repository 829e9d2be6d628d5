//! Whether an address has a listener.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::error::WatchError;

/// The timeout of the connect that checks an address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Makes sure that no other server listens where one is about to be started: it would be measured
/// instead.
///
/// # Errors
/// [`WatchError::Occupied`] when an address accepts a connection.
pub fn ensure_free(addresses: &[SocketAddr]) -> Result<(), WatchError> {
    match addresses
        .iter()
        .find(|address| accepts(**address, CONNECT_TIMEOUT))
    {
        Some(&address) => Err(WatchError::Occupied { address }),
        None => Ok(()),
    }
}

/// Whether a TCP connect succeeds.
fn accepts(address: SocketAddr, timeout: Duration) -> bool {
    // Without a listener on a port of the ephemeral range, a connect may be assigned that very
    // port and connect to itself.
    TcpStream::connect_timeout(&address, timeout)
        .is_ok_and(|stream| stream.local_addr().ok() != stream.peer_addr().ok())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    fn an_address_is_free_without_a_listener() {
        let (_socket, closed) = closed_address();
        ensure_free(&[closed]).expect("nobody listens");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let open = listener.local_addr().expect("its address");
        let error = ensure_free(&[closed, open]).expect_err("it listens");
        assert_eq!(
            error.to_string(),
            format!("something else already listens on {open}")
        );
    }

    /// An address that is bound by a socket that does not listen, for as long as the socket is
    /// kept.
    fn closed_address() -> (Socket, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        socket.bind(&any.into()).expect("a free port");
        let address = socket.local_addr().expect("its address");
        (socket, address.as_socket().expect("an IP address"))
    }
}
