//! Cancelling a read that waits, which tokio-uring itself has no call for.

use std::os::fd::AsRawFd;

use io_uring_06::{cqueue, opcode, types};
use tokio_uring::net::TcpStream;
use tokio_uring::{OneshotOutputTransform, UnsubmittedOneshot};

/// Cancels the operation that waits on `stream`.
///
/// The request is queued behind everything that was submitted so far and
/// before all that comes later, so it never meets an operation that is started
/// after this call. It finds nothing if the operation has just ended.
pub(super) fn cancel_read(stream: &TcpStream) {
    let fd = types::Fd(stream.as_raw_fd());
    let entry = opcode::AsyncCancel2::new(types::CancelBuilder::fd(fd)).build();
    // The future is dropped: nobody waits for the answer, and no buffer hangs
    // on it.
    drop(UnsubmittedOneshot::new((), Ignore, entry).submit());
}

struct Ignore;

impl OneshotOutputTransform for Ignore {
    type Output = ();
    type StoredData = ();

    fn transform_oneshot_output(self, (): (), _entry: cqueue::Entry) {}
}
