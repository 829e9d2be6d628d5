//! The head of a request, read in pieces.
//!
//! The bytes are collected in a buffer that grows with them. hyper parses it in one call,
//! so that its buffers, of 8 KiB each, live no longer than that.

use std::cell::OnceCell;
use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};

use crate::config::MIN_HEADER_BYTES;
use crate::limits::handshakes::HandshakeSlot;
use crate::transport::stream::Stream;

/// Bytes that are read at once.
const READ_BYTES: usize = 4096;

/// Up to this length, the head is parsed after every read. Beyond, it must have grown by
/// an eighth or end, so that a peer that sends byte by byte does not make the server
/// parse the whole for each of them.
const PARSE_EAGERLY_BYTES: usize = 512;

/// The bytes of a head so far.
pub(super) struct HeadBuffer {
    bytes: Vec<u8>,
    bytes_max: usize,
    end: EndOfHead,
    /// The length at which they are parsed again.
    parse_at: usize,
}

/// A complete head, and the bytes after it.
pub(super) type Parsed = (Request<()>, Bytes);

/// Why there is no head.
pub(super) enum HeadError {
    /// hyper cannot parse the bytes.
    Unreadable(hyper::Error),
    /// The peer has closed, or the connection broke.
    Gone,
}

impl HeadBuffer {
    /// For a head of `bytes_max` bytes at most.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes: Vec::new(),
            bytes_max,
            end: EndOfHead::default(),
            parse_at: 0,
        }
    }

    /// The bytes so far, without the empty lines before the head.
    pub(super) fn bytes(&self) -> &[u8] {
        let is_newline = |byte: &&u8| matches!(byte, b'\r' | b'\n');
        let empty = self.bytes.iter().take_while(is_newline).count();
        &self.bytes[empty..]
    }

    /// Reads until the head is complete or malformed.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn read(
        &mut self,
        stream: &mut Stream,
        slot: &HandshakeSlot,
    ) -> Result<Parsed, HeadError> {
        loop {
            stream.readable().await.map_err(|_| HeadError::Gone)?;
            match self.fill(stream) {
                Ok(0) => return Err(HeadError::Gone),
                Ok(read) => {
                    slot.hold(self.bytes.capacity() + stream.held());
                    if self.is_to_be_parsed(read)
                        && let Some(parsed) = self.parse()
                    {
                        return parsed.map_err(HeadError::Unreadable);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // TLS may buffer an incomplete record.
                    slot.hold(self.bytes.capacity() + stream.held());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(HeadError::Gone),
            }
        }
    }

    /// Not inlined into the future above, which would then include the buffer.
    fn fill(&mut self, stream: &mut Stream) -> io::Result<usize> {
        let mut space = [0; READ_BYTES];
        // hyper has refused a head that fills it.
        let room = self.bytes_max.saturating_sub(self.bytes.len()).max(1);
        let read = stream.try_read(&mut space[..room.min(READ_BYTES)])?;
        self.bytes.extend_from_slice(&space[..read]);
        Ok(read)
    }

    /// Whether to parse after the last `read` bytes.
    fn is_to_be_parsed(&mut self, read: usize) -> bool {
        let len = self.bytes.len();
        let has_ended = self.end.is_in(&self.bytes[len - read..]);
        let is_due = has_ended || len >= self.parse_at.min(self.bytes_max);
        if is_due {
            let pause = if len < PARSE_EAGERLY_BYTES {
                1
            } else {
                len / 8
            };
            self.parse_at = len + pause;
        }
        is_due
    }

    /// `None` if the head is incomplete.
    fn parse(&self) -> Option<Result<Parsed, hyper::Error>> {
        let head = OnceCell::new();
        let service = service_fn(|request: Request<Incoming>| {
            // The body is dropped here, and the connection taken from hyper, before hyper
            // would read it.
            let _ = head.set(request.map(drop));
            pending::<Result<Response<Empty<Bytes>>, Infallible>>()
        });
        let mut connection = self
            .parser()
            .serve_connection(Received(&self.bytes), service);
        let polled = connection.poll_without_shutdown(&mut Context::from_waker(Waker::noop()));
        let parts = connection.into_parts();
        let unread = parts.read_buf.len() + parts.io.0.len();
        drop(parts);
        if let Some(head) = head.into_inner() {
            let leftover = &self.bytes[self.bytes.len() - unread..];
            return Some(Ok((head, Bytes::copy_from_slice(leftover))));
        }
        match polled {
            Poll::Ready(Err(error)) => Some(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => None,
        }
    }

    /// hyper's settings.
    fn parser(&self) -> http1::Builder {
        let mut builder = http1::Builder::new();
        builder
            // The caller has a deadline for the whole handshake.
            .header_read_timeout(None)
            .max_header_size(self.bytes_max)
            .max_buf_size(self.bytes_max.max(MIN_HEADER_BYTES))
            // Without half-close hyper looks for an EOF behind the request, and a
            // client that has sent its FIN may go unanswered.
            .half_close(true);
        builder
    }
}

/// Finds the empty line that ends a head, with CRLF or LF.
#[derive(Default)]
struct EndOfHead {
    /// A line that is not empty has begun: empty lines before it do not count.
    has_begun: bool,
    is_in_line: bool,
}

impl EndOfHead {
    /// Whether the end is in the next bytes.
    fn is_in(&mut self, bytes: &[u8]) -> bool {
        let mut is_found = false;
        for byte in bytes {
            match byte {
                b'\n' => {
                    is_found |= self.has_begun && !self.is_in_line;
                    self.is_in_line = false;
                }
                b'\r' => {}
                _ => {
                    self.has_begun = true;
                    self.is_in_line = true;
                }
            }
        }
        is_found
    }
}

/// The bytes so far, for hyper to read. hyper's writes are discarded: its answers lack a
/// reason, or have `close` where a client does not expect it.
struct Received<'b>(&'b [u8]);

impl Read for Received<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        mut space: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0.is_empty() {
            return Poll::Pending;
        }
        let (here, later) = self.0.split_at(self.0.len().min(space.remaining()));
        space.put_slice(here);
        self.0 = later;
        Poll::Ready(Ok(()))
    }
}

impl Write for Received<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of times that a head is parsed byte by byte, and whether at its end.
    fn trickle(bytes: &[u8]) -> (usize, bool) {
        let mut buffer = HeadBuffer::new(16 * 1024);
        let (mut count, mut at_the_end) = (0, false);
        for byte in bytes {
            buffer.bytes.push(*byte);
            at_the_end = buffer.is_to_be_parsed(1);
            count += usize::from(at_the_end);
        }
        (count, at_the_end)
    }

    #[test]
    fn long_head_byte_by_byte_is_parsed_seldom_and_at_its_end() {
        let lines = "X: y\r\n".repeat(2600);
        for head in [
            format!("GET / HTTP/1.1\r\n{lines}\r\n"),
            format!("GET / HTTP/1.1\n{}\n", lines.replace('\r', "")),
            format!("{}GET / HTTP/1.1\r\n\r\n", "\r\n".repeat(7000)),
        ] {
            let (count, at_the_end) = trickle(head.as_bytes());
            assert!(at_the_end);
            assert!(count < PARSE_EAGERLY_BYTES + 40, "{count}");
        }
    }

    #[test]
    fn short_head_is_parsed_at_every_byte() {
        assert_eq!(trickle(&[b'x'; 100]), (100, true));
    }
}
