//! The cores, and the affinity of threads.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::root::Root;

/// The cores that the calling thread may run on, in order.
///
/// # Errors
/// The kernel's.
pub fn usable() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    let cores = (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core));
    Ok(cores.collect())
}

/// Binds the calling thread, and what it will spawn, to one core.
///
/// # Errors
/// The kernel's, for example when the core is offline.
pub fn pin(core: usize) -> io::Result<()> {
    bind(&[core])
}

/// Binds the calling thread, and threads that it will spawn, to the given cores that are online
/// and in its cpuset.
///
/// # Errors
/// The kernel's; `EINVAL` also for a core that no machine has.
pub fn bind(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &core in cores {
        if core >= CpuSet::MAX_CPU {
            return Err(rustix::io::Errno::INVAL.into());
        }
        set.set(core);
    }
    Ok(sched_setaffinity(None, &set)?)
}

/// The governors that set the clocks of these cores; none where the firmware or the hypervisor
/// does.
pub fn governors(root: &Root, cores: &[usize]) -> BTreeSet<String> {
    let cpu = "sys/devices/system/cpu/cpu";
    let governor = |core| root.text(format!("{cpu}{core}/cpufreq/scaling_governor"));
    cores.iter().filter_map(governor).collect()
}

/// Parses a list as the kernel writes cores and ports: `0-3,8`. An empty text is an empty list.
pub fn parse_list(text: &str) -> Option<Vec<usize>> {
    let mut numbers = Vec::new();
    for range in text.trim().split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        // No machine has this many cores or ports.
        if last >= 1 << 16 {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

/// Writes numbers in that form. They have to be in order.
pub fn format_list(numbers: &[usize]) -> String {
    let mut text = String::new();
    for range in numbers.chunk_by(|number, next| number + 1 == *next) {
        if !text.is_empty() {
            text.push(',');
        }
        // Writing to a string does not fail.
        let _ = match range {
            [number] => write!(text, "{number}"),
            [first, .., last] => write!(text, "{first}-{last}"),
            [] => Ok(()),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written_as_the_kernel_does() {
        for (text, numbers) in [
            ("", vec![]),
            ("0", vec![0]),
            ("0-1", vec![0, 1]),
            ("0-2,5,7-8", vec![0, 1, 2, 5, 7, 8]),
        ] {
            assert_eq!(parse_list(text).as_ref(), Some(&numbers), "{text:?}");
            assert_eq!(format_list(&numbers), text);
        }
        for wrong in ["x", "1-", "-1", "0-99999999999"] {
            assert_eq!(parse_list(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_thread_runs_on_the_core_it_is_pinned_to() {
        let all = usable().expect("a list");
        std::thread::spawn(move || {
            pin(all[0]).expect("pinned");
            assert_eq!(usable().expect("a list"), [all[0]]);
            bind(&all).expect("bound");
            assert_eq!(usable().expect("a list"), all);
            assert!(pin(CpuSet::MAX_CPU).is_err());
        })
        .join()
        .expect("it held");
    }
}
