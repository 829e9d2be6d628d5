//! The proof that the percentiles are right: the generator drives a server that delays, stalls
//! and misbehaves by a script, and has to report exactly that.
//!
//! ```text
//! Scenario ─► ScriptedServer ◄─ drive ─► Outcome ─► Injection::check ─► Checks
//! ```
//!
//! A check is a pure function of the outcome, so that the tests can show that it rejects the
//! outcome of a broken generator.

mod check;
mod expect;
mod injection;
mod scenario;
#[cfg(test)]
mod tests;

use crate::builtin::ScriptedServer;
use crate::cores::AllowedCores;
use crate::failure::{Failure, affinity};
use crate::interrupt::{EXIT_INTERRUPTED, Interrupt};
use crate::outcome::{Outcome, per_second};
use crate::plan::Plan;
use crate::session::{EXIT_FAILED, EXIT_OK, drive, log, print, raise_file_limit};
use crate::target::{Scheme, Target};
use crate::units::format_rate;
use crate::watch::ThreadGroup;

use check::{Check, CheckResult, rows};
use injection::{ScenarioRun, ServerCounts};
use scenario::{Scenario, scenarios};

/// The most attempts of a scenario while nothing worse is found than the disturbances of a busy
/// machine.
const TRIES_MAX: u32 = 3;

/// Drives every scenario and prints what was injected, expected and reported.
/// The server runs on the first core this thread may use, the generator on the
/// second.
///
/// # Errors
/// A failure before the measurement.
pub fn run(quick: bool, interrupt: &Interrupt) -> Result<u8, Failure> {
    let cores = AllowedCores::of_this_thread().map_err(affinity)?;
    let (server_core, generator_core) = cores.server_and_generator();
    if server_core == generator_core {
        log(&format!(
            "server and generator share core {server_core}: expect checks of times to fail"
        ));
    }
    let (mut passed, mut total) = (0, 0);
    let mut heading = String::new();
    for scenario in scenarios(quick, generator_core) {
        raise_file_limit(&scenario.plan, scenario.plan.sockets())?;
        let scenario_result = retry(&scenario.title, |is_last| {
            attempt(&scenario, is_last, server_core, interrupt)
        })?;
        let Some(scenario_result) = scenario_result else {
            print("interrupted\n")?;
            return Ok(EXIT_INTERRUPTED);
        };
        if heading != scenario.title {
            heading.clone_from(&scenario.title);
            print(&format!("{heading}\n"))?;
        }
        print(&rows(&scenario_result.checks, scenario_result.tries))?;
        if !scenario_result.checks.iter().all(Check::holds) || scenario_result.is_wide {
            print(&format!("    {}\n", scenario_result.remark()))?;
        }
        passed += scenario_result
            .checks
            .iter()
            .filter(|check| check.holds())
            .count();
        total += scenario_result.checks.len();
    }
    print(&format!("{passed} of {total} checks passed\n"))?;
    Ok(if passed == total {
        EXIT_OK
    } else {
        EXIT_FAILED
    })
}

/// The result of a scenario.
#[derive(Debug)]
struct ScenarioResult {
    checks: Vec<Check>,
    tries: u32,
    switches_per_s: f64,
    is_wide: bool,
}

/// The result of one run of a scenario.
#[derive(Debug)]
struct Attempt {
    checks: Vec<Check>,
    /// Involuntary context switches of server and generator per second.
    switches_per_s: f64,
    /// Whether that was so often that the bounds are those for a busy machine.
    is_wide: bool,
}

impl ScenarioResult {
    /// A remark on the machine beside the checks.
    fn remark(&self) -> String {
        format!(
            "(others took a core from server or generator {} times per second{})",
            format_rate(self.switches_per_s),
            if self.is_wide {
                ": the bounds are those for a busy machine"
            } else {
                ""
            }
        )
    }
}

/// Repeats a scenario, at most [`TRIES_MAX`] times in all, as long as all that is wrong can be
/// explained by a busy machine. `attempt` gets whether it is the last one. `None` after an
/// interrupt.
fn retry(
    title: &str,
    mut attempt: impl FnMut(bool) -> Result<Option<Attempt>, Failure>,
) -> Result<Option<ScenarioResult>, Failure> {
    for tries in 1.. {
        let Some(Attempt {
            checks,
            switches_per_s,
            is_wide,
        }) = attempt(tries == TRIES_MAX)?
        else {
            return Ok(None);
        };
        assert!(!checks.is_empty(), "{title}: nothing was checked");
        if worst(&checks) == CheckResult::Disturbed && tries < TRIES_MAX {
            for check in checks.iter().filter(|check| !check.holds()) {
                log(&format!("again, as {check} ({title})"));
            }
            continue;
        }
        return Ok(Some(ScenarioResult {
            checks,
            tries,
            switches_per_s,
            is_wide,
        }));
    }
    unreachable!("the last try settles it")
}

fn worst(checks: &[Check]) -> CheckResult {
    let findings = checks.iter().map(|check| check.result);
    findings.max().unwrap_or(CheckResult::Holds)
}

/// Runs a scenario once. The last attempt decides, even on a busy machine.
fn attempt(
    scenario: &Scenario,
    is_last: bool,
    core: usize,
    interrupt: &Interrupt,
) -> Result<Option<Attempt>, Failure> {
    let local = |source| Failure::Local {
        what: "starting the scripted server",
        source,
    };
    let server = ScriptedServer::start(scenario.injection.script(), Some(core)).map_err(local)?;
    let plan = Plan {
        targets: vec![Target::at(Scheme::Ws, server.address())],
        ..scenario.plan.clone()
    };
    let mut thread = ThreadGroup::of(&[server.thread_id()]).ok();
    let watched = thread.as_mut().map(|thread| thread as _);
    let outcome = drive(&plan, watched, interrupt)?;
    let counts = ServerCounts {
        served: server.served(),
        rare: server.rarely_delayed(),
    };
    server.stop();
    if outcome.interrupted {
        return Ok(None);
    }
    let switches_per_s = per_second(switches(&outcome), outcome.elapsed);
    let (tolerance, is_wide) = scenario.tolerance(is_last, switches_per_s);
    let run = ScenarioRun {
        plan: &plan,
        outcome: &outcome,
        server: counts,
        tolerance,
    };
    Ok(Some(Attempt {
        checks: scenario.injection.check(&run),
        switches_per_s,
        is_wide,
    }))
}

/// The number of involuntary context switches of server and generator.
fn switches(outcome: &Outcome) -> u64 {
    let server = outcome.server.map_or(0, |usage| usage.involuntary_switches);
    server + outcome.generator.usage.involuntary_switches
}
