//! A seccomp filter that forbids `io_uring`, as in container runtimes: `auto` falls back
//! to epoll and logs the reason, an engine given by name fails with it.

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

/// `io_uring_setup`, `io_uring_enter` and `io_uring_register`, which have the same
/// numbers on all architectures here.
const IO_URING: [i64; 3] = [425, 426, 427];

/// The errors of Docker and containerd, and of others.
const ERRNOS: [Errno; 2] = [Errno::PERM, Errno::NOSYS];

/// What the message must have: the cause, its origin, the remedy.
const ADVICE: [&str; 5] = [
    "io_uring",
    "seccomp",
    "container runtime",
    "allow io_uring_setup",
    "--engine epoll",
];

/// The binary in a process where every `io_uring` call fails with this error.
fn without_io_uring(errno: Errno) -> Command {
    let errno = SeccompAction::Errno(errno.raw_os_error().cast_unsigned());
    let calls = BTreeMap::from(IO_URING.map(|call| (call, Vec::new())));
    let mut command = filtered(calls, errno);
    command.arg("--listen=127.0.0.1:0");
    command
}

/// The binary in a process where these calls fail.
fn filtered(calls: BTreeMap<i64, Vec<SeccompRule>>, errno: SeccompAction) -> Command {
    let arch = std::env::consts::ARCH.try_into().expect("known to seccomp");
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, errno, arch);
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

/// A kernel without IPv6.
#[test]
fn wildcard_without_ipv6_listens_on_ipv4_with_warning() {
    let domain = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Eq,
        u64::from(rustix::net::AddressFamily::INET6.as_raw()),
    );
    let rule = SeccompRule::new(vec![domain.expect("a condition")]).expect("a rule");
    let errno = SeccompAction::Errno(Errno::AFNOSUPPORT.raw_os_error().cast_unsigned());
    let mut command = filtered(BTreeMap::from([(libc::SYS_socket, vec![rule])]), errno);
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
    for errno in ERRNOS {
        for flags in [&[][..], &["--engine=auto"]] {
            let mut server = Server::spawn(without_io_uring(errno).args(flags), 1);
            assert!(
                server.start_lines()[0].contains(" engine=epoll "),
                "{errno}: {:?}",
                server.start_lines()
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
            assert_eq!(lines.len(), 1, "{errno}: {log}");
            for part in [&["falling back", "WARN"], &ADVICE[..]].concat() {
                assert!(
                    lines[0].contains(part),
                    "{errno}: no {part:?} in {}",
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
    for errno in ERRNOS {
        for engine in ["ring", "tokio-uring"] {
            let output = run_to_end(without_io_uring(errno).args(["--engine", engine]));
            let line = String::from_utf8(output.stderr).expect("UTF-8");
            assert_eq!(output.status.code(), Some(1), "{errno}: {line}");
            assert!(output.stdout.is_empty(), "{errno}: {:?}", output.stdout);
            assert_eq!(line.lines().count(), 1, "{errno}: {line}");
            for part in [&[engine][..], &ADVICE].concat() {
                assert!(line.contains(part), "{errno}: no {part:?} in {line}");
            }
        }
    }
}

/// The epoll engine makes no `io_uring` call.
#[test]
fn named_epoll_needs_no_ring() {
    for errno in ERRNOS {
        let server = Server::spawn(without_io_uring(errno).arg("--engine=epoll"), 1);
        Client::connect(server.address()).close();
        assert!(!server.log().contains("io_uring"), "{}", server.log());
    }
}
