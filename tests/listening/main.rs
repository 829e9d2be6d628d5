//! Listening sockets other than a port of its own: Unix-domain sockets, systemd's, and
//! those of a predecessor; the pid file and reloads.

#[path = "../common/mod.rs"]
mod common;

mod pid_file;
mod reload;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use tungstenite::{Message, WebSocket};

use common::TIMEOUT;
use common::admin::Admin;
use common::client::{Client, Raw};
use common::engines::{Engine, on_every_engine};
use common::loopback::unused_address;
use common::pki::{self, Pki};
use common::process::pid_in;
use common::server::{Server, binary};
use common::{wait_for, wait_until};

/// The server, without listening flags.
fn command(engine: Engine) -> Command {
    let mut command = binary();
    command.args(["--engine", engine, "--threads=2", "--no-pin"]);
    command
}

/// Starts a server that prints its start lines later.
fn spawn(command: &mut Command) -> Server {
    Server::spawn(command, 0)
}

fn over_unix(path: &Path) -> WebSocket<UnixStream> {
    let stream = UnixStream::connect(path).expect("connected");
    stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    let (client, _) = tungstenite::client("ws://localhost/", stream).expect("upgraded");
    client
}

fn unix_socket_echoes_and_is_removed(engine: Engine) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("echo.sock");
    let mut server = spawn(command(engine).arg(format!("--listen=unix:{}", path.display())));
    let line = server.printed().expect("a line");
    let expected = format!(
        "listening unix:{} engine={engine} threads=2",
        path.display()
    );
    assert_eq!(line, expected);
    // More than either worker may get alone.
    let mut clients: Vec<_> = (0..8).map(|_| over_unix(&path)).collect();
    for (letter, client) in (b'a'..).zip(&mut clients) {
        for len in [0, 1, 125, 70_000] {
            let message = Message::binary(vec![letter; len]);
            client.send(message.clone()).expect("sent");
            assert_eq!(client.read().expect("an echo"), message);
        }
    }
    server.terminate();
    for client in &mut clients {
        let Message::Close(Some(close)) = client.read().expect("a Close") else {
            panic!("no Close");
        };
        assert_eq!(u16::from(close.code), 1001);
        // The answer goes out with the next call, and the server closes.
        assert!(client.read().is_err());
    }
    server.wait_for_success();
    assert!(!path.exists(), "the socket's file went with the server");
}

/// Starts a server as systemd does: with a listening socket as descriptor 3.
fn activated(engine: Engine, listener: TcpListener, flags: &[&str]) -> Server {
    let passed = rustix::io::dup(OwnedFd::from(listener)).expect("a duplicate");
    // The shell puts in its process id.
    let script = format!(
        "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\" 3<&{}",
        passed.as_raw_fd()
    );
    let mut command = Command::new("bash");
    command
        .args(["-c", &script, env!("CARGO_BIN_EXE_ringback")])
        .args(["--engine", engine, "--threads=2", "--no-pin"])
        .args(flags);
    spawn(&mut command)
}

fn systemd_socket_is_served(engine: Engine) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("bound");
    // It waits in the queue of the socket until there is a server.
    let early = TcpStream::connect(address).expect("queued");
    let mut server = activated(engine, listener, &["--listen=192.0.2.1:1"]);
    let line = server.printed().expect("a line");
    assert!(line.contains(&format!("ws://{address} ")), "{line}");
    let (mut early, _) = tungstenite::client(format!("ws://{address}/"), early).expect("upgraded");
    early.send(Message::text("early")).expect("sent");
    assert_eq!(early.read().expect("an echo"), Message::text("early"));
    // Both workers accept from it.
    for _ in 0..16 {
        Client::connect(address).echo("x");
    }
    drop(early);
    server.terminate();
    server.wait_for_success();
}

fn systemd_socket_at_tls_address_speaks_tls(engine: Engine) {
    let pair = pki::pair();
    let files = Pki::of(&pair);
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("bound");
    let [certificate, key] = &files.flags();
    let listen = format!("--tls-listen={address}");
    let flags = [&listen, certificate, key].map(String::as_str);
    let mut server = activated(engine, listener, &flags);
    let line = server.printed().expect("a line");
    assert!(line.contains(&format!("wss://{address} ")), "{line}");
    let stream = TcpStream::connect(address).expect("connected");
    let tls = pki::over(stream, &pair.client(rustls::ALL_VERSIONS, &[]));
    let (mut client, _) = tungstenite::client("wss://localhost/", tls).expect("upgraded");
    client.send(Message::text("secret")).expect("sent");
    assert_eq!(client.read().expect("an echo"), Message::text("secret"));
    drop(client);
    server.terminate();
    server.wait_for_success();

    // The socket has another address than configured, and would be served without TLS.
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let mut server = activated(engine, listener, &flags);
    assert_eq!(server.wait().code(), Some(1));
    let log = server.whole_log();
    let reason = format!("systemd has passed no socket for {address}");
    assert!(log.contains(&reason), "{log}");
}

fn systemd_socket_that_does_not_listen_is_refused(engine: Engine) {
    let stream = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
    let passed = rustix::io::dup(OwnedFd::from(stream)).expect("a duplicate");
    let script = format!(
        "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" --engine {engine} 3<&{}",
        passed.as_raw_fd()
    );
    let output = Command::new("bash")
        .args(["-c", &script, env!("CARGO_BIN_EXE_ringback")])
        .stdin(Stdio::null())
        .output()
        .expect("started");
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(
        error.contains("descriptor 3: it is no stream socket"),
        "{error}"
    );
}

on_every_engine! {
    unix_socket_echoes_and_is_removed,
    systemd_socket_is_served,
    systemd_socket_at_tls_address_speaks_tls,
    systemd_socket_that_does_not_listen_is_refused,
    reloads_under_load_lose_no_connection_or_message,
    failed_reload_changes_nothing,
    reload_loads_certificate,
    unix_socket_accepts_proxy_header_and_tls,
}

/// A server that can be reloaded, and its replacements.
struct Service {
    first: Server,
    address: SocketAddr,
    directory: tempfile::TempDir,
}

impl Service {
    fn start(engine: Engine, flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        // A replacement has the same flags.
        let address = unused_address();
        let config = directory.path().join("ringback.toml");
        let pid_file = directory.path().join("pid");
        std::fs::write(&config, format!("pid-file = '{}'\n", pid_file.display())).expect("written");
        let mut command = command(engine);
        command
            .arg(format!("--listen={address}"))
            .arg("--config")
            .arg(&config)
            .args(flags);
        let first = spawn(&mut command);
        wait_until("the pid file is written", || pid_file.exists());
        Self {
            first,
            address,
            directory,
        }
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("ringback.toml")
    }

    fn pid(&self) -> i32 {
        pid_in(&self.directory.path().join("pid")).expect("a process serves")
    }

    fn reload(&self) -> Output {
        let mut command = binary();
        command.args(["reload", "--config"]).arg(self.config());
        command.stdin(Stdio::null()).output().expect("started")
    }

    /// Ends the current process, and waits until its pid file is gone.
    fn stop(self) {
        signal(self.pid(), Signal::TERM);
        let pid_file = self.directory.path().join("pid");
        wait_until("the last server ends", || !pid_file.exists());
    }
}

fn signal(pid: i32, signal: Signal) {
    let process = Pid::from_raw(pid).expect("a process");
    kill_process(process, signal).expect("it runs");
}

/// Sends numbers and counts their echoes until `stop`. A number that got Close 1001 is
/// sent again on the next connection; any other end is a loss.
fn count_up(address: SocketAddr, stop: &AtomicBool, echoed: &AtomicU64) {
    let mut number = 0_u64;
    while !stop.load(Relaxed) {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
        let url = format!("ws://{address}/");
        let (mut client, _) = tungstenite::client(url, stream).expect("upgraded");
        // Some connections are short, so that handshakes are in progress at any time.
        for _ in 0..=number % 50 {
            let message = Message::text(number.to_string());
            if client.send(message.clone()).is_err() {
                break;
            }
            match client.read().expect("an echo or a Close") {
                Message::Close(Some(close)) => {
                    assert_eq!(u16::from(close.code), 1001);
                    break;
                }
                echo => assert_eq!(echo, message),
            }
            number += 1;
            echoed.fetch_add(1, Relaxed);
        }
    }
}

fn reloads_under_load_lose_no_connection_or_message(engine: Engine) {
    const RELOADS: usize = 4;
    let service = Service::start(engine, &[]);
    let stop = Arc::new(AtomicBool::new(false));
    let echoed: Vec<_> = (0..4).map(|_| Arc::new(AtomicU64::new(0))).collect();
    let clients: Vec<_> = echoed
        .iter()
        .map(|echoed| {
            let (address, stop, echoed) = (service.address, Arc::clone(&stop), Arc::clone(echoed));
            thread::spawn(move || count_up(address, &stop, &echoed))
        })
        .collect();
    let sum = || echoed.iter().map(|count| count.load(Relaxed)).sum::<u64>();
    let mut pids = vec![service.pid()];
    for _ in 0..RELOADS {
        let before = sum();
        wait_until("the load goes on", || sum() > before + 200);
        let output = service.reload();
        assert!(output.status.success(), "{output:?}");
        let pid = service.pid();
        let stdout = String::from_utf8(output.stdout).expect("UTF-8");
        let old = pids.last().expect("one");
        assert_eq!(stdout, format!("reloaded: {old} is replaced by {pid}\n"));
        assert!(!pids.contains(&pid));
        pids.push(pid);
    }
    let before = sum();
    wait_until("the last replacement serves", || sum() > before + 200);
    stop.store(true, Relaxed);
    for client in clients {
        client.join().expect("no loss");
    }
    let mut first = service;
    first.first.wait_for_success();
    first.stop();
}

fn failed_reload_changes_nothing(engine: Engine) {
    let service = Service::start(engine, &[]);
    let mut client = Client::connect(service.address);
    client.echo("before");
    let pid = service.pid();
    let good = std::fs::read_to_string(service.config()).expect("read");
    std::fs::write(service.config(), format!("{good}window = 1\n")).expect("written");
    signal(pid, Signal::USR2);
    service
        .first
        .wait_for_log("the reload failed, this server goes on");
    client.echo("after");
    Client::connect(service.address).echo("new");
    assert_eq!(service.pid(), pid);

    // With a valid file it succeeds.
    std::fs::write(service.config(), good).expect("written");
    let output = service.reload();
    assert!(output.status.success(), "{output:?}");
    client.expect_close(1001);
    assert_ne!(service.pid(), pid);
    Client::connect(service.address).echo("again");
    service.stop();
}

fn reload_loads_certificate(engine: Engine) {
    let (old, new) = (pki::pair(), pki::pair());
    let files = Pki::of(&old);
    let address = unused_address();
    let [certificate, key] = &files.flags();
    let service = Service::start(
        engine,
        &[&format!("--tls-listen={address}"), certificate, key],
    );
    let connect = |pair: &pki::Pair| {
        let stream = TcpStream::connect(address).expect("connected");
        let tls = pki::over(stream, &pair.client(rustls::ALL_VERSIONS, &[]));
        let (client, _) = tungstenite::client("wss://localhost/", tls).expect("upgraded");
        client
    };
    let mut existing = connect(&old);
    let pid = service.pid();
    files.write("key.pem", &new.key);
    signal(pid, Signal::USR2);
    service
        .first
        .wait_for_log("the reload failed, this server goes on");
    // The replacement's own error.
    service.first.wait_for_log("the key does not match");
    existing.send(Message::text("after")).expect("sent");
    assert_eq!(existing.read().expect("an echo"), Message::text("after"));
    connect(&old);
    assert_eq!(service.pid(), pid);

    files.put(&new);
    let output = service.reload();
    assert!(output.status.success(), "{output:?}");
    let Message::Close(Some(close)) = existing.read().expect("a Close") else {
        panic!("no Close");
    };
    assert_eq!(u16::from(close.code), 1001);
    connect(&new);
    Client::connect(service.address).echo("plain, beside it");
    service.stop();
}

fn unix_socket_accepts_proxy_header_and_tls(engine: Engine) {
    let pair = pki::pair();
    let files = Pki::of(&pair);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("echo.sock");
    let mut server = spawn(
        command(engine)
            .arg(format!("--tls-listen=unix:{}", path.display()))
            .args(files.flags())
            .args(["--proxy-protocol=unix", "--print-messages"]),
    );
    let line = server.printed().expect("a line");
    assert!(
        line.starts_with(&format!("listening unix:{} ", path.display())),
        "{line}"
    );
    // Of the client 192.0.2.7, port 12345.
    let header =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x07\x30\x39\x01\xbb";
    for message in ["one", "two"] {
        let mut stream = UnixStream::connect(&path).expect("connected");
        stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
        stream.write_all(header).expect("sent");
        let name = "localhost".try_into().expect("a name");
        let config = pair.client(rustls::ALL_VERSIONS, &[]);
        let tls = rustls::ClientConnection::new(config, name).expect("a client");
        let tls = rustls::StreamOwned::new(tls, stream);
        let (mut client, _) = tungstenite::client("wss://localhost/", tls).expect("upgraded");
        client.send(Message::text(message)).expect("sent");
        assert_eq!(client.read().expect("an echo"), Message::text(message));
        let expected = format!("192.0.2.7:12345 sent: {message}");
        assert_eq!(server.printed(), Some(expected));
    }
    server.terminate();
    server.wait_for_success();
    assert!(!path.exists(), "the socket's file went with the server");
}

/// A replacement that adopts the socket and then fails must not remove its file.
#[test]
fn failed_reload_keeps_unix_socket() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("echo.sock");
    let config = directory.path().join("ringback.toml");
    let write = |threads: usize| {
        let listen = format!("listen = ['unix:{}']", path.display());
        std::fs::write(&config, format!("{listen}\nthreads = {threads}\n")).expect("written");
    };
    write(1);
    // Descriptors for one worker, but not for those of the replacement.
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""])
        .args([
            env!("CARGO_BIN_EXE_ringback"),
            "--engine=epoll",
            "--no-pin",
            "--config",
        ])
        .arg(&config);
    let mut server = spawn(&mut command);
    server.printed().expect("a line");
    write(14);
    server.signal(Signal::USR2);
    server.wait_for_log("the reload failed, this server goes on: ");
    assert!(
        server.log().contains("ringback: "),
        "no reason: {}",
        server.log()
    );
    over_unix(&path);
    server.terminate();
    server.wait_for_success();
    assert!(!path.exists(), "the socket's file went with the server");
}

#[test]
fn reload_that_splits_dual_stack_socket_fails() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("ringback.toml");
    let write = |listen: &str| {
        std::fs::write(&config, format!("listen = [{listen}]\n")).expect("written");
    };
    let free = TcpListener::bind("[::]:0").expect("a free port");
    let port = free.local_addr().expect("bound").port();
    drop(free);
    write(&format!("'[::]:{port}'"));
    let mut command = binary();
    command
        .args(["--engine=epoll", "--threads=1", "--no-pin", "--config"])
        .arg(&config);
    let mut server = spawn(&mut command);
    server.printed().expect("a line");
    write(&format!("'[::]:{port}', '0.0.0.0:{port}'"));
    server.signal(Signal::USR2);
    server.wait_for_log("the reload failed, this server goes on: ");
    let log = server.log();
    assert!(log.contains("accepts IPv4 on this address"), "{log}");
    Client::connect((Ipv4Addr::LOCALHOST, port).into()).echo("still here");
    server.terminate();
    server.wait_for_success();
}

/// Both processes have the admin address for a moment; then the replacement alone.
#[test]
fn reload_passes_on_admin_listener() {
    let admin = unused_address();
    let service = Service::start("epoll", &[&format!("--admin={admin}")]);
    let with_admin = Admin { address: admin };
    // It keeps the first server draining.
    let silent = Raw::open(service.address);
    assert!(service.reload().status.success());
    Client::connect(service.address).echo("x");
    wait_for("the replacement answers", || {
        let page = with_admin.metrics();
        (page.sum("ringback_connections_accepted_total", &[]) < 2.0).then_some(())
    });
    drop(silent);
    service.stop();
}

/// With sockets of systemd, a replacement listens on all sockets that it inherits. The
/// admin listener's is among them, though it may not be configured any more.
#[test]
fn reload_without_admin_closes_admin_listener() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("bound");
    let admin = unused_address();
    let directory = tempfile::tempdir().expect("a directory");
    let (config, pid_file) = (
        directory.path().join("c.toml"),
        directory.path().join("pid"),
    );
    let always = format!("pid-file = '{}'\n", pid_file.display());
    std::fs::write(&config, format!("{always}admin = '{admin}'\n")).expect("written");
    let flag = format!("--config={}", config.display());
    let mut server = activated("epoll", listener, &[&flag]);
    wait_until("the pid file is written", || pid_file.exists());
    std::fs::write(&config, always).expect("written");
    server.signal(Signal::USR2);
    server.wait_for_success();
    Client::connect(address).echo("x");
    let refused = TcpStream::connect(admin).expect_err("the listener is closed");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let pid = pid_in(&pid_file).expect("a process serves");
    signal(pid, Signal::TERM);
    wait_until("the last server ends", || !pid_file.exists());
}

#[test]
fn reload_without_pid_file_exits_with_status_1() {
    let run = |arguments: &[&str]| {
        let output = binary().arg("reload").args(arguments).output();
        let output = output.expect("started");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    assert!(run(&[]).contains("pid-file"));
    let stdout = run(&["--pid-file=/nonexistent/pid"]);
    assert!(
        stdout.contains("/nonexistent/pid: No such file"),
        "{stdout}"
    );
}
