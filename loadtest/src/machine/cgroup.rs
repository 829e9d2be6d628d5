//! The limits that control groups put on this process: its own group's and
//! those of the groups around it, in either version of the interface.

use std::fs;
use std::path::PathBuf;

use super::read;

/// Version 1 writes "no limit" as the largest multiple of the page size; no
/// machine has half as much memory.
const MEMORY_UNLIMITED_BYTES: u64 = 1 << 62;

/// How many cores' worth of time this process may use at most, or `None`
/// without such a limit.
pub(super) fn cpu_quota_cores() -> Option<f64> {
    let groups = Groups::of_this_process("cpu")?;
    let limits = groups
        .around
        .iter()
        .filter_map(|group| match groups.version {
            Version::One => {
                let quota = read::text(group.join("cpu.cfs_quota_us"))?;
                let period = read::text(group.join("cpu.cfs_period_us"))?;
                parse_quota(&format!("{quota} {period}"))
            }
            Version::Two => parse_quota(&read::text(group.join("cpu.max"))?),
        });
    limits.reduce(f64::min)
}

/// How often a group around this process was stopped because its time was used
/// up, since the group was made.
pub(super) fn throttled() -> u64 {
    let Some(groups) = Groups::of_this_process("cpu") else {
        return 0;
    };
    let counts = groups.around.iter().filter_map(|group| {
        let stat = read::text(group.join("cpu.stat"))?;
        read::field(&stat, "nr_throttled")?.parse().ok()
    });
    counts.max().unwrap_or(0)
}

/// How much memory this process may use at most, in bytes, or `None` without
/// such a limit.
pub(super) fn memory_max_bytes() -> Option<u64> {
    let groups = Groups::of_this_process("memory")?;
    let file = match groups.version {
        Version::One => "memory.limit_in_bytes",
        Version::Two => "memory.max",
    };
    groups
        .around
        .iter()
        .filter_map(|group| read::number::<u64>(group.join(file)))
        .filter(|&bytes| bytes < MEMORY_UNLIMITED_BYTES)
        .min()
}

/// Reads quota and period: `150000 100000` is one and a half cores; `max` and
/// -1 are no limit.
fn parse_quota(text: &str) -> Option<f64> {
    let (quota, period) = text.split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The groups this process is in, as far as one controller is concerned.
#[derive(Debug, PartialEq, Eq)]
struct Groups {
    version: Version,
    /// Their directories, from the innermost outward.
    around: Vec<PathBuf>,
}

impl Groups {
    fn of_this_process(controller: &str) -> Option<Self> {
        let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        Self::find(&membership, &mounts, controller)
    }

    /// Finds them from `/proc/self/cgroup`, see cgroups(7), and
    /// `/proc/self/mountinfo`, see proc(5).
    fn find(membership: &str, mounts: &str, controller: &str) -> Option<Self> {
        let lines = || membership.lines().filter_map(parse_membership);
        // Where both versions are mounted, version 1 has the controllers it
        // names, and version 2 the rest.
        let (version, path) = lines()
            .find(|(controllers, _)| controllers.split(',').any(|name| name == controller))
            .map(|(_, path)| (Version::One, path))
            .or_else(|| {
                let (_, path) = lines().find(|(controllers, _)| controllers.is_empty())?;
                Some((Version::Two, path))
            })?;
        let mount = mounts
            .lines()
            .filter_map(Mount::parse)
            .find(|mount| match version {
                Version::One => {
                    mount.kind == "cgroup" && mount.options.split(',').any(|o| o == controller)
                }
                Version::Two => mount.kind == "cgroup2",
            })?;
        // In a container, the path may be told as seen from outside, while only
        // what is below the mount's root can be seen.
        let below = match mount.root {
            "/" => path,
            root => path.strip_prefix(root).unwrap_or(""),
        };
        let mut around = vec![PathBuf::from(mount.point)];
        for name in below.split('/').filter(|name| !name.is_empty()) {
            // The group lies beside what can be seen.
            if name == ".." {
                around.truncate(1);
                break;
            }
            around.push(around[around.len() - 1].join(name));
        }
        around.reverse();
        Some(Self { version, around })
    }
}

/// Splits `4:cpu,cpuacct:/some/group` into controllers and path.
fn parse_membership(line: &str) -> Option<(&str, &str)> {
    line.split_once(':')?.1.split_once(':')
}

struct Mount<'a> {
    /// What of the file system is mounted.
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let mut right = right.split(' ');
        Some(Self {
            root: left.next()?,
            point: left.next()?,
            kind: right.next()?,
            options: right.nth(1)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str =
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn paths(groups: &Groups) -> Vec<&str> {
        groups
            .around
            .iter()
            .filter_map(|path| path.to_str())
            .collect()
    }

    #[test]
    fn the_groups_of_version_2_are_one_tree() {
        let groups = Groups::find("0::/user.slice/run.scope\n", UNIFIED, "cpu").unwrap();
        assert_eq!(groups.version, Version::Two);
        assert_eq!(
            paths(&groups),
            [
                "/sys/fs/cgroup/user.slice/run.scope",
                "/sys/fs/cgroup/user.slice",
                "/sys/fs/cgroup"
            ]
        );
    }

    #[test]
    fn version_1_has_a_tree_for_each_controller() {
        let membership = "4:memory:/job/7\n3:cpu,cpuacct:/\n0::/\n";
        let mounts = "\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
        let memory = Groups::find(membership, mounts, "memory").unwrap();
        assert_eq!(memory.version, Version::One);
        assert_eq!(
            paths(&memory),
            [
                "/sys/fs/cgroup/memory/job/7",
                "/sys/fs/cgroup/memory/job",
                "/sys/fs/cgroup/memory"
            ]
        );
        let cpu = Groups::find(membership, mounts, "cpu").unwrap();
        assert_eq!(paths(&cpu), ["/sys/fs/cgroup/cpu,cpuacct"]);
        // What version 1 does not have is version 2's.
        let io = Groups::find(membership, mounts, "io").unwrap();
        assert_eq!(io.version, Version::Two);
    }

    #[test]
    fn a_container_sees_its_own_group_at_the_mount_point() {
        let mounts = "\
30 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup cgroup rw,memory
";
        let inside = Groups::find("4:memory:/docker/abc\n", mounts, "memory").unwrap();
        assert_eq!(paths(&inside), ["/sys/fs/cgroup"]);
        let beside = Groups::find("0::/../other\n", UNIFIED, "memory").unwrap();
        assert_eq!(paths(&beside), ["/sys/fs/cgroup"]);
        assert_eq!(Groups::find("", UNIFIED, "cpu"), None);
        assert_eq!(Groups::find("0::/\n", "", "cpu"), None);
    }

    #[test]
    fn a_quota_is_time_per_period() {
        assert_eq!(parse_quota("150000 100000"), Some(1.5));
        assert_eq!(parse_quota("max 100000"), None);
        assert_eq!(parse_quota("-1 100000"), None);
        assert_eq!(parse_quota("100000 0"), None);
        assert_eq!(parse_quota(""), None);
    }
}
