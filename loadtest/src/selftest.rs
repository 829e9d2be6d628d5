//! The proof that the percentiles are right: the generator drives a server that
//! is late, stalls and misbehaves as told, and has to report just that.
//!
//! ```text
//! Scenario ─► ScriptedServer ◄─ drive ─► Outcome ─► Injection::check ─► Checks
//! ```
//!
//! What a check finds is a pure function of the outcome, so that the tests can
//! show that it rejects the outcome of a broken generator.

mod check;
mod expect;
mod injection;
mod scenario;
#[cfg(test)]
mod tests;

use crate::builtin::ScriptedServer;
use crate::cores::Cores;
use crate::failure::{Failure, affinity};
use crate::interrupt::{EXIT_INTERRUPTED, Interrupt};
use crate::outcome::{Outcome, per_second};
use crate::plan::Plan;
use crate::session::{EXIT_FAILED, EXIT_FINE, drive, make_room, print, say};
use crate::target::{Scheme, Target};
use crate::units::format_rate;
use crate::watch::ThreadGroup;

use check::{Check, Finding, rows};
use injection::{Driven, Truth};
use scenario::{Scenario, scenarios};

/// How often a scenario is driven at most while nothing worse is found than
/// what a busy machine does.
const TRIES_MAX: u32 = 3;

/// Drives every scenario and prints what was injected, expected and reported.
/// The server runs on the first core this thread may use, the generator on the
/// second.
///
/// # Errors
/// What went wrong before anything was measured.
pub fn run(quick: bool, interrupt: &Interrupt) -> Result<u8, Failure> {
    let cores = Cores::of_this_thread().map_err(affinity)?;
    let (server_core, generator_core) = cores.server_and_generator();
    if server_core == generator_core {
        say(&format!(
            "server and generator share core {server_core}: expect checks of times to fail"
        ));
    }
    let (mut passed, mut total) = (0, 0);
    let mut heading = String::new();
    for scenario in scenarios(quick, generator_core) {
        make_room(&scenario.plan, scenario.plan.sockets())?;
        let settled = settle(&scenario.title, |is_last| {
            attempt(&scenario, is_last, server_core, interrupt)
        })?;
        let Some(settled) = settled else {
            print("interrupted\n")?;
            return Ok(EXIT_INTERRUPTED);
        };
        if heading != scenario.title {
            heading.clone_from(&scenario.title);
            print(&format!("{heading}\n"))?;
        }
        print(&rows(&settled.checks, settled.tries))?;
        if !settled.checks.iter().all(Check::holds) || settled.is_wide {
            print(&format!("    {}\n", settled.remark()))?;
        }
        passed += settled.checks.iter().filter(|check| check.holds()).count();
        total += settled.checks.len();
    }
    print(&format!("{passed} of {total} checks passed\n"))?;
    Ok(if passed == total {
        EXIT_FINE
    } else {
        EXIT_FAILED
    })
}

/// What was found in the end.
#[derive(Debug)]
struct Settled {
    checks: Vec<Check>,
    tries: u32,
    switches_per_s: f64,
    is_wide: bool,
}

/// What one run of a scenario came to.
#[derive(Debug)]
struct Attempt {
    checks: Vec<Check>,
    /// How often per second server and generator were taken off their cores.
    switches_per_s: f64,
    /// Whether that was so often that the bounds are those for a busy machine.
    is_wide: bool,
}

impl Settled {
    /// What to know of the machine beside the checks.
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

/// Repeats a scenario, at most [`TRIES_MAX`] times in all, as long as all that
/// is wrong with it is what a busy machine does. `attempt` is told whether it is
/// the last one. `None` when the user ended it.
fn settle(
    title: &str,
    mut attempt: impl FnMut(bool) -> Result<Option<Attempt>, Failure>,
) -> Result<Option<Settled>, Failure> {
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
        if worst(&checks) == Finding::Disturbed && tries < TRIES_MAX {
            for check in checks.iter().filter(|check| !check.holds()) {
                say(&format!("once more, as {check} ({title})"));
            }
            continue;
        }
        return Ok(Some(Settled {
            checks,
            tries,
            switches_per_s,
            is_wide,
        }));
    }
    unreachable!("the last try settles it")
}

fn worst(checks: &[Check]) -> Finding {
    let findings = checks.iter().map(|check| check.finding);
    findings.max().unwrap_or(Finding::Holds)
}

/// Drives a scenario once. The last try has to do, even on a busy machine.
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
    let truth = Truth {
        served: server.served(),
        rare: server.rarely_delayed(),
    };
    server.stop();
    if outcome.interrupted {
        return Ok(None);
    }
    let switches_per_s = per_second(switches(&outcome), outcome.elapsed);
    let (tolerance, is_wide) = scenario.tolerance(is_last, switches_per_s);
    let driven = Driven {
        plan: &plan,
        outcome: &outcome,
        truth,
        tolerance,
    };
    Ok(Some(Attempt {
        checks: scenario.injection.check(&driven),
        switches_per_s,
        is_wide,
    }))
}

/// How often the kernel took a core from server or generator.
fn switches(outcome: &Outcome) -> u64 {
    let server = outcome.server.map_or(0, |usage| usage.involuntary_switches);
    server + outcome.generator.usage.involuntary_switches
}
