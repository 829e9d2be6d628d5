//! The progress of a comparison: one line on a terminal that is redrawn, and a line for each
//! pair elsewhere.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::live::ViewKind;
use crate::output::Stderr;
use crate::units::format_duration;

/// The view of all runs.
#[derive(Debug)]
pub(super) struct ProgressView<W> {
    to: W,
    kind: ViewKind,
    /// When the first run began.
    began: Instant,
    runs_done: usize,
    runs_total: usize,
    /// The current run, and the ratios known so far.
    now: String,
    so_far: String,
    is_drawn: bool,
}

impl ProgressView<Stderr> {
    /// A view on standard error, for this number of runs.
    pub(super) fn on_stderr(runs_total: usize) -> Self {
        Self::new(Stderr, ViewKind::of_stderr(), runs_total)
    }
}

impl<W: Write> ProgressView<W> {
    fn new(to: W, kind: ViewKind, runs_total: usize) -> Self {
        Self {
            to,
            kind,
            began: Instant::now(),
            runs_done: 0,
            runs_total,
            now: String::new(),
            so_far: String::new(),
            is_drawn: false,
        }
    }

    /// A run begins, with the start of its server.
    pub(super) fn begin(&mut self, run: String) {
        self.now = run;
    }

    /// Draws the terminal's line. To be called about once per second of a run.
    pub(super) fn draw(&mut self) {
        let ViewKind::Terminal { columns, .. } = self.kind else {
            return;
        };
        let elapsed = self.began.elapsed();
        let parts = [
            self.now.clone(),
            self.so_far.clone(),
            self.time_left(elapsed),
        ];
        let line = joined(&parts);
        // A character in the last column puts some terminals on the next line.
        let line: String = line.chars().take(columns().saturating_sub(1)).collect();
        self.is_drawn = true;
        self.write(&format!("\r{line}\x1b[K"));
    }

    /// Counts runs that have ended.
    pub(super) fn end(&mut self, runs: usize) {
        self.runs_done += runs;
    }

    /// A round is complete.
    pub(super) fn round(&mut self, round: &str, so_far: &str) {
        so_far.clone_into(&mut self.so_far);
        if matches!(self.kind, ViewKind::Log) {
            let left = self.time_left(self.began.elapsed());
            let line = joined(&[round.to_owned(), so_far.to_owned(), left]);
            self.write(&format!("loadtest: {line}\n"));
        }
    }

    /// Erases the line: the server may print something.
    pub(super) fn clear(&mut self) {
        if self.is_drawn {
            self.is_drawn = false;
            self.write("\r\x1b[K");
        }
    }

    fn time_left(&self, elapsed: Duration) -> String {
        let (done, total) = (self.runs_done, self.runs_total);
        match time_left(elapsed, done, total) {
            Some(left) => format!("about {} left", format_duration(left)),
            None => String::new(),
        }
    }

    fn write(&mut self, text: &str) {
        // An error on standard error does not end a run.
        let _ = self.to.write_all(text.as_bytes());
        let _ = self.to.flush();
    }
}

fn joined(parts: &[String]) -> String {
    let shown: Vec<_> = parts.iter().filter(|part| !part.is_empty()).collect();
    let shown: Vec<_> = shown.into_iter().map(String::as_str).collect();
    shown.join("; ")
}

/// Added to a time before its fraction is dropped, it rounds up.
const ALMOST_A_SECOND: Duration = Duration::from_nanos(999_999_999);

/// An estimate of the time that the remaining runs take, in whole seconds, from the mean of those
/// before; `None` before the first and after the last.
fn time_left(elapsed: Duration, done: usize, total: usize) -> Option<Duration> {
    if done == 0 || done >= total {
        return None;
    }
    let left = elapsed.mul_f64((total - done) as f64 / done as f64);
    Some(Duration::from_secs((left + ALMOST_A_SECOND).as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(kind: ViewKind, act: impl FnOnce(&mut ProgressView<&mut Vec<u8>>)) -> String {
        let mut written = Vec::new();
        act(&mut ProgressView::new(&mut written, kind, 4));
        String::from_utf8(written).unwrap()
    }

    fn two_runs(view: &mut ProgressView<&mut Vec<u8>>) {
        for run in ["pair 1/2: A", "pair 1/2: B"] {
            view.begin(run.to_owned());
            view.draw();
            view.clear();
            view.end(1);
        }
        // As if each run had taken no time.
        view.runs_total = 2;
        view.round("pair 1/2", "CPU/message B/A 1.010");
        view.begin("pair 2/2: B".to_owned());
        view.draw();
    }

    #[test]
    fn a_log_has_a_line_for_each_pair() {
        assert_eq!(
            shown(ViewKind::Log, two_runs),
            "loadtest: pair 1/2; CPU/message B/A 1.010\n"
        );
    }

    #[test]
    fn a_terminal_line_is_erased_before_other_output() {
        let kind = ViewKind::Terminal {
            columns: || 24,
            color: true,
        };
        let lines = shown(kind, |view| {
            view.runs_total = 0;
            two_runs(view);
        });
        assert_eq!(
            lines,
            "\rpair 1/2: A\x1b[K\r\x1b[K\rpair 1/2: B\x1b[K\r\x1b[K\
             \rpair 2/2: B; CPU/messag\x1b[K"
        );
    }

    #[test]
    fn the_time_left_is_estimated_from_the_mean_run() {
        let seconds = Duration::from_secs;
        assert_eq!(time_left(seconds(10), 4, 20), Some(seconds(40)));
        assert_eq!(time_left(seconds(10), 3, 4), Some(seconds(4)));
        assert_eq!(time_left(seconds(10), 0, 20), None);
        assert_eq!(time_left(seconds(10), 20, 20), None);
    }
}
