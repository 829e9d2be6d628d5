//! A server's thread.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::panic;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};

use host::cores::pin;
use rustix::event::{EventfdFlags, eventfd};

use super::reactor::Reactor;

/// A free port that only this machine reaches.
pub(super) const ANY_LOCAL_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A server that runs on a thread of its own until it is dropped.
#[derive(Debug)]
pub(super) struct ServerThread {
    address: SocketAddr,
    thread_id: i32,
    stop: Arc<OwnedFd>,
    /// `None` once it was joined.
    thread: Option<JoinHandle<()>>,
}

impl ServerThread {
    /// Starts a thread named `name`, pinned to `core` if given, that serves connections to
    /// `address`. `serve` returns on the reactor's stop signal.
    ///
    /// # Errors
    /// The kernel's, for the address, descriptors, the thread or the core.
    pub(super) fn start(
        name: &str,
        address: SocketAddr,
        core: Option<usize>,
        serve: impl FnOnce(Reactor) + Send + 'static,
    ) -> io::Result<Self> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let reactor = Reactor::new(address, Arc::clone(&stop))?;
        let address = reactor.address()?;
        let (report, started) = sync_channel(1);
        let run = move || {
            let pinned = core.map_or(Ok(()), pin);
            let serves = pinned.is_ok();
            let thread_id = rustix::thread::gettid().as_raw_nonzero().get();
            // The other end waits for it.
            let _ = report.send(pinned.map(|()| thread_id));
            if serves {
                serve(reactor);
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run)?;
        let thread_id = started.recv().map_err(io::Error::other)??;
        Ok(Self {
            address,
            thread_id,
            stop,
            thread: Some(thread),
        })
    }

    /// Ends the thread and waits for it.
    ///
    /// # Panics
    /// When the thread panicked.
    pub(super) fn stop(mut self) {
        if let Err(panic) = self.end() {
            panic::resume_unwind(panic);
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn thread_id(&self) -> i32 {
        self.thread_id
    }

    fn end(&mut self) -> thread::Result<()> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        // Fails only when the counter is full, and then it is readable as well.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        thread.join()
    }
}

impl Drop for ServerThread {
    fn drop(&mut self) {
        // Only `stop` reports a panic.
        let _ = self.end();
    }
}

/// Whether a joined thread is gone from `/proc`. The kernel removes it a moment after the join.
#[cfg(test)]
pub(super) fn has_ended(thread_id: i32) -> bool {
    let task = format!("/proc/self/task/{thread_id}");
    (0..10_000).any(|_| {
        thread::sleep(std::time::Duration::from_millis(1));
        !std::fs::exists(&task).unwrap_or(true)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::reactor::{self, STOP};
    use super::*;

    /// Accepts connections and ignores them.
    fn ignore_all(mut reactor: Reactor) {
        let mut events = Vec::with_capacity(1);
        while !events.iter().any(|event| reactor::token(event) == STOP) {
            reactor.wait(&mut events, None);
        }
    }

    #[test]
    fn the_thread_has_its_name_and_closes_its_descriptors() {
        let server_thread =
            ServerThread::start("a-name", ANY_LOCAL_PORT, None, ignore_all).unwrap();
        assert!(server_thread.address().ip().is_loopback());
        let thread_id = server_thread.thread_id();
        let name = fs::read_to_string(format!("/proc/self/task/{thread_id}/comm"));
        assert_eq!(name.unwrap(), "a-name\n");
        let reactors = Arc::downgrade(&server_thread.stop);
        assert_eq!(reactors.strong_count(), 2);
        server_thread.stop();
        assert_eq!(reactors.strong_count(), 0);
        assert!(has_ended(thread_id));
    }

    #[test]
    fn a_core_that_does_not_exist_is_an_error() {
        let core = Some(1_000);
        assert!(ServerThread::start("nowhere", ANY_LOCAL_PORT, core, ignore_all).is_err());
    }

    #[test]
    fn stop_reports_a_panic_of_the_thread() {
        let server_thread = ServerThread::start("panics", ANY_LOCAL_PORT, None, |_| {
            panic::resume_unwind(Box::new(7))
        });
        let stop = panic::AssertUnwindSafe(|| server_thread.unwrap().stop());
        assert_eq!(
            *panic::catch_unwind(stop)
                .unwrap_err()
                .downcast::<i32>()
                .unwrap(),
            7
        );
    }
}
