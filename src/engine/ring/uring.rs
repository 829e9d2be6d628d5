//! The ring itself: queues, one call to enter the kernel, an eventfd.
//!
//! `DEFER_TASKRUN` lets the kernel finish operations only when this thread
//! enters it and asks for events: a whole batch at once, and never in between.
//! What waits is shown by a flag in memory, and by an eventfd that is switched
//! on only while the thread is about to sleep.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use io_uring::types::CancelBuilder;
use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, cqueue, squeue};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::AsRawFd;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::sys::calls;

/// Operations that are started with one call; more than that take two.
const SUBMISSIONS: u32 = 1024;

/// Completions that wait to be taken; the kernel keeps what exceeds them.
const COMPLETIONS: u32 = 4096;

/// Files that are registered at most; the kernel takes a pointer for each.
const FILES: u32 = 16 * 1024;

/// What an empty place in the table of registered files holds.
const NO_FILE: RawFd = -1;

/// Time that operations get to end when the ring does.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// A ring that only the thread that made it may use.
pub(super) struct Uring {
    submitter: Submitter<'static>,
    submissions: SubmissionQueue<'static>,
    completions: CompletionQueue<'static>,
    /// What did not fit into the submission queue.
    overflow: VecDeque<squeue::Entry>,
    /// Places in the table of registered files.
    files: u32,
    /// What the three above borrow; fields are dropped in their order.
    _ring: Owner,
    eventfd: OwnedFd,
}

impl Uring {
    /// # Errors
    /// What the kernel says: `EINVAL` if it is older than 6.1, `EPERM` where
    /// `io_uring` is forbidden.
    pub(super) fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let owner = Owner(NonNull::from(Box::leak(Box::new(ring))));
        // SAFETY: nothing else reaches the ring in its box, until its owner
        // frees it, which is dropped after the three that borrow it.
        let (mut submitter, submissions, completions) = unsafe { &mut *owner.0.as_ptr() }.split();
        submitter.register_ring_fd()?;
        submitter.register_eventfd(eventfd.as_raw_fd())?;
        completions.disable_eventfd();
        let files = FILES.min(descriptor_limit());
        submitter.register_files_sparse(files)?;
        Ok(Self {
            submitter,
            submissions,
            completions,
            overflow: VecDeque::new(),
            files,
            _ring: owner,
            eventfd,
        })
    }

    /// Becomes readable when there is work, once [`listen`](Self::listen) was
    /// called.
    pub(super) fn eventfd(&self) -> io::Result<OwnedFd> {
        self.eventfd.try_clone()
    }

    /// # Safety
    /// `address` is that of `entries` buffer ring entries, aligned to a page,
    /// which outlive this ring.
    pub(super) unsafe fn register_buffers(
        &self,
        address: u64,
        entries: u16,
        group: u16,
    ) -> io::Result<()> {
        // SAFETY: as promised by the caller.
        unsafe {
            self.submitter
                .register_buf_ring_with_flags(address, entries, group, 0)
        }
    }

    /// Registers a file, so that operations on it need not look it up, at this
    /// place of the table. Returns whether there is such a place; where not,
    /// its descriptor does as well.
    pub(super) fn register_file(&self, place: u32, file: &OwnedFd) -> bool {
        place < self.files
            && self
                .submitter
                .register_files_update(place, &[file.as_raw_fd()])
                .is_ok()
    }

    /// Lets go of the file at this place: it stays open as long as it is there.
    pub(super) fn unregister_file(&self, place: u32) {
        // It was registered, so this cannot fail.
        let _ = self.submitter.register_files_update(place, &[NO_FILE]);
    }

    /// Queues an operation.
    ///
    /// # Safety
    /// The memory that the operation names stays valid, and untouched by
    /// others if it is written to, until the operation has completed.
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry) {
        let entry = calls::submission(entry);
        // SAFETY: as promised by the caller.
        if !self.overflow.is_empty() || unsafe { self.submissions.push(&entry) }.is_err() {
            self.overflow.push_back(entry);
        }
    }

    /// Starts what is queued and finishes what can be finished. Returns whether
    /// everything was started and all completions are there to be taken; if
    /// not, take those that are, and try again.
    pub(super) fn submit(&mut self) -> io::Result<bool> {
        loop {
            self.enter()?;
            if self.submissions.cq_overflow() {
                // The kernel keeps some back until there is room for them.
                return Ok(false);
            }
            if !self.submissions.is_empty() || self.overflow.is_empty() {
                break;
            }
            while let Some(entry) = self.overflow.front() {
                // SAFETY: as promised when it was pushed.
                if unsafe { self.submissions.push(entry) }.is_err() {
                    break;
                }
                self.overflow.pop_front();
            }
        }
        Ok(self.submissions.is_empty())
    }

    /// The next completion of those that were there when the kernel was last
    /// entered.
    pub(super) fn next(&mut self) -> Option<cqueue::Entry> {
        self.completions.next().map(calls::completion)
    }

    /// Whether [`submit`](Self::submit) would get any further.
    pub(super) fn has_work(&mut self) -> bool {
        self.submissions.sync();
        self.completions.sync();
        !self.submissions.is_empty()
            || !self.completions.is_empty()
            || self.submissions.taskrun()
            || self.submissions.cq_overflow()
    }

    /// Lets the eventfd tell of work. Returns whether there is some already.
    pub(super) fn listen(&mut self) -> bool {
        self.completions.enable_eventfd();
        // Whoever adds work sets the flag first and looks at the switch second.
        fence(Ordering::SeqCst);
        self.has_work()
    }

    /// Lets the eventfd be silent.
    pub(super) fn stop_listening(&self) {
        self.completions.disable_eventfd();
    }

    fn enter(&mut self) -> io::Result<()> {
        self.submissions.sync();
        self.completions.sync();
        let queued = u32::try_from(self.submissions.len()).expect("as many as fit");
        let entered = calls::enter(&self.submitter, queued);
        self.submissions.sync();
        self.completions.sync();
        match entered {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                // Nothing is lost: what was not started is still queued.
                Some(Errno::INTR | Errno::AGAIN | Errno::BUSY) => Ok(()),
                _ => Err(error),
            },
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // Operations may still use buffers that are freed after this. What
        // fails here is that none are left.
        let _ = self
            .submitter
            .register_sync_cancel(Some(LAST_WAIT.into()), CancelBuilder::any());
        // The thread would keep the ring, and all it has registered, for as long
        // as it lives, and has room for few of them.
        let _ = self.submitter.unregister_ring_fd();
    }
}

/// Frees the ring, which ends it.
struct Owner(NonNull<IoUring>);

impl Drop for Owner {
    fn drop(&mut self) {
        // SAFETY: it comes from a box, and is freed only here.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// The kernel refuses a table that is larger.
fn descriptor_limit() -> u32 {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    u32::try_from(limit).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use io_uring::opcode;

    use super::*;
    use crate::engine::ring::probe;

    /// A reply whose failure is seen late would be taken for one that was sent.
    #[test]
    fn all_that_was_started_and_has_completed_is_there_to_be_taken() {
        if probe().is_err() {
            return;
        }
        let count = 3 * u64::from(COMPLETIONS);
        let mut uring = Uring::new().expect("works here");
        for id in 0..count {
            // SAFETY: names no memory.
            unsafe { uring.push(opcode::Nop::new().build().user_data(id)) };
        }
        let mut completed = HashSet::new();
        while !uring.submit().expect("works here") {
            completed.extend(std::iter::from_fn(|| uring.next()).map(|entry| entry.user_data()));
        }
        completed.extend(std::iter::from_fn(|| uring.next()).map(|entry| entry.user_data()));
        assert_eq!(completed, (0..count).collect());
        assert!(!uring.has_work());
    }
}
