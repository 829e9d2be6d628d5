//! The cost of some threads so far.

use super::Usage;

/// The counters of some threads since their start, including those that have ended. Only the
/// resident memory and the number of threads can fall.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// CPU time in nanoseconds, as the scheduler counts it.
    pub cpu_ns: u64,
    /// Time on run queues in nanoseconds: runnable, but without a core. `None` where the kernel
    /// does not count it. The wait of a thread between the last sample and its end is lost.
    pub wait_ns: Option<u64>,
    /// CPU time in user space, in ticks.
    pub user_ticks: u64,
    /// CPU time in the kernel, in ticks.
    pub system_ticks: u64,
    /// Voluntary context switches.
    pub voluntary_switches: u64,
    /// Involuntary context switches.
    pub involuntary_switches: u64,
    /// The present resident memory of their processes, in bytes. Shared pages count for each
    /// process.
    pub rss_bytes: u64,
    /// The present number of threads.
    pub threads: u32,
}

impl Sample {
    /// The cost since an earlier sample of the same threads. `rss_before` is copied.
    pub fn usage_since(&self, earlier: &Self, rss_before: u64) -> Usage {
        let cpu_ns = self.cpu_ns.saturating_sub(earlier.cpu_ns);
        let user_ns = self.user_ns(earlier, cpu_ns);
        Usage {
            cpu_ns,
            run_queue_wait_ns: grown(Some(0), earlier.wait_ns, self.wait_ns),
            user_ns,
            system_ns: cpu_ns - user_ns,
            voluntary_switches: self
                .voluntary_switches
                .saturating_sub(earlier.voluntary_switches),
            involuntary_switches: self
                .involuntary_switches
                .saturating_sub(earlier.involuntary_switches),
            rss_before,
            rss_after: self.rss_bytes,
            threads: self.threads,
        }
    }

    /// The same sample, with the cost between two later samples excluded from what follows.
    #[must_use]
    pub fn without(&self, from: &Self, to: &Self) -> Self {
        let and = |own: u64, from: u64, to: u64| own + to.saturating_sub(from);
        Self {
            cpu_ns: and(self.cpu_ns, from.cpu_ns, to.cpu_ns),
            wait_ns: grown(self.wait_ns, from.wait_ns, to.wait_ns),
            user_ticks: and(self.user_ticks, from.user_ticks, to.user_ticks),
            system_ticks: and(self.system_ticks, from.system_ticks, to.system_ticks),
            voluntary_switches: and(
                self.voluntary_switches,
                from.voluntary_switches,
                to.voluntary_switches,
            ),
            involuntary_switches: and(
                self.involuntary_switches,
                from.involuntary_switches,
                to.involuntary_switches,
            ),
            ..*self
        }
    }

    /// The part of `cpu_ns` in user space. Where no tick has passed since the earlier sample, it
    /// is in the proportion since the start; without any tick, half of it.
    fn user_ns(&self, earlier: &Self, cpu_ns: u64) -> u64 {
        let since = (
            self.user_ticks.saturating_sub(earlier.user_ticks),
            self.system_ticks.saturating_sub(earlier.system_ticks),
        );
        let (user, system) = [since, (self.user_ticks, self.system_ticks)]
            .into_iter()
            .find(|&ticks| ticks != (0, 0))
            .unwrap_or((1, 1));
        let (user, all) = (u128::from(user), u128::from(user) + u128::from(system));
        let user_ns = u128::from(cpu_ns) * user / all;
        u64::try_from(user_ns).expect("a part of a number is no larger")
    }
}

/// A sum plus the growth of another counter; unknown if any of the three is.
pub(super) fn grown(sum: Option<u64>, from: Option<u64>, to: Option<u64>) -> Option<u64> {
    Some(sum? + to?.saturating_sub(from?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(cpu_ns: u64, user_ticks: u64, system_ticks: u64) -> Sample {
        Sample {
            cpu_ns,
            user_ticks,
            system_ticks,
            ..Sample::default()
        }
    }

    fn split(earlier: Sample, later: Sample) -> (u64, u64) {
        let usage = later.usage_since(&earlier, 0);
        assert_eq!(usage.cpu_ns, later.cpu_ns - earlier.cpu_ns);
        (usage.user_ns, usage.system_ns)
    }

    #[test]
    fn cpu_time_is_split_like_the_ticks() {
        assert_eq!(split(sample(0, 0, 0), sample(1000, 1, 3)), (250, 750));
        assert_eq!(split(sample(500, 90, 0), sample(600, 90, 5)), (0, 100));
        let many = u64::MAX;
        assert_eq!(split(sample(0, 0, 0), sample(many, many, 0)), (many, 0));
    }

    #[test]
    fn without_new_ticks_the_old_ones_decide() {
        assert_eq!(split(sample(500, 1, 4), sample(600, 1, 4)), (20, 80));
    }

    #[test]
    fn without_any_ticks_each_half_gets_one() {
        assert_eq!(split(sample(500, 0, 0), sample(601, 0, 0)), (50, 51));
    }

    #[test]
    fn a_wait_is_that_since_the_earlier_sample_or_unknown() {
        let waited = |wait_ns| Sample {
            wait_ns,
            ..Sample::default()
        };
        for (earlier_ns, later_ns, expected_ns) in [
            (Some(3), Some(10), Some(7)),
            (None, Some(10), None),
            (Some(3), None, None),
        ] {
            let usage = waited(later_ns).usage_since(&waited(earlier_ns), 0);
            assert_eq!(usage.run_queue_wait_ns, expected_ns);
        }
        let pause = (waited(Some(5)), waited(Some(105)));
        let start = waited(Some(3)).without(&pause.0, &pause.1);
        assert_eq!(start.wait_ns, Some(103));
    }

    #[test]
    fn everything_else_is_since_the_earlier_sample_or_as_it_is_now() {
        let earlier = Sample {
            voluntary_switches: 10,
            involuntary_switches: 100,
            rss_bytes: 1 << 20,
            threads: 9,
            ..Sample::default()
        };
        let later = Sample {
            voluntary_switches: 15,
            involuntary_switches: 107,
            rss_bytes: 3 << 20,
            threads: 4,
            ..Sample::default()
        };
        let usage = later.usage_since(&earlier, 4096);
        assert_eq!(usage.voluntary_switches, 5);
        assert_eq!(usage.involuntary_switches, 7);
        assert_eq!((usage.rss_before, usage.rss_after), (4096, 3 << 20));
        assert_eq!(usage.threads, 4);
    }
}
