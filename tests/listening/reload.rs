//! The program that a reload starts, and its errors.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use rustix::process::Signal;
use tempfile::TempDir;

use super::{Service, signal};
use crate::common::client::Client;
use crate::common::loopback::unused_address;
use crate::common::pki::{self, Pki};
use crate::common::process::pid_in;
use crate::common::run::run;
use crate::common::server::{Server, binary};
use crate::common::wait_until;

const FLAGS: [&str; 4] = [
    "--engine=epoll",
    "--threads=1",
    "--no-pin",
    "--pid-file=pid",
];

/// A directory with two releases, a link to the first, and a free port.
struct Releases {
    directory: TempDir,
    listen: String,
}

impl Releases {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        for release in ["v1", "v2"] {
            let release = directory.path().join(release);
            fs::create_dir(&release).expect("made");
            let file = release.join("ringback");
            // A copy if it is on another file system.
            fs::hard_link(env!("CARGO_BIN_EXE_ringback"), &file)
                .or_else(|_| fs::copy(env!("CARGO_BIN_EXE_ringback"), &file).map(drop))
                .expect("installed");
        }
        let releases = Self {
            directory,
            listen: format!("--listen={}", unused_address()),
        };
        symlink("v1", releases.path("cur")).expect("linked");
        releases
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Switches the link to the second release, and removes the first.
    fn switch(&self) {
        symlink("v2", self.path("next")).expect("linked");
        fs::rename(self.path("next"), self.path("cur")).expect("switched");
        fs::remove_dir_all(self.path("v1")).expect("removed");
    }

    /// Starts the server in this directory with this command, in which `cur` is the
    /// link.
    fn start(&self, command: &str, directory: &Path) -> Server {
        let script = format!("cd '{}' && exec {command} \"$@\"", directory.display());
        let mut shell = shell(&script);
        shell.args(FLAGS).arg(&self.listen);
        Server::spawn(&mut shell, 1)
    }
}

/// Reloads the server of this directory.
fn reload(directory: &Path) {
    let pid_file = format!("--pid-file={}", directory.join("pid").display());
    let output = run(&["reload", &pid_file]);
    assert!(output.status.success(), "{output:?}");
}

/// A shell that sets `PWD`.
fn shell(script: &str) -> Command {
    let mut shell = Command::new("bash");
    shell.args(["-c", script, "bash"]);
    for (name, _value) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"RINGBACK_") {
            shell.env_remove(name);
        }
    }
    shell
}

fn program_of(pid: i32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/exe")).expect("it runs")
}

/// Ends the process in this pid file.
fn stop(pid_file: &Path) {
    signal(pid_in(pid_file).expect("a process serves"), Signal::TERM);
    wait_until("the last server ends", || !pid_file.exists());
}

#[test]
fn reload_resolves_program_path_again() {
    for command in [
        "cur/ringback",
        "./cur/ringback",
        "\"$PWD/cur/ringback\"",
        "env PATH=\"$PWD/cur:$PATH\" ringback",
        "env PATH=\"cur:$PATH\" ringback",
    ] {
        let releases = Releases::new();
        let directory = releases.directory.path();
        let mut server = releases.start(command, directory);
        releases.switch();
        reload(directory);
        let pid_file = directory.join("pid");
        let second = pid_in(&pid_file).expect("it serves");
        assert_eq!(
            program_of(second),
            releases.path("v2/ringback"),
            "{command}"
        );
        server.wait_for_success();
        let log = server.log();
        let started = log.lines().find(|it| it.contains("starting a replacement"));
        let started = started.unwrap_or_else(|| panic!("no line: {log}"));
        let file = format!("file={}", releases.path("v2/ringback").display());
        assert!(
            started.contains("cur/ringback") && started.contains(&file),
            "{started}"
        );
        // The replacement reloads likewise.
        reload(directory);
        stop(&pid_file);
    }
}

#[test]
fn reload_resolves_working_directory_again() {
    let releases = Releases::new();
    let mut server = releases.start("./ringback", &releases.path("cur"));
    assert!(releases.path("v1/pid").exists());
    symlink("v2", releases.path("next")).expect("linked");
    fs::rename(releases.path("next"), releases.path("cur")).expect("switched");
    reload(&releases.path("v1"));
    let pid_file = releases.path("v2/pid");
    let pid = pid_in(&pid_file).expect("it serves there");
    assert_eq!(program_of(pid), releases.path("v2/ringback"));
    server.wait_for_success();
    assert!(!releases.path("v1/pid").exists());
    stop(&pid_file);
}

#[test]
fn reload_ignores_argv0_of_another_program() {
    let directory = tempfile::tempdir().expect("a directory");
    let pid_file = directory.path().join("pid");
    let mut command = binary();
    command
        .arg0("sleep")
        .args(&FLAGS[..3])
        .arg(format!("--listen={}", unused_address()))
        .arg("--pid-file")
        .arg(&pid_file);
    let mut server = Server::spawn(&mut command, 1);
    let output = run(&["reload", &format!("--pid-file={}", pid_file.display())]);
    assert!(output.status.success(), "{output:?}");
    let pid = pid_in(&pid_file).expect("it serves");
    let expected = Path::new(env!("CARGO_BIN_EXE_ringback")).canonicalize();
    assert_eq!(program_of(pid), expected.expect("it is there"));
    server.wait_for_log("by the path of the running file");
    server.wait_for_success();
    stop(&pid_file);
}

/// Runs a reload that fails; returns its error.
fn failed(pid_file: &Path) -> String {
    let output = run(&["reload", &format!("--pid-file={}", pid_file.display())]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(error.lines().count(), 1, "{error}");
    let pid = pid_in(pid_file).expect("it serves");
    let goes_on = format!("the reload failed, process {pid} goes on: ");
    assert!(error.contains(&goes_on), "{error}");
    error
}

#[test]
fn failed_reload_prints_error_of_replacement() {
    let pair = pki::pair();
    let files = Pki::of(&pair);
    let [certificate, key] = &files.flags();
    let tls = format!("--tls-listen={}", unused_address());
    let service = Service::start("epoll", &[&tls, certificate, key]);
    let settings = fs::read_to_string(service.config()).expect("read");
    let mut client = Client::connect(service.address);
    let pid_file = service.directory.path().join("pid");
    let failed = || failed(&pid_file);

    files.write("cert.pem", "broken");
    let error = failed();
    assert!(
        error.contains("cert.pem for TLS: it holds no certificate"),
        "{error}"
    );
    files.put(&pair);

    fs::write(service.config(), format!("{settings}window = 1\n")).expect("written");
    let error = failed();
    assert!(error.contains("the window is 1 bytes"), "{error}");
    let log = "the reload failed, this server goes on: ";
    service
        .first
        .wait_for_log(&format!("{log}{}", service.config().display()));

    fs::write(service.config(), format!("{settings}no-such-setting = 1\n")).expect("written");
    let error = failed();
    assert!(error.contains("no-such-setting"), "{error}");

    fs::write(
        service.config(),
        format!("{settings}admin = '192.0.2.1:1'\n"),
    )
    .expect("written");
    let error = failed();
    assert!(
        error.contains("cannot listen on 192.0.2.1:1 (--admin)"),
        "{error}"
    );

    fs::write(service.config(), settings).expect("written");
    client.echo("undisturbed");
    assert!(service.reload().status.success());
    client.expect_close(1001);
    service.stop();
}

#[test]
fn concurrent_reloads_get_their_own_results() {
    let service = Service::start("epoll", &[]);
    let settings = fs::read_to_string(service.config()).expect("read");
    fs::write(service.config(), format!("{settings}window = 1\n")).expect("written");
    // A reload by signal is in progress, or has failed.
    service.first.signal(Signal::USR2);
    let pid_file = service.directory.path().join("pid");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(failed(&pid_file).contains("the window is 1 bytes")));
        }
    });
    fs::write(service.config(), &settings).expect("written");
    let old = service.pid();
    let flag = format!("--pid-file={}", pid_file.display());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let output = run(&["reload", &flag]);
                assert!(output.status.success(), "{output:?}");
            });
        }
    });
    assert_ne!(service.pid(), old);
    service.stop();
}
