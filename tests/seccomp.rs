//! Where a seccomp filter forbids `io_uring`, as those of container runtimes do:
//! `auto` serves on epoll and says why, an engine that was asked for by name says
//! why not.

mod common;

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use tungstenite::Message;

use common::client::Client;
use common::server::{Server, binary, run_to_end};

/// `io_uring_setup`, `io_uring_enter` and `io_uring_register`, whose numbers are the
/// same on all architectures that Rust's tests run on.
const IO_URING: [i64; 3] = [425, 426, 427];

/// What is said: Docker and containerd say the first, others the second.
const ANSWERS: [Errno; 2] = [Errno::PERM, Errno::NOSYS];

/// What an operator has to read: what it is, who does it, what helps.
const ADVICE: [&str; 5] = [
    "io_uring",
    "seccomp",
    "container runtime",
    "allow io_uring_setup",
    "--engine epoll",
];

/// The binary in a process that gets this answer to every call of `io_uring`.
fn forbidden(answer: Errno) -> Command {
    let answer = SeccompAction::Errno(answer.raw_os_error().cast_unsigned());
    let calls = BTreeMap::from(IO_URING.map(|call| (call, Vec::new())));
    let mut command = filtered(calls, answer);
    command.arg("--listen=127.0.0.1:0");
    command
}

/// The binary in a process that gets this answer to these calls.
fn filtered(calls: BTreeMap<i64, Vec<SeccompRule>>, answer: SeccompAction) -> Command {
    let arch = std::env::consts::ARCH.try_into().expect("known to seccomp");
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, answer, arch);
    let program: BpfProgram = filter.and_then(TryInto::try_into).expect("a filter");
    let mut command = binary();
    command.args(["--threads=1", "--no-pin"]);
    // SAFETY: between fork and exec this makes two system calls, and allocates
    // nothing.
    unsafe {
        command.pre_exec(move || {
            seccompiler::apply_filter(&program).map_err(|_| std::io::Error::last_os_error())
        });
    }
    command
}

/// As on a kernel without IPv6.
#[test]
fn wildcard_without_ipv6_listens_on_ipv4_with_warning() {
    let domain = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Eq,
        u64::from(rustix::net::AddressFamily::INET6.as_raw()),
    );
    let rule = SeccompRule::new(vec![domain.expect("a condition")]).expect("a rule");
    let answer = SeccompAction::Errno(Errno::AFNOSUPPORT.raw_os_error().cast_unsigned());
    let mut command = filtered(BTreeMap::from([(libc::SYS_socket, vec![rule])]), answer);
    command.args(["--listen=[::]:0", "--admin=[::]:0", "--engine=epoll"]);
    let server = Server::spawn(&mut command, 1);
    assert!(server.address().ip().is_unspecified() && server.address().is_ipv4());
    server.wait_for_log("this kernel has no IPv6: [::]:0 is listened on as 0.0.0.0:0");
    Client::connect(([127, 0, 0, 1], server.address().port()).into()).echo("over IPv4");
    let line = server.printed().expect("an admin line");
    assert!(line.starts_with("admin http://0.0.0.0:"), "{line}");
}

#[test]
fn auto_falls_back_to_epoll_and_logs_reason() {
    for answer in ANSWERS {
        for flags in [&[][..], &["--engine=auto"]] {
            let mut server = Server::spawn(forbidden(answer).args(flags), 1);
            assert!(
                server.greeting()[0].contains(" engine=epoll "),
                "{answer}: {:?}",
                server.greeting()
            );
            let mut client = Client::connect(server.address());
            client.echo(Message::text("on what else there is"));
            client.echo(Message::binary(vec![7; 200_000]));
            client.close();
            let log = server.log();
            let lines: Vec<_> = log
                .lines()
                .filter(|line| line.contains("io_uring"))
                .collect();
            assert_eq!(lines.len(), 1, "{answer}: {log}");
            for part in [&["falling back", "WARN"], &ADVICE[..]].concat() {
                assert!(
                    lines[0].contains(part),
                    "{answer}: no {part:?} in {}",
                    lines[0]
                );
            }
            server.terminate();
            server.wait_for_success();
        }
    }
}

#[test]
fn named_engine_fails_with_reason() {
    for answer in ANSWERS {
        for engine in ["ring", "tokio-uring"] {
            let output = run_to_end(forbidden(answer).args(["--engine", engine]));
            let line = String::from_utf8(output.stderr).expect("UTF-8");
            assert_eq!(output.status.code(), Some(1), "{answer}: {line}");
            assert!(output.stdout.is_empty(), "{answer}: {:?}", output.stdout);
            assert_eq!(line.lines().count(), 1, "{answer}: {line}");
            for part in [&[engine][..], &ADVICE].concat() {
                assert!(line.contains(part), "{answer}: no {part:?} in {line}");
            }
        }
    }
}

/// The filter is what forbids it: epoll alone asks for no ring.
#[test]
fn named_epoll_needs_no_ring() {
    for answer in ANSWERS {
        let server = Server::spawn(forbidden(answer).arg("--engine=epoll"), 1);
        Client::connect(server.address()).close();
        assert!(!server.log().contains("io_uring"), "{}", server.log());
    }
}
