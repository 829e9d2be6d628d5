//! Runs: servers are started, warmed up, measured and stopped.

use std::net::TcpListener;
use std::time::Duration;

use super::progress::ProgressView;
use crate::args::{CoreList, LoadPlan, ServerFlags, ServerSpec};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::machine::Environment;
use crate::output::Stderr;
use crate::plan::Plan;
use crate::result::ResultFile;
use crate::session::{RunSpec, ServerProcess, drive_in_turns, log};
use crate::watch::ServerOutput;

/// Lines of a server's output that are shown when its run fails.
const LINES_SHOWN: usize = 10;

/// The plan, cores and environment that all runs share.
#[derive(Debug)]
pub(super) struct Runner<'a> {
    pub(super) load: LoadPlan,
    pub(super) server_pin: CoreList,
    pub(super) server_wait: Duration,
    pub(super) environment: Environment,
    pub(super) interrupt: &'a Interrupt,
}

/// A run that is to be made.
#[derive(Debug)]
pub(super) struct PlannedRun<'a> {
    /// The server to start.
    pub(super) server: &'a ServerSpec,
    /// The name of the run in messages.
    pub(super) name: String,
}

/// The server's output, and the failure of its run.
type FailedRun = (ServerOutput, Failure);

impl Runner<'_> {
    /// Starts a server and stops it, so that one that does not start is found before any
    /// measurement.
    ///
    /// # Errors
    /// Why it does not start.
    pub(super) fn try_start(&self, server: &ServerSpec) -> Result<(), Failure> {
        let plan = self.plan_of_a_run()?;
        match self.start(server, &plan) {
            Ok((watch, _)) => watch.stop(),
            // Whether the server ends on SIGTERM matters to the measured runs, not here.
            Err((_, Failure::Interrupted)) => {}
            Err(fault) => return Err(of_run(&server.label, fault)),
        }
        Ok(())
    }

    /// Measures servers slice by slice in the order of `turns`, with a progress view; `None` when
    /// interrupted.
    ///
    /// # Errors
    /// The failure, with the name of the run.
    pub(super) fn measure(
        &self,
        entries: &[PlannedRun<'_>],
        turns: &[usize],
        view: &mut ProgressView<Stderr>,
    ) -> Result<Option<Vec<ResultFile>>, Failure> {
        if self.interrupt.is_requested() {
            return Ok(None);
        }
        match self.drive(entries, turns, view) {
            Ok(results) => Ok(Some(results)),
            Err((_, (_, Failure::Interrupted))) => Ok(None),
            Err((index, fault)) => Err(of_run(&entries[index].name, fault)),
        }
    }

    /// As [`measure`](Self::measure), with the index of the run that failed.
    fn drive(
        &self,
        entries: &[PlannedRun<'_>],
        turns: &[usize],
        view: &mut ProgressView<Stderr>,
    ) -> Result<Vec<ResultFile>, (usize, FailedRun)> {
        let (mut plans, mut processes, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
        for (index, entry) in entries.iter().enumerate() {
            let plan = self
                .plan_of_a_run()
                .map_err(|failure| (index, (ServerOutput::default(), failure)))?;
            let (watch, printed) = self
                .start(entry.server, &plan)
                .map_err(|fault| (index, fault))?;
            plans.push(plan);
            processes.push(watch);
            outputs.push(printed);
        }
        let driven = drive_in_turns(
            &mut processes,
            &plans,
            turns,
            &mut || view.draw(),
            self.interrupt,
        );
        view.clear();
        let identities: Vec<_> = processes.iter().map(ServerProcess::identity).collect();
        processes.into_iter().for_each(ServerProcess::stop);
        let outcomes =
            driven.map_err(|(index, failure)| (index, (outputs.swap_remove(index), failure)))?;
        let file = |index: usize| {
            let about = RunSpec {
                label: &entries[index].server.label,
                plan: &plans[index],
                slo: None,
                environment: &self.environment,
            };
            about.file(&outcomes[index], &identities[index])
        };
        Ok((0..entries.len()).map(file).collect())
    }

    /// The plan of the next run, with a port of its own if there is a placeholder.
    fn plan_of_a_run(&self) -> Result<Plan, Failure> {
        let mut plan = self.load.plan.clone();
        if self.load.has_free_port {
            let target = &mut plan.targets[0];
            let port = free_port(target.host())?;
            *target = target.with_port(port);
        }
        Ok(plan)
    }

    fn start(
        &self,
        server: &ServerSpec,
        plan: &Plan,
    ) -> Result<(ServerProcess, ServerOutput), FailedRun> {
        let server = ServerFlags {
            pid: None,
            command: Some(server.command_at(plan.targets[0].port())),
            pin: self.server_pin.clone(),
            wait: self.server_wait,
        };
        let printed = ServerOutput::default();
        match ServerProcess::start_captured(&server, plan, self.interrupt, &printed, false) {
            Ok(watch) => Ok((watch, printed)),
            Err(failure) => Err((printed, failure)),
        }
    }
}

/// Prints the server's output, which may contain the reason, and adds the name of the run to the
/// failure.
fn of_run(run: &str, (printed, failure): FailedRun) -> Failure {
    let lines = printed.lines();
    for line in &lines[lines.len().saturating_sub(LINES_SHOWN)..] {
        log(&format!("the server printed: {line}"));
    }
    Failure::OneOf {
        run: run.to_owned(),
        failure: Box::new(failure),
    }
}

/// A free port, which is unlikely to be assigned again soon: the kernel picks ports at random.
fn free_port(host: &str) -> Result<u16, Failure> {
    let bound = TcpListener::bind((host, 0)).and_then(|listener| listener.local_addr());
    bound
        .map(|address| address.port())
        .map_err(|source| Failure::Local {
            what: "finding a free port",
            source,
        })
}
