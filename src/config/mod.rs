//! The settings of a server: [`Config`], its types and their validation.

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

/// The smallest read size: the `ring` engine receives into buffers of 4 KiB.
pub const MIN_READ_SIZE: usize = 4096;

/// The largest read size: twice the largest window. Other connections wait while this
/// many bytes are answered.
pub const MAX_READ_SIZE: usize = 2 * MAX_WINDOW;

/// The default read size: a message of 64 KiB, its header, and some more, so that it
/// takes one read and one write.
const USUAL_READ_SIZE: usize = 68 * 1024;

/// The smallest limit on a request's header bytes; hyper's buffer is never
/// smaller.
pub const MIN_HEADER_BYTES: usize = 8192;

/// The longest busy poll: a core that spins for longer after every event never sleeps.
pub const MAX_BUSY_POLL: Duration = Duration::from_secs(1);

/// The smallest buffers of sockets; the kernel's own least is about twice that.
pub const MIN_SOCKET_BUFFER: usize = 4096;

/// The largest buffers of sockets: the kernel doubles it, in an `int`.
pub const MAX_SOCKET_BUFFER: usize = 1 << 29;

/// The name among [`Config::subprotocols`] that matches all names.
pub const ANY_SUBPROTOCOL: &str = "*";

/// The least default of [`Config::max_handshakes`].
pub const MIN_HANDSHAKES: usize = 256;

/// The most workers.
pub const THREADS_MAX: usize = 1024;

/// The longest message that is read whole when no limit is configured.
pub const DEFAULT_WHOLE_MESSAGE: u64 = 16 * 1024 * 1024;

/// The default of [`Config::max_backlog`]: the replies to a message of 64 MiB in frames of
/// any size, sent whole before any is read.
pub const DEFAULT_MAX_BACKLOG: usize = 80 * 1024 * 1024;

/// All settings of a server. `Config::default()` is the binary without arguments.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses to listen on; port 0 takes a free one.
    pub listen: Vec<Address>,
    /// A file for the process id, which is locked while the server serves. Nothing
    /// else in the process may open it: the lock ends when it is closed.
    pub pid_file: Option<PathBuf>,
    /// The mode of a Unix-domain socket's file, which permits to connect.
    pub unix_mode: u32,
    /// Addresses to listen on for TLS; they need [`tls`](Self::tls).
    pub tls_listen: Vec<Address>,
    /// The certificate and the key for those.
    pub tls: Option<TlsFiles>,
    /// The interval at which a server that [runs until a
    /// signal](crate::Server::run_until_signal) checks these files for changes; `None`
    /// never does.
    pub tls_reload: Option<Duration>,
    /// Proxies whose connections must begin with a PROXY header, version 1 or 2, which
    /// names the client.
    pub proxy_protocol: Vec<ProxySource>,
    /// Proxies whose requests name the client in the
    /// [`forwarded_header`](Self::forwarded_header).
    pub forwarded_from: Vec<ProxySource>,
    /// The field in which those proxies name their clients.
    pub forwarded_header: ForwardedHeader,
    /// The address of health and metrics; port 0 takes a free one. It has no
    /// authentication and must not be public.
    pub admin: Option<SocketAddr>,
    /// The I/O engine.
    pub engine: EngineChoice,
    /// Workers, at most [`THREADS_MAX`]; `None` is one for each core that the starting
    /// thread may run on, or as many as a control group's CPU quota can keep busy.
    pub threads: Option<NonZeroUsize>,
    /// Whether each worker is pinned to a core. Not where a CPU quota is below the cores,
    /// unless `incoming_cpu` needs it.
    pub pin: bool,
    /// The time that a worker spins for the next event before it sleeps, at most
    /// [`MAX_BUSY_POLL`]. It uses its core for that time, and answers without a wake-up.
    /// Zero sleeps at once.
    pub busy_poll: Duration,
    /// The backlog of `listen(2)`, per worker and address.
    pub backlog: NonZeroU32,
    /// Accept a connection only once its first bytes have arrived, or after this time
    /// (`TCP_DEFER_ACCEPT`; the kernel rounds to its retransmissions). `None` accepts at
    /// once.
    pub defer_accept: Option<Duration>,
    /// The time after which sent data that is not acknowledged ends a
    /// connection (`TCP_USER_TIMEOUT`). `None` is the kernel's, about 15
    /// minutes.
    pub user_timeout: Option<Duration>,
    /// Silence after which the kernel probes a peer (`SO_KEEPALIVE`). `None` never does:
    /// the idle timeout sends a Ping.
    pub keepalive: Option<Duration>,
    /// The time that the kernel polls a network device's queue if there is nothing to
    /// receive (`SO_BUSY_POLL`). `None` is `net.core.busy_read`.
    pub socket_busy_poll: Option<Duration>,
    /// The kernel's send buffer of a connection (`SO_SNDBUF`), from [`MIN_SOCKET_BUFFER`]
    /// to [`MAX_SOCKET_BUFFER`]. The kernel doubles it, for its overhead, and caps it at
    /// `net.core.wmem_max`. `None` lets it grow to `net.ipv4.tcp_wmem`.
    pub socket_send_buffer: Option<NonZeroUsize>,
    /// The kernel's receive buffer of a connection (`SO_RCVBUF`), in the same way, with
    /// `net.core.rmem_max` and `net.ipv4.tcp_rmem`. No effect on Unix-domain sockets,
    /// which have the sender's buffer only.
    pub socket_receive_buffer: Option<NonZeroUsize>,
    /// Unsent bytes in the kernel's send buffer (`TCP_NOTSENT_LOWAT`), from
    /// [`MIN_SOCKET_BUFFER`] to [`MAX_SOCKET_BUFFER`]. `None` is
    /// `net.ipv4.tcp_notsent_lowat`, which sets no limit by default.
    pub tcp_notsent_lowat: Option<NonZeroUsize>,
    /// Whether a connection goes to the worker on whose core its packets are
    /// processed (`SO_INCOMING_CPU`). Needs pinned workers.
    pub incoming_cpu: bool,
    /// The only path of WebSockets; `None` accepts any.
    pub path: Option<String>,
    /// The `Origin`s that may connect; empty allows all.
    pub origins: Vec<Origin>,
    /// The supported subprotocols; [`ANY_SUBPROTOCOL`] takes the first that a client
    /// offers.
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
    /// Bytes of an incomplete frame that are buffered; a longer frame is streamed. From
    /// [`MIN_WINDOW`] to [`MAX_WINDOW`].
    pub window: usize,
    /// The size of a read from a connection with much data. From [`MIN_READ_SIZE`] to
    /// [`MAX_READ_SIZE`], and at least twice the window, so that a full window leaves as
    /// much room for the next bytes. `None` is 68 KiB, or twice the window if that is
    /// more.
    pub read_size: Option<usize>,
    /// Connections open at a time, over all workers. The limit on open files may
    /// allow fewer; [`NonZeroUsize::MAX`] sets no other limit.
    pub max_connections: NonZeroUsize,
    /// Connections open at a time from one IPv4 address or one /64 of IPv6, over
    /// all workers; `None` sets no limit.
    pub max_connections_per_address: Option<NonZeroUsize>,
    /// Handshakes in progress at a time, over all workers, which share them equally.
    /// One more evicts the oldest. `Some(0)` sets no limit. `None` is half of
    /// [`max_held_bytes`](Self::max_held_bytes) divided by
    /// [`max_header_bytes`](Self::max_header_bytes), at most half of
    /// [`max_connections`](Self::max_connections), but at least [`MIN_HANDSHAKES`].
    pub max_handshakes: Option<usize>,
    /// The rate of connections of such an address; `None` sets no limit.
    pub handshake_rate: Option<Rate>,
    /// The burst of that rate; `None` is the rate's count. Only with a rate.
    pub handshake_burst: Option<NonZeroU32>,
    /// Buffered bytes of all connections: handshakes, incomplete frames and unread
    /// replies; at least twice the read size; `None` sets no limit. Over it, handshakes
    /// are evicted, and then the connections with the most.
    pub max_held_bytes: Option<NonZeroUsize>,
    /// Bytes of queued replies of one peer, while it is still read. Beyond, it is not
    /// read until half of them are sent. `Some(0)` sets no limit but
    /// [`max_held_bytes`](Self::max_held_bytes). `None` is [`DEFAULT_MAX_BACKLOG`], or
    /// half of `max_held_bytes` if that is less.
    pub max_backlog: Option<usize>,
    /// The kernel's TCP memory on this machine, for all sockets of all processes, above
    /// which peers that do not read are evicted. `Some(0)` sets no limit. `None` is three
    /// quarters of the second number of `net.ipv4.tcp_mem`; where that cannot be read,
    /// three quarters of a sixteenth of the machine's memory.
    pub max_tcp_memory: Option<usize>,
    /// Silence after which a peer gets a Ping; `None` never does.
    pub idle_timeout: Option<Duration>,
    /// Silence after that Ping until the connection is closed.
    pub pong_timeout: Duration,
    /// The time in which a peer must read one read size of its replies, or all of them;
    /// while replies are queued, the time in which it must send as much.
    pub write_timeout: Duration,
    /// The time from accept to the end of the handshake.
    pub handshake_timeout: Duration,
    /// The time from a sent Close to the end of the connection.
    pub close_timeout: Duration,
    /// Bytes in a request's head, at least [`MIN_HEADER_BYTES`].
    pub max_header_bytes: usize,
    /// The time that connections have to end when the server stops.
    pub drain_timeout: Duration,
    /// The time over which a drain spreads its Closes, at most half of
    /// [`drain_timeout`](Self::drain_timeout), so that clients do not all reconnect at
    /// once.
    pub drain_spread: Duration,
    /// The time from the signal, when `/readyz` becomes 503, to the drain.
    pub shutdown_delay: Duration,
    /// Whether each connection is logged at its end, in an event of the target `access`
    /// at the level info.
    pub access_log: bool,
    /// The parts of the request in that event, besides the path.
    pub access_log_fields: Vec<AccessField>,
    /// The rate of those lines, over all workers; others are dropped and counted. `None`
    /// sets no limit.
    pub access_log_rate: Option<Rate>,
}

/// The files of a server's certificate and key; both are reloaded on SIGHUP, and when
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
    /// [`read_size`](Self::read_size), or its default for the window.
    pub fn effective_read_size(&self) -> usize {
        self.read_size
            .unwrap_or(USUAL_READ_SIZE.max(2 * self.window))
    }

    /// [`max_backlog`](Self::max_backlog), or its default for `max_held_bytes`.
    pub fn effective_max_backlog(&self) -> usize {
        let held = self.max_held_bytes.map_or(usize::MAX, NonZeroUsize::get);
        match self.max_backlog {
            None => DEFAULT_MAX_BACKLOG.min(held / 2),
            Some(0) => usize::MAX,
            Some(bytes) => bytes,
        }
    }

    /// [`max_handshakes`](Self::max_handshakes), or its default for the other limits.
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
    /// [`Error::Config`] with the first fault.
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

/// Timers have a granularity of milliseconds, and a timeout of zero would end every
/// connection.
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
    fn default_is_valid() {
        Config::default().validate().expect("valid");
    }

    #[test]
    fn invalid_setting_is_refused_by_name() {
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
    fn default_read_size_fits_the_window() {
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
    fn default_max_handshakes_fits_max_held_bytes() {
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
    fn default_max_backlog_fits_max_held_bytes() {
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
