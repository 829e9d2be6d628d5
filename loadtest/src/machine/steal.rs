//! CPU time of the cores from `/proc/stat`, above all steal time.

use std::collections::BTreeMap;
use std::fs;

/// A reading of `/proc/stat`. The difference of two of them is the share of steal time: the
/// hypervisor kept the cores from running though they had work.
///
/// The kernel counts in ticks of 10 ms, so over less than a second the shares
/// are coarse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StealClock {
    all: CoreTime,
    cores: BTreeMap<usize, CoreTime>,
}

impl StealClock {
    /// Reads the clock; `None` where there is no `/proc/stat`.
    pub fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// Stolen time as a share of all time since an earlier reading, all cores
    /// together, 0 to 1. No time between the two is no steal.
    pub fn share_since(&self, earlier: &Self) -> f64 {
        self.all.since(earlier.all).steal_share()
    }

    /// The same by core: with threads pinned, an idle core would hide the steal of another. Cores
    /// that came online or went offline in between are left out.
    pub fn core_shares_since(&self, earlier: &Self) -> BTreeMap<usize, f64> {
        self.cores_since(earlier)
            .map(|(core, time)| (core, time.steal_share()))
            .collect()
    }

    /// Stolen time as a share of all time since the machine was started.
    pub fn share_since_boot(&self) -> f64 {
        self.all.steal_share()
    }

    /// The number of `cores` that were busy on average since an earlier reading, with any
    /// process.
    pub(super) fn cores_busy_since(&self, earlier: &Self, cores: &[usize]) -> f64 {
        self.cores_since(earlier)
            .filter(|(core, _)| cores.contains(core))
            .map(|(_, time)| time.busy_share())
            .sum()
    }

    fn cores_since(&self, earlier: &Self) -> impl Iterator<Item = (usize, CoreTime)> {
        self.cores.iter().filter_map(|(core, time)| {
            let before = earlier.cores.get(core)?;
            Some((*core, time.since(*before)))
        })
    }

    fn parse(stat: &str) -> Option<Self> {
        let mut all = None;
        let mut cores = BTreeMap::new();
        for line in stat.lines() {
            let Some((name, numbers)) = line.split_once(' ') else {
                continue;
            };
            match name.strip_prefix("cpu") {
                Some("") => all = CoreTime::parse(numbers),
                Some(core) => {
                    cores.insert(core.parse().ok()?, CoreTime::parse(numbers)?);
                }
                None => {}
            }
        }
        Some(Self { all: all?, cores })
    }
}

/// The time of a core by state, in ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct CoreTime {
    busy: u64,
    idle: u64,
    steal: u64,
}

impl CoreTime {
    /// Reads the numbers of a `cpu` line, see proc(5). Guests' time is part of
    /// the user's and not counted again.
    fn parse(numbers: &str) -> Option<Self> {
        let numbers: Vec<u64> = numbers
            .split_ascii_whitespace()
            .map_while(|number| number.parse().ok())
            .collect();
        let [
            user,
            nice,
            system,
            idle,
            iowait,
            irq,
            softirq,
            ref rest @ ..,
        ] = numbers[..]
        else {
            return None;
        };
        Some(Self {
            busy: user + nice + system + irq + softirq,
            idle: idle + iowait,
            steal: rest.first().copied().unwrap_or(0),
        })
    }

    /// The kernel's counter of I/O wait may decrease.
    fn since(self, earlier: Self) -> Self {
        Self {
            busy: self.busy.saturating_sub(earlier.busy),
            idle: self.idle.saturating_sub(earlier.idle),
            steal: self.steal.saturating_sub(earlier.steal),
        }
    }

    fn steal_share(self) -> f64 {
        self.share(self.steal)
    }

    fn busy_share(self) -> f64 {
        self.share(self.busy)
    }

    fn share(self, part: u64) -> f64 {
        match self.busy + self.idle + self.steal {
            0 => 0.0,
            total => part as f64 / total as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLIER: &str = "\
cpu  100 0 50 800 10 0 20 20 0 0
cpu0 50 0 25 400 10 0 10 5 0 0
cpu1 50 0 25 400 0 0 10 15 0 0
intr 630629 0 0
";

    const LATER: &str = "\
cpu  180 0 60 880 5 0 20 50 40 0
cpu0 130 0 35 400 5 0 10 15 40 0
cpu1 50 0 25 480 0 0 10 35 0 0
intr 630700 0 0
";

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn steal_is_a_share_of_all_time_between_two_readings() {
        let (earlier, later) = (
            StealClock::parse(EARLIER).unwrap(),
            StealClock::parse(LATER).unwrap(),
        );
        // 30 stolen, 90 busy, 75 idle; the guest's 40 are part of the user's.
        assert!(close(later.share_since(&earlier), 30.0 / 195.0));
        let cores = later.core_shares_since(&earlier);
        assert!(close(cores[&0], 10.0 / 100.0));
        assert!(close(cores[&1], 20.0 / 100.0));
        assert!(close(earlier.share_since_boot(), 0.02));
    }

    #[test]
    fn busy_cores_are_those_asked_for() {
        let (earlier, later) = (
            StealClock::parse(EARLIER).unwrap(),
            StealClock::parse(LATER).unwrap(),
        );
        assert!(close(later.cores_busy_since(&earlier, &[0, 1]), 0.9));
        assert!(close(later.cores_busy_since(&earlier, &[1, 7]), 0.0));
    }

    #[test]
    fn no_time_and_no_steal_column_are_no_steal() {
        let reading = StealClock::parse(EARLIER).unwrap();
        assert!(close(reading.share_since(&reading), 0.0));
        let old = StealClock::parse("cpu  1 2 3 4 5 6 7\n").unwrap();
        assert!(close(old.share_since_boot(), 0.0));
        assert_eq!(StealClock::parse("intr 1 2 3\n"), None);
        assert_eq!(StealClock::parse("cpu  1 2\n"), None);
    }

    #[test]
    fn this_machine_has_the_clock() {
        let reading = StealClock::now().unwrap();
        assert!((0.0..=1.0).contains(&reading.share_since_boot()));
        assert!(!reading.cores.is_empty());
    }
}
