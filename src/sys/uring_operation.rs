//! Operations that tokio-uring lacks.

use std::io;
use std::os::fd::AsRawFd;

use io_uring_06::{cqueue, opcode, types};
use rustix::event::PollFlags;
use rustix::net::SendFlags;
use tokio_uring::buf::{BoundedBuf, Slice};
use tokio_uring::net::TcpStream;
use tokio_uring::{BufResult, InFlightOneshot, OneshotOutputTransform, UnsubmittedOneshot};

/// Sends what fits, without waiting; an error if nothing fits.
pub(crate) fn send_at_once(
    stream: &TcpStream,
    bytes: Slice<Vec<u8>>,
) -> impl Future<Output = BufResult<usize, Slice<Vec<u8>>>> {
    let len = u32::try_from(bytes.bytes_init()).unwrap_or(u32::MAX);
    // The operation keeps the bytes until it has ended, even if it is dropped.
    let entry = opcode::Send::new(fd(stream), bytes.stable_ptr(), len)
        .flags(SendFlags::DONTWAIT.bits().cast_signed())
        .build();
    UnsubmittedOneshot::new(bytes, Count, entry).submit()
}

/// A wait for room to write; completes also if the socket is broken.
pub(crate) type Room = InFlightOneshot<(), Ignore>;

/// Waits until there is room to write. Dropping it does not cancel the operation.
pub(crate) fn await_room(stream: &TcpStream) -> Room {
    let entry = opcode::PollAdd::new(fd(stream), u32::from(PollFlags::OUT.bits())).build();
    UnsubmittedOneshot::new((), Ignore, entry).submit()
}

/// Cancels the operations that wait on `stream`.
///
/// The request is queued behind all operations submitted so far and before all later
/// ones, so it never cancels one that is started after this call.
pub(crate) fn cancel(stream: &TcpStream) {
    let entry = opcode::AsyncCancel2::new(types::CancelBuilder::fd(fd(stream)).all()).build();
    // The future is dropped: the result does not matter, and no buffer depends on it.
    drop(UnsubmittedOneshot::new((), Ignore, entry).submit());
}

fn fd(stream: &TcpStream) -> types::Fd {
    types::Fd(stream.as_raw_fd())
}

/// The bytes that were moved, or the error.
pub(crate) struct Count;

impl OneshotOutputTransform for Count {
    type Output = BufResult<usize, Slice<Vec<u8>>>;
    type StoredData = Slice<Vec<u8>>;

    fn transform_oneshot_output(self, bytes: Slice<Vec<u8>>, entry: cqueue::Entry) -> Self::Output {
        let result = usize::try_from(entry.result())
            .map_err(|_negative| io::Error::from_raw_os_error(-entry.result()));
        (result, bytes)
    }
}

pub(crate) struct Ignore;

impl OneshotOutputTransform for Ignore {
    type Output = ();
    type StoredData = ();

    fn transform_oneshot_output(self, (): (), _entry: cqueue::Entry) {}
}
