//! The steps around a run that all commands share: progress, the server's process, the verdict,
//! the report.

use std::cell::RefCell;
use std::io;
use std::time::SystemTime;

use host::open_files::raise_limit;

use crate::args::{OutputFlags, ServerFlags};
use crate::driver::Endpoints;
use crate::failure::Failure;
use crate::interrupt::{EXIT_INTERRUPTED, Interrupt};
use crate::live::{LiveView, Progress};
use crate::machine::{Environment, binary_sha256};
use crate::outcome::Outcome;
use crate::output::{OutputFile, deliver};
pub use crate::output::{log, print};
use crate::plan::Plan;
use crate::report::{OutputFormat, Summary, color_allowed};
use crate::result::{Document, Record, ResultFile};
use crate::run::{Observers, run, run_in_turns};
use crate::slo::{Slo, SloResult};
use crate::verdict::{Facts, Judgement, Verdict, judge};
use crate::watch::{
    ProcessTree, ServerCommand, ServerOutput, UnexpectedExit, Watched, ensure_free,
};

/// Success.
pub const EXIT_OK: u8 = 0;
/// A reply was wrong or missing, a connection refused or lost, or the program failed.
pub const EXIT_FAILED: u8 = 1;
/// The arguments are wrong.
pub const EXIT_USAGE: u8 = 2;
/// An objective was missed.
pub const EXIT_OBJECTIVE: u8 = 3;
/// The verdict is INVALID.
pub const EXIT_INVALID: u8 = 4;
/// A comparison is inconclusive.
pub const EXIT_INCONCLUSIVE: u8 = 5;

/// Open files beside the sockets: standard streams, epoll instances, the embedded server's
/// listeners and rings, `/proc` while it is read.
const OTHER_FILES: u64 = 64;

/// Additional open connections for each one that churn replaces per second.
const CHURN_SOCKETS: f64 = 2.0;

/// One run with a live view on standard error.
///
/// # Errors
/// A failure before the measurement.
pub fn drive(
    plan: &Plan,
    server: Option<&mut dyn Watched>,
    interrupt: &Interrupt,
) -> Result<Outcome, Failure> {
    drive_at(plan, None, server, &mut || None, None, interrupt)
}

/// The same, with an optional start time. The server's output is shown above the view.
fn drive_at(
    plan: &Plan,
    start_at: Option<SystemTime>,
    server: Option<&mut dyn Watched>,
    server_ended: &mut dyn FnMut() -> Option<UnexpectedExit>,
    printed: Option<&ServerOutput>,
    interrupt: &Interrupt,
) -> Result<Outcome, Failure> {
    let mut view = LiveView::on_stderr(&plan.to_string());
    let result = run(
        plan,
        start_at,
        &mut Observers {
            server: server.map(|server| server as _),
            server_ended,
            show: &mut |progress| {
                view.above(&printed_lines(printed));
                view.update(progress);
            },
            interrupt,
        },
    );
    view.finish();
    result
}

/// Raises the limit of open files, for a plan's sockets and `more` files.
///
/// # Errors
/// [`Failure::OpenFiles`] when the hard limit is too low.
pub fn raise_file_limit(plan: &Plan, more: u64) -> Result<(), Failure> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rates are positive, and a cast saturates"
    )]
    let churned = (plan.churn_rate.unwrap_or(0.0) * CHURN_SOCKETS).ceil() as u64;
    let needed = plan.sockets() + churned + more + OTHER_FILES;
    let limit = raise_limit().map_err(|source| Failure::Local {
        what: "raising the limit of open files",
        source,
    })?;
    match limit {
        Some(limit) if limit < needed => Err(Failure::OpenFiles { needed, limit }),
        _ => Ok(()),
    }
}

/// The server's process, where the command line names one.
#[derive(Debug, Default)]
pub struct ServerProcess {
    command: Option<ServerCommand>,
    tree: Option<ProcessTree>,
    /// Whether what it prints is shown.
    is_shown: bool,
}

impl ServerProcess {
    /// Attaches to the server's process, or starts it and waits until it serves. Its output is
    /// shown.
    ///
    /// # Errors
    /// [`Failure::Watch`], and [`Failure::Resolve`] for the addresses to wait on.
    pub fn new(server: &ServerFlags, plan: &Plan, interrupt: &Interrupt) -> Result<Self, Failure> {
        let printed = ServerOutput::default();
        let started = Self::start_captured(server, plan, interrupt, &printed, true);
        if started.is_err() {
            show(&printed);
        }
        started
    }

    /// The same for a server whose output is captured, and shown only if `is_shown`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn start_captured(
        server: &ServerFlags,
        plan: &Plan,
        interrupt: &Interrupt,
        printed: &ServerOutput,
        is_shown: bool,
    ) -> Result<Self, Failure> {
        if let Some(pid) = server.pid {
            return Ok(Self {
                command: None,
                tree: Some(ProcessTree::attach(pid)?),
                is_shown,
            });
        }
        let Some(line) = &server.command else {
            return Ok(Self::default());
        };
        let endpoints = Endpoints::of(plan)?;
        let addresses: Vec<_> = endpoints.addresses().collect();
        ensure_free(&addresses)?;
        let mut command = ServerCommand::start(line, &server.pin.0, printed)?;
        interrupt.guard(command.group());
        let attempt = |goes_on: &mut dyn FnMut() -> bool| endpoints.probe(plan, goes_on);
        let is_called_off = || {
            if is_shown {
                show(printed);
            }
            interrupt.is_requested()
        };
        if !command.wait_until_ready(attempt, server.wait, is_called_off)? {
            return Err(Failure::Interrupted);
        }
        let tree = ProcessTree::attach(command.pid())?;
        Ok(Self {
            command: Some(command),
            tree: Some(tree),
            is_shown,
        })
    }

    /// Drives it.
    ///
    /// # Errors
    /// A failure before the measurement.
    pub fn drive(&mut self, plan: &Plan, interrupt: &Interrupt) -> Result<Outcome, Failure> {
        self.drive_at(plan, None, interrupt)
    }

    /// Drives it, with an optional start time of the measurement.
    ///
    /// # Errors
    /// As [`drive`](Self::drive), and when the start time was missed.
    pub fn drive_at(
        &mut self,
        plan: &Plan,
        start_at: Option<SystemTime>,
        interrupt: &Interrupt,
    ) -> Result<Outcome, Failure> {
        let printed = self.printed();
        let server = self.tree.as_mut().map(|tree| tree as &mut dyn Watched);
        let command = &mut self.command;
        let mut ended = || command.as_mut().and_then(ServerCommand::ended_itself);
        let printed = printed.as_ref();
        drive_at(plan, start_at, server, &mut ended, printed, interrupt)
    }

    /// The command line and the hash of the process's binary.
    pub fn identity(&self) -> (Option<String>, Option<String>) {
        let tree = self.tree.as_ref();
        let command = tree.and_then(ProcessTree::command_line);
        let binary = tree.and_then(ProcessTree::binary);
        (command, binary.and_then(|path| binary_sha256(&path)))
    }

    /// The output of the server, if it was started and is to be shown.
    fn printed(&self) -> Option<ServerOutput> {
        let command = self.command.as_ref().filter(|_| self.is_shown)?;
        Some(command.printed().clone())
    }

    /// Stops the server, if it was started.
    pub fn stop(self) {
        let printed = self.printed();
        if let Some(command) = self.command {
            match command.stop() {
                Ok(ending) if ending.forced => {
                    log("the server did not end on SIGTERM and was killed");
                }
                Ok(_) => {}
                Err(error) => log(&error.to_string()),
            }
        }
        if let Some(printed) = printed {
            printed.wait_for_last();
            show(&printed);
        }
    }
}

/// Shows the server's output since the last call.
fn show(printed: &ServerOutput) {
    for line in printed_lines(Some(printed)) {
        log(&line);
    }
}

fn printed_lines(printed: Option<&ServerOutput>) -> Vec<String> {
    let lines = printed.map(ServerOutput::fresh_lines).unwrap_or_default();
    let printed = lines
        .iter()
        .map(|line| format!("the server printed: {line}"));
    printed.collect()
}

/// Drives servers that alternate by slices in the order of `turns`, with a progress view.
///
/// # Errors
/// The first failure, and the index of its server.
pub fn drive_in_turns(
    processes: &mut [ServerProcess],
    plans: &[Plan],
    turns: &[usize],
    show: &mut dyn FnMut(),
    interrupt: &Interrupt,
) -> Result<Vec<Outcome>, (usize, Failure)> {
    let show = RefCell::new(show);
    let mut parts: Vec<_> = processes
        .iter_mut()
        .map(|ServerProcess { command, tree, .. }| {
            let ended = || command.as_mut().and_then(ServerCommand::ended_itself);
            let shown = |_: &Progress<'_>| (show.borrow_mut())();
            (tree, ended, shown)
        })
        .collect();
    let mut observers: Vec<_> = parts
        .iter_mut()
        .map(|(tree, ended, shown)| Observers {
            server: tree.as_mut().map(|tree| tree as &mut dyn Watched),
            server_ended: ended,
            show: shown,
            interrupt,
        })
        .collect();
    run_in_turns(plans, &mut observers, turns)
}

/// One run of several: drives a server that was started for it, stops it, and returns the result.
///
/// # Errors
/// The failure that ended the run early: [`Failure::Interrupted`] after an interrupt.
pub fn run_once(
    mut watch: ServerProcess,
    about: &RunSpec<'_>,
    interrupt: &Interrupt,
) -> Result<ResultFile, Failure> {
    let driven = watch.drive(about.plan, interrupt);
    let identity = watch.identity();
    watch.stop();
    let outcome = driven.and_then(Outcome::whole)?;
    Ok(about.file(&outcome, &identity))
}

/// The description of a run before it is made.
#[derive(Debug, Clone, Copy)]
pub struct RunSpec<'a> {
    /// The label in reports.
    pub label: &'a str,
    /// The plan.
    pub plan: &'a Plan,
    /// The objectives, if any.
    pub slo: Option<&'a Slo>,
    /// The machine.
    pub environment: &'a Environment,
}

impl RunSpec<'_> {
    /// The result file of a run that came to its end.
    pub fn file(
        &self,
        outcome: &Outcome,
        identity: &(Option<String>, Option<String>),
    ) -> ResultFile {
        let objectives = self
            .slo
            .map(|slo| slo.evaluate(outcome, self.plan.sockets()));
        let finished = FinishedRun {
            label: self.label,
            plan: self.plan,
            outcome,
            identity,
            environment: self.environment,
        };
        let judgement = judge(&Facts::of(self.plan, outcome));
        finished.file(&judgement, &objectives.unwrap_or_default())
    }
}

/// A finished run and what is to be made of it.
#[derive(Debug, Clone, Copy)]
pub struct FinishedRun<'a> {
    /// The label in reports.
    pub label: &'a str,
    /// The plan.
    pub plan: &'a Plan,
    /// The outcome.
    pub outcome: &'a Outcome,
    /// The server's command line and the hash of its binary.
    pub identity: &'a (Option<String>, Option<String>),
    /// The machine.
    pub environment: &'a Environment,
}

impl FinishedRun<'_> {
    /// Reports it in the requested format, and returns the exit code.
    ///
    /// # Errors
    /// [`Failure::Output`] and [`Failure::File`] when it cannot be printed or kept.
    pub fn report(&self, output: &OutputFlags, file: Option<OutputFile>) -> Result<u8, Failure> {
        let judgement = judge(&Facts::of(self.plan, self.outcome));
        self.report_judged(&judgement, output, file)
    }

    /// As [`report`](Self::report), with a given judgement.
    ///
    /// # Errors
    /// As [`report`](Self::report).
    pub fn report_judged(
        &self,
        judgement: &Judgement,
        output: &OutputFlags,
        file: Option<OutputFile>,
    ) -> Result<u8, Failure> {
        let objectives = output
            .slo
            .as_ref()
            .map(|slo| slo.evaluate(self.outcome, self.plan.sockets()))
            .unwrap_or_default();
        let summary = Summary {
            label: self.label,
            plan: self.plan,
            outcome: self.outcome,
            judgement,
            objectives: &objectives,
            environment: self.environment,
        };
        let document = || self.file(judgement, &objectives).to_json();
        let text = match output.report.format {
            OutputFormat::Text => summary.text(color_allowed(io::stdout())),
            OutputFormat::Json => document(),
            OutputFormat::Csv => summary.csv(),
            OutputFormat::Markdown => summary.markdown(),
        };
        let delivered = deliver(&text, file, document);
        if let Some(failure) = &self.outcome.failure {
            log(&failure.to_string());
        }
        delivered.map(|()| exit_code(self.outcome, judgement, &objectives))
    }

    /// The result file.
    pub fn file(&self, judgement: &Judgement, objectives: &[SloResult]) -> ResultFile {
        let (command, sha256) = self.identity;
        let args = arguments();
        ResultFile::new(&Record {
            label: self.label,
            plan: self.plan,
            args: &args,
            outcome: self.outcome,
            judgement,
            objectives,
            server_command: command.as_deref(),
            server_sha256: sha256.as_deref(),
            environment: self.environment,
        })
    }
}

/// The exit code of a run.
pub fn exit_code(outcome: &Outcome, judgement: &Judgement, objectives: &[SloResult]) -> u8 {
    if outcome.failure.is_some() {
        return EXIT_FAILED;
    }
    if outcome.interrupted {
        return EXIT_INTERRUPTED;
    }
    if judgement.verdict == Verdict::Invalid {
        return EXIT_INVALID;
    }
    // An objective with too few samples is not met either.
    if objectives.iter().any(|objective| !objective.met) {
        return EXIT_OBJECTIVE;
    }
    EXIT_OK
}

/// The command line without the program's name. (File names need not be UTF-8.)
pub fn arguments() -> Vec<String> {
    std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect()
}
