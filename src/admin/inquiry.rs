//! The other end of the admin listener: what a health check asks, and how it
//! takes the answer.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Bytes of an answer that are looked at; a verdict is one line.
const ANSWER_BYTES_MAX: usize = 8 * 1024;

/// What a server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Whether it serves: `/healthz`.
    Health,
    /// Whether it serves and has room for another connection: `/readyz`.
    Readiness,
}

impl Probe {
    const fn path(self) -> &'static str {
        match self {
            Self::Health => "/healthz",
            Self::Readiness => "/readyz",
        }
    }
}

/// Asks the server whose admin listener is configured as `admin`, and returns
/// what it says. All of it takes `patience` at most.
///
/// An address that stands for all of this machine's is asked over loopback.
///
/// # Errors
/// That nobody answers in time, what is said by a server that is not well, or
/// that whoever answers is no admin listener; in a line.
pub fn ask(admin: SocketAddr, question: Probe, patience: Duration) -> Result<String, String> {
    let mut address = reachable(admin)?;
    let mut answer = fetch(address, question.path(), patience);
    let has_no_ipv6 = answer.as_ref().is_err_and(|error| !is_timeout(error));
    if admin.is_ipv6() && admin.ip().is_unspecified() && has_no_ipv6 {
        // Both families are listened on, and the machine may have one of them.
        address.set_ip(Ipv4Addr::LOCALHOST.into());
        answer = fetch(address, question.path(), patience);
    }
    let answer = answer.map_err(|error| format!("no answer from {address}: {error}"))?;
    let (status, line) = parse(&answer)
        .ok_or_else(|| format!("{address} is no admin listener: its answer is not HTTP"))?;
    match status {
        200 => Ok(line.to_owned()),
        _ => Err(format!("{address}{}: {status}, {line}", question.path())),
    }
}

fn is_timeout(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut
}

/// Where a listener on this address can be reached on this machine.
fn reachable(admin: SocketAddr) -> Result<SocketAddr, String> {
    if admin.port() == 0 {
        return Err("--admin has port 0, any free port: set the port to probe".to_owned());
    }
    let ip = match admin.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(SocketAddr::new(ip, admin.port()))
}

fn fetch(address: SocketAddr, path: &str, patience: Duration) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + patience;
    let mut stream = TcpStream::connect_timeout(&address, left(deadline)?)?;
    stream.set_write_timeout(Some(left(deadline)?))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    let mut len = 0;
    while len < answer.len() {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut answer[len..]) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // What a read says when its time is up.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
    answer.truncate(len);
    Ok(answer)
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(left)
}

/// The status, and the first line of the body.
fn parse(answer: &[u8]) -> Option<(u16, &str)> {
    let text = str::from_utf8(answer).ok()?;
    let status = text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let (_head, body) = text.split_once("\r\n\r\n")?;
    Some((status, body.lines().next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(300);

    /// What is made of the answer of a server that gives this one.
    fn asked(answer: &'static [u8], question: Probe) -> Result<String, String> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let server = thread::spawn(move || {
            let (mut stream, _peer) = listener.accept().expect("a client");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a request");
                request.extend(byte);
            }
            // It may have heard enough.
            let _ = stream.write_all(answer);
            String::from_utf8(request).expect("text")
        });
        let result = ask(address, question, PATIENCE);
        let request = server.join().expect("served");
        let line = format!("GET {} HTTP/1.1\r\nHost: {address}\r\n", question.path());
        assert!(request.starts_with(&line), "{request}");
        result
    }

    #[test]
    fn a_server_that_is_well_says_so() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n";
        assert_eq!(asked(answer, Probe::Health), Ok("ok".to_owned()));
    }

    #[test]
    fn a_server_that_is_not_says_why() {
        let answer = b"HTTP/1.1 503 Service Unavailable\r\n\r\nfull: 7 connections are open\n";
        let why = asked(answer, Probe::Readiness).expect_err("not ready");
        assert!(
            why.ends_with("/readyz: 503, full: 7 connections are open"),
            "{why}"
        );
    }

    #[test]
    fn others_are_told_apart() {
        for answer in [
            &b""[..],
            b"SSH-2.0-OpenSSH\r\n",
            b"HTTP/1.1 20",
            b"\xff\xfe",
            &[b'x'; 10_000],
        ] {
            let why = asked(answer, Probe::Health).expect_err("no admin listener");
            // It may also be cut off while it still sends.
            assert!(
                why.contains("its answer is not HTTP") || why.contains("reset"),
                "{why}"
            );
        }
    }

    #[test]
    fn patience_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let why = ask(address, Probe::Health, Duration::from_millis(50)).expect_err("silence");
        assert!(why.starts_with("no answer from 127.0.0.1:"), "{why}");
        // Nobody serves tcpmux.
        let closed = SocketAddr::from(([127, 0, 0, 1], 1));
        let why = ask(closed, Probe::Health, PATIENCE).expect_err("nobody");
        assert!(why.contains("refused"), "{why}");
    }

    #[test]
    fn all_addresses_are_asked_over_loopback() {
        for (admin, expected) in [
            ("0.0.0.0:9090", "127.0.0.1:9090"),
            ("[::]:9090", "[::1]:9090"),
            ("10.1.2.3:9090", "10.1.2.3:9090"),
        ] {
            let reached = reachable(admin.parse().expect("an address"));
            assert_eq!(reached, Ok(expected.parse().expect("an address")));
        }
        assert!(reachable("127.0.0.1:0".parse().expect("an address")).is_err());
    }
}
