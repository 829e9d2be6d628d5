//! A client of the admin listener.

use std::net::SocketAddr;

use super::client::Raw;
use super::prometheus::Page;
use super::wait_for;

/// An admin listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admin {
    pub(crate) address: SocketAddr,
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Admin {
    /// The listener that this start line names.
    #[track_caller]
    pub(crate) fn from_line(line: &str) -> Self {
        let address = line
            .strip_prefix("admin http://")
            .unwrap_or_else(|| panic!("no admin line: {line:?}"));
        Self {
            address: address.parse().expect("an address"),
        }
    }

    #[track_caller]
    pub(crate) fn get(self, path: &str) -> Response {
        let mut raw = Raw::dial(self.address);
        raw.send(request("GET", path, "Connection: close\r\n").as_bytes());
        read_response(&mut raw)
    }

    #[track_caller]
    pub(crate) fn metrics(self) -> Page {
        let response = self.get("/metrics");
        assert_eq!(response.status, 200, "{}", response.body);
        Page::parse(&response.body)
    }

    /// Waits until `condition` holds for the metrics, and returns them.
    #[track_caller]
    pub(crate) fn wait_for(self, what: &str, mut condition: impl FnMut(&Page) -> bool) -> Page {
        wait_for(what, || Some(self.metrics()).filter(&mut condition))
    }
}

/// A request with these header lines besides its Host.
pub(crate) fn request(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

/// Reads the response to any method but HEAD.
#[track_caller]
pub(crate) fn read_response(raw: &mut Raw) -> Response {
    let head = raw.head();
    let length = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length: ")?
                .parse()
                .ok()
        })
        .unwrap_or_else(|| panic!("no length: {head}"));
    Response {
        status: head
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .expect("a status"),
        body: String::from_utf8(raw.receive(length)).expect("UTF-8"),
        head,
    }
}
