//! Hands the kernel as many messages as it takes, with one system call.

use std::io::{self, IoSlice, Write};
use std::net::TcpStream;

use crate::client::{Deck, HEAD_LEN_MAX, MessageId};

/// Frames up to this many bytes are copied together; copying longer ones costs
/// more than the two entries each takes in a gathering write.
const COPIED_LEN_MAX: usize = 4 << 10;

/// What is copied together for one write, in bytes.
const BUFFER_LEN: usize = 128 << 10;

/// Frames in one gathering write, two entries each: far below the kernel's
/// limit (`IOV_MAX`, 1024 entries), and at least 64 KiB.
const GATHERED_MAX: usize = 64;

/// Where a connection stands in its outgoing bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor {
    /// The first message that is not wholly written.
    pub(super) next: MessageId,
    /// How many bytes of it are.
    pub(super) offset: usize,
}

/// How much of what was offered the kernel took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) offered: usize,
    pub(super) written: usize,
}

/// The write buffer that all connections share. A connection keeps no bytes
/// that wait to be sent: they are built again from its [`Cursor`].
#[derive(Debug)]
pub(super) struct Outbox {
    buffer: Vec<u8>,
}

impl Outbox {
    pub(super) fn new(frame_len: usize) -> Self {
        let copied_len = if frame_len <= COPIED_LEN_MAX {
            BUFFER_LEN
        } else {
            0
        };
        Self {
            buffer: vec![0; copied_len],
        }
    }

    /// Writes up to `count` messages from the cursor on. A socket that takes
    /// nothing has taken 0 bytes, which is no error.
    #[inline]
    pub(super) fn send(
        &mut self,
        stream: &TcpStream,
        deck: &Deck,
        cursor: Cursor,
        count: u64,
    ) -> io::Result<Sent> {
        if self.buffer.is_empty() {
            send_gathered(stream, deck, cursor, count)
        } else {
            self.send_copied(stream, deck, cursor, count)
        }
    }

    #[inline]
    fn send_copied(
        &mut self,
        stream: &TcpStream,
        deck: &Deck,
        cursor: Cursor,
        count: u64,
    ) -> io::Result<Sent> {
        let frame_len = deck.frame_len();
        let count = fitting(count, self.buffer.len() / frame_len);
        let frames = &mut self.buffer[..count * frame_len];
        let mut id = cursor.next;
        for frame in frames.chunks_exact_mut(frame_len) {
            deck.write_frame(id, frame);
            id.sequence += 1;
        }
        let bytes = &frames[cursor.offset..];
        let written = taken((&*stream).write(bytes))?;
        Ok(Sent {
            offered: bytes.len(),
            written,
        })
    }
}

fn send_gathered(stream: &TcpStream, deck: &Deck, cursor: Cursor, count: u64) -> io::Result<Sent> {
    let count = fitting(count, GATHERED_MAX);
    let mut heads = [[0; HEAD_LEN_MAX]; GATHERED_MAX];
    let mut slices = [IoSlice::new(&[]); 2 * GATHERED_MAX];
    let mut id = cursor.next;
    for (head, pair) in heads[..count].iter_mut().zip(slices.chunks_exact_mut(2)) {
        let (head_len, body) = deck.split_frame(id, head);
        pair[0] = IoSlice::new(&head[..head_len]);
        pair[1] = IoSlice::new(body);
        id.sequence += 1;
    }
    let mut slices = &mut slices[..2 * count];
    IoSlice::advance_slices(&mut slices, cursor.offset);
    let written = taken((&*stream).write_vectored(slices))?;
    Ok(Sent {
        offered: count * deck.frame_len() - cursor.offset,
        written,
    })
}

/// `count`, or as many as fit.
#[inline]
fn fitting(count: u64, fitting: usize) -> usize {
    usize::try_from(count).map_or(fitting, |count| count.min(fitting))
}

/// A write's count, 0 for a socket that is full.
pub(super) fn taken(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            ) =>
        {
            Ok(0)
        }
        result => result,
    }
}
