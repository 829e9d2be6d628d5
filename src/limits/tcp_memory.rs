//! The memory that the kernel has allocated to TCP, and the limit above which clients
//! that do not read are evicted.
//!
//! It is one sum for the whole machine, over all processes and network namespaces, and so
//! is its limit, `net.ipv4.tcp_mem`, in pages: from the second number on, the kernel is
//! under memory pressure; at the third, it drops packets and resets connections of any
//! server. In a network namespace of its own, and in a unit with `ProcSubset=pid`, a
//! process can read the sum, but not the limit.

use std::fs::File;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use host::Root;
use host::root::read_again;
use rustix::param::page_size;
use rustix::system::sysinfo;

/// The interval at which the sum is read.
pub(crate) const READ_INTERVAL: Duration = Duration::from_secs(1);

/// The kernel's TCP memory.
#[derive(Debug)]
pub(crate) struct TcpMemory {
    /// Kept open, to be readable when there are no descriptors left.
    sockstat: Option<File>,
    pressure: u64,
    max: Option<NonZeroU64>,
    epoch: Instant,
    /// The time of the last read, and the excess that is not evicted since.
    read_at_ms: AtomicU64,
    excess: AtomicU64,
}

impl TcpMemory {
    /// `max` is the configured [limit](max).
    pub(crate) fn new(root: &Root, max: Option<usize>) -> Self {
        let pressure = pressure(root).unwrap_or_else(|| usual_pressure(memory_total()));
        Self {
            sockstat: root.file("proc/self/net/sockstat"),
            pressure,
            max: self::max(max, pressure),
            epoch: Instant::now(),
            read_at_ms: AtomicU64::new(0),
            excess: AtomicU64::new(0),
        }
    }

    /// Bytes allocated to TCP on this machine.
    pub(crate) fn bytes(&self) -> Option<u64> {
        let text = read_again(self.sockstat.as_ref()?)?;
        let line = text.lines().find(|line| line.starts_with("TCP:"))?;
        let (_, pages) = line.split_once(" mem ")?;
        Some(pages.parse::<u64>().ok()? * page_size() as u64)
    }

    /// Bytes from which on the kernel is under pressure, read or estimated.
    pub(crate) fn pressure(&self) -> u64 {
        self.pressure
    }

    /// Bytes above which clients are evicted; `None` without a limit.
    pub(crate) fn max(&self) -> Option<NonZeroU64> {
        self.max
    }

    /// Bytes to be evicted. One worker reads for all of them, once in
    /// [`READ_INTERVAL`].
    pub(crate) fn excess(&self) -> u64 {
        let Some(max) = self.max else {
            return 0;
        };
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        let before = self.read_at_ms.load(Relaxed);
        let is_due = u128::from(now - before.min(now)) >= READ_INTERVAL.as_millis();
        let exchange = || {
            self.read_at_ms
                .compare_exchange(before, now, Relaxed, Relaxed)
        };
        if is_due && exchange().is_ok() {
            self.refresh(max);
        }
        self.excess.load(Relaxed)
    }

    /// Reduces the excess by evicted bytes.
    pub(crate) fn evicted(&self, bytes: u64) {
        // The closure never returns `None`.
        let _ = self.excess.fetch_update(Relaxed, Relaxed, |excess| {
            Some(excess.saturating_sub(bytes))
        });
    }

    fn refresh(&self, max: NonZeroU64) {
        let excess = self.bytes().unwrap_or(0).saturating_sub(max.get());
        self.excess.store(excess, Relaxed);
    }
}

/// The kernel's pressure threshold, in bytes.
pub(crate) fn pressure(root: &Root) -> Option<u64> {
    let pages: u64 = root.sysctl_number("net.ipv4.tcp_mem", 1)?;
    pages.checked_mul(page_size() as u64)
}

/// The threshold that the kernel chooses at boot for a machine with this memory.
pub(crate) fn usual_pressure(memory_total: u64) -> u64 {
    memory_total / 16
}

/// The limit of a configuration: `Some(0)` is none, and `None` three quarters of the
/// pressure threshold.
pub(crate) fn max(asked: Option<usize>, pressure: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(asked.map_or(pressure / 4 * 3, |asked| asked as u64))
}

/// The memory of this machine. A system call, since a unit may hide `/proc/meminfo`.
fn memory_total() -> u64 {
    let info = sysinfo();
    info.totalram * u64::from(info.mem_unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    use tempfile::TempDir;

    /// A machine with this many pages of TCP memory.
    fn tree(pages: u64) -> TempDir {
        let tree = tempfile::tempdir().expect("a directory");
        let sockstat = format!(
            "sockets: used 20\nTCP: inuse 1 orphan 0 tw 0 alloc 1 mem {pages}\nUDP: inuse 0 mem 7\n"
        );
        write(&tree, "proc/self/net/sockstat", &sockstat);
        tree
    }

    fn write(tree: &TempDir, path: &str, text: &str) {
        let path = tree.path().join(path);
        fs::create_dir_all(path.parent().expect("below the tree")).expect("created");
        fs::write(path, text).expect("written");
    }

    fn memory(tree: &Path, max: Option<usize>) -> TcpMemory {
        TcpMemory::new(&Root::at(tree), max)
    }

    fn page() -> u64 {
        page_size() as u64
    }

    #[test]
    fn sum_and_limit_are_in_pages() {
        let tree = tree(223);
        write(&tree, "proc/sys/net/ipv4/tcp_mem", "300\t400\t600\n");
        let memory = memory(tree.path(), None);
        assert_eq!(memory.bytes(), Some(223 * page()));
        assert_eq!(memory.pressure(), 400 * page());
        assert_eq!(memory.max(), NonZeroU64::new(300 * page()));
    }

    #[test]
    fn unreadable_limit_is_derived_from_the_memory() {
        let tree = tree(1);
        let usual = memory(tree.path(), None);
        assert_eq!(usual.pressure(), memory_total() / 16);
        let max = usual.max().expect("a limit").get();
        assert!(max > page() && max < usual.pressure(), "{max}");
        assert_eq!(memory(tree.path(), Some(0)).max(), None);
        let silent = memory(Path::new("/dev/null"), None);
        assert_eq!(silent.bytes(), None);
    }

    #[test]
    fn evicted_bytes_reduce_the_excess() {
        let tree = tree(10);
        let memory = memory(tree.path(), Some(4 * page_size()));
        memory.refresh(memory.max().expect("a limit"));
        assert_eq!(memory.excess(), 6 * page());
        memory.evicted(page());
        assert_eq!(memory.excess(), 5 * page());
        memory.evicted(u64::MAX);
        assert_eq!(memory.excess(), 0);
    }
}
