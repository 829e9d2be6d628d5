//! A header in pieces, for fuzz targets that compare its parser with another one.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};

use super::{HeaderError, read_header};
use crate::net::peer::Peer;

/// The result of reading a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderResult {
    /// A valid header, with the client if it names one.
    Of(Option<Peer>),
    /// The name of the `Malformed`, without its value.
    Malformed(String),
    /// The stream ended first.
    Gone,
}

/// Reads the header of a stream that arrives in these pieces; also returns the number of
/// bytes read.
pub fn read_proxy_header(pieces: &[&[u8]]) -> (HeaderResult, usize) {
    let mut stream = Pieces {
        pieces: pieces.to_vec(),
        taken: 0,
        is_pending: false,
    };
    let read = {
        let mut reading = pin!(read_header(&mut stream, |_| {}));
        let mut context = Context::from_waker(Waker::noop());
        loop {
            // Each `Pending` is followed by bytes, or the end.
            if let Poll::Ready(read) = reading.as_mut().poll(&mut context) {
                break read;
            }
        }
    };
    let result = match read {
        Ok(client) => HeaderResult::Of(client),
        Err(HeaderError::Malformed(malformed)) => {
            let text = format!("{malformed:?}");
            let name = text.split('(').next().unwrap_or_default();
            HeaderResult::Malformed(name.to_owned())
        }
        Err(HeaderError::Gone) => HeaderResult::Gone,
    };
    (result, stream.taken)
}

/// A stream that arrives piece by piece.
struct Pieces<'a> {
    pieces: Vec<&'a [u8]>,
    taken: usize,
    is_pending: bool,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.is_pending) {
            return Poll::Pending;
        }
        let Some(piece) = self.pieces.first_mut() else {
            return Poll::Ready(Ok(()));
        };
        let (here, later) = piece.split_at(piece.len().min(space.remaining()));
        space.put_slice(here);
        *piece = later;
        if later.is_empty() {
            self.pieces.remove(0);
            self.is_pending = true;
        }
        self.taken += here.len();
        Poll::Ready(Ok(()))
    }
}
