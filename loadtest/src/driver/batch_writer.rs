//! Writes as many messages as the socket accepts with one system call.

use std::io::{self, IoSlice};

use super::transport::Transport;
use crate::client::{Cursor, FramePool, HEAD_LEN_MAX, Mix};

/// Frames up to this length in bytes are copied together; copying longer ones costs more than the
/// two entries that each takes in a gathering write.
const COPIED_LEN_MAX: usize = 4 << 10;

/// The size of the buffer for copied frames, in bytes.
const BUFFER_LEN: usize = 128 << 10;

/// Frames in one gathering write, two entries each: far below the kernel's
/// limit (`IOV_MAX`, 1024 entries), and at least 64 KiB.
const GATHERED_MAX: usize = 64;

/// The bytes offered to the stream, and those that it accepted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) offered: usize,
    pub(super) written: usize,
}

/// The write buffers that all connections share. Unsent bytes are not buffered per connection:
/// they are built again from its [`Cursor`].
#[derive(Debug)]
pub(super) struct BatchWriter {
    buffer: Vec<u8>,
    heads: Vec<[u8; HEAD_LEN_MAX]>,
}

impl BatchWriter {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER_LEN],
            heads: vec![[0; HEAD_LEN_MAX]; GATHERED_MAX],
        }
    }

    /// Writes up to `count` messages, at least one, from the cursor on. A full stream accepts 0
    /// bytes, which is no error.
    #[inline]
    pub(super) fn send(
        &mut self,
        stream: &mut Transport,
        mix: &Mix,
        cursor: Cursor,
        count: u64,
    ) -> io::Result<Sent> {
        let first_len = mix.pool(cursor.next).frame_len();
        if first_len > COPIED_LEN_MAX {
            return self.send_gathered(stream, mix, cursor, count);
        }
        let filled = match mix.only_pool() {
            Some(pool) => self.fill_alike(pool, cursor, count),
            None => self.fill_mixed(mix, cursor, count),
        };
        let bytes = &self.buffer[cursor.offset..filled];
        Ok(Sent {
            offered: bytes.len(),
            written: taken(stream.write(bytes))?,
        })
    }

    /// Writes a part of the cursor's message, up to its byte `end`, so that the
    /// write ends in the middle of a frame.
    pub(super) fn send_piece(
        &mut self,
        stream: &mut Transport,
        mix: &Mix,
        cursor: Cursor,
        end: usize,
    ) -> io::Result<Sent> {
        let pool = mix.pool(cursor.next);
        let frame_len = pool.frame_len();
        if self.buffer.len() < frame_len {
            self.buffer.resize(frame_len, 0);
        }
        pool.write_frame(cursor.next, &mut self.buffer[..frame_len]);
        let bytes = &self.buffer[cursor.offset..end];
        Ok(Sent {
            offered: bytes.len(),
            written: taken(stream.write(bytes))?,
        })
    }

    #[inline]
    fn fill_alike(&mut self, pool: &FramePool, cursor: Cursor, count: u64) -> usize {
        let frame_len = pool.frame_len();
        let count = fitting(count, self.buffer.len() / frame_len);
        let frames = &mut self.buffer[..count * frame_len];
        let mut id = cursor.next;
        for frame in frames.chunks_exact_mut(frame_len) {
            pool.write_frame(id, frame);
            id.sequence += 1;
        }
        count * frame_len
    }

    fn fill_mixed(&mut self, mix: &Mix, cursor: Cursor, count: u64) -> usize {
        let mut id = cursor.next;
        let mut filled = 0;
        for _ in 0..count {
            let pool = mix.pool(id);
            let frame_len = pool.frame_len();
            if frame_len > COPIED_LEN_MAX || filled + frame_len > self.buffer.len() {
                break;
            }
            pool.write_frame(id, &mut self.buffer[filled..][..frame_len]);
            filled += frame_len;
            id.sequence += 1;
        }
        filled
    }

    fn send_gathered(
        &mut self,
        stream: &mut Transport,
        mix: &Mix,
        cursor: Cursor,
        count: u64,
    ) -> io::Result<Sent> {
        let count = fitting(count, GATHERED_MAX);
        let mut slices = [IoSlice::new(&[]); 2 * GATHERED_MAX];
        let mut id = cursor.next;
        let mut total = 0;
        for (head, pair) in self.heads[..count]
            .iter_mut()
            .zip(slices.chunks_exact_mut(2))
        {
            let (head_len, body) = mix.pool(id).split_frame(id, head);
            pair[0] = IoSlice::new(&head[..head_len]);
            pair[1] = IoSlice::new(body);
            total += head_len + body.len();
            id.sequence += 1;
        }
        let mut slices = &mut slices[..2 * count];
        IoSlice::advance_slices(&mut slices, cursor.offset);
        Ok(Sent {
            offered: total - cursor.offset,
            written: taken(stream.write_vectored(slices))?,
        })
    }
}

/// The smaller of `count` and `fitting`.
#[inline]
fn fitting(count: u64, fitting: usize) -> usize {
    usize::try_from(count).map_or(fitting, |count| count.min(fitting))
}

/// A write's count, 0 for a stream that is full.
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
