//! The accounting of watched threads, each and together.

use std::collections::{BTreeSet, HashMap};
use std::{io, process};

use super::error::WatchError;
use super::procfs::{Procfs, Schedstat, is_gone};
use super::sample::{Sample, grown};

/// The least run time since the previous call for a thread to count as active on its core, in
/// nanoseconds.
///
/// At ten samples a second that is 1 % of a core: timers, idle garbage collectors and signal
/// threads stay below, and do not noticeably disturb another thread of the same core.
const ACTIVE_NS_MIN: u64 = 1_000_000;

const SCHEDSTAT_MISSING: WatchError = WatchError::Kernel {
    file: "/proc/PID/task/TID/schedstat",
    option: "CONFIG_SCHED_INFO",
};

/// The accounting of a set of threads: each thread's last numbers, and sums
/// over all threads there ever were, which therefore never fall.
///
/// Use it in rounds: [`observe`](Self::observe) every thread that is known to be
/// there, then [`end_round`](Self::settle).
#[derive(Debug)]
pub(super) struct ThreadAccounting {
    procfs: Procfs,
    /// By thread id, which no two living threads share.
    entries: HashMap<i32, ThreadRecord>,
    totals: Counters,
    round: u64,
}

#[derive(Debug)]
struct ThreadRecord {
    pid: u32,
    start_ticks: u64,
    counters: Counters,
    core: usize,
    is_alive: bool,
    /// The run time at the last call of `active_cores`.
    asked_cpu_ns: u64,
    /// The run time when the span that is measured began.
    span_began_ns: u64,
    /// The run time in the spans before.
    spans_ns: u64,
    /// The last round in which it was observed.
    round: u64,
}

#[derive(Debug, Clone, Copy)]
struct Counters {
    cpu_ns: u64,
    /// `None` where the kernel does not count it.
    wait_ns: Option<u64>,
    user_ticks: u64,
    system_ticks: u64,
    voluntary_switches: u64,
    involuntary_switches: u64,
}

impl ThreadAccounting {
    /// An accounting without threads.
    ///
    /// # Errors
    /// When this kernel does not export the run time of threads.
    pub(super) fn new() -> Result<Self, WatchError> {
        let mut procfs = Procfs::default();
        // This thread cannot have ended, so it is the file that is missing. The first thread
        // has the process's id.
        let pid = process::id();
        procfs
            .schedstat(pid, pid.cast_signed())
            .map_err(|source| WatchError::unreadable(pid, SCHEDSTAT_MISSING, source))?;
        Ok(Self {
            procfs,
            entries: HashMap::new(),
            totals: Counters::default(),
            round: 0,
        })
    }

    /// Updates a thread's counters. Returns the growth of its run time since the last
    /// observation, in nanoseconds.
    ///
    /// # Errors
    /// The kernel's; [`is_gone`] when the thread has ended, even during the read.
    pub(super) fn observe(&mut self, pid: u32, tid: i32) -> io::Result<u64> {
        let Schedstat { cpu_ns, wait_ns } = self.procfs.schedstat(pid, tid)?;
        // A thread that did not run has no new ticks or switches, and has not moved. Most
        // threads of most servers are idle, so this saves most reads.
        if let Some(entry) = self.entries.get_mut(&tid)
            && entry.pid == pid
            && (entry.counters.cpu_ns, entry.counters.wait_ns) == (cpu_ns, wait_ns)
        {
            entry.round = self.round;
            return Ok(0);
        }
        let stat = self.procfs.thread_stat(pid, tid)?;
        let switches = self.procfs.switches(pid, tid)?;
        let counters = Counters {
            cpu_ns,
            wait_ns,
            user_ticks: stat.user_ticks,
            system_ticks: stat.system_ticks,
            voluntary_switches: switches.voluntary,
            involuntary_switches: switches.involuntary,
        };
        let previous = self
            .entries
            .get(&tid)
            .filter(|entry| entry.start_ticks == stat.start_ticks);
        let previous_counters = previous.map_or_else(Counters::default, |entry| entry.counters);
        let entry = ThreadRecord {
            pid,
            start_ticks: stat.start_ticks,
            counters,
            core: stat.core,
            is_alive: stat.is_alive(),
            asked_cpu_ns: previous.map_or(0, |entry| entry.asked_cpu_ns),
            span_began_ns: previous.map_or(0, |entry| entry.span_began_ns),
            spans_ns: previous.map_or(0, |entry| entry.spans_ns),
            round: self.round,
        };
        self.entries.insert(tid, entry);
        self.totals.add_growth(&previous_counters, &counters);
        Ok(cpu_ns.saturating_sub(previous_counters.cpu_ns))
    }

    /// Ends a round: removes the threads that have ended, but keeps their cost in the totals.
    pub(super) fn end_round(&mut self) {
        let Self {
            procfs, entries, ..
        } = self;
        // A missing observation is no proof: a listing may leave out threads while others end.
        // Forgetting a thread and finding it again would count all its time twice.
        entries.retain(|&tid, entry| {
            entry.round == self.round
                || !matches!(procfs.schedstat(entry.pid, tid), Err(error) if is_gone(&error))
        });
        self.round += 1;
    }

    /// The cores on which threads were active since the previous call, or since they were first
    /// observed, as of the last round.
    pub(super) fn active_cores(&mut self) -> BTreeSet<usize> {
        let mut cores = BTreeSet::new();
        for entry in self.entries.values_mut() {
            let cpu_ns = entry.counters.cpu_ns;
            if cpu_ns.saturating_sub(entry.asked_cpu_ns) > ACTIVE_NS_MIN {
                cores.insert(entry.core);
            }
            entry.asked_cpu_ns = cpu_ns;
        }
        cores
    }

    /// Begins a span of the measurement, at the counters of the last round.
    pub(super) fn begin_span(&mut self) {
        for entry in self.entries.values_mut() {
            entry.span_began_ns = entry.counters.cpu_ns;
        }
    }

    /// Ends it.
    pub(super) fn end_span(&mut self) {
        for entry in self.entries.values_mut() {
            entry.spans_ns += entry.counters.cpu_ns.saturating_sub(entry.span_began_ns);
        }
    }

    /// The run time of the busiest thread in the spans, without those that have ended.
    pub(super) fn busiest_ns(&self) -> u64 {
        let spans_ns = self.entries.values().map(|entry| entry.spans_ns);
        spans_ns.max().unwrap_or(0)
    }

    /// The totals as of the last round, with the present resident memory of `pids`.
    pub(super) fn sample(&mut self, pids: impl IntoIterator<Item = u32>) -> Sample {
        let alive = self.entries.values().filter(|entry| entry.is_alive).count();
        Sample {
            cpu_ns: self.totals.cpu_ns,
            wait_ns: self.totals.wait_ns,
            user_ticks: self.totals.user_ticks,
            system_ticks: self.totals.system_ticks,
            voluntary_switches: self.totals.voluntary_switches,
            involuntary_switches: self.totals.involuntary_switches,
            rss_bytes: pids
                .into_iter()
                .filter_map(|pid| self.procfs.rss_bytes(pid).ok())
                .sum(),
            threads: u32::try_from(alive).unwrap_or(u32::MAX),
        }
    }

    /// The files that the numbers are read from.
    pub(super) fn procfs(&mut self) -> &mut Procfs {
        &mut self.procfs
    }
}

impl Default for Counters {
    /// The counters of a thread that has not run yet.
    fn default() -> Self {
        Self {
            cpu_ns: 0,
            wait_ns: Some(0),
            user_ticks: 0,
            system_ticks: 0,
            voluntary_switches: 0,
            involuntary_switches: 0,
        }
    }
}

impl Counters {
    fn add_growth(&mut self, from: &Self, to: &Self) {
        self.cpu_ns += to.cpu_ns.saturating_sub(from.cpu_ns);
        self.wait_ns = grown(self.wait_ns, from.wait_ns, to.wait_ns);
        self.user_ticks += to.user_ticks.saturating_sub(from.user_ticks);
        self.system_ticks += to.system_ticks.saturating_sub(from.system_ticks);
        self.voluntary_switches += to
            .voluntary_switches
            .saturating_sub(from.voluntary_switches);
        self.involuntary_switches += to
            .involuntary_switches
            .saturating_sub(from.involuntary_switches);
    }
}
