//! A server under attack: the start, the limits on what an attack may cost, and the
//! check afterwards.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tungstenite::Message;

use crate::common::client::{Client, Raw};
use crate::common::engines::Engine;
use crate::common::process::Process;
use crate::common::server::Server;
use crate::common::wire::noise;
use crate::common::{wait_until, wait_until_stable};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Memory that a worker may take for all connections together: 7 MiB for the buffer pool
/// of the `ring` engine, 72 KiB for a read buffer, the rest for the allocator.
const SHARED_MEMORY: u64 = 14 * MIB;

/// Memory of a connection in its handshake: its task, the state of TLS, and a request or
/// a PROXY header in a buffer that may double.
pub(crate) const IN_HANDSHAKE: u64 = 16 * KIB;

/// Memory of an idle connection: the small buffer of `tokio-uring`, and as much again
/// for everything else.
pub(crate) const IDLE: u64 = 8 * KIB;

/// Memory of a connection whose client does not read: the largest read, the reply to it,
/// and the bytes that came after it.
pub(crate) const UNREAD: u64 = 2 * 72 * KIB + 16 * KIB;

/// Memory of a backlog with the flag [`SMALL_BACKLOG`].
pub(crate) const BACKLOG: u64 = 256 * KIB;
pub(crate) const SMALL_BACKLOG: &str = "--max-backlog=256k";

/// CPU time of a new connection, from accept to close. This limit and those below are at
/// least ten times what a debug build needs: they catch work that grows with what came
/// before, or never ends.
const PER_CONNECTION: Duration = Duration::from_micros(500);

/// CPU time of a segment that is read by itself.
const PER_SEGMENT: Duration = Duration::from_micros(100);

/// CPU time of a frame among many.
const PER_FRAME: Duration = Duration::from_nanos(250);

/// CPU time of a byte among many.
const PER_BYTE: Duration = Duration::from_nanos(15);

/// CPU time of an echo to the neighbour, with its share of the background work.
const PER_ECHO: Duration = Duration::from_micros(300);

/// CPU time of any attack.
const PER_ATTACK: Duration = Duration::from_millis(300);

/// The most CPU time of one connection's work before the others of its worker are
/// served.
const TURN_MAX: Duration = Duration::from_millis(5);

/// Factor for debug builds.
const TURN_FACTOR: u32 = 4;

/// A sanitizer takes time and memory of its own.
const IS_SANITIZED: bool = cfg!(asan);

/// The flag that makes workers log their longest turns.
pub(crate) const LOG: &str = "--log=info,ringback::sys::turn=debug";

/// The most time between a message of the neighbour and its echo. It is no measure of
/// speed: an echo that takes so long is lost.
const ECHO_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause of the neighbour between two messages: its own work must not hide a loop that
/// spins.
const ECHO_INTERVAL: Duration = Duration::from_millis(2);

/// Bytes of log that an attack may cause at the default level.
const LOG_BYTES: usize = 2048;

/// What an attack may cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    memory: u64,
    cpu_time: Duration,
}

impl Budget {
    pub(crate) const fn new() -> Self {
        Self {
            memory: SHARED_MEMORY,
            cpu_time: PER_ATTACK,
        }
    }

    /// The budget of connections that send `segments` in all and never end their
    /// handshake.
    pub(crate) fn incomplete_handshakes(connections: usize, segments: usize) -> Self {
        Self::new()
            .connections(connections)
            .segments(segments)
            .held(connections, IN_HANDSHAKE)
    }

    /// Adds connections, one after another or all at once.
    pub(crate) fn connections(self, count: usize) -> Self {
        self.work(count, PER_CONNECTION)
    }

    /// Adds `count` simultaneous connections that hold `bytes` each.
    pub(crate) fn held(mut self, count: usize, bytes: u64) -> Self {
        self.memory += count as u64 * bytes;
        self
    }

    pub(crate) fn segments(self, count: usize) -> Self {
        self.work(count, PER_SEGMENT)
    }

    pub(crate) fn frames(self, count: usize) -> Self {
        self.work(count, PER_FRAME)
    }

    pub(crate) fn bytes(self, count: usize) -> Self {
        self.work(count, PER_BYTE)
    }

    fn work(mut self, count: usize, each: Duration) -> Self {
        self.cpu_time += each * u32::try_from(count).expect("it fits in 32 bits");
        self
    }
}

/// A server with one worker, a neighbour that exchanges messages with it, and the
/// baseline from before the attack.
pub(crate) struct Attack {
    // Dropped first: the neighbour ends before its server.
    neighbour: Neighbour,
    server: Server,
    start: Instant,
    baseline: Baseline,
}

struct Baseline {
    memory: u64,
    cpu_time: Duration,
    echoes: u64,
    descriptors: usize,
    log_len: usize,
}

impl Attack {
    /// Starts a server with these flags.
    #[track_caller]
    pub(crate) fn start(engine: Engine, flags: &[&str]) -> Self {
        Self::on(Server::start(
            engine,
            &[&["--threads=1", LOG], flags].concat(),
        ))
    }

    /// Attacks a running server, which was started with [`LOG`].
    #[track_caller]
    pub(crate) fn on(server: Server) -> Self {
        let neighbour = Neighbour::start(&server);
        let process = server.process();
        Self {
            start: Instant::now(),
            baseline: Baseline {
                memory: process.memory(),
                cpu_time: process.cpu_time(),
                echoes: neighbour.echoes(),
                descriptors: process.descriptors().len(),
                log_len: server.log().len(),
            },
            neighbour,
            server,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Descriptors that were open before the attack.
    pub(crate) fn descriptors(&self) -> usize {
        self.baseline.descriptors
    }

    /// Waits until the server has closed the connections of all attackers, whose own
    /// ends are still open.
    #[track_caller]
    pub(crate) fn wait_for_disconnects(&self) {
        self.server.wait_for_descriptors(self.baseline.descriptors);
    }

    /// Idle attackers cost no CPU time. There is no event to wait for, so the CPU time
    /// of a fixed interval is measured.
    #[track_caller]
    pub(crate) fn expect_idle(&self) {
        const WHILE: Duration = Duration::from_millis(400);
        let before = self.server.process().cpu_time();
        let start = Instant::now();
        thread::sleep(WHILE);
        let used = self.server.process().cpu_time().saturating_sub(before);
        let elapsed = start.elapsed();
        assert!(
            IS_SANITIZED || used < elapsed / 4,
            "{used:?} of CPU time in {elapsed:?} of silence"
        );
    }

    /// Checks that the attack cost no more than `budget` and that nothing of it is left:
    /// the neighbour's connection is the only one.
    #[track_caller]
    pub(crate) fn finish(self, budget: Budget) {
        let during = self.neighbour.echoes() - self.baseline.echoes;
        let elapsed = self.start.elapsed();
        assert!(
            during >= elapsed.as_secs(),
            "{during} echoes to the neighbour in {elapsed:?}"
        );
        // One echo may have been in flight: the second one begins after the attack.
        self.neighbour
            .wait_for_echoes(self.baseline.echoes + during + 2);
        let mut new_client = Client::connect(self.server.address());
        new_client.echo("after the attack");
        new_client.close();
        self.wait_for_disconnects();

        let process = self.server.process();
        let used = process.cpu_time().saturating_sub(self.baseline.cpu_time);
        let echoes = self.neighbour.echoes() - self.baseline.echoes;
        let allowed = budget.cpu_time + PER_ECHO * u32::try_from(echoes).expect("few");
        let peak = self.neighbour.peak().saturating_sub(self.baseline.memory);
        eprintln!(
            "{:?}: {used:?} of {allowed:?} of CPU time, {} of {} KiB, {echoes} echoes",
            self.start.elapsed(),
            peak / KIB,
            budget.memory / KIB,
        );
        if !IS_SANITIZED {
            assert!(used < allowed, "{used:?} of CPU time, not {allowed:?}");
            assert!(peak < budget.memory, "{peak} bytes, not {}", budget.memory);
        }
        let log = &self.server.log()[self.baseline.log_len..];
        assert!(log.len() < LOG_BYTES, "the attack is logged: {log}");

        self.drain();
    }

    /// Ends the server while the attackers are connected.
    #[track_caller]
    pub(crate) fn drain(mut self) {
        self.neighbour.stop();
        self.server.terminate();
        self.server.wait_for_success();
        let log = self.server.whole_log();
        let line = log.lines().find(|line| line.contains("the longest turns"));
        // Only debug builds measure turns.
        assert_eq!(line.is_some(), cfg!(debug_assertions), "{log}");
        if let Some((_, third_us)) = line.and_then(|line| line.split_once("third_us=")) {
            let third = Duration::from_micros(third_us.parse().expect("a number"));
            eprintln!("the third-longest turn: {third:?}");
            assert!(IS_SANITIZED || third < TURN_MAX * TURN_FACTOR, "{line:?}");
        }
    }
}

/// A client that keeps the rules: it sends a message, waits for its echo, and samples
/// the server's memory.
struct Neighbour {
    thread: Option<JoinHandle<()>>,
    observed: Arc<Observed>,
}

#[derive(Default)]
struct Observed {
    must_stop: AtomicBool,
    echoes: AtomicU64,
    /// The most memory of the server.
    peak: AtomicU64,
}

impl Neighbour {
    fn start(server: &Server) -> Self {
        let observed = Arc::new(Observed::default());
        let mut client = Client::connect(server.address());
        let process = server.process();
        let neighbour = Self {
            observed: Arc::clone(&observed),
            thread: Some(thread::spawn(move || {
                exchange(&mut client, process, &observed);
                client.close();
            })),
        };
        neighbour.wait_for_echoes(5);
        neighbour
    }

    fn echoes(&self) -> u64 {
        self.observed.echoes.load(Relaxed)
    }

    fn peak(&self) -> u64 {
        self.observed.peak.load(Relaxed)
    }

    #[track_caller]
    fn wait_for_echoes(&self, count: u64) {
        wait_until("the neighbour gets its echoes", || {
            let talks = self.thread.as_ref().is_some_and(|t| !t.is_finished());
            assert!(talks, "the neighbour has failed");
            self.echoes() >= count
        });
    }

    /// Closes the connection.
    #[track_caller]
    fn stop(&mut self) {
        self.observed.must_stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the neighbour has not failed");
        }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.observed.must_stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // The test has failed already, or the neighbour would have been stopped.
            let _ = thread.join();
        }
    }
}

/// Lengths and bytes change from message to message, so that bytes of another connection
/// show.
fn exchange(client: &mut Client, process: Process, observed: &Observed) {
    for seed in 0.. {
        if observed.must_stop.load(Relaxed) {
            return;
        }
        let len = [3, 125, 700, 3000][usize::try_from(seed % 4).expect("small")];
        let start = Instant::now();
        client.echo(Message::from(noise(seed, len)));
        let elapsed = start.elapsed();
        assert!(elapsed < ECHO_TIMEOUT, "the neighbour waited {elapsed:?}");
        observed.echoes.fetch_add(1, Relaxed);
        observed.peak.fetch_max(process.memory(), Relaxed);
        thread::sleep(ECHO_INTERVAL);
    }
}

/// Makes every client send until the server takes no more; the replies stay unread.
pub(crate) fn fill(raws: &mut [Raw], bytes: &[u8]) -> usize {
    let mut sent = 0;
    wait_until_stable("the sockets are full", || {
        for raw in &mut *raws {
            // A client that is cut sends no more either.
            sent += raw.try_send_what_fits(bytes).unwrap_or(0);
        }
        sent
    });
    usize::try_from(sent).expect("it fits in memory")
}
