//! The pid file: one server at a time, and no other process is signalled.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use super::{Service, command, signal, spawn};
use crate::common::client::{Client, Raw};
use crate::common::process::pid_in;
use crate::common::run::run;
use crate::common::server::{Server, run_to_end};
use crate::common::wait_until;

const ENGINE: &str = "epoll";

fn flag(path: &Path) -> String {
    format!("--pid-file={}", path.display())
}

/// Starts a server that exits with status 1; returns its error.
fn refused(pid_file: &Path) -> String {
    let output = run_to_end(command(ENGINE).args(["--listen=127.0.0.1:0", &flag(pid_file)]));
    let error = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(output.stdout.is_empty(), "it does not listen");
    error
}

/// Runs a reload that fails; returns its error.
fn failed_reload(pid_file: &Path) -> String {
    let output = run(&["reload", &flag(pid_file)]);
    let error = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

fn start(pid_file: &Path) -> Server {
    let mut command = command(ENGINE);
    Server::spawn(command.args(["--listen=127.0.0.1:0", &flag(pid_file)]), 1)
}

#[test]
fn pid_file_of_running_server_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("pid");
    let mut first = start(&path);
    let pid = first.process().id;
    let line = refused(&path);
    let locked = format!(
        "{} is locked by process {pid}, which serves",
        path.display()
    );
    assert!(line.contains(&locked), "{line}");
    Client::connect(first.address()).echo("undisturbed");
    assert_eq!(pid_in(&path), i32::try_from(pid).ok());
    // Also while it drains.
    let client = Raw::open(first.address());
    first.terminate();
    first.wait_for_log("draining");
    assert!(refused(&path).contains(&locked));
    let drains = format!("process {pid} drains, and is not replaced");
    let line = failed_reload(&path);
    assert!(line.contains(&drains), "{line}");
    drop(client);
    first.wait_for_success();
    assert!(!path.exists());
    start(&path);
}

#[test]
fn one_of_simultaneous_servers_gets_the_pid_file() {
    const SERVERS: usize = 6;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("pid");
    // A server that is killed during its start leaves this file.
    fs::write(directory.path().join("pid.new"), "1\n").expect("written");
    let mut servers: Vec<_> = (0..SERVERS)
        .map(|_| spawn(command(ENGINE).args(["--listen=127.0.0.1:0", &flag(&path)])))
        .collect();
    wait_until("all others have exited", || {
        let ended = servers.iter().filter(|it| it.process().has_ended());
        ended.count() == SERVERS - 1
    });
    let mut serving = servers.iter_mut().filter(|it| !it.process().has_ended());
    let server = serving.next().expect("one serves");
    server.printed().expect("it listens");
    wait_until("the pid file has its id", || {
        pid_in(&path) == i32::try_from(server.process().id).ok()
    });
    server.terminate();
    server.wait_for_success();
}

#[test]
fn stale_pid_file_is_replaced() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("pid");
    let mut killed = start(&path);
    killed.signal(Signal::KILL);
    killed.wait();
    assert!(path.exists(), "the pid file stays");
    let stale = failed_reload(&path);
    assert!(stale.contains("which has ended"), "{stale}");
    let next = start(&path);
    assert_eq!(pid_in(&path), i32::try_from(next.process().id).ok());
}

#[test]
fn unusable_pid_file_fails_start_and_doctor() {
    let directory = tempfile::tempdir().expect("a directory");
    let in_it = |name: &str| directory.path().join(name);
    fs::write(in_it("settings"), "listen = []\n").expect("written");
    symlink(in_it("nothing"), in_it("link")).expect("linked");
    fs::create_dir(in_it("directory")).expect("made");
    let made = Command::new("mkfifo").arg(in_it("fifo")).status();
    assert!(made.expect("started").success());
    for (name, reason) in [
        ("no/pid", "cannot be written: No such file"),
        ("settings", "is no pid file: its content is no process id"),
        ("link", "a symbolic link, which is not followed"),
        ("directory", "no regular file"),
        ("fifo", "no regular file"),
    ] {
        let path = in_it(name);
        let line = refused(&path);
        assert!(line.contains(reason), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        let doctor = run(&["doctor", "--listen=127.0.0.1:0", &flag(&path)]);
        assert_eq!(doctor.status.code(), Some(1));
        let found = String::from_utf8(doctor.stdout).expect("UTF-8");
        let mut lines = found.lines().filter(|line| line.starts_with("problem"));
        assert!(
            lines.any(|line| line.contains("pid file") && line.contains(reason)),
            "{found}"
        );
    }
    assert!(!in_it("nothing").exists());
    let settings = fs::read_to_string(in_it("settings")).expect("kept");
    assert_eq!(settings, "listen = []\n");
}

/// A process that is not the server; killed at the end.
struct UnrelatedProcess(Child);

impl UnrelatedProcess {
    fn start() -> Self {
        let mut command = Command::new("sleep");
        command.arg("600").stdin(Stdio::null());
        Self(command.spawn().expect("started"))
    }

    fn is_running(&mut self) -> bool {
        self.0.try_wait().expect("our own child").is_none()
    }
}

impl Drop for UnrelatedProcess {
    fn drop(&mut self) {
        self.0.kill().expect("our own child");
        self.0.wait().expect("our own child");
    }
}

#[test]
fn reload_signals_only_the_server() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("pid");
    let mut unrelated = UnrelatedProcess::start();
    let pid = unrelated.0.id();
    let pid = pid.to_string();
    for (text, reason) in [
        (
            &pid[..],
            &format!("names process {pid}, which is no ringback")[..],
        ),
        ("1\n", "names process 1, which is no ringback"),
        ("0\n", "holds no process id"),
        ("-1\n", "holds no process id"),
        ("junk\n", "holds no process id"),
        ("", "holds no process id"),
    ] {
        fs::write(&path, text).expect("written");
        let line = failed_reload(&path);
        assert!(line.contains(reason), "{text:?}: {line}");
    }
    fs::remove_file(&path).expect("removed");
    symlink(directory.path().join("other"), &path).expect("linked");
    assert!(failed_reload(&path).contains("a symbolic link"));
    assert!(unrelated.is_running());
    // The command's own process id, in a file that it has not locked.
    let script = format!(
        "echo $$ >{0} && exec \"$@\"",
        directory.path().join("own").display()
    );
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            &script,
            "sh",
            env!("CARGO_BIN_EXE_ringback"),
            "reload",
        ])
        .arg(flag(&directory.path().join("own")));
    let output = run_to_end(&mut command);
    assert_eq!(output.status.code(), Some(1));
    let line = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(line.contains("which is no ringback"), "{line}");
}

#[test]
fn reload_refuses_pid_file_locked_by_another_process() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("pid");
    let server = start(&path);
    let mut unrelated = UnrelatedProcess::start();
    fs::write(&path, format!("{}\n", unrelated.0.id())).expect("written");
    let line = failed_reload(&path);
    let reason = format!("is locked by process {}", server.process().id);
    assert!(line.contains(&reason), "{line}");
    assert!(unrelated.is_running());
    Client::connect(server.address()).echo("undisturbed");
}

#[test]
fn replacement_owns_pid_file_once_it_serves() {
    let service = Service::start(ENGINE, &[]);
    let path = service.directory.path().join("pid");
    // It keeps the first server draining.
    let silent = Raw::open(service.address);
    assert!(service.reload().status.success());
    let pid = service.pid();
    assert_ne!(Some(pid), i32::try_from(service.first.process().id).ok());
    let refused = refused(&path);
    let locked = format!("is locked by process {pid}, which serves");
    assert!(refused.contains(&locked), "{refused}");
    drop(silent);
    let mut first = service;
    first.first.wait_for_success();
    assert_eq!(pid_in(&path), Some(pid), "it stays the replacement's");
    first.stop();
}

#[test]
fn reload_may_move_pid_file() {
    let service = Service::start(ENGINE, &[]);
    let (old, new) = (
        service.directory.path().join("pid"),
        service.directory.path().join("moved"),
    );
    let settings = format!("pid-file = '{}'\n", new.display());
    fs::write(service.config(), settings).expect("written");
    // At the configured path there is no server yet.
    let output = service.reload();
    assert_eq!(output.status.code(), Some(1));
    let output = run(&["reload", &flag(&old)]);
    assert!(output.status.success(), "{output:?}");
    assert!(!old.exists());
    let pid = pid_in(&new).expect("it serves");
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(
        stdout.ends_with(&format!(" is replaced by {pid}\n")),
        "{stdout}"
    );
    assert!(service.reload().status.success(), "the new path is used");
    let pid = pid_in(&new).expect("it serves");
    signal(pid, Signal::TERM);
    wait_until("the last server ends", || !new.exists());
    let left: Vec<_> = fs::read_dir(service.directory.path())
        .expect("read")
        .collect();
    assert_eq!(left.len(), 1, "only the settings are left: {left:?}");
}
