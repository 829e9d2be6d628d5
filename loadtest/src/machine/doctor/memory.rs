//! The size of the memory, and its limits, swap and huge pages.

use host::Root;
use host::cgroup::Limits;
use host::finding::Finding;

use super::format_rough_size;

/// Enough for server and generator with ten thousands of connections.
const AVAILABLE_BYTES_GOOD: u64 = 2 << 30;

/// With less, a test of a few thousand connections may fail.
const AVAILABLE_BYTES_MIN: u64 = 256 << 20;

/// The state of this machine's memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    total_bytes: Option<u64>,
    available_bytes: Option<u64>,
    swap_used_bytes: Option<u64>,
    cgroup_max_bytes: Option<u64>,
    /// As the kernel writes it, with the active one in brackets.
    huge_pages: Option<String>,
}

impl Memory {
    pub(super) fn read(root: &Root) -> Self {
        let swap_used_bytes = || {
            let total = root.memory_bytes("SwapTotal")?;
            Some(total.saturating_sub(root.memory_bytes("SwapFree")?))
        };
        Self {
            total_bytes: root.memory_bytes("MemTotal"),
            available_bytes: root.memory_bytes("MemAvailable"),
            swap_used_bytes: swap_used_bytes(),
            cgroup_max_bytes: Limits::read(root).memory_max_bytes,
            huge_pages: root.text("/sys/kernel/mm/transparent_hugepage/enabled"),
        }
    }

    pub(super) fn judge(&self) -> Vec<Finding> {
        [
            self.judge_available(),
            Some(self.judge_cgroup()),
            self.judge_swap(),
            self.judge_huge_pages(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn judge_available(&self) -> Option<Finding> {
        const CHECK: &str = "memory";
        let (total, available) = (self.total_bytes?, self.available_bytes?);
        let found = format!(
            "{} available of {}",
            format_rough_size(available),
            format_rough_size(total)
        );
        let advice = "find its users: ps -eo rss,pid,comm --sort=-rss | head";
        Some(match available {
            AVAILABLE_BYTES_GOOD.. => Finding::ok(CHECK, found),
            AVAILABLE_BYTES_MIN.. => Finding::warning(CHECK, found).advise(advice),
            _ => Finding::problem(CHECK, found).advise(advice),
        })
    }

    fn judge_cgroup(&self) -> Finding {
        const CHECK: &str = "memory limit";
        let advice = "docker update --memory=4g --memory-swap=4g CONTAINER, or \
                      systemctl set-property --runtime UNIT MemoryMax=infinity";
        let Some(max) = self.cgroup_max_bytes else {
            return Finding::ok(CHECK, "none");
        };
        let found = format_rough_size(max);
        match max {
            _ if self.total_bytes.is_some_and(|total| max >= total) => Finding::ok(CHECK, found),
            AVAILABLE_BYTES_GOOD.. => Finding::ok(CHECK, found),
            AVAILABLE_BYTES_MIN.. => Finding::warning(CHECK, found).advise(advice),
            _ => Finding::problem(CHECK, found).advise(advice),
        }
    }

    fn judge_swap(&self) -> Option<Finding> {
        const CHECK: &str = "swap";
        Some(match self.swap_used_bytes? {
            0 => Finding::ok(CHECK, "none in use"),
            bytes => Finding::warning(
                CHECK,
                format!(
                    "{} in use: a page that is out stops a thread",
                    format_rough_size(bytes)
                ),
            )
            .advise("swapoff -a && swapon -a, which brings it all back"),
        })
    }

    fn judge_huge_pages(&self) -> Option<Finding> {
        const CHECK: &str = "huge pages";
        let modes = self.huge_pages.as_deref()?;
        let mode = modes.split_once('[')?.1.split_once(']')?.0;
        Some(if mode == "always" {
            Finding::warning(
                CHECK,
                "always: memory per connection looks larger than it is",
            )
            .advise("echo madvise | tee /sys/kernel/mm/transparent_hugepage/enabled")
        } else {
            Finding::ok(CHECK, mode)
        })
    }
}

#[cfg(test)]
mod tests {
    use host::finding::Level;

    use super::*;

    const GIB: u64 = 1 << 30;
    const MIB: u64 = 1 << 20;

    fn memory() -> Memory {
        Memory {
            total_bytes: Some(16 * GIB),
            available_bytes: Some(12 * GIB),
            swap_used_bytes: Some(0),
            cgroup_max_bytes: None,
            huge_pages: Some("always [madvise] never".to_owned()),
        }
    }

    #[test]
    fn a_machine_with_room_is_good() {
        let findings = memory().judge();
        assert_eq!(findings.len(), 4);
        for finding in findings {
            assert_eq!(finding.level, Level::Ok, "{finding:?}");
        }
    }

    #[test]
    fn little_memory_is_reported() {
        for (available_bytes, level) in [(GIB, Level::Warning), (100 * MIB, Level::Problem)] {
            let found = Memory {
                available_bytes: Some(available_bytes),
                ..memory()
            }
            .judge_available()
            .unwrap();
            assert_eq!(found.level, level, "{found:?}");
        }
    }

    #[test]
    fn a_limit_counts_when_it_is_small() {
        for (max, level) in [
            (64 * GIB, Level::Ok),
            (4 * GIB, Level::Ok),
            (512 * MIB, Level::Warning),
            (64 * MIB, Level::Problem),
        ] {
            let found = Memory {
                cgroup_max_bytes: Some(max),
                ..memory()
            }
            .judge_cgroup();
            assert_eq!(found.level, level, "{found:?}");
        }
    }

    #[test]
    fn swap_in_use_and_huge_pages_are_reported() {
        let odd = Memory {
            swap_used_bytes: Some(3 * MIB),
            huge_pages: Some("[always] madvise never".to_owned()),
            ..memory()
        };
        let swap = odd.judge_swap().unwrap();
        assert_eq!(swap.level, Level::Warning);
        assert!(swap.found.starts_with("3 MiB in use"));
        let pages = odd.judge_huge_pages().unwrap();
        assert_eq!(pages.level, Level::Warning);
        assert!(pages.change.unwrap().starts_with("echo madvise"));
    }

    #[test]
    fn unknown_values_are_left_out() {
        let findings = Memory::default().judge();
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].found, "none");
    }
}
