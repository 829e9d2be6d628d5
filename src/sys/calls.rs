//! The calls by which workers and engines reach sockets, rings and the clock,
//! in one place so that they can fail on demand: in the crate's own tests
//! `calls/faulty.rs` stands in for this file.

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

/// `io_uring_enter(2)`: finish what can be finished.
const GETEVENTS: u32 = 1;

/// The clock of all timeouts. It never goes back.
#[inline]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A task is about to be polled.
#[inline]
pub(crate) fn poll(_kind: TaskKind) {}

/// A request for this path is about to be answered.
#[inline]
pub(crate) fn request(_path: &str) {}

/// The next connection that waits to be accepted.
pub(crate) fn accept<T>(
    accepted: impl Future<Output = io::Result<T>>,
) -> impl Future<Output = io::Result<T>> {
    accepted
}

/// Reads what is there.
#[inline]
pub(crate) fn recv(socket: impl AsFd, space: &mut [u8]) -> rustix::io::Result<usize> {
    rustix::net::recv(socket, space, RecvFlags::DONTWAIT).map(|(len, _)| len)
}

/// Writes what there is room for.
#[inline]
pub(crate) fn send(socket: impl AsFd, bytes: &[u8], flags: SendFlags) -> rustix::io::Result<usize> {
    let flags = flags | SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::send(socket, bytes, flags)
}

/// Has an epoll instance watch a socket.
pub(crate) fn watch(
    epoll: &OwnedFd,
    socket: &OwnedFd,
    data: EventData,
    interest: EventFlags,
) -> rustix::io::Result<()> {
    epoll::add(epoll, socket, data, interest)
}

/// Takes the events that are there, as many as `events` has capacity for.
#[inline]
pub(crate) fn take_events(epoll: &OwnedFd, events: &mut Vec<Event>) -> rustix::io::Result<usize> {
    const AT_ONCE: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let space = rustix::buffer::spare_capacity(events);
    epoll::wait(epoll, space, Some(&AT_ONCE))
}

/// Starts the queued operations of a ring, and finishes what can be finished.
#[inline]
pub(crate) fn enter(submitter: &Submitter<'_>, queued: u32) -> io::Result<usize> {
    // SAFETY: no argument is passed. What the operations name is promised by
    // whoever queued them.
    unsafe { submitter.enter::<()>(queued, 0, GETEVENTS, None) }
}

/// An operation on its way into a ring.
#[inline]
pub(crate) fn submission(entry: squeue::Entry) -> squeue::Entry {
    entry
}

/// A completion on its way out of a ring.
#[inline]
pub(crate) fn completion(entry: cqueue::Entry) -> cqueue::Entry {
    entry
}

/// Reads through the runtime's ring, once bytes are there.
pub(crate) fn read(
    stream: &tokio_uring::net::TcpStream,
    space: Slice<Vec<u8>>,
) -> impl Future<Output = BufResult<usize, Slice<Vec<u8>>>> {
    stream.read(space)
}

/// Writes what there is room for through the runtime's ring.
pub(crate) fn write(
    stream: &tokio_uring::net::TcpStream,
    bytes: Slice<Vec<u8>>,
) -> impl Future<Output = BufResult<usize, Slice<Vec<u8>>>> {
    uring_operation::send_at_once(stream, bytes)
}
