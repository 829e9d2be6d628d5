//! Several servers, driven by the same plan, as one table.

use std::io;

use crate::failure::Failure;
use crate::interrupt::EXIT_INTERRUPTED;
use crate::machine::Environment;
use crate::plan::Plan;
use crate::report::{Measured, OutputFormat, ServerRow, ServerTable, color_allowed};
use crate::result::to_json_array;
use crate::session::{EXIT_FAILED, EXIT_OK, FinishedRun, exit_code, log, print};

/// A table whose rows are added as servers are measured.
#[derive(Debug)]
pub struct TableBuilder {
    format: OutputFormat,
    rows: Vec<ServerRow>,
}

impl TableBuilder {
    /// An empty table.
    pub fn new(format: OutputFormat) -> Self {
        Self {
            format,
            rows: Vec::new(),
        }
    }

    /// Adds a server's row.
    pub fn push(&mut self, row: ServerRow) {
        self.rows.push(row);
    }

    /// The rows so far.
    pub fn rows(&self) -> &[ServerRow] {
        &self.rows
    }

    /// Whether the last run ended early, so that no more should follow.
    pub fn is_cut_short(&self) -> bool {
        self.rows.iter().any(|row| match &row.measured {
            Measured::Run(outcome, _) => outcome.interrupted || outcome.failure.is_some(),
            Measured::Unavailable(_) => false,
        })
    }

    /// Prints it on stdout, and each row's failure on stderr.
    ///
    /// # Errors
    /// [`Failure::Output`].
    pub fn print(&self, plan: &Plan) -> Result<(), Failure> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let table = ServerTable {
            plan,
            rows: &self.rows,
        };
        let printed = print(&match self.format {
            OutputFormat::Text => table.text(color_allowed(io::stdout())),
            OutputFormat::Csv => table.csv(),
            OutputFormat::Markdown => table.markdown(),
            OutputFormat::Json => self.json(plan),
        });
        for row in &self.rows {
            if let Measured::Run(outcome, _) = &row.measured
                && let Some(failure) = &outcome.failure
            {
                log(&format!("{}: {failure}", row.server));
            }
        }
        printed
    }

    /// The worst of how the runs ended.
    pub fn exit_code(&self) -> u8 {
        let codes = self.rows.iter().filter_map(|row| match &row.measured {
            Measured::Run(outcome, judgement) => Some(exit_code(outcome, judgement, &[])),
            Measured::Unavailable(_) => None,
        });
        // A failure is worse than what an interrupt left undone.
        codes
            .max_by_key(|code| match *code {
                EXIT_FAILED => u8::MAX,
                EXIT_INTERRUPTED => u8::MAX - 1,
                code => code,
            })
            .unwrap_or(EXIT_OK)
    }

    fn json(&self, plan: &Plan) -> String {
        let environment = Environment::capture(plan.is_loopback());
        let files: Vec<_> = self
            .rows
            .iter()
            .filter_map(|row| match &row.measured {
                Measured::Run(outcome, judgement) => {
                    let finished = FinishedRun {
                        label: &row.server,
                        plan,
                        outcome,
                        identity: &(None, None),
                        environment: &environment,
                    };
                    Some(finished.file(judgement, &[]))
                }
                Measured::Unavailable(_) => None,
            })
            .collect();
        to_json_array(&files)
    }
}
