//! The head of an answer in wire form.

use std::time::SystemTime;

use bytes::Bytes;
use hyper::{Response, StatusCode, Version};

/// Capacity for the head of most answers.
const USUAL_HEAD_BYTES: usize = 512;

/// The head of `reply` to a request of this version: the reply's fields, its length and
/// the date (RFC 9110, sections 6.6.1 and 8.6). A 101 has neither length nor date.
pub(super) fn head(reply: &Response<Bytes>, version: Version) -> Bytes {
    let version = match version {
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    };
    let status = reply.status();
    let mut head = Vec::with_capacity(USUAL_HEAD_BYTES);
    line(
        &mut head,
        &[version.as_bytes(), b" ", status.to_string().as_bytes()],
    );
    for (name, value) in reply.headers() {
        line(&mut head, &[name.as_ref(), b": ", value.as_bytes()]);
    }
    if status != StatusCode::SWITCHING_PROTOCOLS {
        let length = reply.body().len().to_string();
        line(&mut head, &[b"content-length: ", length.as_bytes()]);
        #[expect(clippy::disallowed_methods, reason = "the Date field is a time of day")]
        let now = SystemTime::now();
        let date = httpdate::fmt_http_date(now);
        line(&mut head, &[b"date: ", date.as_bytes()]);
    }
    line(&mut head, &[]);
    head.into()
}

fn line(head: &mut Vec<u8>, pieces: &[&[u8]]) {
    for piece in pieces {
        head.extend_from_slice(piece);
    }
    head.extend_from_slice(b"\r\n");
}
