//! The server's process and all its descendants.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{fs, process};

use rustix::param::clock_ticks_per_second;

use super::accounting::ThreadAccounting;
use super::error::WatchError;
use super::procfs::{Procfs, Stat, is_gone};
use super::sample::Sample;
use super::watched::{Accounted, Watched};

const CHILDREN_MISSING: WatchError = WatchError::Kernel {
    file: "/proc/PID/task/TID/children",
    option: "CONFIG_PROC_CHILDREN",
};

/// Watches a process, its descendants and all their threads, so that shells, package managers and
/// servers that fork may be between the process id and the server.
///
/// A known process is watched until it ends, also when its parent ends before. One that is
/// started between two samples and loses its parent is never found, and neither is one that ends
/// before the next sample.
///
/// The CPU time of a thread between its last sample and its end is known only to within ticks,
/// from the totals of its process; its context switches are lost.
#[derive(Debug)]
pub struct ProcessTree {
    root: u32,
    root_start_ticks: u64,
    /// The known processes that are alive, by id.
    processes: BTreeMap<u32, Process>,
    /// CPU time of threads that were not observed, or not until their end.
    unseen_ns: u64,
    accounting: ThreadAccounting,
}

#[derive(Debug)]
struct Process {
    start_ticks: u64,
    /// CPU time of all its threads in ticks, as of the beginning of the round.
    ticks: u64,
    /// CPU time read from threads, including those that have ended.
    seen_ns: u64,
    /// CPU time of threads that were not observed.
    unseen_ns: u64,
}

impl ProcessTree {
    /// Watches the process with this id.
    ///
    /// # Errors
    /// When there is no such process, or `/proc` lacks a file.
    pub fn attach(pid: u32) -> Result<Self, WatchError> {
        let mut accounting = ThreadAccounting::new()?;
        let own_pid = process::id();
        accounting
            .procfs()
            .children(own_pid, own_pid.cast_signed())
            .map_err(|source| WatchError::unreadable(own_pid, CHILDREN_MISSING, source))?;
        let stat = accounting
            .procfs()
            .process_stat(pid)
            .map_err(|source| WatchError::unreadable(pid, WatchError::NoProcess { pid }, source))?;
        if !stat.is_alive() {
            return Err(WatchError::NoProcess { pid });
        }
        let mut tree = Self {
            root: pid,
            root_start_ticks: stat.start_ticks,
            processes: BTreeMap::from([(pid, Process::new(&stat))]),
            unseen_ns: 0,
            accounting,
        };
        tree.active_cores();
        Ok(tree)
    }

    /// Whether the process that was attached to has not ended. A zombie has.
    pub fn is_alive(&self) -> bool {
        Procfs::default()
            .process_stat(self.root)
            .is_ok_and(|stat| stat.start_ticks == self.root_start_ticks && stat.is_alive())
    }

    /// The program that the process runs, or `None` if it has ended or belongs to another user. "
    /// (deleted)" is appended when the file was replaced or removed since.
    pub fn binary(&self) -> Option<PathBuf> {
        let binary = fs::read_link(format!("/proc/{}/exe", self.root)).ok()?;
        // The order matters: the id still was this process's.
        self.is_alive().then_some(binary)
    }

    /// The command line of the process, quoted for a shell; `None` once it has ended, and for a
    /// moment after its start.
    pub fn command_line(&self) -> Option<String> {
        let bytes = fs::read(format!("/proc/{}/cmdline", self.root)).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let words = text.strip_suffix('\0').unwrap_or(&text).split('\0');
        (!text.is_empty() && self.is_alive()).then(|| shell_words::join(words))
    }

    /// Updates the states of the known processes. A reused id is not followed.
    fn forget_ended(&mut self) {
        let procfs = self.accounting.procfs();
        self.processes
            .retain(|&pid, process| match procfs.process_stat(pid) {
                Ok(stat) => {
                    process.ticks = stat.user_ticks + stat.system_ticks;
                    process.start_ticks == stat.start_ticks
                }
                Err(error) => !is_gone(&error),
            });
    }

    /// Observes the threads of a process, and adds children that were not known
    /// to `pending`.
    fn observe_process(&mut self, pid: u32, pending: &mut Vec<u32>) {
        let mut grown_ns = 0;
        for tid in self.accounting.procfs().threads(pid).unwrap_or_default() {
            // A file that cannot be read now belongs to a thread that ended, or is read the
            // next time.
            grown_ns += self.accounting.observe(pid, tid).unwrap_or(0);
            let procfs = self.accounting.procfs();
            for child in procfs.children(pid, tid).unwrap_or_default() {
                if !self.processes.contains_key(&child)
                    && let Ok(stat) = procfs.process_stat(child)
                {
                    self.processes.insert(child, Process::new(&stat));
                    pending.push(child);
                }
            }
        }
        if let Some(process) = self.processes.get_mut(&pid) {
            self.unseen_ns += process.account(grown_ns);
        }
    }
}

impl Accounted for ProcessTree {
    fn refresh(&mut self) {
        self.forget_ended();
        let mut pending: Vec<u32> = self.processes.keys().copied().collect();
        while let Some(pid) = pending.pop() {
            self.observe_process(pid, &mut pending);
        }
        self.accounting.end_round();
    }

    fn totals(&mut self) -> Sample {
        let seen = self.accounting.sample(self.processes.keys().copied());
        Sample {
            cpu_ns: seen.cpu_ns + self.unseen_ns,
            ..seen
        }
    }

    fn accounting(&mut self) -> &mut ThreadAccounting {
        &mut self.accounting
    }
}

impl Process {
    fn new(stat: &Stat) -> Self {
        Self {
            start_ticks: stat.start_ticks,
            ticks: stat.user_ticks + stat.system_ticks,
            seen_ns: 0,
            unseen_ns: 0,
        }
    }

    /// Adds CPU time read from threads; returns the growth of the time that was not.
    ///
    /// The ticks of a process are its whole run time, rounded down. They were read before the
    /// threads, so they exceed the threads' sum only where threads were missed.
    fn account(&mut self, grown_ns: u64) -> u64 {
        self.seen_ns += grown_ns;
        let tick_ns = 1_000_000_000 / clock_ticks_per_second();
        let unseen_ns = (self.ticks * tick_ns).saturating_sub(self.seen_ns);
        let unseen_grown_ns = unseen_ns.saturating_sub(self.unseen_ns);
        self.unseen_ns += unseen_grown_ns;
        unseen_grown_ns
    }
}

#[cfg(test)]
mod tests {
    use std::hint;
    use std::io::Write;
    use std::process::{Command, Stdio};
    use std::thread;

    use super::super::{ServerCommand, ServerOutput, poll};
    use super::*;
    use crate::cpu::this_thread_ns;

    /// A shell that is busy, then waits for a line and ends, run by a shell that waits for
    /// another. They also end when the pipe is closed.
    const BUSY_GRANDCHILD: &str = "\
        sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; read line'; read line";

    #[test]
    fn cpu_time_of_ended_descendants_stays_counted() {
        let mut child = Command::new("sh")
            .args(["-c", BUSY_GRANDCHILD])
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut input = child.stdin.take().expect("a pipe");
        let mut tree = ProcessTree::attach(child.id()).expect("it waits");
        let mut last = Sample::default();
        let busy = poll(|| {
            let sample = tree.sample();
            assert!(sample.cpu_ns >= last.cpu_ns);
            last = sample;
            (sample.threads == 2 && sample.cpu_ns >= 10_000_000).then_some(sample)
        });
        writeln!(input).expect("it reads");
        let ended = poll(|| {
            let sample = tree.sample();
            (sample.threads == 1).then_some(sample)
        });
        assert!(ended.cpu_ns >= busy.cpu_ns);
        assert!(ended.user_ticks >= busy.user_ticks);
        assert!(ended.rss_bytes < busy.rss_bytes);
        assert!(tree.is_alive());
        writeln!(input).expect("it reads");
        child.wait().expect("it ends");
        assert!(!tree.is_alive());
        let gone = tree.sample();
        assert!(gone.cpu_ns >= ended.cpu_ns);
        assert_eq!((gone.threads, gone.rss_bytes), (0, 0));
    }

    #[test]
    fn unseen_threads_count_by_the_ticks_of_their_process() {
        const BUSY_NS: u64 = 150_000_000;
        let mut tree = ProcessTree::attach(process::id()).expect("this process");
        let before = tree.sample();
        let busy = thread::spawn(|| {
            while this_thread_ns() < BUSY_NS {
                hint::spin_loop();
            }
        });
        busy.join().expect("it ends");
        // Ticks in user space and in the kernel are both rounded down, and those of a running
        // thread lag by one.
        let tick_ns = 1_000_000_000 / clock_ticks_per_second();
        let counted_ns = tree.sample().cpu_ns - before.cpu_ns;
        assert!(counted_ns >= BUSY_NS - 3 * tick_ns, "{counted_ns}");
    }

    #[test]
    fn observed_cpu_time_is_not_counted_again_in_ticks() {
        let tick_ns = 1_000_000_000 / clock_ticks_per_second();
        let mut process = Process {
            start_ticks: 0,
            ticks: 3,
            seen_ns: 0,
            unseen_ns: 0,
        };
        assert_eq!(process.account(3 * tick_ns + 5), 0);
        process.ticks = 6;
        assert_eq!(process.account(tick_ns), 2 * tick_ns - 5);
        // Later samples do not change what was counted before.
        process.ticks = 7;
        assert_eq!(process.account(2 * tick_ns), 0);
        process.ticks = 11;
        assert_eq!(process.account(0), 3 * tick_ns);
    }

    #[test]
    fn a_process_is_described() {
        let command = "sh -c 'sleep 30 & wait' 'some shell'";
        let server = ServerCommand::start(command, &[], &ServerOutput::default()).expect("a shell");
        let tree = ProcessTree::attach(server.pid()).expect("it waits");
        assert_eq!(poll(|| tree.command_line()), command);
        let binary = tree.binary().expect("it lives");
        assert!(binary.is_absolute(), "{binary:?}");
        assert!(tree.is_alive());
        server.stop().expect("it stops");
        assert!(!tree.is_alive());
        assert_eq!((tree.command_line(), tree.binary()), (None, None));
    }

    #[test]
    fn a_zombie_is_no_process() {
        let mut server =
            ServerCommand::start("true", &[], &ServerOutput::default()).expect("it starts");
        poll(|| server.exited());
        let pid = server.pid();
        let error = ProcessTree::attach(pid).expect_err("it has ended");
        assert_eq!(error.to_string(), format!("there is no process {pid}"));
    }
}
