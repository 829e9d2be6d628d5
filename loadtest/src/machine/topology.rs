//! The topology of the cores.

use std::collections::BTreeSet;

use host::Root;
use host::cores::parse_list;

/// The cores that are switched on, in order.
pub(super) fn cores_online(root: &Root) -> Option<Vec<usize>> {
    parse_list(&root.text("/sys/devices/system/cpu/online")?)
}

/// The cores among `cores` that share a physical core with another of them, by group.
pub(super) fn sibling_groups(root: &Root, cores: &[usize]) -> Vec<Vec<usize>> {
    let siblings = |core: &usize| {
        let topology = format!("/sys/devices/system/cpu/cpu{core}/topology");
        let list = root.text(format!("{topology}/thread_siblings_list"))?;
        let mut group = parse_list(&list)?;
        group.retain(|sibling| cores.contains(sibling));
        (group.len() > 1).then_some(group)
    };
    let groups: BTreeSet<Vec<usize>> = cores.iter().filter_map(siblings).collect();
    groups.into_iter().collect()
}

/// Whether two threads share a physical core anywhere on this machine.
pub(super) fn smt_active(root: &Root) -> Option<bool> {
    let active: u8 = root.number("/sys/devices/system/cpu/smt/active")?;
    Some(active != 0)
}

/// The memory nodes that have some of `cores`, with those.
pub(super) fn numa_nodes(root: &Root, cores: &[usize]) -> Vec<Vec<usize>> {
    let list = root
        .text("/sys/devices/system/node/has_cpu")
        .and_then(|list| parse_list(&list));
    let cores_of = |node: usize| {
        let list = root.text(format!("/sys/devices/system/node/node{node}/cpulist"))?;
        let mut here = parse_list(&list)?;
        here.retain(|core| cores.contains(core));
        (!here.is_empty()).then_some(here)
    };
    list.unwrap_or_default()
        .into_iter()
        .filter_map(cores_of)
        .collect()
}

/// Whether this is a virtual machine: x86 has a CPU flag for it, others name the hypervisor in
/// the device tree, whose absence proves nothing.
pub(super) fn is_virtual(root: &Root) -> Option<bool> {
    if root
        .text("/proc/device-tree/hypervisor/compatible")
        .is_some()
        || root.text("/sys/hypervisor/type").is_some()
    {
        return Some(true);
    }
    let flags = root.field("/proc/cpuinfo", "flags")?;
    Some(flags.split(' ').any(|flag| flag == "hypervisor"))
}
