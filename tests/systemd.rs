//! `sd_notify` messages, at a socket like systemd's.

mod common;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::{env, fs, process, thread};

use ringback::{Config, Signals};

use common::TIMEOUT;
use common::client::Raw;
use common::server::{Server, binary};
use common::wire::{TEXT_FRAGMENT, frame};

const READY: &str = "READY=1";
const WATCHDOG: &str = "WATCHDOG=1";
const STOPPING: &str = "STOPPING=1\nSTATUS=draining";

/// The notification socket.
struct Supervisor {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Supervisor {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("ringback-{name}-{}", process::id()));
        let socket = UnixDatagram::bind(&path).expect("bound");
        socket.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
        Self { socket, path }
    }

    /// Sets a service's environment, with a short watchdog interval.
    fn supervise<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("NOTIFY_SOCKET", &self.path)
            .env("WATCHDOG_USEC", "300000")
    }

    fn next(&self) -> String {
        let mut buf = [0; 4096];
        let len = self.socket.recv(&mut buf).expect("a notification");
        let text = String::from_utf8(buf[..len].to_vec()).expect("UTF-8");
        text.trim_end().to_owned()
    }

    /// The next one that is not about the watchdog.
    fn next_but_watchdog(&self) -> String {
        loop {
            let text = self.next();
            if text != WATCHDOG {
                return text;
            }
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // A file that is left does no harm.
        let _ = fs::remove_file(&self.path);
    }
}

#[test]
fn sd_notify_reports_ready_watchdog_and_stopping() {
    let systemd = Supervisor::new("steps");
    let mut command = binary();
    let flags = ["--listen=127.0.0.1:0", "--engine=epoll", "--threads=2"];
    command.args(flags).arg("--no-pin");
    let mut server = Server::spawn(systemd.supervise(&mut command), 1);
    let ready = format!(
        "{READY}\nSTATUS=serving {} with engine epoll on 2 threads",
        server.address()
    );
    assert_eq!(systemd.next(), ready);
    for _ in 0..3 {
        assert_eq!(systemd.next(), WATCHDOG);
    }
    // It keeps the drain waiting, while the watchdog goes on.
    let mut client = Raw::open(server.address());
    client.send(&frame(TEXT_FRAGMENT, b"unfinished"));
    server.terminate();
    assert_eq!(systemd.next_but_watchdog(), STOPPING);
    for _ in 0..3 {
        assert_eq!(systemd.next(), WATCHDOG);
    }
    drop(client);
    server.wait_for_success();
}

#[test]
fn watchdog_stops_when_a_worker_is_blocked() {
    let systemd = Supervisor::new("standstill");
    let mut command = Command::new(env::current_exe().expect("this test"));
    command.args(["--exact", "server_with_a_blockable_worker", "--ignored"]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let _service = Service(systemd.supervise(&mut command).spawn().expect("started"));
    let ready = systemd.next();
    let address: SocketAddr = ready
        .strip_prefix(READY)
        .and_then(|rest| rest.strip_prefix("\nSTATUS=serving "))
        .and_then(|rest| rest.split(' ').next())
        .and_then(|address| address.parse().ok())
        .unwrap_or_else(|| panic!("{ready:?}"));
    assert_eq!(systemd.next(), WATCHDOG);
    let _client = Raw::open(address);
    let status = systemd.next_but_watchdog();
    assert!(
        status.starts_with("STATUS=worker 0 has stalled for "),
        "{status}"
    );
    for _ in 0..3 {
        assert_ne!(systemd.next(), WATCHDOG);
    }
}

#[test]
#[ignore = "the other test runs it, in a process of its own"]
fn server_with_a_blockable_worker() {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let signals = Signals::catch().expect("caught");
    let config = Config {
        listen: vec!["127.0.0.1:0".parse().expect("an address")],
        engine: "epoll".parse().expect("an engine"),
        threads: NonZeroUsize::new(1),
        pin: false,
        ..Config::default()
    };
    let server = ringback::Server::start_with(config, |_socket| async {
        // A handler must not block.
        thread::sleep(2 * TIMEOUT);
    });
    let end = server.expect("started").run_until_signal(signals);
    end.expect("served");
}

/// A child that is killed when this is dropped.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        self.0.kill().expect("our own child");
        self.0.wait().expect("our own child");
    }
}
