//! A server under attack, and what must be true of it afterwards.

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
use crate::common::{wait_for_rest, wait_until};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// What a worker may take for all connections together: the pool of the `ring`
/// engine is 7 MiB, a read buffer 72 KiB, the rest is room for the allocator.
const SHARED_MEMORY: u64 = 14 * MIB;

/// What a connection may hold in its handshake: its task, the state of TLS, and a
/// request or a PROXY header, in a buffer that may double.
pub(crate) const SHAKING_HANDS: u64 = 16 * KIB;

/// ... while it waits for bytes: the small buffer of `tokio-uring`, and as much
/// again for everything else.
pub(crate) const WAITING: u64 = 8 * KIB;

/// ... while its client does not read: what the largest read brings, the reply
/// to it, and what came behind it.
pub(crate) const NOT_READ: u64 = 2 * 72 * KIB + 16 * KIB;

/// ... and what of its replies may wait, with [`SMALL_BACKLOG`].
pub(crate) const BACKLOG: u64 = 256 * KIB;
pub(crate) const SMALL_BACKLOG: &str = "--max-backlog=256k";

/// CPU time that a new connection may take, from accepting it to its end. This
/// and all that follows is ten times what a build for debugging needs, or more:
/// it is for work that grows with what has come before, or never ends.
const PER_CONNECTION: Duration = Duration::from_micros(500);

/// ... a segment, which has to be noticed and read by itself.
const PER_SEGMENT: Duration = Duration::from_micros(100);

/// ... a frame among many.
const PER_FRAME: Duration = Duration::from_nanos(250);

/// ... a byte among many.
const PER_BYTE: Duration = Duration::from_nanos(15);

/// ... an echo to the neighbour, with its share of what goes on anyway.
const PER_ECHO: Duration = Duration::from_micros(300);

/// ... an attack, whatever it is.
const PER_ATTACK: Duration = Duration::from_millis(300);

/// Longest that one connection may keep the others of its worker waiting by its own
/// work, in CPU time.
const TURN: Duration = Duration::from_millis(5);

/// ... in a build for debugging, which takes so many times as long, or less.
const TURN_FACTOR: u32 = 4;

/// A sanitizer takes time and memory of its own.
const IS_SANITIZED: bool = cfg!(asan);

/// What makes the workers of a server log their longest turn.
pub(crate) const LOG: &str = "--log=info,ringback::turn=debug";

/// Longest the neighbour may wait for its echo. This is no matter of speed:
/// somebody who waits for so long has been forgotten.
const STALL: Duration = Duration::from_secs(10);

/// How long the neighbour rests between two messages: its own work must not
/// hide that of a loop that spins.
const PACE: Duration = Duration::from_millis(2);

/// Log that an attack may cause at the default level: a disk is not to be
/// filled by strangers.
const LOG_BYTES: usize = 2048;

/// What the attack may cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Toll {
    memory: u64,
    cpu_time: Duration,
}

impl Toll {
    pub(crate) const fn new() -> Self {
        Self {
            memory: SHARED_MEMORY,
            cpu_time: PER_ATTACK,
        }
    }

    /// That of so many who go on, so many segments in all, with a handshake that
    /// they never end.
    pub(crate) fn endless_handshakes(connections: usize, segments: usize) -> Self {
        Self::new()
            .connections(connections)
            .segments(segments)
            .held(connections, SHAKING_HANDS)
    }

    /// So many connections, one after another or all at once.
    pub(crate) fn connections(self, count: usize) -> Self {
        self.work(count, PER_CONNECTION)
    }

    /// So many connections at a time that hold so many bytes each.
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
        self.cpu_time += each * u32::try_from(count).expect("an attack of a few seconds");
        self
    }
}

/// A server with one worker, a neighbour who talks to it, and how they were
/// before the attack.
pub(crate) struct Siege {
    // It ends before its server does.
    neighbour: Neighbour,
    server: Server,
    start: Instant,
    before: Before,
}

struct Before {
    memory: u64,
    cpu_time: Duration,
    echoes: u64,
    descriptors: usize,
    log_len: usize,
}

impl Siege {
    /// Starts a server with these flags.
    #[track_caller]
    pub(crate) fn lay(engine: Engine, flags: &[&str]) -> Self {
        Self::around(Server::start(
            engine,
            &[&["--threads=1", LOG], flags].concat(),
        ))
    }

    /// Begins at a server that runs, and was started with [`LOG`].
    #[track_caller]
    pub(crate) fn around(server: Server) -> Self {
        let neighbour = Neighbour::move_in(&server);
        let process = server.process();
        Self {
            start: Instant::now(),
            before: Before {
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
        self.before.descriptors
    }

    /// Waits until the server has let go of every attacker, though they have
    /// not let go of it.
    #[track_caller]
    pub(crate) fn wait_for_retreat(&self) {
        self.server.wait_for_descriptors(self.before.descriptors);
    }

    /// Attackers who wait, and make the server wait, cost no time. There is no
    /// event to wait for: what shows is what does not happen in a while.
    #[track_caller]
    pub(crate) fn expect_rest(&self) {
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

    /// Checks that the attack cost no more than `toll` and that nothing of it is
    /// left: nobody may hold a connection any more but the neighbour.
    #[track_caller]
    pub(crate) fn lift(self, toll: Toll) {
        let during = self.neighbour.echoes() - self.before.echoes;
        let elapsed = self.start.elapsed();
        assert!(
            during >= elapsed.as_secs(),
            "{during} echoes to the neighbour in {elapsed:?}"
        );
        // One that begins when the attack is over.
        self.neighbour
            .wait_for_echoes(self.before.echoes + during + 2);
        let mut newcomer = Client::connect(self.server.address());
        newcomer.echo("after the siege");
        newcomer.close();
        self.wait_for_retreat();

        let process = self.server.process();
        let used = process.cpu_time().saturating_sub(self.before.cpu_time);
        let echoes = self.neighbour.echoes() - self.before.echoes;
        let allowed = toll.cpu_time + PER_ECHO * u32::try_from(echoes).expect("few");
        let peak = self.neighbour.peak().saturating_sub(self.before.memory);
        eprintln!(
            "{:?}: {used:?} of {allowed:?} of CPU time, {} of {} KiB, {echoes} echoes",
            self.start.elapsed(),
            peak / KIB,
            toll.memory / KIB,
        );
        if !IS_SANITIZED {
            assert!(used < allowed, "{used:?} of CPU time, not {allowed:?}");
            assert!(peak < toll.memory, "{peak} bytes, not {}", toll.memory);
        }
        let log = &self.server.log()[self.before.log_len..];
        assert!(log.len() < LOG_BYTES, "the attack is logged: {log}");

        self.drain();
    }

    /// Ends the server while the attackers are there.
    #[track_caller]
    pub(crate) fn drain(mut self) {
        self.neighbour.move_out();
        self.server.terminate();
        self.server.wait_for_success();
        let log = self.server.whole_log();
        let line = log.lines().find(|line| line.contains("the longest turns"));
        // Only builds for debugging measure them.
        assert_eq!(line.is_some(), cfg!(debug_assertions), "{log}");
        if let Some((_, third_us)) = line.and_then(|line| line.split_once("third_us=")) {
            let third = Duration::from_micros(third_us.parse().expect("a number"));
            eprintln!("of the longest turns the third: {third:?}");
            assert!(IS_SANITIZED || third < TURN * TURN_FACTOR, "{line:?}");
        }
    }
}

/// A client that keeps the rules: it sends a message, waits for its echo, and
/// looks at the server's memory.
struct Neighbour {
    talking: Option<JoinHandle<()>>,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    must_leave: AtomicBool,
    echoes: AtomicU64,
    /// Of the server's memory, the most.
    peak: AtomicU64,
}

impl Neighbour {
    fn move_in(server: &Server) -> Self {
        let seen = Arc::new(Seen::default());
        let mut client = Client::connect(server.address());
        let process = server.process();
        let neighbour = Self {
            seen: Arc::clone(&seen),
            talking: Some(thread::spawn(move || {
                talk(&mut client, process, &seen);
                client.close();
            })),
        };
        neighbour.wait_for_echoes(5);
        neighbour
    }

    fn echoes(&self) -> u64 {
        self.seen.echoes.load(Relaxed)
    }

    fn peak(&self) -> u64 {
        self.seen.peak.load(Relaxed)
    }

    #[track_caller]
    fn wait_for_echoes(&self, count: u64) {
        wait_until("the neighbour gets its echoes", || {
            let talks = self.talking.as_ref().is_some_and(|t| !t.is_finished());
            assert!(talks, "the neighbour has noticed");
            self.echoes() >= count
        });
    }

    /// Leaves as politely as it came.
    #[track_caller]
    fn move_out(&mut self) {
        self.seen.must_leave.store(true, Relaxed);
        if let Some(talking) = self.talking.take() {
            talking.join().expect("the neighbour has not noticed");
        }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.seen.must_leave.store(true, Relaxed);
        if let Some(talking) = self.talking.take() {
            // The test fails already, or it would have been asked to leave.
            let _ = talking.join();
        }
    }
}

/// Lengths and bytes change from message to message: what belongs to somebody
/// else shows.
fn talk(client: &mut Client, process: Process, seen: &Seen) {
    for seed in 0.. {
        if seen.must_leave.load(Relaxed) {
            return;
        }
        let len = [3, 125, 700, 3000][usize::try_from(seed % 4).expect("small")];
        let start = Instant::now();
        client.echo(Message::from(noise(seed, len)));
        let elapsed = start.elapsed();
        assert!(elapsed < STALL, "the neighbour waited {elapsed:?}");
        seen.echoes.fetch_add(1, Relaxed);
        seen.peak.fetch_max(process.memory(), Relaxed);
        thread::sleep(PACE);
    }
}

/// Makes every one of them send until the server, which they do not read from,
/// takes no more.
pub(crate) fn fill(raws: &mut [Raw], bytes: &[u8]) -> usize {
    let mut sent = 0;
    wait_for_rest("nobody takes any more", || {
        for raw in &mut *raws {
            // One that is cut takes no more either.
            sent += raw.try_send_what_fits(bytes).unwrap_or(0);
        }
        sent
    });
    usize::try_from(sent).expect("as much as sockets hold")
}
