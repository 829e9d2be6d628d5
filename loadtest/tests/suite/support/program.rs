//! The program under test, run to its end or interrupted.

use std::ffi::OsStr;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use loadtest::result::{Document, ResultFile};
use rustix::process::{Pid, Signal, kill_process};

use super::poll;

/// The exit code and output of a run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// The error line. All lines are the program's.
    pub(crate) fn error(&self) -> &str {
        for line in self.stderr.lines() {
            assert!(line.starts_with("loadtest: "), "{self:?}");
        }
        let last = self.stderr.lines().last().unwrap_or_default();
        last.strip_prefix("loadtest: ").unwrap_or_default()
    }

    /// Asserts that it failed before the measurement; returns the error line.
    pub(crate) fn refused(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        self.error()
    }

    /// Asserts that it failed for this reason, and that its numbers, if any, are not reported as
    /// valid.
    pub(crate) fn assert_failed(&self, error: &str) {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert!(self.error().contains(error), "{error}: {self:?}");
        // Whether measuring had begun by then is a matter of chance.
        if !self.stdout.is_empty() {
            assert!(self.stdout.contains("\nINVALID\n"), "{self:?}");
            assert!(self.stdout.contains(error), "{error}: {self:?}");
        }
    }

    /// Asserts that it failed for this reason before there were any numbers.
    pub(crate) fn assert_failed_early(&self, error: &str) {
        let found = self.refused(1);
        assert!(found.contains(error), "{error}: {self:?}");
    }

    /// Its report on one line, without the line breaks of the terminal's width.
    pub(crate) fn report(&self) -> String {
        self.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Asserts that the run succeeded. A busy machine may keep an open loop from its rate, which
    /// makes the result invalid but loses no message.
    pub(crate) fn assert_ok(self) -> Self {
        assert!(matches!(self.code, Some(0 | 4)), "{self:?}");
        self
    }

    /// The result that was printed. Reading it checks that its parts agree.
    pub(crate) fn result(&self) -> ResultFile {
        match ResultFile::from_json(self.stdout.as_bytes()) {
            Ok(result) => result,
            Err(problem) => panic!("{problem}: {self:?}"),
        }
    }
}

/// Runs the program to its end.
pub(crate) fn loadtest(arguments: &[impl AsRef<OsStr>]) -> Run {
    Program::start(arguments).finish()
}

/// Runs `loadtest run` and asserts that nothing was wrong with it.
pub(crate) fn result_of(arguments: &[&str]) -> ResultFile {
    loadtest(&[&["run", "--format=json"], arguments].concat())
        .assert_ok()
        .result()
}

/// The running program. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    stdout: Stream,
    stderr: Stream,
}

impl Program {
    pub(crate) fn start(arguments: &[impl AsRef<OsStr>]) -> Self {
        let mut command = command();
        command.args(arguments);
        let arguments: Vec<_> = command.get_args().filter_map(OsStr::to_str).collect();
        let has_load = arguments.first() == Some(&"run") || arguments.contains(&"--");
        if has_load && !arguments.iter().any(|it| it.starts_with("--timeout")) {
            // A busy machine may keep a server from answering for the default.
            command.arg("--timeout=2m");
        }
        Self::start_as(&mut command)
    }

    pub(crate) fn start_as(command: &mut Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let stdout = Stream::of(child.stdout.take().expect("a pipe"));
        let stderr = Stream::of(child.stderr.take().expect("a pipe"));
        Self {
            child,
            stdout,
            stderr,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Waits until this text is on stderr.
    pub(crate) fn wait_for_stderr(&self, text: &str) {
        poll(text, || self.stderr.so_far().contains(text).then_some(()));
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        let status = self.child.try_wait().expect("it can be waited for");
        status.is_some()
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Run {
        let status = poll("the program's end", || {
            self.child.try_wait().expect("it is waited for once")
        });
        Run {
            code: status.code(),
            stdout: self.stdout.whole(),
            stderr: self.stderr.whole(),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, to be given arguments and an environment.
pub(crate) fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_loadtest"))
}

/// The output of a stream so far.
#[derive(Debug)]
struct Stream {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Stream {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut chunk) {
                let mut bytes = shared.lock().unwrap_or_else(PoisonError::into_inner);
                bytes.extend_from_slice(&chunk[..count]);
            }
        });
        Self {
            bytes,
            reader: Some(reader),
        }
    }

    fn so_far(&self) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn whole(&mut self) -> String {
        // The pipe may outlive the program: its child has it, too.
        poll("the end of a stream", || {
            self.reader
                .as_ref()
                .is_none_or(JoinHandle::is_finished)
                .then_some(())
        });
        self.so_far()
    }
}
