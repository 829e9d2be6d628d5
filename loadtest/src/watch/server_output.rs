//! The output of a server, captured until it is shown.

use std::collections::VecDeque;
use std::io::{self, PipeWriter, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The number of bytes that are kept: the last ones.
const TAIL_LEN_MAX: usize = 4 << 10;

/// The longest wait for the rest of the output, once a server has ended.
const LAST_TIMEOUT: Duration = Duration::from_millis(500);

/// The end of what a server printed.
#[derive(Debug, Clone, Default)]
pub struct ServerOutput {
    output: Arc<Mutex<Captured>>,
    /// Notified when the output is over.
    over: Arc<Condvar>,
}

#[derive(Debug, Default)]
struct Captured {
    tail: VecDeque<u8>,
    /// The total number of bytes, and of those shown.
    total: u64,
    shown: u64,
    /// Whether all processes that could print have closed it.
    is_over: bool,
}

impl ServerOutput {
    /// Returns a pipe for a server's output. It is read until all its processes have closed it,
    /// so none of them ever blocks.
    ///
    /// # Errors
    /// The kernel's, without a free descriptor or thread.
    pub fn begin(&self) -> io::Result<PipeWriter> {
        let printed = self.clone();
        let (mut reader, writer) = io::pipe()?;
        thread::Builder::new()
            .name("server-output".to_owned())
            .spawn(move || {
                let mut buffer = [0; TAIL_LEN_MAX];
                while let Ok(len @ 1..) = reader.read(&mut buffer) {
                    printed.lock().take(&buffer[..len]);
                }
                printed.lock().is_over = true;
                printed.over.notify_all();
            })?;
        Ok(writer)
    }

    /// The captured lines; the first may be cut.
    pub fn lines(&self) -> Vec<String> {
        lines_of(self.lock().tail.iter().copied())
    }

    /// The lines since the last call. A line without its end is left for the next one, unless a
    /// server has ended. If more was printed than is kept, the first line has the number of bytes
    /// left out.
    pub fn fresh_lines(&self) -> Vec<String> {
        self.lock().fresh_lines()
    }

    /// Waits briefly until the output of a server that has ended is complete: other processes may
    /// still hold the pipe.
    pub fn wait_for_last(&self) {
        let is_going_on = |output: &mut Captured| !output.is_over;
        // After the timeout, the output is used as it is.
        let _ = self
            .over
            .wait_timeout_while(self.lock(), LAST_TIMEOUT, is_going_on);
    }

    /// The last line of a server that has ended, if it printed any.
    pub fn last_line(&self) -> Option<String> {
        self.wait_for_last();
        let mut lines = self.lines();
        lines.retain(|line| !line.trim().is_empty());
        lines.pop()
    }

    fn lock(&self) -> MutexGuard<'_, Captured> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Captured {
    fn take(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        self.tail.extend(bytes);
        let excess = self.tail.len().saturating_sub(TAIL_LEN_MAX);
        self.tail.drain(..excess);
    }

    fn fresh_lines(&mut self) -> Vec<String> {
        let kept_from = self.total - self.tail.len() as u64;
        let mut from = self.shown.max(kept_from);
        let is_cut = from > self.shown;
        let bytes = |from: u64| {
            let index = usize::try_from(from - kept_from).unwrap_or(usize::MAX);
            self.tail.iter().copied().skip(index)
        };
        let line_len = |from: u64| Some(bytes(from).position(|byte| byte == b'\n')? as u64 + 1);
        let mut lines = Vec::new();
        if is_cut {
            // The rest of a cut line is meaningless.
            from = line_len(from).map_or(self.total, |len| from + len);
            lines.push(format!("({} bytes are left out)", from - self.shown));
        }
        let mut to = from;
        while let Some(len) = line_len(to) {
            to += len;
        }
        if self.is_over {
            to = self.total;
        }
        let len = usize::try_from(to - from).unwrap_or(usize::MAX);
        lines.extend(lines_of(bytes(from).take(len)));
        self.shown = to;
        lines
    }
}

fn lines_of(bytes: impl Iterator<Item = u8>) -> Vec<String> {
    let bytes: Vec<u8> = bytes.collect();
    let text = String::from_utf8_lossy(&bytes);
    text.lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::super::poll;
    use super::*;
    use std::io::Write;

    #[test]
    fn the_end_of_the_output_is_kept() {
        let printed = ServerOutput::default();
        let mut writer = printed.begin().expect("a pipe");
        writeln!(writer, "first").expect("it is read");
        for _ in 0..1_000 {
            writeln!(writer, "and so on").expect("it is read");
        }
        writeln!(writer, "last").expect("it is read");
        poll(|| (printed.lines().last().map(String::as_str) == Some("last")).then_some(()));
        let lines = printed.lines();
        assert!(!lines.contains(&"first".to_owned()));
        assert!(lines.iter().map(String::len).sum::<usize>() <= TAIL_LEN_MAX);
    }

    #[test]
    fn every_line_is_shown_once_and_whole() {
        let mut output = Captured::default();
        assert_eq!(output.fresh_lines(), [""; 0]);
        output.take(b"one\ntw");
        assert_eq!(output.fresh_lines(), ["one"]);
        output.take(b"o\nthree\n");
        assert_eq!(output.fresh_lines(), ["two", "three"]);
        output.take(b"the end");
        assert_eq!(output.fresh_lines(), [""; 0]);
        output.is_over = true;
        assert_eq!(output.fresh_lines(), ["the end"]);
        assert_eq!(output.fresh_lines(), [""; 0]);
    }

    #[test]
    fn omitted_bytes_are_counted() {
        let mut output = Captured::default();
        output.take(b"shown\n");
        output.fresh_lines();
        output.take("0123456789abcde\n".repeat(TAIL_LEN_MAX).as_bytes());
        let lines = output.fresh_lines();
        let left_out = TAIL_LEN_MAX * 16 - (lines.len() - 1) * 16;
        assert_eq!(lines[0], format!("({left_out} bytes are left out)"));
        assert!(lines[1..].iter().all(|line| line == "0123456789abcde"));
        assert!(lines.len() > TAIL_LEN_MAX / 16 - 2);
        assert_eq!(output.fresh_lines(), [""; 0]);
    }

    #[test]
    fn wait_for_last_waits_for_the_last_line() {
        let printed = ServerOutput::default();
        let mut writer = printed.begin().expect("a pipe");
        writeln!(writer, "first\nwhy it ended\n").expect("it is read");
        drop(writer);
        assert_eq!(printed.last_line().as_deref(), Some("why it ended"));
        assert_eq!(ServerOutput::default().last_line(), None);
    }
}
