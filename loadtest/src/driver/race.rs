//! The choice among a name's addresses (RFC 8305, "Happy Eyeballs"): a name may have addresses
//! that do not answer, not even with a reset.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The delay before the next address is tried as well (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The interval at which `goes_on` is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Connects to the first address that answers. `connect` starts a non-blocking connect; `goes_on`
/// is polled meanwhile.
///
/// # Errors
/// The last error if all attempts failed; a timeout; or that `goes_on` returned `false`.
pub(super) fn race(
    addresses: &[SocketAddr],
    deadline: Instant,
    connect: impl Fn(SocketAddr) -> io::Result<TcpStream>,
    goes_on: &mut dyn FnMut() -> bool,
) -> io::Result<(SocketAddr, TcpStream)> {
    let ordered = interleaved(addresses);
    let mut waiting = ordered.iter().copied();
    let mut attempts: Vec<(SocketAddr, TcpStream)> = Vec::new();
    let mut refusal = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let mut next_at = Instant::now();
    loop {
        if attempts.is_empty() || Instant::now() >= next_at {
            match waiting.next() {
                Some(address) => match connect(address) {
                    Ok(stream) => {
                        attempts.push((address, stream));
                        next_at = Instant::now() + ATTEMPT_DELAY;
                    }
                    Err(error) => {
                        refusal = error;
                        continue;
                    }
                },
                None if attempts.is_empty() => return Err(refusal),
                None => {}
            }
        }
        let now = Instant::now();
        let mut until = deadline.min(now + POLL_INTERVAL);
        if waiting.len() > 0 {
            until = until.min(next_at);
        }
        for index in ready(&attempts, until.saturating_duration_since(now))? {
            let (address, stream) = attempts.swap_remove(index);
            match answer_of(&stream) {
                Ok(()) => return Ok((address, stream)),
                Err(error) => {
                    refusal = error;
                    // No attempt is left.
                    next_at = Instant::now();
                }
            }
        }
        if attempts.is_empty() {
            continue;
        }
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if !goes_on() {
            return Err(io::ErrorKind::Interrupted.into());
        }
    }
}

/// The addresses in their order, but with the families interleaved: a fault often affects all
/// addresses of a family.
fn interleaved(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let is_first = |address: &&SocketAddr| address.is_ipv6() == addresses[0].is_ipv6();
    let mut first = addresses.iter().filter(is_first);
    let mut second = addresses.iter().filter(|address| !is_first(address));
    let mut ordered = Vec::with_capacity(addresses.len());
    while ordered.len() < addresses.len() {
        ordered.extend(first.next());
        ordered.extend(second.next());
    }
    ordered
}

/// The attempts with a result, the last one first.
fn ready(attempts: &[(SocketAddr, TcpStream)], timeout: Duration) -> io::Result<Vec<usize>> {
    let mut fds: Vec<_> = attempts
        .iter()
        .map(|(_, stream)| PollFd::new(stream, PollFlags::OUT))
        .collect();
    let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let fds = fds.iter().enumerate().rev();
    let ready = fds.filter(|(_, fd)| !fd.revents().is_empty());
    Ok(ready.map(|(index, _)| index).collect())
}

fn answer_of(stream: &TcpStream) -> io::Result<()> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    // Without a listener on a port of the ephemeral range, a connect may be assigned that very
    // port and connect to itself.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr, TcpListener};

    use socket2::{Domain, Socket, Type};

    const FAR: Duration = Duration::from_secs(60);

    fn connect(address: SocketAddr) -> io::Result<TcpStream> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM.nonblocking(),
            None,
        )?;
        match socket.connect(&address.into()) {
            Err(error) if !super::super::endpoint::is_under_way(&error) => Err(error),
            _ => Ok(socket.into()),
        }
    }

    fn winner(addresses: &[SocketAddr], goes_on: bool) -> io::Result<SocketAddr> {
        let deadline = Instant::now() + FAR;
        race(addresses, deadline, connect, &mut || goes_on).map(|(address, _)| address)
    }

    /// A listener that does not answer: its queue is full.
    fn silent() -> (Vec<TcpStream>, Socket, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        socket.bind(&any.into()).expect("a free port");
        socket.listen(0).expect("a queue of one");
        let address = socket.local_addr().expect("its address").as_socket();
        let address = address.expect("an IP address");
        let fill = |_| TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok();
        let filled = (0..4).map_while(fill).collect();
        (filled, socket, address)
    }

    fn listening() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        (listener, address)
    }

    /// An address whose port is bound by a socket that does not listen.
    fn refusing() -> (Socket, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        socket.bind(&any.into()).expect("a free port");
        let address = socket.local_addr().expect("its address").as_socket();
        (socket, address.expect("an IP address"))
    }

    #[test]
    fn a_silent_address_is_skipped() {
        let (_filled, _silent, silent) = silent();
        let (_listener, listening) = listening();
        let (_socket, refusing) = refusing();
        for addresses in [
            &[silent, listening][..],
            &[listening, silent],
            &[refusing, listening],
            &[silent, refusing, listening],
        ] {
            assert_eq!(winner(addresses, true).expect("one answers"), listening);
        }
    }

    #[test]
    fn a_race_without_an_answer_ends() {
        let (_filled, _silent, silent) = silent();
        let (_socket, refusing) = refusing();
        let kind = |result: io::Result<SocketAddr>| result.expect_err("nobody answers").kind();
        assert_eq!(
            kind(winner(&[refusing, refusing], true)),
            io::ErrorKind::ConnectionRefused
        );
        assert_eq!(kind(winner(&[silent], false)), io::ErrorKind::Interrupted);
        let over = race(&[silent], Instant::now(), connect, &mut || true);
        assert_eq!(over.expect_err("over").kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn address_families_are_interleaved() {
        let parse = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let given = ["[::1]:1", "[::2]:1", "[::3]:1", "1.0.0.1:1", "1.0.0.2:1"].map(parse);
        let ordered = ["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "[::3]:1"].map(parse);
        assert_eq!(interleaved(&given), ordered);
        assert_eq!(interleaved(&[]), []);
    }
}
