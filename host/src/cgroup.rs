//! The limits that control groups put on this process: its own group's and
//! those of the groups around it, in either version of the interface.

use std::path::{Path, PathBuf};

use crate::root::Root;

/// Version 1 writes "no limit" as the largest multiple of the page size; no
/// machine has half as much memory.
const MEMORY_UNLIMITED_BYTES: u64 = 1 << 62;

/// The limits of the control groups around this process; `None` is no limit, or one that cannot
/// be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// CPU time, in cores.
    pub cpu_cores_max: Option<f64>,
    /// The directory of the group with that quota.
    pub cpu_quota_group: Option<PathBuf>,
    /// The number of times a group was throttled since it was created.
    pub throttled: u64,
    /// Bytes of memory.
    pub memory_max_bytes: Option<u64>,
    /// Processes and threads.
    pub tasks_max: Option<u64>,
}

impl Limits {
    /// The limits on this process, as the files under `root` have them.
    pub fn read(root: &Root) -> Self {
        let groups = |controller| ControlGroups::of_this_process(root, controller);
        let cpu = groups("cpu");
        let quota = cpu.as_ref().and_then(|cpu| cpu.quota_cores(root));
        Self {
            cpu_cores_max: quota.map(|(cores, _)| cores),
            cpu_quota_group: quota.map(|(_, group)| group.to_owned()),
            throttled: cpu.as_ref().map_or(0, |cpu| cpu.throttled(root)),
            memory_max_bytes: groups("memory")
                .and_then(|memory| memory.smallest(root, "memory.limit_in_bytes", "memory.max"))
                .filter(|&bytes| bytes < MEMORY_UNLIMITED_BYTES),
            tasks_max: groups("pids").and_then(|pids| pids.smallest(root, "pids.max", "pids.max")),
        }
    }
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

/// The control groups of this process, for one controller.
#[derive(Debug, PartialEq, Eq)]
struct ControlGroups {
    version: Version,
    /// The directories of its group and of those around it, from the innermost outward.
    enclosing: Vec<PathBuf>,
}

impl ControlGroups {
    fn of_this_process(root: &Root, controller: &str) -> Option<Self> {
        let membership = root.text("proc/self/cgroup")?;
        let mounts = root.text("proc/self/mountinfo")?;
        Self::find(&membership, &mounts, controller)
    }

    /// The smallest quota, and its group.
    fn quota_cores(&self, root: &Root) -> Option<(f64, &Path)> {
        let quotas = self.enclosing.iter().filter_map(|group| {
            let cores = match self.version {
                Version::One => {
                    let quota = root.text(group.join("cpu.cfs_quota_us"))?;
                    let period = root.text(group.join("cpu.cfs_period_us"))?;
                    parse_quota(&format!("{quota} {period}"))
                }
                Version::Two => parse_quota(&root.text(group.join("cpu.max"))?),
            };
            Some((cores?, group.as_path()))
        });
        quotas.min_by(|(one, _), (other, _)| one.total_cmp(other))
    }

    fn throttled(&self, root: &Root) -> u64 {
        let counts = self.enclosing.iter().filter_map(|group| {
            let count = root.field(group.join("cpu.stat"), "nr_throttled")?;
            count.parse().ok()
        });
        counts.max().unwrap_or(0)
    }

    /// The smallest number in a file that has one name for each version.
    fn smallest(&self, root: &Root, one: &str, two: &str) -> Option<u64> {
        let file = match self.version {
            Version::One => one,
            Version::Two => two,
        };
        let limits = self.enclosing.iter();
        limits
            .filter_map(|group| root.number(group.join(file)))
            .min()
    }

    /// Finds them from `/proc/self/cgroup`, see cgroups(7), and
    /// `/proc/self/mountinfo`, see proc(5).
    fn find(membership: &str, mounts: &str, controller: &str) -> Option<Self> {
        let lines = || membership.lines().filter_map(parse_membership);
        // Where both versions are mounted, version 1 has the controllers it names, and version
        // 2 the rest.
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
        // In a container, the path may be the one seen from outside, while only what is below
        // the mount's root is visible.
        let below = match mount.root {
            "/" => path,
            root => path.strip_prefix(root).unwrap_or(""),
        };
        let mut enclosing = vec![PathBuf::from(mount.point)];
        for name in below.split('/').filter(|name| !name.is_empty()) {
            // The group is outside the visible tree.
            if name == ".." {
                enclosing.truncate(1);
                break;
            }
            enclosing.push(enclosing[enclosing.len() - 1].join(name));
        }
        enclosing.reverse();
        Some(Self { version, enclosing })
    }
}

/// Splits `4:cpu,cpuacct:/some/group` into controllers and path.
fn parse_membership(line: &str) -> Option<(&str, &str)> {
    line.split_once(':')?.1.split_once(':')
}

struct Mount<'a> {
    /// The directory of the file system that is mounted.
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
    use crate::root::tests::Tree;

    const UNIFIED: &str =
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_strictest_enclosing_group_sets_the_limit() {
        let tree = Tree::new();
        tree.write("proc/self/cgroup", "0::/job/server\n");
        tree.write("proc/self/mountinfo", UNIFIED);
        tree.write("sys/fs/cgroup/job/cpu.max", "150000 100000\n");
        tree.write(
            "sys/fs/cgroup/job/cpu.stat",
            "usage_usec 9\nnr_throttled 7\n",
        );
        tree.write("sys/fs/cgroup/job/server/cpu.max", "max 100000\n");
        tree.write("sys/fs/cgroup/job/memory.max", "max\n");
        tree.write("sys/fs/cgroup/job/server/memory.max", "1048576\n");
        tree.write("sys/fs/cgroup/job/pids.max", "100\n");
        tree.write("sys/fs/cgroup/job/server/pids.max", "200\n");
        assert_eq!(
            Limits::read(&tree.root()),
            Limits {
                cpu_cores_max: Some(1.5),
                cpu_quota_group: Some("/sys/fs/cgroup/job".into()),
                throttled: 7,
                memory_max_bytes: Some(1 << 20),
                tasks_max: Some(100),
            }
        );
        assert_eq!(Limits::read(&Tree::new().root()), Limits::default());
    }

    #[test]
    fn version_1_limits_are_read_from_its_own_files() {
        let tree = Tree::new();
        tree.write(
            "proc/self/cgroup",
            "4:memory:/job\n3:cpu:/job\n2:pids:/job\n",
        );
        let mounts = ["memory", "cpu", "pids"].map(|controller| {
            format!("30 23 0:26 / /sys/fs/cgroup/{controller} rw - cgroup cgroup rw,{controller}\n")
        });
        tree.write("proc/self/mountinfo", &mounts.concat());
        tree.write(
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes",
            "9223372036854771712\n",
        );
        tree.write("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "50000\n");
        tree.write("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
        tree.write("sys/fs/cgroup/pids/job/pids.max", "max\n");
        let limits = Limits::read(&tree.root());
        assert_eq!(limits.cpu_cores_max, Some(0.5));
        assert_eq!(
            limits.cpu_quota_group.as_deref(),
            Some(Path::new("/sys/fs/cgroup/cpu/job"))
        );
        assert_eq!((limits.memory_max_bytes, limits.tasks_max), (None, None));
        tree.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "4096\n");
        assert_eq!(Limits::read(&tree.root()).memory_max_bytes, Some(4096));
    }

    fn paths(groups: &ControlGroups) -> Vec<&str> {
        groups
            .enclosing
            .iter()
            .filter_map(|path| path.to_str())
            .collect()
    }

    #[test]
    fn the_groups_of_version_2_are_one_tree() {
        let groups = ControlGroups::find("0::/user.slice/run.scope\n", UNIFIED, "cpu").unwrap();
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
        let memory = ControlGroups::find(membership, mounts, "memory").unwrap();
        assert_eq!(memory.version, Version::One);
        assert_eq!(
            paths(&memory),
            [
                "/sys/fs/cgroup/memory/job/7",
                "/sys/fs/cgroup/memory/job",
                "/sys/fs/cgroup/memory"
            ]
        );
        let cpu = ControlGroups::find(membership, mounts, "cpu").unwrap();
        assert_eq!(paths(&cpu), ["/sys/fs/cgroup/cpu,cpuacct"]);
        // A controller that version 1 lacks belongs to version 2.
        let io = ControlGroups::find(membership, mounts, "io").unwrap();
        assert_eq!(io.version, Version::Two);
    }

    #[test]
    fn a_container_sees_its_own_group_at_the_mount_point() {
        let mounts = "\
30 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup cgroup rw,memory
";
        let inside = ControlGroups::find("4:memory:/docker/abc\n", mounts, "memory").unwrap();
        assert_eq!(paths(&inside), ["/sys/fs/cgroup"]);
        let beside = ControlGroups::find("0::/../other\n", UNIFIED, "memory").unwrap();
        assert_eq!(paths(&beside), ["/sys/fs/cgroup"]);
        assert_eq!(ControlGroups::find("", UNIFIED, "cpu"), None);
        assert_eq!(ControlGroups::find("0::/\n", "", "cpu"), None);
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
