//! `ringback health` against the real server, as in a container's health check.

mod common;

use std::net::TcpListener;

use common::admin::Admin;
use common::client::Client;
use common::loopback::unused_address;
use common::run::run_with;
use common::server::Server;

/// The exit status, and the one line on stdout or stderr.
#[track_caller]
fn health(flags: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
    let output = run_with(&[&["health"], flags].concat(), variables);
    let status = output.status.code().expect("it exits");
    let (line, other) = match status {
        0 => (output.stdout, output.stderr),
        _ => (output.stderr, output.stdout),
    };
    assert!(other.is_empty(), "{}", String::from_utf8_lossy(&other));
    let line = String::from_utf8(line).expect("UTF-8");
    assert_eq!(line.lines().count(), 1, "{line}");
    (status, line.trim_end().to_owned())
}

fn start(flags: &[&str]) -> (Server, Admin, String) {
    let (server, admin) = Server::start_with_admin("epoll", flags);
    let flag = format!("--admin={}", admin.address);
    (server, admin, flag)
}

#[test]
fn serving_server_is_healthy_and_ready() {
    let (_server, admin, flag) = start(&["--threads=1"]);
    let ok = (0, "ok".to_owned());
    assert_eq!(health(&[&flag], &[]), ok);
    assert_eq!(health(&[&flag, "--ready"], &[]), ok);
    // As in a container, with the address in the environment.
    let address = admin.address.to_string();
    assert_eq!(health(&[], &[("RINGBACK_ADMIN", &address)]), ok);
    let everywhere = format!("--admin=0.0.0.0:{}", admin.address.port());
    assert_eq!(health(&[&everywhere], &[]), ok);
}

#[test]
fn full_server_is_healthy_but_not_ready() {
    let (server, _admin, flag) = start(&["--threads=1", "--max-connections=1"]);
    let _accepted = Client::connect(server.address());
    assert_eq!(health(&[&flag], &[]).0, 0);
    let (status, why) = health(&[&flag, "--ready"], &[]);
    assert_eq!(status, 1);
    assert!(
        why.ends_with("/readyz: 503, full: 1 connections are open"),
        "{why}"
    );
}

#[test]
fn missing_or_silent_server_is_unhealthy() {
    let address = unused_address();
    let listener = TcpListener::bind(address).expect("unused");
    let flag = format!("--admin={address}");
    let (status, why) = health(&[&flag, "--timeout=50ms"], &[]);
    assert_eq!(status, 1);
    assert!(
        why.starts_with(&format!("ringback: no answer from {address}")),
        "{why}"
    );
    drop(listener);
    let (status, why) = health(&[&flag], &[]);
    assert_eq!(status, 1);
    assert!(why.contains("refused"), "{why}");
}

#[test]
fn health_needs_an_admin_address() {
    let (status, why) = health(&[], &[]);
    assert_eq!(status, 1);
    assert!(why.contains("--admin"), "{why}");
    let (status, why) = health(&["--timeout=soon"], &[]);
    assert_eq!(status, 2);
    assert!(why.contains("--timeout"), "{why}");
}
