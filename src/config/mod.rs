//! What a server is told: a validated [`Config`], and the command line it can
//! be made from.

pub(crate) mod access_field;
pub(crate) mod engine_kind;
pub(crate) mod error;
pub(crate) mod forwarded_header;
pub(crate) mod origin;
pub(crate) mod proxy_source;
pub(crate) mod rate;

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use crate::config::access_field::AccessField;
use crate::config::engine_kind::EngineChoice;
use crate::config::error::Error;
use crate::config::forwarded_header::ForwardedHeader;
use crate::config::origin::Origin;
use crate::config::proxy_source::ProxySource;
use crate::config::rate::Rate;
use crate::net::address::Address;
use crate::proto::sequence::MIN_WINDOW;

/// The largest window: an engine's buffers are at least twice as large.
pub const MAX_WINDOW: usize = 1024 * 1024;

/// The smallest read size: the `ring` engine gathers what came in buffers of
/// 4 KiB.
pub const MIN_READ_SIZE: usize = 4096;

/// The largest read size: room for the largest window, and as much again.
/// Others wait while so many bytes are answered.
pub const MAX_READ_SIZE: usize = 2 * MAX_WINDOW;

/// Bytes that are read at once where nothing else is said: a message of 64 KiB,
/// its header, and some more, so that it takes one read and one write.
const USUAL_READ_SIZE: usize = 68 * 1024;

/// The smallest limit on a request's header bytes; hyper's buffer is never
/// smaller.
pub const MIN_HEADER_BYTES: usize = 8192;

/// The longest busy poll: a core that spins for longer after every event is one
/// that never sleeps.
pub const MAX_BUSY_POLL: Duration = Duration::from_secs(1);

/// The smallest buffers of sockets; the kernel's own least is about twice that.
pub const MIN_SOCKET_BUFFER: usize = 4096;

/// The largest buffers of sockets: twice as much is still a number for the kernel.
pub const MAX_SOCKET_BUFFER: usize = 1 << 29;

/// The name among [`Config::subprotocols`] that stands for all names.
pub const ANY_SUBPROTOCOL: &str = "*";

/// Handshakes that may be in progress in any case where nothing else is said.
pub const MIN_HANDSHAKES: usize = 256;

/// The most workers.
pub const THREADS_MAX: usize = 1024;

/// The longest message that is read whole when no limit is configured.
pub const DEFAULT_WHOLE_MESSAGE: u64 = 16 * 1024 * 1024;

/// Bytes of replies that may wait for one peer where nothing else is said: those
/// to a message of 64 MiB in frames of any size, sent whole before any is read.
pub const DEFAULT_MAX_BACKLOG: usize = 80 * 1024 * 1024;

/// Everything a server can be told. `Config::default()` is what the binary does
/// without arguments.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses to listen on; port 0 takes a free one.
    pub listen: Vec<Address>,
    /// A file for the process id, which is locked while the server serves. Nothing
    /// else in the process may open it: the lock ends when it is closed.
    pub pid_file: Option<PathBuf>,
    /// The mode of a Unix-domain socket's file: who may connect to it.
    pub unix_mode: u32,
    /// Addresses to listen on for TLS; they need [`tls`](Self::tls).
    pub tls_listen: Vec<Address>,
    /// The certificate and the key for those.
    pub tls: Option<TlsFiles>,
    /// How often a server that [runs until a signal](crate::Server::run_until_signal)
    /// looks whether those files have changed; `None` never does.
    pub tls_reload: Option<Duration>,
    /// Proxies whose connections must begin with a header of the PROXY protocol,
    /// version 1 or 2, and are those of the clients that it names.
    pub proxy_protocol: Vec<ProxySource>,
    /// Proxies whose requests name their client in the
    /// [`forwarded_header`](Self::forwarded_header), and are those of that client.
    pub forwarded_from: Vec<ProxySource>,
    /// The field in which those proxies name their clients.
    pub forwarded_header: ForwardedHeader,
    /// Where health and metrics can be asked for; port 0 takes a free one.
    /// Everybody who can reach it may: it is not for the public.
    pub admin: Option<SocketAddr>,
    /// What moves the bytes.
    pub engine: EngineChoice,
    /// Workers, at most [`THREADS_MAX`]; `None` is one for each core that the
    /// starting thread may run on, or, where a control group has a CPU quota, as
    /// many as have work for it.
    pub threads: Option<NonZeroUsize>,
    /// Whether each worker is bound to a core of its own. Not where a CPU quota
    /// is below the cores, unless `incoming_cpu` needs it.
    pub pin: bool,
    /// How long a worker looks for the next event after its last one before it
    /// sleeps, at most [`MAX_BUSY_POLL`]. It uses its core up for that long, and
    /// answers what comes meanwhile without having to be woken. Zero sleeps at
    /// once.
    pub busy_poll: Duration,
    /// Connections that may wait to be accepted, per worker and address.
    pub backlog: NonZeroU32,
    /// Accept a connection only once its first bytes are here, or after this
    /// time (`TCP_DEFER_ACCEPT`; the kernel rounds to its retransmissions).
    /// `None` accepts at once.
    pub defer_accept: Option<Duration>,
    /// The time after which sent data that is not acknowledged ends a
    /// connection (`TCP_USER_TIMEOUT`). `None` is the kernel's, about 15
    /// minutes.
    pub user_timeout: Option<Duration>,
    /// Silence after which the kernel asks whether a peer is still there
    /// (`SO_KEEPALIVE`). `None` never does: the idle timeout's Ping asks too.
    pub keepalive: Option<Duration>,
    /// How long the kernel looks for packets in a network device's queue when
    /// nothing is there to be received (`SO_BUSY_POLL`). `None` leaves it to
    /// `net.core.busy_read`.
    pub socket_busy_poll: Option<Duration>,
    /// Bytes that the kernel may keep that one peer has not acknowledged (`SO_SNDBUF`), from
    /// [`MIN_SOCKET_BUFFER`] to [`MAX_SOCKET_BUFFER`]. It counts twice as much, for
    /// its overhead, and takes no more than `net.core.wmem_max`. `None` lets it grow
    /// to `net.ipv4.tcp_wmem`.
    pub socket_send_buffer: Option<NonZeroUsize>,
    /// Bytes that the kernel may keep of one peer that is not read (`SO_RCVBUF`), in
    /// the same way: no more than `net.core.rmem_max`, or `net.ipv4.tcp_rmem`. Of no
    /// effect on Unix-domain sockets, where the sender's buffer is all there is.
    pub socket_receive_buffer: Option<NonZeroUsize>,
    /// Bytes that the kernel may keep for one peer beyond what was sent and the peer
    /// has yet to acknowledge (`TCP_NOTSENT_LOWAT`), from [`MIN_SOCKET_BUFFER`] to
    /// [`MAX_SOCKET_BUFFER`]. `None` is `net.ipv4.tcp_notsent_lowat`, which sets no
    /// limit by default.
    pub tcp_notsent_lowat: Option<NonZeroUsize>,
    /// Whether a connection goes to the worker on whose core its packets are
    /// handled (`SO_INCOMING_CPU`). Needs workers that are bound to cores.
    pub incoming_cpu: bool,
    /// The one path on which upgrades are accepted; `None` accepts any.
    pub path: Option<String>,
    /// The pages that may connect, by their `Origin`; empty allows all.
    pub origins: Vec<Origin>,
    /// The subprotocols on offer; [`ANY_SUBPROTOCOL`] is whichever a client offers
    /// first.
    pub subprotocols: Vec<String>,
    /// Bytes in a message over all its fragments, at least 1; `None` sets no
    /// limit.
    ///
    /// The echo needs none, since it never collects a message. A handler's
    /// messages are collected, and at most [`DEFAULT_WHOLE_MESSAGE`] bytes
    /// long where this is `None`.
    pub max_message: Option<u64>,
    /// Frames in a message; [`NonZeroU32::MAX`] sets no limit.
    pub max_fragments: NonZeroU32,
    /// Bytes of an incomplete frame that a connection keeps; a longer frame is
    /// streamed. From [`MIN_WINDOW`] to [`MAX_WINDOW`].
    pub window: usize,
    /// Bytes that are read at once from a connection with much to say. From
    /// [`MIN_READ_SIZE`] to [`MAX_READ_SIZE`], and at least twice the window,
    /// so that a window that is kept leaves as much room for what arrives next.
    /// `None` is 68 KiB, or twice the window where that is more.
    pub read_size: Option<usize>,
    /// Connections open at a time, over all workers. The limit on open files may
    /// allow fewer; [`NonZeroUsize::MAX`] sets no other limit.
    pub max_connections: NonZeroUsize,
    /// Connections open at a time from one IPv4 address or one /64 of IPv6, over
    /// all workers; `None` sets no limit.
    pub max_connections_per_address: Option<NonZeroUsize>,
    /// Handshakes in progress at a time, over all workers, which share them equally.
    /// One more evicts the oldest. `Some(0)` sets no limit. `None` is as many as
    /// fill half of [`max_held_bytes`](Self::max_held_bytes) with
    /// [`max_header_bytes`](Self::max_header_bytes) each, and at most half of
    /// [`max_connections`](Self::max_connections), but at least [`MIN_HANDSHAKES`].
    pub max_handshakes: Option<usize>,
    /// How often such an address may connect; `None` sets no limit.
    pub handshake_rate: Option<Rate>,
    /// How many of its connections may come at once; `None` is as many as the
    /// rate names. Only with a rate.
    pub handshake_burst: Option<NonZeroU32>,
    /// Bytes of handshakes, incomplete frames and unread replies that are held for all
    /// connections together, at least twice the read size; `None` sets no limit.
    /// Over it, handshakes are ended, and then connections that hold most.
    pub max_held_bytes: Option<NonZeroUsize>,
    /// Bytes of replies that wait for one peer that does not read yet, while what
    /// it sends is read on. Beyond, it is not read until half of them are sent.
    /// `Some(0)` sets no limit but that on held bytes. `None` is
    /// [`DEFAULT_MAX_BACKLOG`], or half of [`max_held_bytes`](Self::max_held_bytes)
    /// where that is less.
    pub max_backlog: Option<usize>,
    /// Bytes of memory that TCP may have on this machine, for all sockets of all
    /// processes, before peers that do not read are evicted. `Some(0)` sets no limit.
    /// `None` is three quarters of the second number of `net.ipv4.tcp_mem`; where that
    /// cannot be seen, three quarters of a sixteenth of the machine's memory.
    pub max_tcp_memory: Option<usize>,
    /// Silence after which a peer is pinged; `None` never does.
    pub idle_timeout: Option<Duration>,
    /// Silence after that ping until the connection is closed.
    pub pong_timeout: Duration,
    /// The time a peer may take to read as much of its replies as is read at once,
    /// or all of them; while they go into its backlog, to send as much.
    pub write_timeout: Duration,
    /// The time from accepting a connection to the end of its handshake.
    pub handshake_timeout: Duration,
    /// The time a peer may take to end a connection that was closed.
    pub close_timeout: Duration,
    /// Bytes in a request's head, at least [`MIN_HEADER_BYTES`].
    pub max_header_bytes: usize,
    /// The time that connections have to end when the server stops.
    pub drain_timeout: Duration,
    /// The time over which a drain closes the connections, at most half of
    /// [`drain_timeout`](Self::drain_timeout): their clients do not all come back at once.
    pub drain_spread: Duration,
    /// The time between the signal to stop, from which `/readyz` says 503, and the drain.
    pub shutdown_delay: Duration,
    /// Whether each connection is told of at its end, in an event of the target
    /// `access` at the level info.
    pub access_log: bool,
    /// What of the request that event shows besides the path.
    pub access_log_fields: Vec<AccessField>,
    /// How many of those lines there are at most, over all workers; what is left out
    /// is counted. `None` sets no limit.
    pub access_log_rate: Option<Rate>,
}

/// Where a server finds out who it is; both are read again on SIGHUP, and when
/// they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain in PEM, the server's own first.
    pub certificate: PathBuf,
    /// The private key in PEM: PKCS#8, SEC1 or PKCS#1, without a passphrase.
    pub key: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 9001)).into()],
            unix_mode: 0o660,
            pid_file: None,
            tls_listen: Vec::new(),
            tls: None,
            tls_reload: Some(Duration::from_secs(60)),
            proxy_protocol: Vec::new(),
            forwarded_from: Vec::new(),
            forwarded_header: ForwardedHeader::XForwardedFor,
            admin: None,
            engine: EngineChoice::Auto,
            threads: None,
            pin: true,
            busy_poll: Duration::ZERO,
            backlog: NonZeroU32::new(4096).expect("not zero"),
            defer_accept: None,
            user_timeout: None,
            keepalive: None,
            socket_busy_poll: None,
            socket_send_buffer: None,
            socket_receive_buffer: None,
            tcp_notsent_lowat: NonZeroUsize::new(128 * 1024),
            incoming_cpu: false,
            path: None,
            origins: Vec::new(),
            subprotocols: Vec::new(),
            max_message: None,
            max_fragments: NonZeroU32::new(1 << 20).expect("not zero"),
            window: 16 * 1024,
            read_size: None,
            max_connections: NonZeroUsize::new(1_000_000).expect("not zero"),
            max_connections_per_address: None,
            max_handshakes: None,
            handshake_rate: None,
            handshake_burst: None,
            max_held_bytes: NonZeroUsize::new(1 << 30),
            max_backlog: None,
            max_tcp_memory: None,
            idle_timeout: Some(Duration::from_secs(120)),
            pong_timeout: Duration::from_secs(20),
            write_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            max_header_bytes: 16 * 1024,
            drain_timeout: Duration::from_secs(10),
            drain_spread: Duration::ZERO,
            shutdown_delay: Duration::ZERO,
            access_log: false,
            access_log_fields: Vec::new(),
            access_log_rate: NonZeroU32::new(1000).map(Rate::per_second),
        }
    }
}

impl Config {
    /// Bytes that are read at once: [`read_size`](Self::read_size), or what
    /// fits the window.
    pub fn effective_read_size(&self) -> usize {
        self.read_size
            .unwrap_or(USUAL_READ_SIZE.max(2 * self.window))
    }

    /// Bytes of replies that may wait for one peer:
    /// [`max_backlog`](Self::max_backlog), or what fits the limit on held bytes.
    pub fn effective_max_backlog(&self) -> usize {
        let held = self.max_held_bytes.map_or(usize::MAX, NonZeroUsize::get);
        match self.max_backlog {
            None => DEFAULT_MAX_BACKLOG.min(held / 2),
            Some(0) => usize::MAX,
            Some(bytes) => bytes,
        }
    }

    /// Handshakes that may be in progress at a time:
    /// [`max_handshakes`](Self::max_handshakes), or what fits the other limits.
    pub fn effective_max_handshakes(&self) -> usize {
        let held = self.max_held_bytes.map_or(usize::MAX, NonZeroUsize::get);
        match self.max_handshakes {
            None => (held / 2 / self.max_header_bytes)
                .min(self.max_connections.get() / 2)
                .max(MIN_HANDSHAKES),
            Some(0) => usize::MAX,
            Some(count) => count,
        }
    }

    /// Checks what the types do not.
    ///
    /// # Errors
    /// [`Error::Config`] with the first thing that is wrong.
    pub fn validate(&self) -> Result<(), Error> {
        if self.tls_listen.is_empty() != self.tls.is_none() {
            let reason = "--tls-listen, --tls-cert and --tls-key need each other";
            return refuse("tls-listen", reason);
        }
        if self.listen.is_empty() && self.tls_listen.is_empty() {
            return refuse(
                "listen",
                "no address to listen on: set --listen or --tls-listen",
            );
        }
        let is_plain = |address: &&Address| self.listen.contains(address);
        let mut fixed = self.tls_listen.iter().filter(|it| !it.is_any_port());
        if let Some(address) = fixed.find(is_plain) {
            let reason = format!("{address} is listed both with and without TLS");
            return refuse("tls-listen", reason);
        }
        if let Some(threads) = self.threads.filter(|threads| threads.get() > THREADS_MAX) {
            let reason = format!("threads is {threads}; it must be at most {THREADS_MAX}");
            return refuse("threads", reason);
        }
        if self.max_message == Some(0) {
            let reason = "the largest message is 0 bytes; leave it out for no limit";
            return refuse("max-message", reason);
        }
        self.check_buffers()?;
        if self.handshake_burst.is_some() && self.handshake_rate.is_none() {
            return refuse(
                "handshake-burst",
                "the handshake burst needs a handshake rate",
            );
        }
        if self.busy_poll > MAX_BUSY_POLL {
            let busy_poll = self.busy_poll;
            let reason =
                format!("the busy poll is {busy_poll:?}; it must be at most {MAX_BUSY_POLL:?}");
            return refuse("busy-poll", reason);
        }
        if !self.access_log_fields.is_empty() && !self.access_log {
            return refuse(
                "access-log-fields",
                "the access log's fields need --access-log",
            );
        }
        self.check_sockets()?;
        for (setting, duration, at_least) in [
            (
                "idle-timeout",
                self.idle_timeout.unwrap_or(MIN_TIMEOUT),
                MIN_TIMEOUT,
            ),
            (
                "tls-reload",
                self.tls_reload.unwrap_or(MIN_TIMEOUT),
                MIN_TIMEOUT,
            ),
            ("pong-timeout", self.pong_timeout, MIN_TIMEOUT),
            ("write-timeout", self.write_timeout, MIN_TIMEOUT),
            ("handshake-timeout", self.handshake_timeout, MIN_TIMEOUT),
            ("close-timeout", self.close_timeout, MIN_TIMEOUT),
            ("drain-timeout", self.drain_timeout, Duration::ZERO),
            ("drain-spread", self.drain_spread, Duration::ZERO),
            ("shutdown-delay", self.shutdown_delay, Duration::ZERO),
        ] {
            check_timeout(setting, duration, at_least)?;
        }
        if self.drain_spread > self.drain_timeout / 2 {
            let reason = format!(
                "{:?} is more than half of the drain timeout of {:?}",
                self.drain_spread, self.drain_timeout
            );
            return refuse("drain-spread", reason);
        }
        self.path.as_deref().map_or(Ok(()), check_path)?;
        for protocol in &self.subprotocols {
            if protocol.is_empty() || !protocol.bytes().all(is_token_byte) {
                let reason = format!(
                    "'{}' is no subprotocol: it must be a token such as chat.v2",
                    protocol.escape_debug()
                );
                return refuse("subprotocol", reason);
            }
        }
        Ok(())
    }

    fn check_sockets(&self) -> Result<(), Error> {
        if self.unix_mode > 0o777 {
            let reason = format!(
                "the mode {:o} has more than the bits of 777",
                self.unix_mode
            );
            return refuse("unix-mode", reason);
        }
        let second = Duration::from_secs(1);
        for (setting, duration, at_least) in [
            ("defer-accept", self.defer_accept, second),
            ("user-timeout", self.user_timeout, MIN_TIMEOUT),
            ("keepalive", self.keepalive, second),
        ] {
            if let Some(duration) = duration {
                check_timeout(setting, duration, at_least)?;
            }
        }
        if let Some(busy_poll) = self.socket_busy_poll.filter(|&time| time > MAX_BUSY_POLL) {
            let reason = format!(
                "the socket busy poll is {busy_poll:?}; it must be at most {MAX_BUSY_POLL:?}"
            );
            return refuse("socket-busy-poll", reason);
        }
        for (setting, size) in [
            ("socket-send-buffer", self.socket_send_buffer),
            ("socket-receive-buffer", self.socket_receive_buffer),
            ("tcp-notsent-lowat", self.tcp_notsent_lowat),
        ] {
            let sizes = MIN_SOCKET_BUFFER..=MAX_SOCKET_BUFFER;
            if let Some(size) = size.filter(|size| !sizes.contains(&size.get())) {
                let name = setting.replace('-', " ");
                let reason = format!(
                    "the {name} is {size} bytes; it must be {MIN_SOCKET_BUFFER} to \
                     {MAX_SOCKET_BUFFER}"
                );
                return refuse(setting, reason);
            }
        }
        if self.incoming_cpu && !self.pin {
            return refuse(
                "incoming-cpu",
                "incoming-cpu needs pinned workers: remove no-pin",
            );
        }
        Ok(())
    }

    fn check_buffers(&self) -> Result<(), Error> {
        let window = self.window;
        if !(MIN_WINDOW..=MAX_WINDOW).contains(&window) {
            let reason =
                format!("the window is {window} bytes; it must be {MIN_WINDOW} to {MAX_WINDOW}");
            return refuse("window", reason);
        }
        let read_size = self.effective_read_size();
        let least = MIN_READ_SIZE.max(2 * window);
        if !(least..=MAX_READ_SIZE).contains(&read_size) {
            let reason = format!(
                "the read size is {read_size} bytes; with a window of {window} bytes it must be \
                 {least} to {MAX_READ_SIZE}"
            );
            return refuse("read-size", reason);
        }
        let held = self.max_held_bytes.map_or(usize::MAX, NonZeroUsize::get);
        if held < 2 * read_size {
            let reason = format!(
                "the limit on held bytes is {held}; with a read size of {read_size} bytes it must \
                 be at least {}, the most that one connection may hold",
                2 * read_size
            );
            return refuse("max-held-bytes", reason);
        }
        if let Some(max_backlog) = self.max_backlog.filter(|&max_backlog| max_backlog > held) {
            let reason = format!(
                "the limit on a backlog is {max_backlog} bytes; it must be at most max-held-bytes, \
                 which is {held}"
            );
            return refuse("max-backlog", reason);
        }
        if self.max_header_bytes < MIN_HEADER_BYTES {
            let reason = format!(
                "the limit on header bytes is {}; it must be at least {MIN_HEADER_BYTES}",
                self.max_header_bytes
            );
            return refuse("max-header-bytes", reason);
        }
        Ok(())
    }
}

fn refuse(setting: &'static str, reason: impl Into<String>) -> Result<(), Error> {
    Err(Error::Config {
        setting,
        reason: reason.into(),
    })
}

/// Timers have a granularity of milliseconds, and a timeout of nothing would
/// end every connection.
const MIN_TIMEOUT: Duration = Duration::from_millis(10);

/// Far beyond any use, and far below where clocks overflow.
const MAX_TIMEOUT: Duration = Duration::from_secs(366 * 24 * 60 * 60);

fn check_timeout(
    setting: &'static str,
    timeout: Duration,
    at_least: Duration,
) -> Result<(), Error> {
    let name = setting.replace('-', " ");
    if timeout < at_least {
        refuse(setting, format!("the {name} is shorter than {at_least:?}"))
    } else if timeout > MAX_TIMEOUT {
        refuse(setting, format!("the {name} is longer than a year"))
    } else {
        Ok(())
    }
}

fn check_path(path: &str) -> Result<(), Error> {
    let is_path_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/".contains(&byte);
    if path.starts_with('/') && path.bytes().all(is_path_byte) {
        Ok(())
    } else {
        let path = path.escape_debug();
        let reason = format!("'{path}' is no path: it must start with / and hold no query");
        refuse("path", reason)
    }
}

/// `token` of RFC 9110 section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        config.validate().expect_err("refused").to_string()
    }

    #[test]
    fn the_default_is_valid() {
        Config::default().validate().expect("valid");
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        assert!(refusal(|config| config.listen.clear()).contains("address"));
        assert!(refusal(|config| config.window = 255).contains("window"));
        assert!(refusal(|config| config.window = MAX_WINDOW + 1).contains("window"));
        assert!(refusal(|config| config.read_size = Some(4096)).contains("32768 to 2097152"));
        assert!(refusal(|config| config.read_size = Some(MAX_READ_SIZE + 1)).contains("read size"));
        let twice = |config: &mut Config| {
            config.tls_listen = config.listen.clone();
            config.tls = Some(TlsFiles {
                certificate: "cert.pem".into(),
                key: "key.pem".into(),
            });
        };
        assert!(refusal(twice).contains("127.0.0.1:9001 is listed both with and without TLS"));
        let small = |config: &mut Config| (config.window, config.read_size) = (256, Some(4095));
        assert!(refusal(small).contains("4096 to"));
        assert!(refusal(|config| config.max_header_bytes = 8191).contains("header bytes"));
        let held = |config: &mut Config| config.max_held_bytes = NonZeroUsize::new(139_263);
        let backlog = |config: &mut Config| config.max_backlog = Some((1 << 30) + 1);
        assert!(refusal(backlog).contains("at most max-held-bytes, which is 1073741824"));
        assert!(refusal(held).contains("at least 139264"));
        let burst = |config: &mut Config| config.handshake_burst = NonZeroU32::new(1);
        assert!(refusal(burst).contains("needs a handshake rate"));
        assert!(refusal(|config| config.max_message = Some(0)).contains("no limit"));
        let threads = |config: &mut Config| config.threads = NonZeroUsize::new(THREADS_MAX + 1);
        assert!(refusal(threads).contains("at most 1024"));
        let fields = |config: &mut Config| config.access_log_fields = AccessField::ALL.to_vec();
        assert!(refusal(fields).contains("--access-log"));
        let too_long = MAX_BUSY_POLL + Duration::from_nanos(1);
        assert!(refusal(|config| config.busy_poll = too_long).contains("busy poll"));
        assert!(
            refusal(|config| config.idle_timeout = Some(Duration::ZERO)).contains("idle timeout")
        );
        assert!(refusal(|config| config.write_timeout = Duration::ZERO).contains("write timeout"));
        let too_long = Duration::MAX;
        assert!(refusal(|config| config.drain_timeout = too_long).contains("drain timeout"));
        assert!(refusal(|config| config.close_timeout = too_long).contains("close timeout"));
        for path in ["", "ws", "/a?b", "/a b", "/ä", "/<script>", "/\""] {
            assert!(
                refusal(|config| config.path = Some(path.into())).contains("path"),
                "{path}"
            );
        }
        for protocol in ["", "a b", "a,b", "ä"] {
            let refused = refusal(|config| config.subprotocols = vec![protocol.into()]);
            assert!(refused.contains("subprotocol"), "{protocol}");
        }
    }

    #[test]
    fn the_read_size_fits_the_window() {
        let config = |window, read_size| Config {
            window,
            read_size,
            ..Config::default()
        };
        assert_eq!(Config::default().effective_read_size(), USUAL_READ_SIZE);
        for (config, size) in [
            (config(MAX_WINDOW, None), MAX_READ_SIZE),
            (config(MAX_WINDOW, Some(MAX_READ_SIZE)), MAX_READ_SIZE),
            (config(2048, Some(4096)), 4096),
        ] {
            config.validate().expect("valid");
            assert_eq!(config.effective_read_size(), size);
        }
    }

    #[test]
    fn handshakes_fit_what_may_be_held() {
        let effective = |max_held_mib: usize, max_connections, max_handshakes| {
            let config = Config {
                max_held_bytes: NonZeroUsize::new(max_held_mib << 20),
                max_connections: NonZeroUsize::new(max_connections).expect("not zero"),
                max_handshakes,
                ..Config::default()
            };
            config.effective_max_handshakes()
        };
        assert_eq!(Config::default().effective_max_handshakes(), 32_768);
        assert_eq!(effective(192, 20_000, None), 6144);
        assert_eq!(effective(0, 20_000, None), 10_000);
        assert_eq!(effective(1, 100, None), MIN_HANDSHAKES);
        assert_eq!(effective(192, 20_000, Some(7)), 7);
        assert_eq!(effective(192, 20_000, Some(0)), usize::MAX);
    }

    #[test]
    fn a_backlog_fits_what_may_be_held() {
        const MIB: usize = 1 << 20;
        let effective = |max_backlog, max_held_bytes| {
            let config = Config {
                max_backlog,
                max_held_bytes: NonZeroUsize::new(max_held_bytes),
                ..Config::default()
            };
            config.validate().expect("valid");
            config.effective_max_backlog()
        };
        assert_eq!(effective(None, 1 << 30), 80 * MIB);
        assert_eq!(effective(None, 20 * MIB), 10 * MIB);
        assert_eq!(effective(None, 0), 80 * MIB);
        assert_eq!(effective(Some(20 * MIB), 20 * MIB), 20 * MIB);
        assert_eq!(effective(Some(0), 20 * MIB), usize::MAX);
    }
}
