//! The request's part of an access line.
//!
//! These texts are the client's. So they are escaped and truncated before they are
//! stored, and stored only if access lines are written.

use std::fmt::Write;
use std::sync::Arc;

use hyper::Request;
use hyper::header::{HeaderMap, HeaderValue};

use crate::config::access_field::AccessField;
use crate::observe::log_limit::{ACCESS_LINES, LogLimit, log_limited};

/// The longest text that is stored; a longer one is truncated and ends in [`ELLIPSIS`].
const TEXT_BYTES_MAX: usize = 256;

/// No escaped text has this character.
const ELLIPSIS: char = '…';

/// The common part of the access lines of one listener, on one worker.
#[derive(Debug)]
pub(crate) struct AccessContext {
    /// The worker's index.
    pub(crate) worker: usize,
    /// Its address.
    pub(crate) listener: String,
    /// `--access-log-fields`.
    pub(crate) fields: Vec<AccessField>,
    /// Shared by all workers.
    pub(crate) limit: Option<Arc<LogLimit>>,
}

impl AccessContext {
    /// Whether another line may be written. If not, this is logged, within a limit.
    pub(crate) fn has_room(&self) -> bool {
        let has_room = self.limit.as_ref().is_none_or(|limit| limit.passes());
        if !has_room {
            log_limited!(
                warn,
                ACCESS_LINES,
                "access lines dropped: more than --access-log-rate"
            );
        }
        has_room
    }
}

/// The parts of a request that its access line shows.
#[derive(Debug)]
pub(crate) struct LoggedRequest {
    path: Box<str>,
    fields: Box<[(AccessField, Box<str>)]>,
}

impl LoggedRequest {
    pub(crate) fn new<B>(request: &Request<B>, fields: &[AccessField]) -> Self {
        let value = |&field: &AccessField| {
            let bytes = match field {
                AccessField::Query => request.uri().query()?.as_bytes().to_vec(),
                _ => joined(request.headers(), field.name())?,
            };
            Some((field, escape(&bytes)))
        };
        Self {
            path: escape(request.uri().path().as_bytes()),
            fields: fields.iter().filter_map(value).collect(),
        }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn get(&self, field: AccessField) -> Option<&str> {
        let mut fields = self.fields.iter();
        let (_, value) = fields.find(|(other, _)| *other == field)?;
        Some(value)
    }
}

/// The values of all headers of a name as one list (RFC 9110, section 5.3).
fn joined(headers: &HeaderMap, name: &str) -> Option<Vec<u8>> {
    let values: Vec<_> = headers
        .get_all(name)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    (!values.is_empty()).then(|| values.join(&b", "[..]))
}

/// A text of printable ASCII: every other byte, and a backslash, becomes `\xNN`.
pub(crate) fn escape(bytes: &[u8]) -> Box<str> {
    let mut text = String::new();
    for &byte in bytes {
        let len = text.len();
        match byte {
            b' '..=b'~' if byte != b'\\' => text.push(char::from(byte)),
            _ => write!(text, "\\x{byte:02x}").expect("a write to a string"),
        }
        if text.len() > TEXT_BYTES_MAX {
            text.truncate(len);
            text.push(ELLIPSIS);
            break;
        }
    }
    text.into_boxed_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_truncated() {
        for (bytes, text) in [
            (&b"/a b?\"<'>~"[..], "/a b?\"<'>~"),
            (b"a\\b\r\n\0\x1b[31m", "a\\x5cb\\x0d\\x0a\\x00\\x1b[31m"),
            ("\u{e9}\u{2026}".as_bytes(), "\\xc3\\xa9\\xe2\\x80\\xa6"),
            (b"", ""),
        ] {
            assert_eq!(&*escape(bytes), text);
        }
        let whole = "a".repeat(TEXT_BYTES_MAX);
        assert_eq!(*escape(whole.as_bytes()), whole);
        let cut = format!("{whole}{ELLIPSIS}");
        assert_eq!(*escape(&vec![b'a'; 1 << 20]), cut);
        // No half of an escape.
        let cut = format!("{}{ELLIPSIS}", "\\xff".repeat(TEXT_BYTES_MAX / 4));
        assert_eq!(*escape(&[0xff; 1000]), cut);
        let cut = format!("a{}{ELLIPSIS}", "\\xff".repeat(TEXT_BYTES_MAX / 4 - 1));
        assert_eq!(*escape(&[&b"a"[..], &[0xff; 100]].concat()), cut);
    }

    #[test]
    fn only_configured_fields_are_stored() {
        let request = Request::builder()
            .uri("/chat?room=1")
            .header("user-agent", "x")
            .header("user-agent", "y")
            .header("origin", "https://a.example")
            .body(())
            .expect("a request");
        let fields = [
            AccessField::Query,
            AccessField::UserAgent,
            AccessField::Host,
        ];
        let logged = LoggedRequest::new(&request, &fields);
        assert_eq!(logged.path(), "/chat");
        assert_eq!(logged.get(AccessField::Query), Some("room=1"));
        assert_eq!(logged.get(AccessField::UserAgent), Some("x, y"));
        assert_eq!(logged.get(AccessField::Host), None);
        assert_eq!(logged.get(AccessField::Origin), None);
    }

    #[test]
    fn field_parses_from_its_name() {
        for field in AccessField::ALL {
            assert_eq!(field.name().parse(), Ok(field));
        }
        let refused = "cookie".parse::<AccessField>().expect_err("a secret");
        assert!(refused.contains("user-agent"), "{refused}");
    }
}
