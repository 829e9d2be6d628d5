//! The progress of a run: a block that is redrawn on a terminal, and a line at intervals
//! elsewhere. The report replaces it.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use crate::output::Stderr;
use crate::paint::paint;
use crate::result::format_utc;
use crate::terminal::{color_allowed, columns, is_terminal, sanitized};
use crate::units::{format_count, format_ns, format_rate};
use crate::verdict::Verdict;

/// The length of the rate's history, in seconds.
const SPARKS_MAX: usize = 40;

/// The progress bar, in characters.
const BAR_WIDTH: usize = 30;

/// A log of more than this number of seconds gets fewer lines.
const DENSE_LOG_S: u64 = 60;

/// The interval of its lines then, in seconds.
const SPARSE_STEP_S: u64 = 10;

/// The kind of output.
#[derive(Debug, Clone, Copy)]
pub enum ViewKind {
    /// A terminal, where lines can be redrawn.
    Terminal {
        /// The width of a line in characters; asked at every update, as windows change their
        /// size.
        columns: fn() -> usize,
        /// Whether to use colors.
        color: bool,
    },
    /// A file or pipe, line by line.
    Log,
}

impl ViewKind {
    /// The kind of standard error.
    pub fn of_stderr() -> Self {
        if !is_terminal(io::stderr()) {
            return Self::Log;
        }
        Self::Terminal {
            columns: || columns(io::stderr()),
            color: color_allowed(io::stderr()),
        }
    }
}

/// The phase of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Connections are opened.
    Connecting {
        /// The number of open connections.
        open: u64,
        /// Of this number.
        total: u64,
    },
    /// All connections are open; the start time is awaited.
    Waiting {
        /// When the measurement begins.
        start_at: SystemTime,
    },
    /// Load that is not counted.
    WarmUp,
    /// Load that is.
    Measuring,
    /// The load has ended; replies are awaited.
    Draining {
        /// The number of replies still due.
        unanswered: u64,
    },
}

/// The progress of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress<'a> {
    /// The phase.
    pub phase: Phase,
    /// The share of the phase that is over, 0 to 1.
    pub fraction: f64,
    /// The elapsed time of the phase.
    pub elapsed: Duration,
    /// The time left in the phase, if known.
    pub remaining: Option<Duration>,
    /// Replies per second, in the last second.
    pub rate: f64,
    /// The target rate of an open loop.
    pub target: Option<f64>,
    /// The last second's response time at p50, in nanoseconds, where there is
    /// one.
    pub p50_ns: Option<u64>,
    /// The same at p99.
    pub p99_ns: Option<u64>,
    /// The longest of the last second.
    pub max_ns: Option<u64>,
    /// Replies so far.
    pub messages: u64,
    /// Errors so far.
    pub errors: u64,
    /// The verdict so far.
    pub verdict: Verdict,
    /// Why, unless they are valid.
    pub reason: Option<&'a str>,
    /// The rate of every second so far.
    pub rates: &'a [f64],
}

/// The view of one run. Errors of writing are ignored: they do not end a run.
#[derive(Debug)]
pub struct LiveView<W> {
    to: W,
    title: String,
    kind: ViewKind,
    /// Lines on the terminal that the next update replaces.
    drawn: usize,
    /// The last line of the log: its phase, and its time in steps of the log.
    logged: Option<(&'static str, u64)>,
}

impl LiveView<Stderr> {
    /// A view on standard error.
    pub fn on_stderr(title: &str) -> Self {
        Self::new(Stderr, title, ViewKind::of_stderr())
    }
}

impl<W: Write> LiveView<W> {
    /// A view that shows nothing yet. The title is the plan's label.
    pub fn new(to: W, title: &str, kind: ViewKind) -> Self {
        Self {
            to,
            title: sanitized(title),
            kind,
            drawn: 0,
            logged: None,
        }
    }

    /// Shows the progress of the run. To be called about once per second.
    pub fn update(&mut self, progress: &Progress<'_>) {
        match self.kind {
            ViewKind::Terminal { columns, color } => self.redraw(progress, columns(), color),
            ViewKind::Log => self.log(progress),
        }
    }

    /// Shows lines that stay, above what is redrawn.
    pub fn above(&mut self, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        self.finish();
        let lines = lines
            .iter()
            .map(|line| format!("loadtest: {}\n", sanitized(line)));
        self.write(&lines.collect::<String>());
    }

    /// Leaves the terminal as it was. (A log keeps its lines.)
    pub fn finish(&mut self) {
        if self.drawn > 0 {
            let erase = format!("{}\x1b[J", cursor_up(self.drawn));
            self.drawn = 0;
            self.write(&erase);
        }
    }

    fn redraw(&mut self, progress: &Progress<'_>, columns: usize, color: bool) {
        let lines = block(&self.title, progress);
        let mut text = cursor_up(self.drawn);
        for (index, line) in lines.iter().enumerate() {
            // A character in the last column puts some terminals on the next
            // line.
            let line: String = line.chars().take(columns.saturating_sub(1)).collect();
            let is_verdict = index == lines.len() - 1;
            text += &paint(&line, progress.verdict, color && is_verdict);
            text += "\x1b[K\n";
        }
        self.drawn = lines.len();
        self.write(&text);
    }

    /// A line at each change of the phase, and at most one per second.
    fn log(&mut self, progress: &Progress<'_>) {
        let elapsed_s = whole_seconds(progress.elapsed);
        let step = match elapsed_s {
            0..DENSE_LOG_S => elapsed_s,
            _ => DENSE_LOG_S + (elapsed_s - DENSE_LOG_S) / SPARSE_STEP_S,
        };
        let now = (phase_name(progress.phase), step);
        if self.logged == Some(now) {
            return;
        }
        self.logged = Some(now);
        self.write(&(log_line(progress) + "\n"));
    }

    fn write(&mut self, text: &str) {
        // In one write, so that a terminal never shows half of it.
        let _ = self.to.write_all(text.as_bytes());
        let _ = self.to.flush();
    }
}

/// The lines on a terminal, of which the last has the verdict so far.
fn block(title: &str, progress: &Progress<'_>) -> [String; 5] {
    let verdict = match (progress.verdict, progress.reason) {
        (Verdict::Valid, _) | (_, None) => format!("{} so far", progress.verdict),
        (verdict, Some(reason)) => format!("{verdict} so far: {}", sanitized(reason)),
    };
    [
        title.to_owned(),
        format!(
            "{:<12} {} {}",
            phase_name(progress.phase),
            bar(progress.fraction),
            how_far(progress)
        ),
        format!(
            "{:<12} {}  {}",
            "messages/s",
            rate(progress),
            sparks(progress)
        ),
        format!("{:<12} {}", "last second", latencies(progress)),
        format!(
            "{:<12} {} messages, {} errors, {verdict}",
            "so far",
            format_count(progress.messages),
            format_count(progress.errors)
        ),
    ]
}

fn log_line(progress: &Progress<'_>) -> String {
    let (phase, how_far) = (phase_name(progress.phase), how_far(progress));
    // In the first second there are no numbers yet.
    if progress.phase != Phase::Measuring || progress.rates.is_empty() {
        return format!("loadtest: {phase} {how_far}");
    }
    format!(
        "loadtest: {phase} {how_far} {}/s {} errors {}",
        format_rate(progress.rate),
        latencies(progress),
        progress.errors
    )
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Connecting { .. } => "connecting",
        Phase::Waiting { .. } => "waiting",
        Phase::WarmUp => "warming up",
        Phase::Measuring => "measuring",
        Phase::Draining { .. } => "draining",
    }
}

fn how_far(progress: &Progress<'_>) -> String {
    match (progress.phase, progress.remaining) {
        (Phase::Connecting { open, total }, _) => {
            format!("{}/{}", format_count(open), format_count(total))
        }
        (Phase::Waiting { start_at }, remaining) => format!(
            "for {}, {}s left",
            format_utc(start_at),
            whole_seconds(remaining.unwrap_or_default())
        ),
        (Phase::Draining { unanswered }, _) => {
            format!("{} unanswered", format_count(unanswered))
        }
        (_, None) => format!("{}s", whole_seconds(progress.elapsed)),
        (_, Some(remaining)) => format!(
            "{}s/{}s",
            whole_seconds(progress.elapsed),
            whole_seconds(progress.elapsed + remaining)
        ),
    }
}

/// Rounded to the nearest second, as updates come a little before or after it.
fn whole_seconds(time: Duration) -> u64 {
    (time + Duration::from_millis(500)).as_secs()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and the width"
)]
fn bar(fraction: f64) -> String {
    let full = (fraction.clamp(0.0, 1.0) * BAR_WIDTH as f64).round() as usize;
    "█".repeat(full) + &"░".repeat(BAR_WIDTH - full)
}

fn rate(progress: &Progress<'_>) -> String {
    let rate = format_rate(progress.rate);
    match progress.target {
        Some(target) => format!("{rate} of {}", format_rate(target)),
        None => rate,
    }
}

/// The last rates as columns, scaled to the highest of them (or the target).
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and the last column's index"
)]
fn sparks(progress: &Progress<'_>) -> String {
    const COLUMNS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let last = &progress.rates[progress.rates.len().saturating_sub(SPARKS_MAX)..];
    let highest = last
        .iter()
        .copied()
        .fold(progress.target.unwrap_or(0.0), f64::max);
    last.iter()
        .map(|rate| {
            let height = if highest > 0.0 { rate / highest } else { 0.0 };
            COLUMNS[(height.clamp(0.0, 1.0) * (COLUMNS.len() - 1) as f64).round() as usize]
        })
        .collect()
}

fn latencies(progress: &Progress<'_>) -> String {
    let [p50, p99, max] = [progress.p50_ns, progress.p99_ns, progress.max_ns]
        .map(|ns| ns.map_or_else(|| "–".to_owned(), format_ns));
    format!("p50 {p50} p99 {p99} max {max}")
}

/// Moves the cursor to the first column, `lines` lines up.
fn cursor_up(lines: usize) -> String {
    match lines {
        0 => "\r".to_owned(),
        _ => format!("\r\x1b[{lines}A"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::slice;

    fn measuring(elapsed: Duration) -> Progress<'static> {
        Progress {
            phase: Phase::Measuring,
            fraction: elapsed.as_secs_f64() / 10.0,
            elapsed,
            remaining: Duration::from_secs(10).checked_sub(elapsed),
            rate: 50_000.0,
            target: Some(50_000.0),
            p50_ns: Some(61_200),
            p99_ns: Some(80_000),
            max_ns: Some(1_100_000),
            messages: 150_000,
            errors: 0,
            verdict: Verdict::Valid,
            reason: None,
            rates: &[0.0, 25_000.0, 50_000.0],
        }
    }

    /// The output of a view after some updates.
    fn shown(kind: ViewKind, updates: &[Progress<'_>], finish: bool) -> String {
        let mut written = Vec::new();
        let mut view = LiveView::new(&mut written, "open loop, 50,000/s", kind);
        for progress in updates {
            view.update(progress);
        }
        if finish {
            view.finish();
        }
        String::from_utf8(written).unwrap()
    }

    fn terminal(color: bool) -> ViewKind {
        ViewKind::Terminal {
            columns: || 80,
            color,
        }
    }

    #[test]
    fn a_terminal_shows_a_block() {
        assert_eq!(
            shown(terminal(false), &[measuring(Duration::from_secs(3))], false),
            "\ropen loop, 50,000/s\x1b[K
measuring    █████████░░░░░░░░░░░░░░░░░░░░░ 3s/10s\x1b[K
messages/s   50,000 of 50,000  ▁▅█\x1b[K
last second  p50 61.2 µs p99 80.0 µs max 1.10 ms\x1b[K
so far       150,000 messages, 0 errors, VALID so far\x1b[K
"
        );
    }

    #[test]
    fn the_block_is_drawn_over_and_erased() {
        let progress = measuring(Duration::from_secs(3));
        let once = shown(terminal(false), slice::from_ref(&progress), false);
        let twice = shown(terminal(false), &[progress.clone(), progress], true);
        let again = once.replacen('\r', "\r\x1b[5A", 1);
        assert_eq!(twice, format!("{once}{again}\r\x1b[5A\x1b[J"));
        assert_eq!(shown(terminal(false), &[], true), "");
    }

    #[test]
    fn server_output_is_printed_above_the_block() {
        let mut written = Vec::new();
        let title = "open loop, 50,000/s";
        let mut view = LiveView::new(&mut written, title, terminal(false));
        let progress = measuring(Duration::from_secs(3));
        view.update(&progress);
        view.above(&["the server printed: \x1b[2Jhi".to_owned()]);
        view.above(&[]);
        view.update(&progress);
        let text = String::from_utf8(written).unwrap();
        let block = shown(terminal(false), &[progress], false);
        let line = "loadtest: the server printed:  [2Jhi\n";
        assert_eq!(text, format!("{block}\r\x1b[5A\x1b[J{line}{block}"));
    }

    #[test]
    fn lines_are_cut_before_they_wrap_and_colored_after() {
        let narrow = ViewKind::Terminal {
            columns: || 21,
            color: true,
        };
        let progress = Progress {
            verdict: Verdict::Suspect,
            reason: Some("the server\x1b[2J is slow"),
            ..measuring(Duration::from_secs(3))
        };
        assert_eq!(
            shown(narrow, slice::from_ref(&progress), false),
            "\ropen loop, 50,000/s\x1b[K
measuring    ███████\x1b[K
messages/s   50,000 \x1b[K
last second  p50 61.\x1b[K
\x1b[33mso far       150,000\x1b[0m\x1b[K
"
        );
        let wide = shown(terminal(false), &[progress], false);
        let last = wide.lines().last().unwrap();
        assert_eq!(
            last,
            "so far       150,000 messages, 0 errors, SUSPECT so far: the server [2J is slow\x1b[K"
        );
    }

    #[test]
    fn waiting_shows_the_start_time() {
        let waiting = Progress {
            phase: Phase::Waiting {
                start_at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_907_400),
            },
            remaining: Some(Duration::from_secs(12)),
            rates: &[],
            ..measuring(Duration::from_secs(3))
        };
        assert_eq!(
            shown(ViewKind::Log, &[waiting], false),
            "loadtest: waiting for 2026-11-28T23:10:00.000Z, 12s left\n"
        );
    }

    #[test]
    fn a_log_has_a_line_per_second_and_phase() {
        let phase = |phase, remaining| Progress {
            phase,
            remaining,
            ..measuring(Duration::from_millis(100))
        };
        let at = |millis| measuring(Duration::from_millis(millis));
        let updates = [
            phase(
                Phase::Connecting {
                    open: 40,
                    total: 1_000,
                },
                None,
            ),
            phase(Phase::WarmUp, Some(Duration::from_millis(900))),
            at(100),
            at(999),
            at(1_003),
            at(2_001),
            at(2_998),
            phase(Phase::Draining { unanswered: 12 }, None),
        ];
        assert_eq!(
            shown(ViewKind::Log, &updates, true),
            "\
loadtest: connecting 40/1,000
loadtest: warming up 0s/1s
loadtest: measuring 0s/10s 50,000/s p50 61.2 µs p99 80.0 µs max 1.10 ms errors 0
loadtest: measuring 1s/10s 50,000/s p50 61.2 µs p99 80.0 µs max 1.10 ms errors 0
loadtest: measuring 2s/10s 50,000/s p50 61.2 µs p99 80.0 µs max 1.10 ms errors 0
loadtest: measuring 3s/10s 50,000/s p50 61.2 µs p99 80.0 µs max 1.10 ms errors 0
loadtest: draining 12 unanswered
"
        );
    }

    #[test]
    fn a_long_log_is_thinned_out() {
        let updates: Vec<_> = (0..=120)
            .map(|second| measuring(Duration::from_secs(second)))
            .collect();
        let log = shown(ViewKind::Log, &updates, false);
        // Every second of the first minute, then 60, 70, ... 120.
        assert_eq!(log.lines().count(), 60 + 7);
        assert!(log.contains("measuring 70s "), "{log}");
        assert!(!log.contains("measuring 75s "), "{log}");
    }

    #[test]
    fn unknown_values_are_dashes() {
        let progress = Progress {
            p50_ns: None,
            p99_ns: None,
            max_ns: None,
            rate: 0.0,
            target: None,
            remaining: None,
            rates: &[],
            ..measuring(Duration::ZERO)
        };
        let text = shown(terminal(false), &[progress], false);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].ends_with("░ 0s\x1b[K"), "{text}");
        assert_eq!(lines[2], "messages/s   0  \x1b[K");
        assert_eq!(lines[3], "last second  p50 – p99 – max –\x1b[K");
    }

    #[test]
    fn write_errors_are_ignored() {
        struct FailingWriter;
        impl Write for FailingWriter {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let mut view = LiveView::new(FailingWriter, "", terminal(false));
        view.update(&measuring(Duration::ZERO));
        view.finish();
    }
}
