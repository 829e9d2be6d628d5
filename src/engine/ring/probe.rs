//! Whether this engine works here: asked by doing it.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use io_uring::cqueue;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::operation::{self, Target};
use super::pool::{Line, Pool, SMALL_LEN};
use super::token::{Key, Op, Token};
use super::uring::Uring;

/// Of the only connection.
const KEY: Key = Key::new(0, 0);

/// More than any working ring takes for one echo.
const PATIENCE: Duration = Duration::from_secs(2);

const MESSAGE: &[u8] = b"is anybody there?";

/// Echoes a message through a ring of its own, with the operations that the
/// engine uses.
pub(crate) fn probe() -> io::Result<()> {
    let (ours, mut theirs) = UnixStream::pair()?;
    theirs.set_read_timeout(Some(PATIENCE))?;
    let ours = OwnedFd::from(ours);
    let Rig { uring, pool } = &mut Rig {
        uring: Uring::new()?,
        pool: Pool::new(0, SMALL_LEN),
    };
    pool.register(uring)?;
    pool.replenish();
    // SAFETY: names no memory but the pool's, which outlives the ring.
    unsafe { uring.push(operation::receive_multishot(&ours, KEY)) };
    uring.submit()?;
    theirs.write_all(MESSAGE)?;
    let received = wait_for_receive(uring)?;
    let len = u32::try_from(received.result())
        .map_err(|_negative| io::Error::from_raw_os_error(-received.result()))?;
    let buffer = cqueue::buffer_select(received.flags()).ok_or_else(wrong)?;
    let mut line = Line::EMPTY;
    pool.receive(&mut line, buffer, len);
    let message = &pool.slot(buffer, 0)[..len as usize];
    let target = if uring.register_file(0, &ours) {
        Target::Registered(0)
    } else {
        Target::Descriptor(&ours)
    };
    // SAFETY: the pool outlives the ring.
    unsafe { uring.push(operation::send_at_once(target, KEY, message)) };
    uring.submit()?;
    let mut echoed = [0; MESSAGE.len()];
    theirs.read_exact(&mut echoed)?;
    if echoed == MESSAGE {
        Ok(())
    } else {
        Err(wrong())
    }
}

/// A ring that ends before its pool: fields are dropped in their order.
struct Rig {
    uring: Uring,
    pool: Pool,
}

/// Sleeps as the engine does, until the receive has brought something.
fn wait_for_receive(uring: &mut Uring) -> io::Result<cqueue::Entry> {
    let eventfd = uring.eventfd()?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        if !uring.listen() {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(|_overflow| wrong())?;
            if poll(&mut [PollFd::new(&eventfd, PollFlags::IN)], Some(&left))? == 0 {
                return Err(io::Error::other("an echo through a ring got no answer"));
            }
        }
        uring.stop_listening();
        uring.submit()?;
        while let Some(completion) = uring.next() {
            if Token::unpack(completion.user_data()).op == Op::Receive {
                return Ok(completion);
            }
        }
    }
}

fn wrong() -> io::Error {
    io::Error::other("an echo through a ring came back wrong")
}
