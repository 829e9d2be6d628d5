//! Lines for stderr and stdout, written by threads of their own.
//!
//! Logging or printing copies a line into an [`OutputQueue`]. A line for which the queue
//! has no room, or that cannot be written, is dropped and counted. A push neither waits
//! for the reader of the stream nor fails.

mod standard;

use std::io::{self, Write};
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::observe::log_limit::{STDOUT_LOST, log_limited};

pub use standard::open_stdout;

/// Bytes in a queue. A longer line is accepted if it is the only one.
pub const QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Lines in a queue.
pub const QUEUE_LINES_MAX: usize = 16 * 1024;

/// Bytes that a pipe takes atomically (`PIPE_BUF`), so that lines of several processes,
/// such as a server and its replacement, do not interleave.
const WRITE_BYTES: usize = 4096;

/// The thread that writes the log. Its own log lines may never be written.
pub const LOG_THREAD: &str = "ringback-log";

/// The time to write the last lines at the end of the process.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

static STDERR: OutputQueue = OutputQueue::new(Stream::Stderr);
static STDOUT: OutputQueue = OutputQueue::new(Stream::Stdout);

/// The lines for stderr: the log.
pub fn stderr() -> &'static OutputQueue {
    &STDERR
}

/// The lines for stdout.
pub fn stdout() -> &'static OutputQueue {
    &STDOUT
}

/// Writes a command's output to stdout, directly and all of it.
///
/// # Errors
/// Stdout is closed, or a write fails.
pub fn print(bytes: &[u8]) -> io::Result<()> {
    let write = |bytes: &[u8]| Stream::Stdout.write(bytes);
    write_all(bytes, write).map_err(|(_written, error)| error)
}

/// Waits until all lines are written, for at most a second: an unread stderr or stdout
/// does not keep the process from ending.
pub fn flush() {
    let deadline = Instant::now() + FLUSH_TIMEOUT;
    for queue in [&STDERR, &STDOUT] {
        queue.flush(deadline.saturating_duration_since(Instant::now()));
    }
}

/// The queue of lines for a stream. A reference to it is a writer: each call is one line.
#[derive(Debug)]
pub struct OutputQueue {
    stream: Stream,
    state: Mutex<State>,
    /// Lines are waiting.
    filled: Condvar,
    /// Everything is written, or the thread has ended.
    emptied: Condvar,
    lines_lost: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Stderr,
    Stdout,
}

#[derive(Debug)]
struct State {
    waiting: Batch,
    /// Taken by the thread, not written yet.
    bytes_in_flight: usize,
    lines_in_flight: usize,
    thread: Thread,
}

/// The thread that writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thread {
    NotStarted,
    Running,
    /// It has panicked.
    Ended,
}

/// Concatenated lines.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    /// The end of each line.
    ends: Vec<usize>,
}

impl OutputQueue {
    const fn new(stream: Stream) -> Self {
        Self {
            stream,
            state: Mutex::new(State {
                waiting: Batch {
                    bytes: Vec::new(),
                    ends: Vec::new(),
                },
                bytes_in_flight: 0,
                lines_in_flight: 0,
                thread: Thread::NotStarted,
            }),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            lines_lost: AtomicU64::new(0),
        }
    }

    /// Starts the thread that writes, if it does not run yet; the first
    /// [`push`](Self::push) does so by itself.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn start(&'static self) -> io::Result<()> {
        let mut state = self.lock();
        if state.thread != Thread::NotStarted {
            return Ok(());
        }
        let stream = self.stream;
        thread::Builder::new()
            .name(stream.thread_name().to_owned())
            .spawn(move || self.write_lines(|bytes| stream.write(bytes)))?;
        state.thread = Thread::Running;
        Ok(())
    }

    /// Queues a line, with its newline; or drops and counts it.
    pub fn push(&'static self, line: &[u8]) {
        match self.start() {
            Ok(()) => self.enqueue(line),
            Err(error) => self.lose(1, &error),
        }
    }

    /// Lines dropped so far.
    pub fn lines_lost(&self) -> u64 {
        self.lines_lost.load(Relaxed)
    }

    /// Waits until all lines are written, for at most `timeout`; returns whether they are.
    pub fn flush(&self, timeout: Duration) -> bool {
        let waiting = self
            .emptied
            .wait_timeout_while(self.lock(), timeout, |state| {
                state.thread == Thread::Running && !state.is_empty()
            });
        let (state, _timed_out) = waiting.unwrap_or_else(PoisonError::into_inner);
        state.is_empty()
    }

    fn enqueue(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.thread == Thread::Ended || !state.has_room_for(line) {
            drop(state);
            self.lose(1, &"the queue is full");
            return;
        }
        let was_empty = state.waiting.ends.is_empty();
        state.waiting.push(line);
        drop(state);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// The thread's loop: takes the waiting lines and writes them with `write`.
    fn write_lines(&self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) {
        let _ends = EndsWithThread(self);
        let mut batch = Batch::default();
        let mut is_torn = false;
        let mut reported = 0;
        loop {
            self.take(&mut batch);
            match batch.write(&mut is_torn, &mut write) {
                Ok(()) => self.report_lost(&mut reported),
                Err((lines, error)) => self.lose(lines, &error),
            }
            self.finish();
        }
    }

    /// Waits for lines and takes them, in exchange for an empty batch.
    fn take(&self, batch: &mut Batch) {
        batch.clear();
        let waiting = self
            .filled
            .wait_while(self.lock(), |state| state.waiting.ends.is_empty());
        let mut state = waiting.unwrap_or_else(PoisonError::into_inner);
        mem::swap(batch, &mut state.waiting);
        state.bytes_in_flight = batch.bytes.len();
        state.lines_in_flight = batch.ends.len();
    }

    /// The taken lines are written, or lost.
    fn finish(&self) {
        let mut state = self.lock();
        state.bytes_in_flight = 0;
        state.lines_in_flight = 0;
        if state.is_empty() {
            self.emptied.notify_all();
        }
    }

    fn lose(&self, lines: usize, reason: &dyn std::fmt::Display) {
        self.lines_lost.fetch_add(lines as u64, Relaxed);
        // Losses of the log itself are logged once it can be written again.
        if self.stream == Stream::Stdout {
            log_limited!(warn, STDOUT_LOST, %reason, "lines for stdout dropped");
        }
    }

    /// Logs that lines of the log were lost, now that it can be written.
    fn report_lost(&self, reported: &mut u64) {
        let lost = self.lines_lost();
        if self.stream == Stream::Stderr && lost > *reported {
            tracing::warn!(lines = lost - *reported, "log lines dropped");
            *reported = lost;
        }
    }

    /// A panic elsewhere leaves nothing half done here.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for &'static OutputQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Empties the queue when its thread ends, so that no flush waits for it.
struct EndsWithThread<'a>(&'a OutputQueue);

impl Drop for EndsWithThread<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.thread = Thread::Ended;
        let lines = mem::take(&mut state.lines_in_flight) + state.waiting.ends.len();
        state.waiting = Batch::default();
        drop(state);
        self.0.lines_lost.fetch_add(lines as u64, Relaxed);
        self.0.emptied.notify_all();
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.lines_in_flight == 0 && self.waiting.ends.is_empty()
    }

    fn has_room_for(&self, line: &[u8]) -> bool {
        let bytes = self.bytes_in_flight + self.waiting.bytes.len() + line.len();
        let lines = self.lines_in_flight + self.waiting.ends.len();
        self.is_empty() || bytes <= QUEUE_BYTES_MAX && lines < QUEUE_LINES_MAX
    }
}

impl Batch {
    fn push(&mut self, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        self.ends.push(self.bytes.len());
    }

    /// Empties it, and frees most of the memory of a burst.
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.bytes.shrink_to(16 * WRITE_BYTES);
        self.ends.shrink_to(WRITE_BYTES);
    }

    /// Writes whole lines, as many at a time as a pipe takes atomically. A line that an
    /// error has torn is ended before anything else is written.
    ///
    /// # Errors
    /// The number of lost lines, and the error.
    fn write(
        &self,
        is_torn: &mut bool,
        mut write: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> Result<(), (usize, io::Error)> {
        let mut lines = 0;
        let mut written = 0;
        while lines < self.ends.len() {
            if *is_torn {
                write_all(b"\n", &mut write).map_err(|(_, error)| (self.ends.len(), error))?;
                *is_torn = false;
            }
            let fit = self.ends[lines..].partition_point(|&end| end - written <= WRITE_BYTES);
            let next = lines + fit.max(1);
            let piece = &self.bytes[written..self.ends[next - 1]];
            if let Err((len, error)) = write_all(piece, &mut write) {
                written += len;
                let whole = self.ends.partition_point(|&end| end <= written);
                *is_torn = written > whole.checked_sub(1).map_or(0, |last| self.ends[last]);
                return Err((self.ends.len() - whole, error));
            }
            written += piece.len();
            lines = next;
        }
        Ok(())
    }
}

/// # Errors
/// The number of bytes written before the error.
fn write_all(
    bytes: &[u8],
    mut write: impl FnMut(&[u8]) -> io::Result<usize>,
) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while written < bytes.len() {
        match write(&bytes[written..]) {
            Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
            Ok(len) => written += len,
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}

impl Stream {
    /// At most 15 bytes, the kernel's limit.
    const fn thread_name(self) -> &'static str {
        match self {
            Self::Stderr => LOG_THREAD,
            Self::Stdout => "ringback-print",
        }
    }

    /// Writes what fits, after waiting for room: another process that shares the stream
    /// may have made it non-blocking.
    fn write(self, bytes: &[u8]) -> io::Result<usize> {
        let stream = match self {
            Self::Stderr => standard::open_stderr(),
            Self::Stdout => open_stdout(),
        }?;
        loop {
            match rustix::io::write(stream, bytes) {
                Err(Errno::AGAIN) => {
                    match poll(
                        &mut [PollFd::from_borrowed_fd(stream, PollFlags::OUT)],
                        None,
                    ) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Err(Errno::INTR) => {}
                written => return Ok(written?),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// The longest wait for a thread.
    const TIMEOUT: Duration = Duration::from_secs(300);

    /// A queue whose thread writes with this function.
    fn queue(
        stream: Stream,
        write: impl FnMut(&[u8]) -> io::Result<usize> + Send + 'static,
    ) -> &'static OutputQueue {
        let queue: &OutputQueue = Box::leak(Box::new(OutputQueue::new(stream)));
        queue.lock().thread = Thread::Running;
        thread::spawn(|| queue.write_lines(write));
        queue
    }

    /// A writer that reports its bytes and waits for the result to return.
    struct Writer {
        results: mpsc::Sender<io::Result<usize>>,
        calls: mpsc::Receiver<Vec<u8>>,
    }

    impl Writer {
        fn queue(stream: Stream) -> (&'static OutputQueue, Self) {
            let (results, next_result) = mpsc::channel();
            let (call, calls) = mpsc::channel();
            let queue = queue(stream, move |bytes| {
                call.send(bytes.to_vec()).expect("the test waits");
                next_result.recv().expect("a result")
            });
            (queue, Self { results, calls })
        }

        /// Expects a call with these bytes and gives it this result.
        #[track_caller]
        fn expect(&self, bytes: &str, result: io::Result<usize>) {
            let call = self.calls.recv_timeout(TIMEOUT).expect("a call");
            assert_eq!(String::from_utf8_lossy(&call), bytes);
            self.results.send(result).expect("it waits");
        }
    }

    fn no_space<T>() -> io::Result<T> {
        Err(Errno::NOSPC.into())
    }

    #[test]
    fn lines_are_written_whole_and_in_order() {
        let (queue, writer) = Writer::queue(Stream::Stderr);
        queue.push(b"one\n");
        writer.expect("one\n", Ok(1));
        queue.push(b"two\n");
        queue.push(b"three\n");
        writer.expect("ne\n", Ok(3));
        writer.expect("two\nthree\n", Ok(10));
        assert!(queue.flush(TIMEOUT));
        assert_eq!(queue.lines_lost(), 0);
    }

    #[test]
    fn a_write_has_whole_lines_of_at_most_pipe_buf() {
        let (queue, writer) = Writer::queue(Stream::Stderr);
        queue.push(b"x\n");
        let call = writer.calls.recv_timeout(TIMEOUT).expect("a call");
        let line = |byte: &str, len: usize| byte.repeat(len - 1) + "\n";
        let (a, b, c, d) = (
            line("a", 2000),
            line("b", 2096),
            line("c", 5000),
            line("d", 10),
        );
        for line in [&a, &b, &c, &d] {
            queue.push(line.as_bytes());
        }
        writer.results.send(Ok(call.len())).expect("it waits");
        writer.expect(&(a + &b), Ok(4096));
        writer.expect(&c, Ok(5000));
        writer.expect(&d, Ok(10));
        assert!(queue.flush(TIMEOUT));
    }

    #[test]
    fn full_queue_drops_and_counts_lines_without_waiting() {
        for (line, taken) in [
            (b"-\n".to_vec(), QUEUE_LINES_MAX),
            (vec![b'-'; 64 * 1024], QUEUE_BYTES_MAX / (64 * 1024)),
        ] {
            let (queue, writer) = Writer::queue(Stream::Stderr);
            for _ in 0..taken + 7 {
                queue.push(&line);
            }
            // Lines in flight count as queued.
            assert_eq!(queue.lines_lost(), 7);
            drop(writer);
        }
    }

    #[test]
    fn line_longer_than_the_queue_is_accepted_if_it_is_the_only_one() {
        let (written, lines) = mpsc::channel();
        let queue = queue(Stream::Stderr, move |bytes| {
            written.send(bytes.len()).expect("the test waits");
            Ok(bytes.len())
        });
        queue.push(&vec![b'-'; QUEUE_BYTES_MAX + 1]);
        assert_eq!(lines.recv_timeout(TIMEOUT), Ok(QUEUE_BYTES_MAX + 1));
        assert!(queue.flush(TIMEOUT));
        assert_eq!(queue.lines_lost(), 0);
    }

    #[test]
    fn after_a_failed_write_lines_are_counted_and_the_next_begins_on_a_new_line() {
        let (queue, writer) = Writer::queue(Stream::Stdout);
        queue.push(b"x\n");
        let call = writer.calls.recv_timeout(TIMEOUT).expect("a call");
        for line in ["one\n", "two\n", "three\n"] {
            queue.push(line.as_bytes());
        }
        writer.results.send(Ok(call.len())).expect("it waits");
        writer.expect("one\ntwo\nthree\n", Ok(6));
        writer.expect("o\nthree\n", no_space());
        assert!(queue.flush(TIMEOUT));
        assert_eq!(queue.lines_lost(), 2);
        queue.push(b"four\n");
        writer.expect("\n", no_space());
        assert!(queue.flush(TIMEOUT));
        assert_eq!(queue.lines_lost(), 3);
        queue.push(b"five\n");
        writer.expect("\n", Ok(1));
        writer.expect("five\n", Ok(5));
        queue.push(b"six\n");
        writer.expect("six\n", no_space());
        queue.push(b"seven\n");
        writer.expect("seven\n", Ok(6));
        assert!(queue.flush(TIMEOUT));
        assert_eq!(queue.lines_lost(), 4);
    }

    #[test]
    fn flush_ends_at_its_timeout() {
        let (queue, _writer) = Writer::queue(Stream::Stderr);
        queue.push(b"one\n");
        assert!(!queue.flush(Duration::from_millis(10)));
    }

    #[test]
    fn after_a_panic_of_the_thread_lines_are_lost_and_flush_returns() {
        let queue = queue(Stream::Stderr, |_bytes| panic!("injected"));
        queue.push(b"one\n");
        queue.flush(TIMEOUT);
        for _ in 0..3 {
            queue.push(b"more\n");
        }
        assert!(queue.flush(Duration::ZERO));
        assert_eq!(queue.lines_lost(), 4);
    }
}
