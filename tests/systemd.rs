//! What systemd is told, seen from a socket like its own.

mod common;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::{env, fs, process, thread};

use ringback::{Config, Signals};

use common::PATIENCE;
use common::client::Raw;
use common::server::{Server, binary};
use common::wire::{TEXT_FRAGMENT, frame};

const READY: &str = "READY=1";
const FED: &str = "WATCHDOG=1";
const STOPPING: &str = "STOPPING=1\nSTATUS=draining";

/// The socket that a service tells its state.
struct Supervisor {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Supervisor {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("ringback-{name}-{}", process::id()));
        let socket = UnixDatagram::bind(&path).expect("bound");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self { socket, path }
    }

    /// What a service finds in its environment, its watchdog's patience being
    /// so short that the tests need little of it.
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
    fn next_but_feeding(&self) -> String {
        loop {
            let text = self.next();
            if text != FED {
                return text;
            }
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // It is in the way of nobody.
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
        assert_eq!(systemd.next(), FED);
    }
    // It keeps the drain waiting, during which the watchdog goes on.
    let mut client = Raw::open(server.address());
    client.send(&frame(TEXT_FRAGMENT, b"unfinished"));
    server.terminate();
    assert_eq!(systemd.next_but_feeding(), STOPPING);
    for _ in 0..3 {
        assert_eq!(systemd.next(), FED);
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
    assert_eq!(systemd.next(), FED);
    let _client = Raw::open(address);
    let trouble = systemd.next_but_feeding();
    assert!(
        trouble.starts_with("STATUS=worker 0 has stood still for "),
        "{trouble}"
    );
    for _ in 0..3 {
        assert_ne!(systemd.next(), FED);
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
        // What a handler must never do.
        thread::sleep(2 * PATIENCE);
    });
    let end = server.expect("started").run_until_signal(signals);
    end.expect("served");
}

/// A child that ends with the test.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        self.0.kill().expect("our own child");
        self.0.wait().expect("our own child");
    }
}
