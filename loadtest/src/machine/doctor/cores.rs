//! The cores there are for server and generator.

use host::Root;
use host::cgroup::Limits;
use host::cores::{format_list, parse_list, usable};
use host::finding::Finding;

use crate::machine::topology;

/// The cores, and their topology.
#[derive(Debug, Clone, Default)]
pub(super) struct CoreTopology {
    allowed: Vec<usize>,
    online: Vec<usize>,
    /// Of those allowed, the groups that share a physical core.
    sibling_groups: Vec<Vec<usize>>,
    /// The memory nodes of those allowed.
    nodes: Vec<Vec<usize>>,
    /// The cores that the scheduler gives nothing to by itself.
    isolated: Vec<usize>,
    quota_cores_max: Option<f64>,
    throttled: u64,
}

impl CoreTopology {
    pub(super) fn read(root: &Root) -> Self {
        let online = topology::cores_online(root).unwrap_or_default();
        let allowed = usable().unwrap_or_else(|_| online.clone());
        let isolated = root.text("/sys/devices/system/cpu/isolated");
        let cgroup = Limits::read(root);
        Self {
            sibling_groups: topology::sibling_groups(root, &allowed),
            nodes: topology::numa_nodes(root, &allowed),
            isolated: isolated
                .and_then(|list| parse_list(&list))
                .unwrap_or_default(),
            quota_cores_max: cgroup.cpu_cores_max,
            throttled: cgroup.throttled,
            allowed,
            online,
        }
    }

    pub(super) fn judge(&self) -> Vec<Finding> {
        vec![
            self.judge_number(),
            self.judge_quota(),
            self.judge_siblings(),
            self.judge_nodes(),
            self.judge_isolation(),
        ]
    }

    fn judge_number(&self) -> Finding {
        const CHECK: &str = "usable cores";
        let found = format!(
            "{} of {} ({})",
            self.allowed.len(),
            self.online.len(),
            format_list(&self.allowed)
        );
        match (&self.allowed[..], &self.online[..]) {
            ([] | [_], [_, _, ..]) => {
                Finding::problem(CHECK, format!("{found}: server and generator share it"))
                    .advise(format!("taskset -pc {} $$", format_list(&self.online)))
            }
            ([] | [_], _) => {
                Finding::problem(CHECK, format!("{found}: server and generator share it"))
                    .advise("run the server on another machine, or give this one a second core")
            }
            _ => Finding::ok(CHECK, found),
        }
    }

    fn judge_quota(&self) -> Finding {
        const CHECK: &str = "CPU quota";
        let advice = "docker update --cpus=0 CONTAINER, or \
                      systemctl set-property --runtime UNIT CPUQuota=";
        let Some(quota_cores) = self.quota_cores_max else {
            return Finding::ok(CHECK, "none");
        };
        let found = format!(
            "{quota_cores:.2} cores, stopped {} times so far",
            self.throttled
        );
        if quota_cores >= self.allowed.len() as f64 {
            return Finding::ok(CHECK, found);
        }
        if quota_cores < 2.0 || self.throttled > 0 {
            let found = format!("{found}: once it is used up, all threads stop");
            return Finding::problem(CHECK, found).advise(advice);
        }
        Finding::warning(CHECK, found).advise(advice)
    }

    fn judge_siblings(&self) -> Finding {
        const CHECK: &str = "SMT siblings";
        if self.sibling_groups.is_empty() {
            return Finding::ok(CHECK, "none: each usable core is a physical one");
        }
        let found = format!(
            "{} share physical cores",
            join(self.sibling_groups.iter().map(|group| format_list(group)))
        );
        let Some((server, generator)) = self.different_cores() else {
            return Finding::problem(CHECK, format!("{found}: there is only one"))
                .advise("run the server on another machine");
        };
        let advice = format!(
            "pin them to different ones: \
             taskset -c {server} ringback ..., taskset -c {generator} loadtest ..."
        );
        // Programs that count from the first core use these two.
        let first_two_together = self
            .sibling_groups
            .iter()
            .any(|group| group.starts_with(&self.allowed[..2]));
        if first_two_together {
            Finding::problem(CHECK, format!("{found}, the first two as well")).advise(advice)
        } else {
            Finding::warning(CHECK, found).advise(advice)
        }
    }

    /// The first core, and the first that is no sibling of it.
    fn different_cores(&self) -> Option<(usize, usize)> {
        let first = *self.allowed.first()?;
        let with_first = self
            .sibling_groups
            .iter()
            .find(|group| group.contains(&first));
        let other = self.allowed.iter().copied().find(|core| {
            *core != first && with_first.is_none_or(|siblings| !siblings.contains(core))
        })?;
        Some((first, other))
    }

    fn judge_nodes(&self) -> Finding {
        const CHECK: &str = "NUMA nodes";
        match &self.nodes[..] {
            [] | [_] => Finding::ok(CHECK, "1"),
            nodes => Finding::warning(
                CHECK,
                format!(
                    "{}, with cores {}: memory of the other one is farther",
                    nodes.len(),
                    join(nodes.iter().map(|cores| format_list(cores)))
                ),
            )
            .advise("numactl --cpunodebind=0 --membind=0 COMMAND, for both programs"),
        }
    }

    fn judge_isolation(&self) -> Finding {
        const CHECK: &str = "isolated cores";
        if self.isolated.is_empty() {
            return Finding::ok(CHECK, "none");
        }
        let cores = format_list(&self.isolated);
        Finding::warning(
            CHECK,
            format!("{cores}: quiet, and unused unless a thread is pinned there"),
        )
        .advise(format!("taskset -c {cores} COMMAND, one core per thread"))
    }
}

fn join(lists: impl Iterator<Item = String>) -> String {
    lists.collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use host::finding::Level;

    use super::*;

    fn cores(count: usize) -> CoreTopology {
        CoreTopology {
            allowed: (0..count).collect(),
            online: (0..count).collect(),
            ..CoreTopology::default()
        }
    }

    #[test]
    fn one_core_is_too_few() {
        assert_eq!(cores(2).judge_number().level, Level::Ok);
        let found = cores(1).judge_number();
        assert_eq!(found.level, Level::Problem);
        assert!(found.change.unwrap().contains("another machine"));
    }

    #[test]
    fn one_core_of_many_is_a_matter_of_affinity() {
        let found = CoreTopology {
            allowed: vec![3],
            ..cores(8)
        }
        .judge_number();
        assert_eq!(found.level, Level::Problem);
        assert_eq!(found.found, "1 of 8 (3): server and generator share it");
        assert_eq!(found.change.unwrap(), "taskset -pc 0-7 $$");
    }

    #[test]
    fn a_quota_is_bad_below_the_cores_or_when_throttled() {
        for (quota_cores, throttled, level) in [
            (None, 0, Level::Ok),
            (Some(4.0), 9, Level::Ok),
            (Some(3.0), 0, Level::Warning),
            (Some(3.0), 1, Level::Problem),
            (Some(0.5), 0, Level::Problem),
        ] {
            let found = CoreTopology {
                quota_cores_max: quota_cores,
                throttled,
                ..cores(4)
            }
            .judge_quota();
            assert_eq!(found.level, level, "{found:?}");
            assert_eq!(found.change.is_some(), level > Level::Ok);
        }
    }

    #[test]
    fn siblings_are_listed_and_avoided() {
        assert_eq!(cores(4).judge_siblings().level, Level::Ok);
        let side_by_side = CoreTopology {
            sibling_groups: vec![vec![0, 1], vec![2, 3]],
            ..cores(4)
        }
        .judge_siblings();
        assert_eq!(side_by_side.level, Level::Problem);
        assert!(side_by_side.found.starts_with("0-1 | 2-3 share"));
        assert!(
            side_by_side
                .change
                .unwrap()
                .contains("taskset -c 2 loadtest")
        );
        let far_apart = CoreTopology {
            sibling_groups: vec![vec![0, 2], vec![1, 3]],
            ..cores(4)
        }
        .judge_siblings();
        assert_eq!(far_apart.level, Level::Warning);
        assert!(far_apart.change.unwrap().contains("taskset -c 1 loadtest"));
    }

    #[test]
    fn two_threads_of_one_core_are_one_core() {
        let found = CoreTopology {
            sibling_groups: vec![vec![0, 1]],
            ..cores(2)
        }
        .judge_siblings();
        assert_eq!(found.level, Level::Problem);
        assert!(found.found.ends_with("there is only one"));
    }

    #[test]
    fn numa_nodes_and_isolated_cores_are_reported() {
        assert_eq!(cores(2).judge_nodes().level, Level::Ok);
        assert_eq!(cores(2).judge_isolation().level, Level::Ok);
        let big = CoreTopology {
            nodes: vec![vec![0, 1], vec![2, 3]],
            isolated: vec![2, 3],
            ..cores(4)
        };
        let nodes = big.judge_nodes();
        assert_eq!(nodes.level, Level::Warning);
        assert!(nodes.found.starts_with("2, with cores 0-1 | 2-3"));
        let isolated = big.judge_isolation();
        assert_eq!(isolated.level, Level::Warning);
        assert!(isolated.change.unwrap().starts_with("taskset -c 2-3"));
    }
}
