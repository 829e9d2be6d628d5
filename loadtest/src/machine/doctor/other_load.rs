//! Other load on the cores: processes, and other guests of the host.

use std::collections::BTreeMap;
use std::fs;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use host::finding::Finding;
use host::stat::{self, Stat};
use host::{Root, cores};
use rustix::param::clock_ticks_per_second;

use super::percent;
use crate::machine::{StealClock, topology};

/// Twenty ticks of the kernel's accounting: a process is detected if it took a twentieth of a
/// core.
const WATCH: Duration = Duration::from_millis(200);

/// The users of CPU time that are named.
const NAMES_MAX: usize = 4;

/// The load of other processes and guests.
#[derive(Debug, Clone, Default)]
pub(super) struct OtherLoad {
    /// The number of usable cores that were busy while this process slept.
    cores_busy: f64,
    cores: usize,
    /// The processes that used them, in cores, the largest first.
    users: Vec<(String, f64)>,
    /// Stolen time while watching and since boot, 0 to 1.
    steal: Option<(f64, f64)>,
    is_virtual: Option<bool>,
}

impl OtherLoad {
    pub(super) fn watch(root: &Root) -> Self {
        let allowed = cores::usable().unwrap_or_default();
        let processes = processes_ticks();
        let (start, clock) = (Instant::now(), StealClock::now());
        thread::sleep(WATCH);
        let (elapsed, later) = (start.elapsed(), StealClock::now());
        let users = users_between(&processes, &processes_ticks(), elapsed);
        let mut other_load = Self {
            cores: allowed.len(),
            users,
            is_virtual: topology::is_virtual(root),
            ..Self::default()
        };
        if let (Some(clock), Some(later)) = (clock, later) {
            other_load.cores_busy = later.cores_busy_since(&clock, &allowed);
            other_load.steal = Some((later.share_since(&clock), later.share_since_boot()));
        }
        other_load
    }

    pub(super) fn judge(&self) -> Vec<Finding> {
        [
            Some(self.judge_load()),
            self.judge_steal(),
            self.judge_virtual(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn judge_load(&self) -> Finding {
        const CHECK: &str = "other processes";
        let mut found = format!("{:.1} of {} cores busy", self.cores_busy, self.cores);
        if self.cores_busy <= 0.1 {
            return Finding::ok(CHECK, found);
        }
        let named = self.users.iter().take(NAMES_MAX);
        let named: Vec<String> = named
            .map(|(name, cores)| format!("{name} {}", percent(*cores)))
            .collect();
        found.push_str(": ");
        found.push_str(&named.join(", "));
        // Short-lived processes start and end within the interval, and a container sees the CPU
        // time of all processes, but not the processes.
        let unnamed = self.cores_busy - self.users.iter().map(|(_, cores)| cores).sum::<f64>();
        if unnamed > 0.25 {
            let comma = if named.is_empty() { "" } else { ", " };
            found.push_str(comma);
            found.push_str("processes too short-lived to see, or outside this container, ");
            found.push_str(&percent(unnamed));
        }
        let advice = "let them end, or stop them while measuring: top -b -n 1 | head -15, \
                      then kill -STOP PID, afterwards kill -CONT PID";
        if self.cores_busy <= 0.25 {
            Finding::warning(CHECK, found).advise(advice)
        } else {
            Finding::problem(CHECK, found).advise(advice)
        }
    }

    fn judge_steal(&self) -> Option<Finding> {
        const CHECK: &str = "steal time";
        let (now, since_boot) = self.steal?;
        let found = format!("{} now, {} since boot", percent(now), percent(since_boot));
        let advice = "measure when the host is calm or on one of your own, \
                      and watch the column st of: vmstat 1";
        // A single tick of one core's twenty is not yet a trend.
        Some(if now > 0.06 || since_boot > 0.02 {
            Finding::problem(CHECK, found).advise(advice)
        } else if now > 0.0 || since_boot > 0.001 {
            Finding::warning(CHECK, found).advise(advice)
        } else {
            Finding::ok(CHECK, found)
        })
    }

    fn judge_virtual(&self) -> Option<Finding> {
        const CHECK: &str = "virtual machine";
        Some(if self.is_virtual? {
            Finding::warning(
                CHECK,
                "yes: timers and interrupts take a detour, others share the host",
            )
            .advise("compare only runs on the same machine, repeated and alternating")
        } else {
            Finding::ok(CHECK, "no")
        })
    }
}

/// A process's name and its CPU time in ticks.
type ProcessTicks = (String, u64);

/// All processes but this one, by their ids.
fn processes_ticks() -> BTreeMap<u32, ProcessTicks> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return BTreeMap::new();
    };
    entries
        .filter_map(|entry| {
            let id: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let process = parse_process(&fs::read(format!("/proc/{id}/stat")).ok()?)?;
            (id != process::id()).then_some((id, process))
        })
        .collect()
}

fn parse_process(text: &[u8]) -> Option<ProcessTicks> {
    let stat = Stat::parse(text)?;
    let name = String::from_utf8_lossy(stat::name(text)?);
    // Process names are printed to a terminal.
    let name = name.replace(|c: char| c.is_control(), "?");
    Some((name, stat.user_ticks + stat.system_ticks))
}

/// CPU time by process between two readings, in cores, the largest first. Processes of the same
/// name are added up; for a new one all of its time counts.
fn users_between(
    earlier: &BTreeMap<u32, ProcessTicks>,
    later: &BTreeMap<u32, ProcessTicks>,
    elapsed: Duration,
) -> Vec<(String, f64)> {
    let mut ticks_by_name: BTreeMap<&str, u64> = BTreeMap::new();
    for (id, (name, ticks)) in later {
        let before = earlier.get(id).map_or(0, |(_, ticks)| *ticks);
        *ticks_by_name.entry(name).or_default() += ticks.saturating_sub(before);
    }
    let ticks_all = elapsed.as_secs_f64() * clock_ticks_per_second() as f64;
    let mut users: Vec<(String, f64)> = ticks_by_name
        .into_iter()
        .filter(|&(_, ticks)| ticks > 0)
        .map(|(name, ticks)| (name.to_owned(), ticks as f64 / ticks_all))
        .collect();
    users.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    users
}

#[cfg(test)]
mod tests {
    use host::finding::Level;

    use super::*;

    fn user(name: &str, cores: f64) -> (String, f64) {
        (name.to_owned(), cores)
    }

    #[test]
    fn an_idle_machine_is_good() {
        let calm = OtherLoad {
            cores_busy: 0.05,
            cores: 4,
            users: vec![user("sshd", 0.05)],
            ..OtherLoad::default()
        };
        let found = calm.judge_load();
        assert_eq!(found.level, Level::Ok);
        assert_eq!(found.found, "0.1 of 4 cores busy");
    }

    #[test]
    fn busy_processes_are_named() {
        let busy = OtherLoad {
            cores_busy: 1.5,
            cores: 2,
            users: vec![user("rustc", 0.95), user("cc", 0.1)],
            ..OtherLoad::default()
        };
        let found = busy.judge_load();
        assert_eq!(found.level, Level::Problem);
        assert_eq!(
            found.found,
            "1.5 of 2 cores busy: rustc 95 %, cc 10 %, \
             processes too short-lived to see, or outside this container, 45 %"
        );
        let little = OtherLoad {
            cores_busy: 0.2,
            users: vec![user("cron", 0.2)],
            ..busy
        };
        assert_eq!(little.judge_load().level, Level::Warning);
    }

    #[test]
    fn steal_is_judged_now_and_since_boot() {
        for (now, since_boot, level) in [
            (0.0, 0.0, Level::Ok),
            (0.0, 0.0004, Level::Ok),
            (0.025, 0.0, Level::Warning),
            (0.0, 0.004, Level::Warning),
            (0.2, 0.0, Level::Problem),
            (0.0, 0.05, Level::Problem),
        ] {
            let found = OtherLoad {
                steal: Some((now, since_boot)),
                ..OtherLoad::default()
            }
            .judge_steal()
            .unwrap();
            assert_eq!(found.level, level, "{found:?}");
        }
        assert_eq!(OtherLoad::default().judge_steal(), None);
    }

    #[test]
    fn a_virtual_machine_is_reported() {
        let level = |is_virtual| {
            let other_load = OtherLoad {
                is_virtual,
                ..OtherLoad::default()
            };
            other_load.judge_virtual().map(|found| found.level)
        };
        assert_eq!(level(Some(false)), Some(Level::Ok));
        assert_eq!(level(Some(true)), Some(Level::Warning));
        assert_eq!(level(None), None);
    }

    #[test]
    fn process_names_are_sanitized() {
        let rest = "0 ".repeat(24);
        let stat = format!("42 (a) b (c\u{1b}[2J) S 1 2 3 4 5 6 7 8 9 10 70 30 {rest}\n");
        let process = Some(("a) b (c?[2J".to_owned(), 100));
        assert_eq!(parse_process(stat.as_bytes()), process);
        assert_eq!(parse_process(b"42 (x) S 1\n"), None);
    }

    #[test]
    fn users_are_summed_by_name_and_sorted() {
        let process = |name: &str, ticks| (name.to_owned(), ticks);
        let earlier = BTreeMap::from([(1, process("init", 500)), (2, process("cc", 10))]);
        let later = BTreeMap::from([
            (1, process("init", 500)),
            (2, process("cc", 30)),
            (3, process("cc", 20)),
            (4, process("ld", 50)),
        ]);
        let ticks = clock_ticks_per_second() as f64;
        let elapsed = Duration::from_secs(1);
        assert_eq!(
            users_between(&earlier, &later, elapsed),
            [user("ld", 50.0 / ticks), user("cc", 40.0 / ticks)]
        );
    }

    #[test]
    fn this_process_is_not_among_the_others() {
        assert!(!processes_ticks().contains_key(&process::id()));
    }
}
