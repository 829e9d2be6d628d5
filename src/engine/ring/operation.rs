//! The operations that this engine asks the kernel for.

use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd, Fixed};
use rustix::event::PollFlags;
use rustix::net::{RecvFlags, SendFlags};

use super::pool::Size;
use super::token::{Key, Op, Token};

/// A send ends once everything is taken, or with an error.
const ALL: u32 = RecvFlags::WAITALL.bits();

/// A send takes what the socket has room for, instead of waiting for more.
const AT_ONCE: u32 = SendFlags::DONTWAIT.bits();

/// `IORING_RECVSEND_POLL_FIRST`: waits for bytes before it looks for them.
const POLL_FIRST: u16 = 1;

/// How an operation names its socket.
///
/// A registered file is found faster. It is for operations that end at once:
/// before Linux 6.13 one that waits keeps the files that are unregistered after
/// its start from being closed, whichever they are.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    Descriptor(&'a OwnedFd),
    Registered(u32),
}

/// Receives into small buffers until it is cancelled, or finds none.
pub(super) fn receive_multishot(socket: &OwnedFd, key: Key) -> Entry {
    opcode::RecvMulti::new(fd(socket), Size::Small.group())
        .build()
        .user_data(Token::new(Op::Receive, key).pack())
}

/// Receives into one large buffer of `len` bytes; at once, if bytes are
/// `expected` to be there.
pub(super) fn receive_single(socket: &OwnedFd, key: Key, len: usize, expected: bool) -> Entry {
    opcode::Recv::new(fd(socket), std::ptr::null_mut(), length(len))
        .buf_group(Size::Large.group())
        .ioprio(if expected { 0 } else { POLL_FIRST })
        .build()
        .flags(Flags::BUFFER_SELECT)
        .user_data(Token::new(Op::Receive, key).pack())
}

/// Sends what the socket takes at once. Completes within the call that starts
/// it, and says so only if the socket did not take everything.
pub(super) fn send_at_once(target: Target<'_>, key: Key, bytes: &[u8]) -> Entry {
    send_with(target, key, bytes, AT_ONCE, Flags::SKIP_SUCCESS)
}

/// As [`send_at_once`], of a connection's last words: the end of the stream
/// follows and goes out in one packet with them.
pub(super) fn send_before_end(target: Target<'_>, key: Key, bytes: &[u8]) -> Entry {
    let more = SendFlags::MORE.bits();
    send_with(target, key, bytes, AT_ONCE | more, Flags::SKIP_SUCCESS)
}

/// As [`send_at_once`], but always says so. The operation that is queued next
/// waits for it, and is cancelled if the socket did not take everything. (A
/// send that is silent about its success would silence that as well.) Where the
/// kernel takes this one with one call, and the next with another, it leaves it to
/// a thread, and it may end after the call.
pub(super) fn send_before_next(target: Target<'_>, key: Key, bytes: &[u8]) -> Entry {
    send_with(target, key, bytes, AT_ONCE, Flags::IO_LINK)
}

fn send_with(target: Target<'_>, key: Key, bytes: &[u8], how: u32, flags: Flags) -> Entry {
    let (start, len) = (bytes.as_ptr(), length(bytes.len()));
    let send = match target {
        Target::Descriptor(socket) => opcode::Send::new(fd(socket), start, len),
        Target::Registered(place) => opcode::Send::new(Fixed(place), start, len),
    };
    send.flags((ALL | how).cast_signed())
        .build()
        .flags(flags)
        .user_data(Token::new(Op::Reply, key).pack())
}

/// Completes when the socket has room, or is broken.
pub(super) fn await_room(socket: &OwnedFd, key: Key) -> Entry {
    opcode::PollAdd::new(fd(socket), u32::from(PollFlags::OUT.bits()))
        .build()
        .user_data(Token::new(Op::Room, key).pack())
}

/// Cancels the receive of a connection, if it has not ended.
pub(super) fn cancel_receive(key: Key) -> Entry {
    let receive = Token::new(Op::Receive, key).pack();
    cancel(CancelBuilder::user_data(receive), key)
}

/// Cancels everything on a socket.
pub(super) fn cancel_all(socket: &OwnedFd, key: Key) -> Entry {
    cancel(CancelBuilder::fd(fd(socket)).all(), key)
}

fn cancel(what: CancelBuilder, key: Key) -> Entry {
    opcode::AsyncCancel2::new(what)
        .build()
        .flags(Flags::SKIP_SUCCESS)
        .user_data(Token::new(Op::Cancel, key).pack())
}

fn fd(socket: &OwnedFd) -> Fd {
    Fd(socket.as_raw_fd())
}

/// Buffers are far smaller than 4 GiB; a length beyond is sent in two parts.
fn length(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
