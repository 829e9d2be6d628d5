//! What engines do with plain sockets outside of their own fast paths.

use std::ops::ControlFlow;
use std::os::fd::AsFd;

use bytes::Bytes;
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown};

use super::connection::{Action, Connection, Context};
use crate::sys::calls;

/// Whether a connection lives on.
pub(super) type Flow = ControlFlow<()>;
pub(super) const OPEN: Flow = ControlFlow::Continue(());
pub(super) const ENDED: Flow = ControlFlow::Break(());

/// Sends `bytes` behind whatever is unsent. What the socket does not take is unsent
/// then as well.
#[inline]
pub(super) fn send(
    socket: impl AsFd,
    connection: &mut Connection,
    bytes: &[u8],
    flags: SendFlags,
    context: Context,
) -> Flow {
    if bytes.is_empty() || connection.put_behind(context, bytes) {
        return OPEN;
    }
    let len = match calls::send(socket, bytes, flags) {
        Ok(len) => len,
        Err(Errno::AGAIN | Errno::INTR) => 0,
        Err(_) => return ENDED,
    };
    connection.sent(context, bytes, len);
    OPEN
}

/// Sends what a handler has given since the last call, and does what it asks for.
#[cold]
pub(super) fn serve_handler(
    socket: impl AsFd,
    connection: &mut Connection,
    context: Context,
) -> Flow {
    let Some(mut outgoing) = connection.take_news(context) else {
        let action = connection.after_late_news();
        return perform(socket, connection, action, context);
    };
    while let Some((bytes, has_more)) = outgoing.next() {
        let flags = last_flags(has_more || connection.is_closing());
        send_shared(&socket, connection, bytes, flags, context)?;
    }
    let action = connection.after_news();
    perform(socket, connection, action, context)
}

/// As [`send`], without a copy of what is long.
fn send_shared(
    socket: impl AsFd,
    connection: &mut Connection,
    bytes: Bytes,
    flags: SendFlags,
    context: Context,
) -> Flow {
    let Some(bytes) = connection.put_shared_behind(context, bytes) else {
        return OPEN;
    };
    let len = match calls::send(socket, &bytes, flags) {
        Ok(len) => len,
        Err(Errno::AGAIN | Errno::INTR) => 0,
        Err(_) => return ENDED,
    };
    connection.sent_shared(context, bytes, len);
    OPEN
}

/// Sends some of what is unsent, and does what follows. Whether there was room for it.
pub(super) fn flush(
    socket: impl AsFd,
    connection: &mut Connection,
    context: Context,
) -> ControlFlow<(), bool> {
    let unsent = connection.unsent();
    let wanted = unsent.len();
    let len = match calls::send(&socket, unsent, SendFlags::empty()) {
        Ok(len) => len,
        Err(Errno::AGAIN | Errno::INTR) => 0,
        Err(_) => return ControlFlow::Break(()),
    };
    let action = connection.sent_unsent(context, len);
    perform(socket, connection, action, context)?;
    ControlFlow::Continue(len == wanted)
}

/// Does what a call of the connection asks for.
#[inline]
pub(super) fn perform(
    socket: impl AsFd,
    connection: &mut Connection,
    action: Action,
    context: Context,
) -> Flow {
    if action == Action::Wait {
        return OPEN;
    }
    perform_rarely(socket.as_fd(), connection, action, context)
}

#[cold]
fn perform_rarely(
    socket: std::os::fd::BorrowedFd<'_>,
    connection: &mut Connection,
    mut action: Action,
    context: Context,
) -> Flow {
    loop {
        action = match action {
            Action::Wait => return OPEN,
            Action::End => return ENDED,
            Action::Send(frame) => {
                let flags = last_flags(frame.is_last());
                frame.with_bytes(|bytes| send(socket, connection, bytes, flags, context))?;
                connection.then(frame)
            }
            Action::HalfClose => {
                connection.half_closed(context.now);
                if rustix::net::shutdown(socket, Shutdown::Write).is_err() {
                    return ENDED;
                }
                Action::Wait
            }
        }
    }
}

/// How to send what the end of the stream follows at once, or does not: it goes out in
/// one packet with it.
#[inline]
pub(super) fn last_flags(is_last: bool) -> SendFlags {
    if is_last {
        SendFlags::MORE
    } else {
        SendFlags::empty()
    }
}
