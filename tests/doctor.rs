//! `ringback doctor` on this machine.

mod common;

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use rcgen::date_time_ymd;
use serde_json::Value;

use common::engines::{Engine, RESTRICTION, on_every_engine};
use common::pki::{self, Pki};
use common::run::{run, run_with};
use common::server::{Server, binary};

/// The findings for a server with these flags, and the exit status.
#[track_caller]
fn doctor(flags: &[&str]) -> (Vec<Value>, i32) {
    let output = run(&[&["doctor", "--format=json"], flags].concat());
    findings(&output)
}

#[track_caller]
fn findings(output: &Output) -> (Vec<Value>, i32) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.is_empty(), "{errors}");
    let findings = serde_json::from_slice(&output.stdout).expect("a JSON array");
    (findings, output.status.code().expect("it exits"))
}

#[track_caller]
fn finding<'a>(findings: &'a [Value], check: &str, about: &str) -> &'a Value {
    let is_wanted = |finding: &&Value| {
        let found = finding["found"].as_str().expect("text");
        finding["check"] == check && found.contains(about)
    };
    let mut wanted = findings.iter().filter(is_wanted);
    let finding = wanted.next();
    finding.unwrap_or_else(|| panic!("no {check} with {about}: {findings:#?}"))
}

#[test]
fn small_server_has_no_problem() {
    let flags = [
        "--listen=127.0.0.1:0",
        "--threads=1",
        "--max-connections=10",
    ];
    let (findings, status) = doctor(&[&flags[..], &["--engine=epoll"]].concat());
    assert_eq!(status, 0, "{findings:#?}");
    for check in ["open files", "listen address", "engine epoll", "memory"] {
        assert_eq!(finding(&findings, check, "")["level"], "ok");
    }
    let text = run(&[&["doctor", "--engine=epoll"], &flags[..]].concat());
    assert_eq!(text.status.code(), Some(0));
    let text = String::from_utf8(text.stdout).expect("UTF-8");
    assert!(text.starts_with("ok       open files"), "{text}");
    assert!(text.contains("\n0 problems, "), "{text}");
}

#[test]
fn address_in_use_is_a_problem() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let pki = Pki::of(&pki::pair());
    let [certificate, key] = &pki.flags();
    for (flag, check) in [
        ("--listen", "listen address"),
        ("--tls-listen", "TLS address"),
        ("--admin", "admin address"),
    ] {
        let mut flags = vec![flag, &address];
        if flag == "--tls-listen" {
            flags.extend([&certificate[..], key]);
        }
        let (findings, status) = doctor(&flags);
        assert_eq!(status, 1);
        let finding = finding(&findings, check, &address);
        assert_eq!(finding["level"], "problem");
        let change = finding["change"].as_str().expect("advice");
        assert!(change.contains("ss -ltnp"), "{change}");
    }
}

#[test]
fn invalid_certificate_is_a_problem() {
    let pair = pki::pair();
    let expired = pki::pair_with(|params| {
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 2, 3);
    });
    let early = pki::pair_with(|params| {
        params.not_before = date_time_ymd(3000, 1, 1);
        params.not_after = date_time_ymd(3001, 1, 1);
    });
    let pki = Pki::of(&pair);
    let [certificate, key] = pki.flags();
    let flags = [
        "--tls-listen=127.0.0.1:0",
        "--max-connections=10",
        "--threads=1",
        "--engine=epoll",
        &certificate,
        &key,
    ];
    let expect = |about: &str, level: &str, status: i32| {
        let (findings, code) = doctor(&flags);
        assert_eq!(finding(&findings, "certificate", about)["level"], level);
        assert_eq!(code, status, "{findings:#?}");
    };
    expect("is valid until 4096", "ok", 0);
    pki.put(&expired);
    expect("has expired: it was valid until 2001-02-03", "problem", 1);
    pki.put(&early);
    expect("is valid from 3000-01-01", "problem", 1);
    pki.write("cert.pem", &pair.certificate);
    expect("key.pem for TLS: the key does not match", "problem", 1);
    pki.write("cert.pem", "");
    expect("cert.pem for TLS: it is empty", "problem", 1);
    std::fs::remove_file(pki.path("cert.pem")).expect("removed");
    expect("No such file", "problem", 1);

    pki.put(&pair);
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(pki.path("key.pem"), open).expect("set");
    let (findings, code) = doctor(&flags);
    let open = finding(&findings, "private key", "others may read it");
    assert_eq!((&open["level"], code), (&"warning".into(), 0));
}

#[test]
fn doctor_reads_environment() {
    let output = run_with(
        &["doctor", "--format=json"],
        &[
            ("RINGBACK_LISTEN", "127.0.0.1:0,192.0.2.1:1"),
            ("RINGBACK_MAX_CONNECTIONS", "10"),
        ],
    );
    let (findings, status) = findings(&output);
    assert_eq!(status, 1);
    assert_eq!(
        finding(&findings, "listen address", "192.0.2.1:1")["level"],
        "problem"
    );
}

on_every_engine![needed_descriptors_cover_what_the_server_opens,];

fn needed_descriptors_cover_what_the_server_opens(engine: Engine) {
    let flags = ["--threads=3", "--max-connections=1"];
    let (findings, _status) = doctor(&[&flags[..], &["--engine", engine]].concat());
    let found = &finding(&findings, "open files", "needed")["found"];
    let words: Vec<_> = found.as_str().expect("text").split(' ').collect();
    let at = words.iter().position(|&word| word == "needed");
    let needed = words[at.expect("it has the number") - 1];
    let needed: usize = needed.parse().expect("a number");
    let (server, admin) = Server::start_with_admin(engine, &flags);
    admin.get("/metrics");
    let open = server.process().descriptors().len();
    assert!(open < needed, "{open} of {needed}");
}

/// The same under `ulimit`.
#[track_caller]
fn doctor_with(limits: &str, flags: &[&str]) -> (Vec<Value>, i32) {
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            &format!("{limits} && exec \"$0\" doctor --format=json \"$@\""),
        ])
        .arg(binary().get_program())
        .args(flags)
        .env_remove(RESTRICTION)
        .stdin(Stdio::null());
    findings(&command.output().expect("a shell"))
}

#[test]
fn low_open_files_limit_is_a_problem() {
    let flags = [
        "--listen=127.0.0.1:0",
        "--threads=1",
        "--max-connections=5000",
    ];
    let (findings, status) = doctor_with("ulimit -n 1000", &flags);
    let open_files = finding(&findings, "open files", "1000 at most");
    assert_eq!((&open_files["level"], status), (&"problem".into(), 1));
    // With the advised limit it is no problem.
    let change = open_files["change"].as_str().expect("advice");
    let room = change.split([' ', ',']).nth(1).expect("a number");
    let flags = [
        "--listen=127.0.0.1:0",
        "--threads=1",
        "--max-connections",
        room,
    ];
    let (findings, _status) = doctor_with("ulimit -n 1000", &flags);
    assert_eq!(finding(&findings, "open files", "")["level"], "ok");
    // The server computes the same limit.
    let flags = ["--threads=1", "--max-connections=5000"];
    let (server, admin) = Server::start_with_descriptor_limit("epoll", 1000, &flags);
    let most = admin.metrics().count("ringback_connections_max", &[]);
    assert_eq!(most.to_string(), room);
    server.wait_for_log(&format!("allowed={room}"));
}
