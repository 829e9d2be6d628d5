//! Servers with a thread that panics.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::config::engine_kind::EngineChoice;
use crate::engine::tests::client::open;
use crate::sys::calls::{self, PANIC_PATH};
use crate::sys::task_kind::TaskKind;

const TIMEOUT: Duration = Duration::from_secs(300);

/// A Close with code 1001 from a server.
const GOING_AWAY: [u8; 4] = [0x88, 0x02, 0x03, 0xe9];

fn start() -> (Server, SocketAddr, SocketAddr) {
    let config = Config {
        listen: vec!["127.0.0.1:0".parse().expect("an address")],
        admin: Some("127.0.0.1:0".parse().expect("an address")),
        engine: EngineChoice::Only(EngineKind::Epoll),
        threads: NonZeroUsize::new(2),
        pin: false,
        // Clients decide when the drain ends.
        drain_timeout: 2 * TIMEOUT,
        ..Config::default()
    };
    let server = Server::start(config).expect("started");
    let address = server.addresses[0].internet().expect("TCP");
    let admin = server.admin_address().expect("it was asked for");
    (server, address, admin)
}

fn answer(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(TIMEOUT)).expect("set");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

/// Runs a server until it ends by itself. `client` keeps its drain open until
/// `meanwhile` has returned.
fn run_to_end(
    server: Server,
    client: &mut TcpStream,
    meanwhile: impl FnOnce() + Send,
) -> Result<(), Error> {
    let signals = Signals::catch().expect("caught");
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut close = [0; 4];
            client.read_exact(&mut close).expect("a Close");
            assert_eq!(close, GOING_AWAY);
            meanwhile();
            client
                .shutdown(std::net::Shutdown::Both)
                .expect("connected");
        });
        server.run_until_signal(signals)
    })
}

/// /healthz names it, the watchdog is not notified, the others drain, the process fails.
#[test]
fn a_worker_that_panics_is_reported_as_failed_and_drains_the_server() {
    let (server, address, admin) = start();
    // Clients of both workers, and two of each in the end.
    let mut clients = Vec::new();
    let open_on = |index: usize| server.workers.threads[index].counters.open.get();
    while open_on(0) < 2 || open_on(1) < 2 {
        assert!(clients.len() < 1000, "one worker gets every connection");
        clients.push(open(address));
    }
    let before = [open_on(0), open_on(1)];
    // Nothing is answered.
    assert_eq!(answer(address, PANIC_PATH), "");
    let dead = (0..2)
        .find(|&index| open_on(index) == 0)
        .unwrap_or_else(|| {
            // The thread is about to end.
            let deadline = Instant::now() + TIMEOUT;
            loop {
                assert!(Instant::now() < deadline, "no worker has ended");
                if let Some(dead) = (0..2).find(|&index| open_on(index) == 0) {
                    return dead;
                }
                thread::sleep(Duration::from_millis(5));
            }
        });
    while server.workers_are_alive().is_ok() {
        thread::sleep(Duration::from_millis(5));
    }
    let trouble = server.workers_are_alive().expect_err("a worker has failed");
    let line = format!("worker {dead} has failed: see the log");
    assert_eq!(trouble.to_string(), line);
    // The clients of the other worker have received nothing so far.
    let mut left: Vec<_> = clients
        .into_iter()
        .filter(|client| {
            client.set_nonblocking(true).expect("set");
            let ended = client.peek(&mut [0]);
            client.set_nonblocking(false).expect("set");
            matches!(ended, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
        })
        .collect();
    assert_eq!(
        left.len() as u64,
        before[1 - dead],
        "the other worker's clients stay connected"
    );
    let mut last = left.pop().expect("two at least");
    let result = run_to_end(server, &mut last, || {
        let health = answer(admin, "/healthz");
        assert!(health.starts_with("HTTP/1.1 503 "), "{health}");
        assert!(health.ends_with(&format!("{line}\n")), "{health}");
        let metrics = answer(admin, "/metrics");
        for (worker, up) in [(dead, 0), (1 - dead, 1)] {
            let series = format!("ringback_worker_up{{worker=\"{worker}\"}} {up}\n");
            assert!(metrics.contains(&series), "{metrics}");
        }
        drop(left);
    });
    let error = result.expect_err("a worker has failed").to_string();
    let expected = format!("worker {dead} ended unexpectedly: panicked: ");
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn an_admin_thread_that_panics_drains_the_server() {
    let (server, address, admin) = start();
    let mut client = open(address);
    assert_eq!(answer(admin, PANIC_PATH), "");
    let error = run_to_end(server, &mut client, || {}).expect_err("a part has failed");
    let error = error.to_string();
    let expected = "the admin thread ended unexpectedly: panicked: ";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn a_panic_of_the_signal_handler_drains_the_server() {
    let (server, address, _admin) = start();
    let mut client = open(address);
    let now = Arc::new(AtomicBool::new(true));
    calls::panic_in(TaskKind::Signals, now);
    let error = run_to_end(server, &mut client, || {}).expect_err("a part has failed");
    let error = error.to_string();
    let expected = "the signal handler ended unexpectedly: panicked: injected";
    assert_eq!(error, expected);
}
