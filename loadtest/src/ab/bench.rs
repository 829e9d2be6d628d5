//! One run: a server is started afresh, warmed up, measured and stopped.

use std::cell::RefCell;
use std::io::Stderr;
use std::net::TcpListener;
use std::time::Duration;

use super::progress::View;
use crate::args::{Contender, CoreList, LoadPlan, Server};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::machine::Environment;
use crate::plan::Plan;
use crate::result::ResultFile;
use crate::session::{About, Watch, run_once, say};
use crate::terminal::harmless;
use crate::watch::Printed;

/// How much of what a server printed is shown when its run fails, in lines.
const LINES_SHOWN: usize = 10;

/// Where all runs take place.
#[derive(Debug)]
pub(super) struct Bench<'a> {
    pub(super) load: LoadPlan,
    pub(super) server_pin: CoreList,
    pub(super) server_wait: Duration,
    pub(super) environment: Environment,
    pub(super) interrupt: &'a Interrupt,
    /// What the server of the last run printed.
    pub(super) printed: RefCell<Printed>,
}

impl Bench<'_> {
    /// Starts a server and stops it, so that one that does not start is found
    /// before anything else has taken its time.
    ///
    /// # Errors
    /// Why it does not start.
    pub(super) fn try_start(&self, contender: &Contender) -> Result<(), Failure> {
        let plan = self.plan_of_a_run()?;
        match self.start(contender, &plan) {
            Ok(watch) => watch.stop(),
            // That is for those to notice who measure.
            Err(Failure::Interrupted) => {}
            Err(failure) => return Err(self.of_run(&contender.label, failure)),
        }
        Ok(())
    }

    /// Measures a server once, in view; `None` when interrupted.
    ///
    /// # Errors
    /// What went wrong, with the name of the run.
    pub(super) fn measure(
        &self,
        contender: &Contender,
        run: &str,
        view: &mut View<Stderr>,
    ) -> Result<Option<ResultFile>, Failure> {
        if self.interrupt.is_asked() {
            return Ok(None);
        }
        match self.drive(contender, view) {
            Ok(result) => Ok(Some(result)),
            Err(Failure::Interrupted) => Ok(None),
            Err(failure) => Err(self.of_run(run, failure)),
        }
    }

    fn drive(&self, contender: &Contender, view: &mut View<Stderr>) -> Result<ResultFile, Failure> {
        let plan = self.plan_of_a_run()?;
        let watch = self.start(contender, &plan)?;
        let about = About {
            label: &contender.label,
            plan: &plan,
            slo: None,
            environment: &self.environment,
        };
        run_once(watch, &about, |watch| {
            let driven = watch.drive_showing(&plan, &mut |_| view.draw(), self.interrupt);
            view.clear();
            driven
        })
    }

    /// The plan of the next run, at a port of its own if it is to have one.
    fn plan_of_a_run(&self) -> Result<Plan, Failure> {
        let mut plan = self.load.plan.clone();
        if self.load.has_free_port {
            let target = &mut plan.targets[0];
            let port = free_port(target.host())?;
            *target = target.with_port(port);
        }
        Ok(plan)
    }

    fn start(&self, contender: &Contender, plan: &Plan) -> Result<Watch, Failure> {
        let server = Server {
            pid: None,
            command: Some(contender.command_at(plan.targets[0].port())),
            pin: self.server_pin.clone(),
            wait: self.server_wait,
        };
        let mut printed = self.printed.borrow_mut();
        Watch::quietly(&server, plan, self.interrupt, &mut printed)
    }

    /// A failure with the name of its run, once what the server printed is on
    /// stderr: it may be the reason.
    fn of_run(&self, run: &str, failure: Failure) -> Failure {
        let lines = self.printed.borrow().lines();
        for line in &lines[lines.len().saturating_sub(LINES_SHOWN)..] {
            say(&format!("the server printed: {}", harmless(line)));
        }
        Failure::OneOf {
            run: run.to_owned(),
            failure: Box::new(failure),
        }
    }
}

/// A port that nobody has, and nobody is given before long: the kernel deals
/// them out at random.
fn free_port(host: &str) -> Result<u16, Failure> {
    let bound = TcpListener::bind((host, 0)).and_then(|listener| listener.local_addr());
    bound
        .map(|address| address.port())
        .map_err(|source| Failure::Local {
            what: "finding a free port",
            source,
        })
}
