//! The generator's threads.

use std::process;

use super::accounting::ThreadAccounting;
use super::error::WatchError;
use super::procfs::is_gone;
use super::sample::Sample;
use super::watched::Accounted;

/// Watches given threads of this process.
#[derive(Debug)]
pub struct ThreadGroup {
    thread_ids: Vec<i32>,
    accounting: ThreadAccounting,
}

impl ThreadGroup {
    /// Watches the threads with these ids, see gettid(2).
    ///
    /// # Errors
    /// When one of them does not exist or `/proc` cannot be read.
    pub fn of(thread_ids: &[i32]) -> Result<Self, WatchError> {
        let mut accounting = ThreadAccounting::new()?;
        let pid = process::id();
        for &tid in thread_ids {
            accounting.observe(pid, tid).map_err(|source| {
                WatchError::unreadable(pid, WatchError::NoThread { tid }, source)
            })?;
        }
        accounting.end_round();
        accounting.active_cores();
        Ok(Self {
            thread_ids: thread_ids.to_vec(),
            accounting,
        })
    }
}

impl Accounted for ThreadGroup {
    fn refresh(&mut self) {
        let accounting = &mut self.accounting;
        // The id of a thread that has ended may become another thread's.
        self.thread_ids.retain(
            |&tid| !matches!(accounting.observe(process::id(), tid), Err(error) if is_gone(&error)),
        );
        accounting.end_round();
    }

    /// The resident memory is this process's.
    fn totals(&mut self) -> Sample {
        self.accounting.sample([process::id()])
    }

    fn accounting(&mut self) -> &mut ThreadAccounting {
        &mut self.accounting
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::hint;
    use std::sync::mpsc::{Sender, channel};
    use std::thread::{self, JoinHandle};

    use host::cores::pin;
    use rustix::thread::gettid;

    use super::super::{Watched, poll};
    use super::*;
    use crate::cores::AllowedCores;
    use crate::cpu::this_thread_ns;

    const BUSY_NS: u64 = 50_000_000;

    /// A thread that is busy for [`BUSY_NS`], then idle until its sender is dropped. It is pinned
    /// to a core if that is given.
    fn spawn_busy(core: Option<usize>) -> (i32, Sender<()>, JoinHandle<()>) {
        let (id_sender, id) = channel();
        let (end, ended) = channel();
        let handle = thread::spawn(move || {
            if let Some(core) = core {
                pin(core).expect("one of the cores");
            }
            id_sender
                .send(gettid().as_raw_nonzero().get())
                .expect("the test waits");
            while this_thread_ns() < BUSY_NS {
                hint::spin_loop();
            }
            let _ = ended.recv();
        });
        (id.recv().expect("it sends"), end, handle)
    }

    #[test]
    fn cpu_time_of_ended_threads_stays_counted() {
        let (tid, end, handle) = spawn_busy(None);
        let mut group = ThreadGroup::of(&[tid]).expect("it waits");
        let busy = poll(|| {
            let sample = group.sample();
            (sample.cpu_ns >= BUSY_NS).then_some(sample)
        });
        assert!(busy.user_ticks + busy.system_ticks > 0);
        assert!(busy.rss_bytes > 0);
        assert_eq!(busy.threads, 1);
        drop(end);
        handle.join().expect("it ends");
        let ended = poll(|| {
            let sample = group.sample();
            (sample.threads == 0).then_some(sample)
        });
        assert!(ended.cpu_ns >= busy.cpu_ns);
        assert!(ended.voluntary_switches >= busy.voluntary_switches);
        assert_eq!(group.sample().cpu_ns, ended.cpu_ns);
    }

    #[test]
    fn a_core_is_active_while_a_thread_is_busy_on_it() {
        let (core, _) = AllowedCores::of_this_thread()
            .expect("an affinity mask")
            .server_and_generator();
        let (tid, end, handle) = spawn_busy(Some(core));
        let mut group = ThreadGroup::of(&[tid]).expect("it waits");
        poll(|| (group.active_cores() == BTreeSet::from([core])).then_some(()));
        poll(|| (group.sample().cpu_ns >= BUSY_NS).then_some(()));
        poll(|| group.active_cores().is_empty().then_some(()));
        drop(end);
        handle.join().expect("it ends");
    }

    #[test]
    fn a_thread_that_is_not_there_is_an_error() {
        let error = ThreadGroup::of(&[-1]).expect_err("no such thread");
        assert_eq!(error.to_string(), "this process has no thread -1");
        let mut none = ThreadGroup::of(&[]).expect("nothing to watch");
        assert_eq!(none.sample().threads, 0);
    }
}
