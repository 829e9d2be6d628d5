//! Which cores there are, which of them may be used, and how they belong
//! together.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use rustix::thread::{CpuSet, sched_getaffinity};

use super::read;

/// The cores the calling thread may run on, in order.
pub(super) fn cores_allowed() -> Option<Vec<usize>> {
    let allowed = sched_getaffinity(None).ok()?;
    let cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
    Some(cores.collect())
}

/// The cores that are switched on, in order.
pub(super) fn cores_online() -> Option<Vec<usize>> {
    parse_list(&read::text("/sys/devices/system/cpu/online")?)
}

/// Those of `cores` that share a physical core with another of them, group by
/// group.
pub(super) fn sibling_groups(cores: &[usize]) -> Vec<Vec<usize>> {
    let siblings = |core: &usize| {
        let topology = format!("/sys/devices/system/cpu/cpu{core}/topology");
        let list = read::text(format!("{topology}/thread_siblings_list"))?;
        let mut group = parse_list(&list)?;
        group.retain(|sibling| cores.contains(sibling));
        (group.len() > 1).then_some(group)
    };
    let groups: BTreeSet<Vec<usize>> = cores.iter().filter_map(siblings).collect();
    groups.into_iter().collect()
}

/// Whether two threads share a physical core anywhere on this machine.
pub(super) fn smt_active() -> Option<bool> {
    let active: u8 = read::number("/sys/devices/system/cpu/smt/active")?;
    Some(active != 0)
}

/// The memory nodes that have some of `cores`, with those.
pub(super) fn numa_nodes(cores: &[usize]) -> Vec<Vec<usize>> {
    let list = read::text("/sys/devices/system/node/has_cpu").and_then(|list| parse_list(&list));
    let cores_of = |node: usize| {
        let list = read::text(format!("/sys/devices/system/node/node{node}/cpulist"))?;
        let mut here = parse_list(&list)?;
        here.retain(|core| cores.contains(core));
        (!here.is_empty()).then_some(here)
    };
    list.unwrap_or_default()
        .into_iter()
        .filter_map(cores_of)
        .collect()
}

/// Whether this is a virtual machine, as far as the kernel tells: x86 has a CPU
/// flag for it, others name the hypervisor in the device tree. The absence of
/// the latter proves nothing.
pub(super) fn is_virtual() -> Option<bool> {
    if read::text("/proc/device-tree/hypervisor/compatible").is_some()
        || read::text("/sys/hypervisor/type").is_some()
    {
        return Some(true);
    }
    let info = read::text("/proc/cpuinfo")?;
    let flags = read::field(&info, "flags")?;
    Some(flags.split(' ').any(|flag| flag == "hypervisor"))
}

/// Reads the kernel's way to write cores: `0-3,8`. Nothing at all is an empty
/// list.
pub(super) fn parse_list(text: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for range in text.trim().split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        // A mask of more cores than any kernel has is no list of cores.
        if last >= 1 << 16 {
            return None;
        }
        cores.extend(first..=last);
    }
    Some(cores)
}

/// Writes cores as the kernel does: `0-3,8`. They have to be in order.
pub(super) fn format_list(cores: &[usize]) -> String {
    let mut text = String::new();
    let ranges = cores.chunk_by(|core, next| core + 1 == *next);
    for range in ranges {
        if !text.is_empty() {
            text.push(',');
        }
        // Writing to a string does not fail.
        let _ = match range {
            [core] => write!(text, "{core}"),
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
    fn lists_of_cores_are_read_and_written_as_the_kernel_does() {
        for (text, cores) in [
            ("", vec![]),
            ("0", vec![0]),
            ("0-1", vec![0, 1]),
            ("0-2,5,7-8", vec![0, 1, 2, 5, 7, 8]),
        ] {
            assert_eq!(parse_list(text).as_ref(), Some(&cores), "{text:?}");
            assert_eq!(format_list(&cores), text);
        }
        for wrong in ["x", "1-", "-1", "0-99999999999"] {
            assert_eq!(parse_list(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn this_machine_has_a_core_for_the_test() {
        assert!(!cores_allowed().unwrap().is_empty());
    }
}
