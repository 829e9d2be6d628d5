//! The client of the admin listener, for health checks.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Bytes of an answer that are read; its body is one line.
const ANSWER_BYTES_MAX: usize = 8 * 1024;

/// A question to the admin listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// `/healthz`: whether the server serves.
    Health,
    /// `/readyz`: whether it serves and would accept another connection.
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

/// Sends a probe to the server whose admin listener is configured as `admin`, and returns
/// its line. All of it takes at most `timeout`.
///
/// An unspecified address (`0.0.0.0`, `[::]`) is probed over loopback.
///
/// # Errors
/// One line: no answer in time, the line of a server that is not healthy, or an answer
/// that is no admin listener's.
pub fn ask(admin: SocketAddr, probe: Probe, timeout: Duration) -> Result<String, String> {
    let mut address = reachable(admin)?;
    let mut answer = fetch(address, probe.path(), timeout);
    let has_no_ipv6 = answer.as_ref().is_err_and(|error| !is_timeout(error));
    if admin.is_ipv6() && admin.ip().is_unspecified() && has_no_ipv6 {
        // The listener serves both families; this machine may have IPv4 only.
        address.set_ip(Ipv4Addr::LOCALHOST.into());
        answer = fetch(address, probe.path(), timeout);
    }
    let answer = answer.map_err(|error| format!("no answer from {address}: {error}"))?;
    let (status, line) = parse(&answer)
        .ok_or_else(|| format!("{address} is no admin listener: its answer is not HTTP"))?;
    match status {
        200 => Ok(line.to_owned()),
        _ => Err(format!("{address}{}: {status}, {line}", probe.path())),
    }
}

fn is_timeout(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut
}

/// The address at which a listener can be reached on this machine.
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

fn fetch(address: SocketAddr, path: &str, timeout: Duration) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + timeout;
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
            // The error of a read timeout.
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

    const TIMEOUT: Duration = Duration::from_secs(300);

    /// The result of a probe of a server that gives this answer.
    fn ask_server(answer: &'static [u8], probe: Probe) -> Result<String, String> {
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
            // The client may have closed.
            let _ = stream.write_all(answer);
            String::from_utf8(request).expect("text")
        });
        let result = ask(address, probe, TIMEOUT);
        let request = server.join().expect("served");
        let line = format!("GET {} HTTP/1.1\r\nHost: {address}\r\n", probe.path());
        assert!(request.starts_with(&line), "{request}");
        result
    }

    #[test]
    fn status_200_returns_the_line() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n";
        assert_eq!(ask_server(answer, Probe::Health), Ok("ok".to_owned()));
    }

    #[test]
    fn status_503_is_an_error_with_the_line() {
        let answer = b"HTTP/1.1 503 Service Unavailable\r\n\r\nfull: 7 connections are open\n";
        let error = ask_server(answer, Probe::Readiness).expect_err("not ready");
        assert!(
            error.ends_with("/readyz: 503, full: 7 connections are open"),
            "{error}"
        );
    }

    #[test]
    fn an_answer_that_is_not_http_is_an_error() {
        for answer in [
            &b""[..],
            b"SSH-2.0-OpenSSH\r\n",
            b"HTTP/1.1 20",
            b"\xff\xfe",
            &[b'x'; 10_000],
        ] {
            let error = ask_server(answer, Probe::Health).expect_err("no admin listener");
            // The listener may also be reset while it still sends.
            assert!(
                error.contains("its answer is not HTTP") || error.contains("reset"),
                "{error}"
            );
        }
    }

    #[test]
    fn timeout_and_refused_connection_are_errors() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let error = ask(address, Probe::Health, Duration::from_millis(50)).expect_err("silence");
        assert!(error.starts_with("no answer from 127.0.0.1:"), "{error}");
        // tcpmux, which is closed.
        let closed = SocketAddr::from(([127, 0, 0, 1], 1));
        let error = ask(closed, Probe::Health, TIMEOUT).expect_err("closed");
        assert!(error.contains("refused"), "{error}");
    }

    #[test]
    fn unspecified_address_is_probed_over_loopback() {
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
