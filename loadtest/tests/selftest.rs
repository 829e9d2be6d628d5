//! The generator proves itself on this machine.

use std::process::Command;

/// The remark below a failed scenario with the number of involuntary context switches. If other
/// processes took the cores at all, they may have held them for any time.
const DISTURBED: &str = "    (others took a core from server or generator ";

/// Checks that do not depend on the machine, however busy it is.
const FACTS: [&str; 7] = [
    "messages due",
    "failure",
    "answered",
    "unanswered",
    "echoed by the server",
    "response times recorded",
    "rarely delayed by the server",
];

/// A failure that is one of time.
const TIMED_OUT: &str = "  no progress on connection ";

/// The failed checks, without those of times on a busy machine.
fn failures(stdout: &str) -> Vec<&str> {
    let (mut failures, mut of_scenario) = (Vec::new(), Vec::new());
    for line in stdout.lines() {
        if line.starts_with("  FAILED") {
            of_scenario.push(line);
        } else if line
            .strip_prefix(DISTURBED)
            .is_some_and(|times| !times.starts_with("0 "))
        {
            of_scenario.retain(|row| {
                let mut facts = FACTS.iter();
                let is_fact = facts.any(|fact| row.contains(&format!("  {fact}  ")));
                is_fact && !row.contains(TIMED_OUT)
            });
        } else if !line.starts_with(' ') {
            failures.append(&mut of_scenario);
        }
    }
    failures
}

#[test]
fn the_quick_self_test_passes() {
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["selftest", "--quick"])
        .output()
        .expect("the binary runs");
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(failures(&stdout), [""; 0], "{stdout}\n{stderr}");

    let count = |start: &str| {
        stdout
            .lines()
            .filter(|line| line.starts_with(start))
            .count()
    };
    let (passed, failed) = (count("  ok"), count("  FAILED"));
    let code = i32::from(failed > 0);
    assert_eq!(output.status.code(), Some(code), "{stdout}\n{stderr}");
    let last = stdout.lines().last().unwrap_or_default();
    assert_eq!(
        last,
        format!("{passed} of {} checks passed", passed + failed)
    );
    assert!(passed > 50, "{stdout}");
    for injected in [
        "no delay: ",
        "each reply 5 ms late: ",
        "every 50th reply 40 ms late, the others 1 ms: ",
        "a stall of 1 s: ",
        "the same stall, ",
        "a stall of 1 s with a timeout of 300 ms: ",
        "more than can be sent: ",
        "one fault, ",
    ] {
        assert!(
            stdout.lines().any(|line| line.starts_with(injected)),
            "{injected}: {stdout}"
        );
    }
}
