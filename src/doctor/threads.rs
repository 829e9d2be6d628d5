//! Worker threads against cores, CPU quota and task limit.

use host::finding::Finding;

use super::Need;
use super::system::System;
use crate::config::Config;
use crate::server::cores::default_threads;

pub(super) fn check(config: &Config, system: &System) -> Vec<Finding> {
    let threads = Need::of(config, system).threads;
    let quota = cpu_quota(config, threads, system);
    [cores(threads, system), Some(quota), tasks(threads, system)]
        .into_iter()
        .flatten()
        .collect()
}

fn cores(threads: u64, system: &System) -> Option<Finding> {
    const CHECK: &str = "threads";
    let cores = system.cores.len() as u64;
    if cores == 0 {
        return None;
    }
    let found = format!("{threads} on {cores} usable cores");
    Some(if threads <= cores {
        Finding::ok(CHECK, found)
    } else {
        Finding::warning(CHECK, format!("{found}: several share a core")).advise(format!(
            "--threads {cores}, or more cores: taskset, CPUAffinity= in the unit"
        ))
    })
}

/// Without `--threads`, a server starts at most as many as the quota has cores.
fn cpu_quota(config: &Config, threads: u64, system: &System) -> Finding {
    const CHECK: &str = "CPU quota";
    let Some(quota) = system.cgroup.cpu_cores_max else {
        return Finding::ok(CHECK, "none");
    };
    let found = format!(
        "{quota:.2} cores for {threads} threads, throttled {} times so far",
        system.cgroup.throttled
    );
    let most = usize::try_from(threads).unwrap_or(usize::MAX);
    let fitting = default_threads(most, Some(quota));
    if fitting == most {
        return Finding::ok(CHECK, found);
    }
    let spinning = if config.busy_poll.is_zero() {
        ""
    } else {
        ", and --busy-poll uses it up"
    };
    Finding::warning(
        CHECK,
        format!("{found}: then every connection waits for the next period{spinning}"),
    )
    .advise(format!(
        "--threads {fitting}, or a quota of {threads} cores: CPUQuota={}% in the unit, docker \
             update --cpus {threads}, limits.cpu of the pod",
        threads * 100
    ))
}

/// Threads besides the workers: main, admin, and the probe of an engine.
const OTHER_THREADS: u64 = 3;

fn tasks(threads: u64, system: &System) -> Option<Finding> {
    const CHECK: &str = "tasks";
    let max = system.cgroup.tasks_max?;
    let needed = threads + OTHER_THREADS;
    let found = format!("{max} at most (pids.max), {needed} needed");
    Some(if max >= needed {
        Finding::ok(CHECK, found)
    } else {
        Finding::problem(CHECK, format!("{found}: a worker's thread will not start")).advise(
            format!("TasksMax={needed} in the unit, or docker update --pids-limit {needed}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use host::cgroup::Limits;
    use host::finding::Level;

    use super::*;
    use crate::doctor::tests::system;

    fn with_cgroup(cgroup: Limits) -> System {
        System { cgroup, ..system() }
    }

    #[test]
    fn more_threads_than_cores_are_a_warning() {
        let cores_of = |threads, count| {
            let system = System {
                cores: (0..count).collect(),
                ..system()
            };
            cores(threads, &system)
        };
        assert_eq!(cores_of(2, 2).expect("a finding").level, Level::Ok);
        let many = cores_of(4, 2).expect("a finding");
        assert_eq!(many.level, Level::Warning);
        assert!(many.change.expect("advice").starts_with("--threads 2"));
        assert_eq!(cores_of(4, 0), None);
    }

    #[test]
    fn a_quota_below_the_threads_is_a_warning() {
        for (quota, level, fitting) in [
            (None, Level::Ok, 4),
            (Some(4.0), Level::Ok, 4),
            // Rounded up, as the server does.
            (Some(3.5), Level::Ok, 4),
            (Some(1.5), Level::Warning, 2),
            (Some(0.5), Level::Warning, 1),
        ] {
            let system = with_cgroup(Limits {
                cpu_cores_max: quota,
                ..Limits::default()
            });
            let found = cpu_quota(&Config::default(), 4, &system);
            assert_eq!(found.level, level, "{found:?}");
            if let Some(change) = found.change {
                assert!(
                    change.starts_with(&format!("--threads {fitting}, ")),
                    "{change}"
                );
                assert!(change.contains("CPUQuota=400%"), "{change}");
            }
        }
    }

    #[test]
    fn busy_polling_under_a_quota_is_named() {
        let system = with_cgroup(Limits {
            cpu_cores_max: Some(1.0),
            throttled: 9,
            ..Limits::default()
        });
        let config = Config {
            busy_poll: Duration::from_micros(50),
            ..Config::default()
        };
        let found = cpu_quota(&config, 2, &system).found;
        assert!(found.contains("throttled 9 times"), "{found}");
        assert!(found.ends_with("--busy-poll uses it up"), "{found}");
    }

    #[test]
    fn too_few_tasks_for_all_threads_are_a_problem() {
        let level = |tasks_max| {
            let system = with_cgroup(Limits {
                tasks_max,
                ..Limits::default()
            });
            tasks(4, &system).map(|found| found.level)
        };
        assert_eq!(level(None), None);
        assert_eq!(level(Some(7)), Some(Level::Ok));
        assert_eq!(level(Some(6)), Some(Level::Problem));
    }
}
