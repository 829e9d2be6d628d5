//! What `/proc` has of a process.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// A process, by its id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pub(crate) id: u32,
}

/// One thread of a process.
#[derive(Clone, Debug)]
pub(crate) struct Thread {
    pub(crate) name: String,
    /// As in `ps`: `R` runs, `S` sleeps, `T` is stopped.
    pub(crate) state: char,
    /// The cores it may run on, as the kernel writes them: `0`, `0-3,7`.
    pub(crate) cores: String,
    pub(crate) cpu_time: Duration,
    /// Its voluntary context switches.
    pub(crate) sleeps: u64,
}

impl Process {
    /// The test's own process.
    pub(crate) fn current() -> Self {
        Self {
            id: std::process::id(),
        }
    }

    /// Bytes of anonymous memory in RAM.
    pub(crate) fn memory(self) -> u64 {
        let kib: u64 = field(&self.read("status"), "RssAnon:")
            .trim_end_matches(" kB")
            .parse()
            .expect("kilobytes");
        kib * 1024
    }

    /// The targets of its open file descriptors.
    pub(crate) fn descriptors(self) -> Vec<String> {
        fs::read_dir(self.path("fd"))
            .expect("the process lives")
            .filter_map(|entry| {
                // It may be closed meanwhile.
                let target = fs::read_link(entry.ok()?.path()).ok()?;
                Some(target.display().to_string())
            })
            .collect()
    }

    /// CPU time that all threads have used.
    pub(crate) fn cpu_time(self) -> Duration {
        self.threads().iter().map(|thread| thread.cpu_time).sum()
    }

    /// The cores that the main thread may run on.
    pub(crate) fn cores(self) -> String {
        field(&self.read("status"), "Cpus_allowed_list:")
    }

    /// Whether it is a zombie.
    pub(crate) fn has_ended(self) -> bool {
        field(&self.read("status"), "State:").starts_with('Z')
    }

    /// Whether every thread is stopped.
    pub(crate) fn is_stopped(self) -> bool {
        self.threads().iter().all(|thread| thread.state == 'T')
    }

    pub(crate) fn threads(self) -> Vec<Thread> {
        fs::read_dir(self.path("task"))
            .expect("the process lives")
            .filter_map(|entry| {
                // A thread may end meanwhile.
                let path = entry.ok()?.path();
                let read = |name| fs::read_to_string(path.join(name)).ok();
                let schedstat = read("schedstat")?;
                let nanos = schedstat.split(' ').next()?.parse().ok()?;
                let status = read("status")?;
                Some(Thread {
                    name: read("comm")?.trim_end().to_owned(),
                    state: field(&status, "State:").chars().next()?,
                    cores: field(&status, "Cpus_allowed_list:"),
                    sleeps: field(&status, "voluntary_ctxt_switches:").parse().ok()?,
                    cpu_time: Duration::from_nanos(nanos),
                })
            })
            .collect()
    }

    /// The worker threads, in the order of their names.
    pub(crate) fn workers(self) -> Vec<Thread> {
        let is_worker = |thread: &Thread| {
            let number = thread.name.strip_prefix("ringback-");
            number.is_some_and(|number| number.parse::<usize>().is_ok())
        };
        let mut workers: Vec<_> = self.threads().into_iter().filter(is_worker).collect();
        workers.sort_by(|a, b| a.name.cmp(&b.name));
        workers
    }

    fn read(self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("the process lives")
    }

    fn path(self, name: &str) -> String {
        format!("/proc/{}/{name}", self.id)
    }
}

/// The process id in a pid file, if there is one.
pub(crate) fn pid_in(path: &Path) -> Option<i32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The listening sockets at an IPv4 address.
pub(crate) fn listening_sockets(address: SocketAddr) -> usize {
    const LISTEN: &str = "0A";
    let sockets = sockets_at(address);
    sockets.iter().filter(|socket| socket[3] == LISTEN).count()
}

/// Bytes in the send queues at an IPv4 address, orphaned sockets included.
pub(crate) fn unsent_bytes(address: SocketAddr) -> u64 {
    let unsent = |socket: &Vec<String>| {
        let (unsent, _unread) = socket[4].split_once(':').expect("two queues");
        u64::from_str_radix(unsent, 16).expect("a number")
    };
    sockets_at(address).iter().map(unsent).sum()
}

/// The fields of `/proc/net/tcp` for each socket at an IPv4 address.
fn sockets_at(address: SocketAddr) -> Vec<Vec<String>> {
    let SocketAddr::V4(address) = address else {
        panic!("{address} is no IPv4 address");
    };
    let wanted = format!(
        "{:08X}:{:04X}",
        u32::from_le_bytes(address.ip().octets()),
        address.port()
    );
    fs::read_to_string("/proc/net/tcp")
        .expect("readable")
        .lines()
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .filter(|fields: &Vec<_>| fields[1] == wanted)
        .collect()
}

fn field(status: &str, name: &str) -> String {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_else(|| panic!("no {name} in {status}"))
        .trim()
        .to_owned()
}
