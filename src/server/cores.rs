//! The number of workers, and the core of each.

use std::io;
use std::num::NonZeroUsize;

use host::Root;
use host::cgroup::Limits;
use host::cores::usable;

use crate::config::{Config, THREADS_MAX};

/// The default number of workers: one per core, at most the CPU quota rounded up.
pub(crate) fn default_threads(cores: usize, quota_cores: Option<f64>) -> usize {
    let most = cores.clamp(1, THREADS_MAX);
    let quota_cores = quota_cores.unwrap_or(f64::INFINITY);
    (1..most)
        .find(|&threads| threads as f64 >= quota_cores)
        .unwrap_or(most)
}

/// One item per worker: the core that it is pinned to, if any. Logs what a CPU quota
/// changes.
///
/// # Errors
/// The kernel's, for the list of cores.
pub(crate) fn assign(config: &Config) -> io::Result<Vec<Option<usize>>> {
    let cores = usable()?;
    let limits = Limits::read(&Root::of_this_machine());
    let (assigned, reason) = assign_to(config, &cores, &limits);
    if let Some(reason) = reason {
        tracing::info!("{reason}");
    }
    Ok(assigned)
}

/// [`assign`] for these cores and limits, with the line to log.
///
/// A CPU quota limits time on cores that other groups use as well. Every group would
/// pin its workers to the same first cores, so with a quota none is pinned, unless
/// `incoming_cpu` needs it.
fn assign_to(
    config: &Config,
    cores: &[usize],
    limits: &Limits,
) -> (Vec<Option<usize>>, Option<String>) {
    let quota = limits.cpu_cores_max;
    let is_scarce = quota.is_some_and(|quota| quota < cores.len() as f64);
    let threads = config
        .threads
        .map_or_else(|| default_threads(cores.len(), quota), NonZeroUsize::get);
    let is_bound = config.pin && !cores.is_empty() && (config.incoming_cpu || !is_scarce);
    let core = |index: usize| is_bound.then(|| cores[index % cores.len()]);
    let assigned = (0..threads).map(core).collect();

    let is_default = config.threads.is_none();
    let is_unbound = config.pin && !is_bound;
    let (Some(quota), true) = (quota, is_scarce && (is_default || is_unbound)) else {
        return (assigned, None);
    };
    let subject = if is_default {
        format!("threads={threads}: ")
    } else {
        String::new()
    };
    let group = limits.cpu_quota_group.as_deref();
    let of = group.map_or(String::new(), |group| format!(" of {}", group.display()));
    let consequence = if is_unbound {
        "; workers are not bound to cores, which others share"
    } else {
        ""
    };
    let reason = format!("{subject}the CPU quota{of} is {quota} cores{consequence}");
    (assigned, Some(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUR: [usize; 4] = [2, 3, 5, 7];

    fn quota(quota_cores: f64) -> Limits {
        Limits {
            cpu_cores_max: Some(quota_cores),
            cpu_quota_group: Some("/sys/fs/cgroup/job".into()),
            ..Limits::default()
        }
    }

    #[test]
    fn default_threads_are_the_smaller_of_cores_and_quota_rounded_up() {
        for (cores, quota_cores, threads) in [
            (64, None, 64),
            (64, Some(2.0), 2),
            (64, Some(0.5), 1),
            (64, Some(1.01), 2),
            (2, Some(8.0), 2),
            (0, None, 1),
            (1, Some(0.01), 1),
            (100_000, None, THREADS_MAX),
        ] {
            let counted = default_threads(cores, quota_cores);
            assert_eq!(counted, threads, "{cores} cores, {quota_cores:?}");
        }
    }

    #[test]
    fn without_a_smaller_quota_every_worker_is_pinned_and_nothing_is_logged() {
        for limits in [Limits::default(), quota(4.0), quota(9.5)] {
            let (assigned, reason) = assign_to(&Config::default(), &FOUR, &limits);
            assert_eq!(assigned, FOUR.map(Some));
            assert_eq!(reason, None);
        }
        let unbound = Config {
            pin: false,
            ..Config::default()
        };
        let (assigned, reason) = assign_to(&unbound, &FOUR, &Limits::default());
        assert_eq!((&assigned[..], reason), (&[None; 4][..], None));
    }

    #[test]
    fn a_quota_limits_the_default_threads_and_is_logged() {
        let (assigned, reason) = assign_to(&Config::default(), &FOUR, &quota(0.5));
        assert_eq!(assigned, [None]);
        let reason = reason.expect("a line");
        let expected = "threads=1: the CPU quota of /sys/fs/cgroup/job is 0.5 cores; ";
        assert!(reason.starts_with(expected), "{reason}");
        let named = Config {
            threads: NonZeroUsize::new(3),
            ..Config::default()
        };
        let (assigned, reason) = assign_to(&named, &FOUR, &quota(2.0));
        assert_eq!(assigned, [None; 3], "a number that is set is not changed");
        let reason = reason.expect("a line");
        assert!(reason.contains("not bound to cores"), "{reason}");
    }

    #[test]
    fn incoming_cpu_pins_workers_in_spite_of_a_quota() {
        let config = Config {
            incoming_cpu: true,
            ..Config::default()
        };
        let (assigned, reason) = assign_to(&config, &FOUR, &quota(2.0));
        assert_eq!(assigned, [Some(2), Some(3)]);
        let reason = reason.expect("a line");
        assert!(!reason.contains("not bound"), "{reason}");
    }
}
