//! One run: loadtest, and a server that it starts for the occasion.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::time::Duration;

use loadtest::interrupt::Interrupt;
use loadtest::result::{Document, ResultFile};

use crate::contest::Contest;
use crate::process::{self, Ended};
use crate::results::Run;
use crate::server::Server;
use crate::shape::Shape;

/// How long a server may take until it listens.
const SERVER_WAIT: Duration = Duration::from_secs(10);

/// How long a run may take beside its warm-up and its measurement: loadtest has
/// limits on each of what it waits for, which this is above.
const OVERHEAD_MAX: Duration = Duration::from_secs(60);

/// How loadtest begins what it says itself, unlike what the server says.
const SAID: &str = "loadtest: ";

/// Puts a server under a load once.
pub fn measure(contest: &Contest, server: &Server, shape: Shape, interrupt: &Interrupt) -> Run {
    let drive = || {
        let mut command = command(contest, server, shape, free_port()?);
        let limit = contest.warmup + contest.duration + OVERHEAD_MAX;
        process::run(&mut command, limit, interrupt)
    };
    match drive() {
        Ok(ended) => outcome(&ended),
        Err(error) => Run::Failed(format!("{}: {error}", contest.loadtest.display())),
    }
}

fn command(contest: &Contest, server: &Server, shape: Shape, port: u16) -> Command {
    let milliseconds = |time: Duration| format!("{}ms", time.as_millis());
    let mut command = Command::new(&contest.loadtest);
    command
        .args(["run", &server.url(port), "--format", "json"])
        .args([
            format!("--connections={}", shape.connections),
            format!("--window={}", shape.window),
            format!("--size={}", shape.payload_len),
            format!("--duration={}", milliseconds(contest.duration)),
            format!("--warmup={}", milliseconds(contest.warmup)),
            format!("--seed={}", contest.seed),
            format!("--pin={}", contest.generator_core),
            format!("--server-pin={}", contest.server_core),
            format!("--server-wait={}", milliseconds(SERVER_WAIT)),
            format!("--server-cmd={}", server.command_line(port)),
        ]);
    command
}

/// A result file on stdout is the whole story, whatever the exit status. Without
/// one, the last line tells why.
fn outcome(ended: &Ended) -> Run {
    if !ended.by_itself {
        return Run::Failed(format!("loadtest did not end in time ({})", ended.status));
    }
    if let Ok(result) = ResultFile::from_json(&ended.stdout) {
        return Run::of(&result);
    }
    let lines = || ended.stderr.lines().rev();
    let said = lines().find_map(|line| line.strip_prefix(SAID));
    Run::Failed(match said.or(lines().next()) {
        Some(reason) => reason.to_owned(),
        None => format!("loadtest says nothing ({})", ended.status),
    })
}

/// A port that nobody listens on. It is the next one's to take.
fn free_port() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    fn ended(stderr: &str, by_itself: bool) -> Ended {
        Ended {
            status: ExitStatus::from_raw(1 << 8),
            by_itself,
            stdout: Vec::new(),
            stderr: stderr.to_owned(),
        }
    }

    #[test]
    fn without_a_result_the_last_word_of_loadtest_tells_why() {
        let stderr = "loadtest: seed 1\nloadtest: cannot connect\nthe server: bye\n";
        let failed = outcome(&ended(stderr, true));
        assert_eq!(failed, Run::Failed("cannot connect".to_owned()));
        let failed = outcome(&ended("", true));
        assert_eq!(
            failed,
            Run::Failed("loadtest says nothing (exit status: 1)".to_owned())
        );
    }

    #[test]
    fn a_run_that_had_to_be_ended_is_a_failure() {
        let Run::Failed(reason) = outcome(&ended("", false)) else {
            panic!("no failure");
        };
        assert!(reason.contains("did not end in time"), "{reason}");
    }

    #[test]
    fn a_free_port_can_be_listened_on() {
        let port = free_port().unwrap();
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    }
}
