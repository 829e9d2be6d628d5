//! As `calls.rs`, with faults on demand.
//!
//! A fault is one that the kernel could produce at that point, with the same effects: a
//! short read is followed by an event for the rest, a failed send breaks its link, a
//! failed receive ends. A plan is per thread, as an engine is.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use io_uring::{Submitter, cqueue, opcode, squeue};
use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use tokio_uring::BufResult;
use tokio_uring::buf::{BoundedBuf, Slice};

use crate::sys::task_kind::TaskKind;
use crate::sys::uring_operation;

/// The calls that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    /// A read, or the start of an operation that receives.
    Receive,
    /// A write, or the start of an operation that sends.
    Send,
    /// A write through the ring of `tokio-uring`.
    Write,
    /// The end of an operation that receives.
    Received,
    /// Entering a ring.
    Enter,
    /// Asking an epoll instance for events.
    Events,
    /// Accepting a connection.
    Accept,
    /// Cancelling what waits in the ring of `tokio-uring`.
    Cancel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// At most this many bytes are moved.
    Short(usize),
    Fails(Errno),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// The call with this number, from 0, and no other.
    At(u64),
    /// This many times in a row before each call that succeeds.
    Before(u64),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) call: Call,
    pub(crate) fault: Fault,
    pub(crate) when: When,
}

/// Counts of calls since the plan was set.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Calls of all kinds.
    pub(crate) calls: u64,
    /// Calls of the plan's kind.
    pub(crate) planned: u64,
    /// Faults.
    pub(crate) faults: u64,
    /// Receives that found no buffer in a ring's pool, without a fault's help.
    pub(crate) without_buffer: u64,
}

/// The shift of a clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Shift {
    #[default]
    None,
    Ahead(Duration),
    Behind(Duration),
}

#[derive(Default)]
struct Scene {
    plan: Option<Plan>,
    tally: Tally,
    shift: Shift,
    /// Sockets, and how their epoll instance watches them.
    watched: HashMap<RawFd, (RawFd, u64, EventFlags)>,
    /// The `user_data` of receives in a ring.
    receives: HashSet<u64>,
    /// The results of operations that were made to fail, by `user_data`.
    results: HashMap<u64, Errno>,
    /// Receives that have failed.
    ended: HashMap<u64, Errno>,
    /// The next operation is linked to one that fails.
    breaks_link: bool,
    /// Tasks of this kind panic once the flag is set.
    panics: Option<(TaskKind, Arc<AtomicBool>)>,
}

thread_local! {
    static SCENE: RefCell<Scene> = RefCell::default();
}

/// Sets this thread's plan, and resets the counts.
pub(crate) fn plan(plan: Option<Plan>) {
    SCENE.with_borrow_mut(|scene| {
        scene.plan = plan;
        scene.tally = Tally::default();
        scene.ended.clear();
    });
}

/// Makes this thread's tasks of a kind panic once the flag is set.
pub(crate) fn panic_in(kind: TaskKind, flag: Arc<AtomicBool>) {
    SCENE.with_borrow_mut(|scene| scene.panics = Some((kind, flag)));
}

pub(crate) fn poll(kind: TaskKind) {
    let panics = SCENE.with_borrow(|scene| {
        let panics = scene.panics.as_ref();
        panics.is_some_and(|(planned, flag)| *planned == kind && flag.load(Relaxed))
    });
    assert!(!panics, "injected");
}

/// The path of a request whose answer panics.
pub(crate) const PANIC_PATH: &str = "/panic";

pub(crate) fn request(path: &str) {
    assert_ne!(path, PANIC_PATH, "injected");
}

/// The counts since the plan was set.
pub(crate) fn tally() -> Tally {
    SCENE.with_borrow(|scene| scene.tally)
}

/// Sets this thread's clock.
pub(crate) fn shift_clock(shift: Shift) {
    SCENE.with_borrow_mut(|scene| scene.shift = shift);
}

/// Counts a call, and returns its fault, if any.
fn fault(call: Call) -> Option<Fault> {
    SCENE.with_borrow_mut(|scene| {
        scene.tally.calls += 1;
        let plan = scene.plan.filter(|plan| plan.call == call)?;
        let number = scene.tally.planned;
        scene.tally.planned += 1;
        let fails = match plan.when {
            When::At(at) => number == at,
            When::Before(times) => number % (times + 1) < times,
        };
        scene.tally.faults += u64::from(fails);
        fails.then_some(plan.fault)
    })
}

pub(crate) fn now() -> Instant {
    let now = Instant::now();
    match SCENE.with_borrow(|scene| scene.shift) {
        Shift::None => now,
        Shift::Ahead(by) => now.checked_add(by).expect("in range"),
        Shift::Behind(by) => now.checked_sub(by).expect("in range"),
    }
}

pub(crate) async fn accept<T>(accepted: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    // As with a real failure, the connection stays in the queue: nothing is polled.
    match fault(Call::Accept) {
        Some(Fault::Fails(errno)) => Err(errno.into()),
        Some(Fault::Short(_)) | None => accepted.await,
    }
}

pub(crate) fn recv(socket: impl AsFd, space: &mut [u8]) -> rustix::io::Result<usize> {
    let socket = socket.as_fd();
    let space = match fault(Call::Receive) {
        None => space,
        Some(Fault::Fails(errno)) => {
            rearm(socket);
            return Err(errno);
        }
        Some(Fault::Short(most)) => {
            rearm(socket);
            let len = space.len().min(most);
            &mut space[..len]
        }
    };
    rustix::net::recv(socket, space, RecvFlags::DONTWAIT).map(|(len, _)| len)
}

pub(crate) fn send(socket: impl AsFd, bytes: &[u8], flags: SendFlags) -> rustix::io::Result<usize> {
    let socket = socket.as_fd();
    let bytes = match fault(Call::Send) {
        None => bytes,
        Some(Fault::Fails(errno)) => {
            rearm(socket);
            return Err(errno);
        }
        Some(Fault::Short(most)) => {
            rearm(socket);
            &bytes[..bytes.len().min(most)]
        }
    };
    let flags = flags | SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::send(socket, bytes, flags)
}

/// After a short or failed call, a real socket causes an event once it is ready. This one
/// is ready already: modifying its registration causes the event.
fn rearm(socket: BorrowedFd<'_>) {
    SCENE.with_borrow(|scene| {
        if let Some(&(epoll, key, interest)) = scene.watched.get(&socket.as_raw_fd()) {
            // SAFETY: the epoll instance lives as long as what it watches.
            let epoll = unsafe { BorrowedFd::borrow_raw(epoll) };
            // Fails for a socket that is not in the epoll instance.
            let _ = epoll::modify(epoll, socket, EventData::new_u64(key), interest);
        }
    });
}

pub(crate) fn watch(
    epoll: &OwnedFd,
    socket: &OwnedFd,
    data: EventData,
    interest: EventFlags,
) -> rustix::io::Result<()> {
    SCENE.with_borrow_mut(|scene| {
        let watch = (epoll.as_raw_fd(), data.u64(), interest);
        scene.watched.insert(socket.as_raw_fd(), watch);
    });
    epoll::add(epoll, socket, data, interest)
}

pub(crate) fn take_events(epoll: &OwnedFd, events: &mut Vec<Event>) -> rustix::io::Result<usize> {
    let most = match fault(Call::Events) {
        Some(Fault::Fails(errno)) => return Err(errno),
        Some(Fault::Short(most)) => most,
        None => usize::MAX,
    };
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut space = Vec::with_capacity(events.capacity().min(most));
    let buffer = rustix::buffer::spare_capacity(&mut space);
    let count = epoll::wait(epoll, buffer, Some(&at_once))?;
    events.append(&mut space);
    Ok(count)
}

pub(crate) fn enter(submitter: &Submitter<'_>, queued: u32) -> io::Result<usize> {
    let queued = match fault(Call::Enter) {
        Some(Fault::Fails(errno)) => return Err(errno.into()),
        Some(Fault::Short(most)) => queued.min(u32::try_from(most).unwrap_or(u32::MAX)),
        None => queued,
    };
    // SAFETY: as in `calls.rs`.
    unsafe { submitter.enter::<()>(queued, 0, 1, None) }
}

/// A `struct io_uring_sqe`; `rest` is not changed here.
#[repr(C)]
#[derive(Clone, Copy)]
struct Submission {
    opcode: u8,
    flags: u8,
    ioprio: u16,
    fd: i32,
    off: u64,
    addr: u64,
    len: u32,
    op_flags: u32,
    user_data: u64,
    rest: [u64; 3],
}

/// A `struct io_uring_cqe`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Completion {
    user_data: u64,
    result: i32,
    flags: u32,
}

const FIXED_FILE: u8 = 1 << 0;
const IO_LINK: u8 = 1 << 2;
const CQE_SKIP_SUCCESS: u8 = 1 << 6;
const RECV_MULTISHOT: u16 = 1 << 1;

impl Submission {
    /// Makes the kernel refuse it, links included; its result becomes `errno`.
    fn fail(&mut self, errno: Errno, scene: &mut Scene) {
        self.flags &= !FIXED_FILE;
        self.fd = -1;
        scene.results.insert(self.user_data, errno);
    }
}

pub(crate) fn submission(entry: squeue::Entry) -> squeue::Entry {
    // SAFETY: both are the kernel's 64 bytes.
    let mut sqe: Submission = unsafe { mem::transmute(entry) };
    let is_receive = [opcode::Recv::CODE, opcode::RecvMulti::CODE].contains(&sqe.opcode);
    let fault = if is_receive {
        fault(Call::Receive)
    } else if sqe.opcode == opcode::Send::CODE {
        fault(Call::Send)
    } else {
        None
    };
    SCENE.with_borrow_mut(|scene| {
        if is_receive {
            scene.receives.insert(sqe.user_data);
        }
        if mem::take(&mut scene.breaks_link) {
            sqe.fail(Errno::CANCELED, scene);
            return;
        }
        match fault {
            None => {}
            Some(Fault::Fails(errno)) => sqe.fail(errno, scene),
            Some(Fault::Short(most)) if is_receive => {
                // One buffer, less than full, and no more after it.
                let most = u32::try_from(most).unwrap_or(u32::MAX);
                sqe.len = if sqe.len == 0 {
                    most
                } else {
                    sqe.len.min(most)
                };
                sqe.ioprio &= !RECV_MULTISHOT;
            }
            Some(Fault::Short(most)) => {
                // A short send always has a completion, and breaks its link.
                let most = u32::try_from(most).unwrap_or(u32::MAX);
                if sqe.len > most {
                    sqe.len = most;
                    scene.breaks_link = sqe.flags & IO_LINK != 0;
                    sqe.flags &= !(CQE_SKIP_SUCCESS | IO_LINK);
                }
            }
        }
    });
    // SAFETY: as above.
    unsafe { mem::transmute(sqe) }
}

pub(crate) fn completion(entry: cqueue::Entry) -> cqueue::Entry {
    // SAFETY: both are the kernel's 16 bytes.
    let mut cqe: Completion = unsafe { mem::transmute(entry) };
    let made_to_fail = SCENE.with_borrow_mut(|scene| {
        let is_receive = scene.receives.contains(&cqe.user_data);
        if let Some(errno) = scene.results.remove(&cqe.user_data) {
            match Errno::from_raw_os_error(-cqe.result) {
                Errno::BADF => cqe.result = -errno.raw_os_error(),
                // It was linked to one that has failed.
                Errno::CANCELED => {}
                other => panic!("it was refused, and not {other}"),
            }
            return true;
        }
        if is_receive && cqe.result == -Errno::NOBUFS.raw_os_error() {
            scene.tally.without_buffer += 1;
        }
        !is_receive
    });
    if !made_to_fail && cqe.result >= 0 {
        // A failed receive stays failed.
        let ended = SCENE.with_borrow(|scene| scene.ended.get(&cqe.user_data).copied());
        let errno = ended.or_else(|| match fault(Call::Received) {
            Some(Fault::Fails(errno)) => Some(errno),
            Some(Fault::Short(_)) | None => None,
        });
        if let Some(errno) = errno {
            SCENE.with_borrow_mut(|scene| scene.ended.insert(cqe.user_data, errno));
            cqe.result = -errno.raw_os_error();
        }
    }
    // SAFETY: as above.
    unsafe { mem::transmute(cqe) }
}

pub(crate) async fn read(
    stream: &tokio_uring::net::TcpStream,
    space: Slice<Vec<u8>>,
) -> BufResult<usize, Slice<Vec<u8>>> {
    let (begin, end) = (space.begin(), space.end());
    let most = match fault(Call::Receive) {
        Some(Fault::Fails(errno)) => return (Err(errno.into()), space),
        Some(Fault::Short(most)) => most.min(end - begin),
        None => end - begin,
    };
    let (result, space) = stream
        .read(space.into_inner().slice(begin..begin + most))
        .await;
    (result, space.into_inner().slice(begin..end))
}

pub(crate) fn cancel(stream: &tokio_uring::net::TcpStream) {
    if fault(Call::Cancel).is_none() {
        uring_operation::cancel(stream);
    }
}

pub(crate) async fn write(
    stream: &tokio_uring::net::TcpStream,
    bytes: Slice<Vec<u8>>,
) -> BufResult<usize, Slice<Vec<u8>>> {
    let (begin, end) = (bytes.begin(), bytes.end());
    let most = match fault(Call::Write) {
        Some(Fault::Fails(errno)) => return (Err(errno.into()), bytes),
        Some(Fault::Short(most)) => most.min(end - begin),
        None => end - begin,
    };
    let bytes = bytes.into_inner().slice(begin..begin + most);
    let (result, bytes) = uring_operation::send_at_once(stream, bytes).await;
    (result, bytes.into_inner().slice(begin..end))
}
