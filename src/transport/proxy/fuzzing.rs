//! A header that comes in pieces, for those who compare what is read of it with
//! another reading of its rules.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};

use super::{Failure, read_header};
use crate::net::peer::Peer;

/// What came of a stream that begins with a header, or should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Introduction {
    /// The header is good: who the client is, if the proxy says so.
    Of(Option<Peer>),
    /// What is wrong with it: the name of a `Malformed`, without what it found.
    Malformed(String),
    /// The stream ended first.
    Gone,
}

/// Reads the header of a stream that comes in these pieces, and says how many
/// bytes were taken from it.
pub fn read_introduction(pieces: &[&[u8]]) -> (Introduction, usize) {
    let mut stream = Pieces {
        pieces: pieces.to_vec(),
        taken: 0,
        owes_a_pause: false,
    };
    let read = {
        let mut reading = pin!(read_header(&mut stream, |_| {}));
        let mut context = Context::from_waker(Waker::noop());
        loop {
            // Each pause is followed by bytes, or the end.
            if let Poll::Ready(read) = reading.as_mut().poll(&mut context) {
                break read;
            }
        }
    };
    let introduction = match read {
        Ok(client) => Introduction::Of(client),
        Err(Failure::Malformed(malformed)) => {
            let text = format!("{malformed:?}");
            let name = text.split('(').next().unwrap_or_default();
            Introduction::Malformed(name.to_owned())
        }
        Err(Failure::Gone) => Introduction::Gone,
    };
    (introduction, stream.taken)
}

/// A stream of which a piece at a time is there.
struct Pieces<'a> {
    pieces: Vec<&'a [u8]>,
    taken: usize,
    owes_a_pause: bool,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.owes_a_pause) {
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
            self.owes_a_pause = true;
        }
        self.taken += here.len();
        Poll::Ready(Ok(()))
    }
}
