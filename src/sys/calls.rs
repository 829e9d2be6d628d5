//! The calls of workers and engines to sockets, rings and the clock, in one place so that
//! they can fail on demand: in the crate's own tests, `calls/faulty.rs` replaces this file.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use io_uring::{Submitter, cqueue, squeue};
use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::net::{RecvFlags, SendFlags};
use tokio_uring::BufResult;
use tokio_uring::buf::Slice;

use crate::sys::task_kind::TaskKind;
use crate::sys::uring_operation;

/// `io_uring_enter(2)`: completes what can be completed.
const GETEVENTS: u32 = 1;

/// The monotonic clock of all timeouts.
#[inline]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Called before a task is polled.
#[inline]
pub(crate) fn poll(_kind: TaskKind) {}

/// Called before a request for this path is answered.
#[inline]
pub(crate) fn request(_path: &str) {}

/// Accepts the next connection.
pub(crate) fn accept<T>(
    accepted: impl Future<Output = io::Result<T>>,
) -> impl Future<Output = io::Result<T>> {
    accepted
}

/// Reads without waiting.
#[inline]
pub(crate) fn recv(socket: impl AsFd, space: &mut [u8]) -> rustix::io::Result<usize> {
    rustix::net::recv(socket, space, RecvFlags::DONTWAIT).map(|(len, _)| len)
}

/// Writes what fits, without waiting.
#[inline]
pub(crate) fn send(socket: impl AsFd, bytes: &[u8], flags: SendFlags) -> rustix::io::Result<usize> {
    let flags = flags | SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::send(socket, bytes, flags)
}

/// Adds a socket to an epoll instance.
pub(crate) fn watch(
    epoll: &OwnedFd,
    socket: &OwnedFd,
    data: EventData,
    interest: EventFlags,
) -> rustix::io::Result<()> {
    epoll::add(epoll, socket, data, interest)
}

/// Takes the pending events, at most the capacity of `events`.
#[inline]
pub(crate) fn take_events(epoll: &OwnedFd, events: &mut Vec<Event>) -> rustix::io::Result<usize> {
    const AT_ONCE: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let space = rustix::buffer::spare_capacity(events);
    epoll::wait(epoll, space, Some(&AT_ONCE))
}

/// Submits the queued operations of a ring, and completes what can be completed.
#[inline]
pub(crate) fn enter(submitter: &Submitter<'_>, queued: u32) -> io::Result<usize> {
    // SAFETY: no argument is passed. The caller that queued the operations keeps their
    // descriptors and buffers alive.
    unsafe { submitter.enter::<()>(queued, 0, GETEVENTS, None) }
}

/// Called for each operation before it is queued.
#[inline]
pub(crate) fn submission(entry: squeue::Entry) -> squeue::Entry {
    entry
}

/// Called for each completion before it is handled.
#[inline]
pub(crate) fn completion(entry: cqueue::Entry) -> cqueue::Entry {
    entry
}

/// Reads through the runtime's ring, once bytes have arrived.
pub(crate) fn read(
    stream: &tokio_uring::net::TcpStream,
    space: Slice<Vec<u8>>,
) -> impl Future<Output = BufResult<usize, Slice<Vec<u8>>>> {
    stream.read(space)
}

/// Cancels what waits on `stream` in the runtime's ring.
pub(crate) fn cancel(stream: &tokio_uring::net::TcpStream) {
    uring_operation::cancel(stream);
}

/// Writes what fits through the runtime's ring.
pub(crate) fn write(
    stream: &tokio_uring::net::TcpStream,
    bytes: Slice<Vec<u8>>,
) -> impl Future<Output = BufResult<usize, Slice<Vec<u8>>>> {
    uring_operation::send_at_once(stream, bytes)
}
