//! The command line, and with it every setting: [`Args`] has the names, values,
//! defaults and help. [`settings`](crate::cli::settings) makes a validated [`Config`]
//! of the raw arguments.

mod profile;
mod value;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::ArgPredicate;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, Parser, ValueEnum, value_parser};
use ringback::binary::Probe;
use ringback::{
    AccessField, Address, Config, EngineChoice, Error, ForwardedHeader, Origin, ProxySource,
    TlsFiles,
};

use crate::cli::logging::{Directives, LogFormat};
pub(crate) use profile::Profile;
pub(crate) use value::{Mode, RateLimit, Size, Span, Switch, expected};

/// The subcommand that prints the configuration.
const CONFIG: &str = "config";

/// The subcommand that replaces a running server.
const RELOAD: &str = "reload";

/// The subcommand that examines the machine.
const DOCTOR: &str = "doctor";

/// The subcommand that probes a server's health.
const HEALTH: &str = "health";

const FORMAT: &str = "format";
const READY: &str = "ready";
const TIMEOUT: &str = "timeout";

const ADMIN_EXPECTED: &str = "an address and port such as 127.0.0.1:9090 or [::1]:9090";
const THREADS_EXPECTED: &str = "a whole number from 1 to 1024";
const COUNT_EXPECTED: &str = "a whole number from 1 to 4294967295";
const LIMIT_EXPECTED: &str = "a whole number, 0 for no limit";

/// A WebSocket echo server, thread per core, on epoll and io_uring.
///
/// Every message is sent back unchanged, fragment by fragment, by the rules of RFC 6455.
/// A connection's memory does not depend on the size of its messages.
#[derive(Debug, Parser)]
#[expect(clippy::doc_markdown, reason = "help is plain text")]
#[command(
    name = "ringback",
    version = env!("BUILD_VERSION"),
    max_term_width = 90,
    after_help = "\
Sizes take k, m or g (powers of 1024), times take us, ms, s, m or h.

Every option but --config is also a variable and a key of the file: --max-message,
RINGBACK_MAX_MESSAGE (lists with commas), max-message = \"1m\" (TOML). Precedence:
flag, environment, file, profile, default.

When it accepts connections, ringback prints one line per address on stdout:
  listening ws://127.0.0.1:9001 engine=epoll threads=2
Logs go to stderr. SIGTERM, SIGINT and SIGQUIT drain and exit with 0; a second one exits
at once. SIGHUP reads the certificate again, SIGUSR2 does what ringback reload does,
SIGUSR1 is ignored. Exit status: 0 drained, 1 start or a worker failed, 2 wrong arguments.

Examples:
  ringback                                     echo on ws://127.0.0.1:9001
  ringback --listen 0.0.0.0:80 --path /echo    any address, one path
  ringback --engine epoll --threads 1          one core, without io_uring
  ringback --print-messages                    print every message"
)]
pub(crate) struct Args {
    /// Address to listen on, or unix:PATH (unix:@NAME for an abstract socket); may be
    /// given several times, port 0 takes a free port. Sockets that systemd passes replace
    /// it. With --tls-listen there is no default
    #[arg(
        long,
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:9001",
        default_value_if("tls_listen", ArgPredicate::IsPresent, None)
    )]
    listen: Vec<Address>,

    /// Mode of a Unix-domain socket's file, which decides what users may connect
    #[arg(long, value_name = "MODE", default_value = "660")]
    unix_mode: Mode,

    /// Address to listen on for TLS (wss://), or unix:PATH; may be given several times
    /// [default: none]
    #[arg(long, value_name = "ADDR:PORT")]
    tls_listen: Vec<Address>,

    /// Certificate chain in PEM, the server's own first; chain and key are read again
    /// on SIGHUP, and when they change [default: none]
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,

    /// Private key in PEM, without a passphrase [default: none]
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,

    /// How often to check whether the certificate and its key have changed, and load
    /// them if so; 0 never does
    #[arg(long, value_name = "TIME", default_value = "60s")]
    tls_reload: Span,

    /// Proxies that must begin each connection with a PROXY header, version 1 or 2,
    /// such as 10.0.0.0/8, or unix; may be given several times. Connections from other
    /// addresses are rejected [default: none]
    #[arg(long, value_name = "CIDR")]
    proxy_protocol: Vec<ProxySource>,

    /// Proxies whose header for the client's address is trusted, such as 10.0.0.0/8, or
    /// unix; may be given several times. Limits per address and the log then use that
    /// address [default: none]
    #[arg(long, value_name = "CIDR")]
    forwarded_from: Vec<ProxySource>,

    /// The header with the client's address: x-forwarded-for, or forwarded (RFC 7239)
    #[arg(long, value_name = "NAME", default_value = "x-forwarded-for")]
    forwarded_header: ForwardedHeader,

    /// Answer /healthz, /readyz and /metrics on this address, which must not be
    /// public; port 0 takes a free port [default: none]
    #[arg(long, value_name = "ADDR:PORT", value_parser = expected::<SocketAddr>(ADMIN_EXPECTED))]
    admin: Option<SocketAddr>,

    /// I/O engine: auto, ring (io_uring), epoll or tokio-uring. auto takes ring if it works,
    /// else epoll; a named engine must work
    #[arg(long, value_name = "NAME", default_value = "auto")]
    engine: EngineChoice,

    /// Tune for throughput, latency or memory: see docs/tuning.md [default: none]
    #[arg(long, value_name = "NAME")]
    profile: Option<Profile>,

    /// Worker threads, at most 1024 [default: one per core this process may run on, at most
    /// the CPU quota rounded up]
    #[arg(long, value_name = "N", value_parser = expected::<NonZeroUsize>(THREADS_EXPECTED))]
    threads: Option<NonZeroUsize>,

    /// Do not pin each worker to a core; with a CPU quota below the number of cores, none
    /// is pinned anyway
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true)]
    no_pin: Switch,

    /// Busy-poll for events for this long before a worker sleeps, at most 1s: lower
    /// latency, but the core is fully used while messages come
    #[arg(long, value_name = "TIME", default_value = "0")]
    busy_poll: Span,

    /// Connections that may wait to be accepted, per worker; the kernel caps it at
    /// net.core.somaxconn
    #[arg(long, value_name = "N", value_parser = expected::<NonZeroU32>(COUNT_EXPECTED), default_value_t = Config::default().backlog)]
    backlog: NonZeroU32,

    /// Accept a connection when its first bytes arrive, or after this time, at least 1s
    /// (TCP_DEFER_ACCEPT); 0 accepts at once
    #[arg(
        long,
        value_name = "TIME",
        default_value = "0",
        help_heading = "Sockets"
    )]
    defer_accept: Span,

    /// Close a connection whose sent bytes are not acknowledged for this long
    /// (TCP_USER_TIMEOUT); 0 is the kernel's, about 15 minutes
    #[arg(
        long,
        value_name = "TIME",
        default_value = "0",
        help_heading = "Sockets"
    )]
    user_timeout: Span,

    /// Idle time before the kernel sends keepalive probes, three, 10 s apart (SO_KEEPALIVE);
    /// 0 sends none
    #[arg(
        long,
        value_name = "TIME",
        default_value = "0",
        help_heading = "Sockets"
    )]
    keepalive: Span,

    /// Let the kernel busy-poll the network device for this long when no packet is there
    /// (SO_BUSY_POLL; needs CAP_NET_ADMIN); 0 is net.core.busy_read
    #[arg(
        long,
        value_name = "TIME",
        default_value = "0",
        help_heading = "Sockets"
    )]
    socket_busy_poll: Span,

    /// Most unacknowledged bytes the kernel buffers for one client (SO_SNDBUF), at most
    /// net.core.wmem_max; the kernel doubles it for its overhead. 0 lets it grow to
    /// net.ipv4.tcp_wmem
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "0",
        help_heading = "Sockets"
    )]
    socket_send_buffer: Size,

    /// Most unread bytes the kernel buffers from one client (SO_RCVBUF), at most
    /// net.core.rmem_max, doubled as well. 0 lets it grow to net.ipv4.tcp_rmem
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "0",
        help_heading = "Sockets"
    )]
    socket_receive_buffer: Size,

    /// Most unsent bytes the kernel buffers for one client (TCP_NOTSENT_LOWAT). 0 is
    /// net.ipv4.tcp_notsent_lowat
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "128k",
        help_heading = "Sockets"
    )]
    tcp_notsent_lowat: Size,

    /// Give a connection to the worker on the core that handles its packets
    /// (SO_INCOMING_CPU)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, help_heading = "Sockets")]
    incoming_cpu: Switch,

    /// Write the process id to this file, and lock it while the server serves: one server
    /// at a time. ringback reload needs it [default: none]
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,

    /// Accept upgrades on this path only [default: any path]
    #[arg(long, value_name = "PATH")]
    path: Option<String>,

    /// Accept only this Origin (403 for others), such as https://example.org, or
    /// https://*.example.org for all hosts below it; may be given several times. Requests
    /// without an Origin, from clients that are no browsers, are accepted [default: all
    /// origins]
    #[arg(long = "origin", value_name = "ORIGIN")]
    origins: Vec<Origin>,

    /// Support this subprotocol; may be given several times. A client gets the first of
    /// its own list that is supported; * is all of them [default: none]
    #[arg(long = "subprotocol", value_name = "NAME")]
    subprotocols: Vec<String>,

    /// Print every message to stdout as `ADDR sent: TEXT`. Each is then read whole before
    /// it is echoed
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true)]
    print_messages: Switch,

    /// Largest message, over all its fragments; a longer one gets Close 1009. 0 sets no
    /// limit, but 16m with --print-messages, which buffers messages [default: no limit]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    max_message: Option<Size>,

    /// Most fragments in a message; more get Close 1009. 0 sets no limit
    #[arg(long, value_name = "N", value_parser = expected::<u32>(LIMIT_EXPECTED), default_value_t = Config::default().max_fragments.get(), help_heading = "Limits")]
    max_fragments: u32,

    /// Largest frame that is buffered until it is complete; a longer one streams through
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "16k",
        help_heading = "Limits"
    )]
    window: Size,

    /// Most bytes per read from a client that sends much; at least twice the window, at
    /// most 2m. Other clients wait while they are echoed [default: 68k, or twice the window
    /// if that is more]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    read_size: Option<Size>,

    /// Most connections at a time, over all workers; more get 503. The limit on
    /// open files lowers it. 0 sets no other limit
    #[arg(long, value_name = "N", value_parser = expected::<usize>(LIMIT_EXPECTED), default_value_t = Config::default().max_connections.get(), help_heading = "Limits")]
    max_connections: usize,

    /// Most connections at a time from one address, a /64 for IPv6; more get
    /// 429. 0 sets no limit
    #[arg(long, value_name = "N", value_parser = expected::<usize>(LIMIT_EXPECTED), default_value_t = 0, help_heading = "Limits")]
    max_connections_per_address: usize,

    /// Most handshakes in progress at a time; one more closes the oldest. 0 sets no limit
    /// [default: half of max-held-bytes / max-header-bytes, at most half of max-connections,
    /// at least 256]
    #[arg(long, value_name = "N", value_parser = expected::<usize>(LIMIT_EXPECTED), help_heading = "Limits")]
    max_handshakes: Option<usize>,

    /// Most connections an address may open over time, such as 10/s, 30/m or 600/h; more
    /// get 429. 0 sets no limit [default: no limit]
    #[arg(long, value_name = "RATE", help_heading = "Limits")]
    handshake_rate: Option<RateLimit>,

    /// Most connections an address may open at once within handshake-rate [default: the
    /// number in the rate]
    #[arg(long, value_name = "N", value_parser = expected::<NonZeroU32>(COUNT_EXPECTED), help_heading = "Limits")]
    handshake_burst: Option<NonZeroU32>,

    /// Most bytes buffered for handshakes, incomplete frames and unread replies, over all
    /// connections; beyond, the largest are evicted. 0 sets no limit
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "1g",
        help_heading = "Limits"
    )]
    max_held_bytes: Size,

    /// Most bytes of unread replies for one client; beyond, reading from it pauses. 0 sets no
    /// limit but max-held-bytes [default: 80m, or half of max-held-bytes]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    max_backlog: Option<Size>,

    /// Most TCP memory of this machine, over all processes; beyond, clients that do not read
    /// are cut off, those with most bytes in the kernel first. 0 sets no limit [default:
    /// three quarters of the second number of net.ipv4.tcp_mem, or of a sixteenth of the
    /// memory]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    max_tcp_memory: Option<Size>,

    /// Idle time before a client gets a Ping; 0 sends none
    #[arg(
        long,
        value_name = "TIME",
        default_value = "120s",
        help_heading = "Limits"
    )]
    idle_timeout: Span,

    /// Time a client has to answer that Ping before it gets Close 1001
    #[arg(
        long,
        value_name = "TIME",
        default_value = "20s",
        help_heading = "Limits"
    )]
    pong_timeout: Span,

    /// Time a client has to read the replies to one read; a slower one is cut off
    #[arg(
        long,
        value_name = "TIME",
        default_value = "30s",
        help_heading = "Limits"
    )]
    write_timeout: Span,

    /// Time from accept to the end of the handshake; a slower client gets 408
    #[arg(
        long,
        value_name = "TIME",
        default_value = "10s",
        help_heading = "Limits"
    )]
    handshake_timeout: Span,

    /// Time a client has to close the TCP connection after the closing handshake
    #[arg(
        long,
        value_name = "TIME",
        default_value = "5s",
        help_heading = "Limits"
    )]
    close_timeout: Span,

    /// Largest request head; a larger one gets 431
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "16k",
        help_heading = "Limits"
    )]
    max_header_bytes: Size,

    /// Time a drain may take; connections left after it are cut off
    #[arg(
        long,
        value_name = "TIME",
        default_value = "10s",
        help_heading = "Limits"
    )]
    drain_timeout: Span,

    /// Time over which a drain spreads its Closes, at most half of drain-timeout
    #[arg(
        long,
        value_name = "TIME",
        default_value = "0s",
        help_heading = "Limits"
    )]
    drain_spread: Span,

    /// Time from the signal to stop, when /readyz turns to 503, to the drain
    #[arg(
        long,
        value_name = "TIME",
        default_value = "0s",
        help_heading = "Limits"
    )]
    shutdown_delay: Span,

    /// Log level: off, error, warn, info, debug, trace, or directives such as
    /// ringback=debug [default: RUST_LOG, or info]
    #[arg(long, value_name = "LEVEL")]
    log: Option<Directives>,

    /// LogFormat of the log and of the lines on stdout: text, or json (an object per line)
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        hide_possible_values = true
    )]
    log_format: LogFormat,

    /// Log a line for each connection when it ends: address, duration, bytes, and reason
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true)]
    access_log: Switch,

    /// Add values that clients sent to the access log, escaped and cut; with commas or
    /// several times: query, host, origin, user-agent, x-request-id, traceparent,
    /// x-forwarded-for, forwarded, sec-websocket-protocol, sec-websocket-extensions
    /// [default: none]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    access_log_fields: Vec<AccessField>,

    /// Most access log lines, over all workers; lines beyond are dropped and counted. 0 sets
    /// no limit
    #[arg(long, value_name = "RATE", default_value = "1000/s")]
    access_log_rate: RateLimit,
}

impl Args {
    pub(crate) fn print_messages(&self) -> bool {
        self.print_messages.0
    }

    pub(crate) fn pid_file(&self) -> Option<&Path> {
        self.pid_file.as_deref()
    }

    pub(crate) fn log(&self) -> Option<&Directives> {
        self.log.as_ref()
    }

    pub(crate) fn log_format(&self) -> LogFormat {
        self.log_format
    }

    /// The server's configuration.
    ///
    /// # Errors
    /// [`Error::Config`] with the first setting that is not valid.
    pub(crate) fn config(&self) -> Result<Config, Error> {
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Some(TlsFiles {
                certificate: certificate.clone(),
                key: key.clone(),
            }),
            (None, None) => None,
            (Some(_), None) => return Err(needs("tls-cert", "tls-key")),
            (None, Some(_)) => return Err(needs("tls-key", "tls-cert")),
        };
        let config = Config {
            listen: self.listen.clone(),
            unix_mode: self.unix_mode.0,
            pid_file: self.pid_file.clone(),
            tls_listen: self.tls_listen.clone(),
            tls,
            tls_reload: self.tls_reload.unless_zero(),
            proxy_protocol: self.proxy_protocol.clone(),
            forwarded_from: self.forwarded_from.clone(),
            forwarded_header: self.forwarded_header,
            admin: self.admin,
            engine: self.engine,
            threads: self.threads,
            pin: !self.no_pin.0,
            busy_poll: self.busy_poll.0,
            backlog: self.backlog,
            defer_accept: self.defer_accept.unless_zero(),
            user_timeout: self.user_timeout.unless_zero(),
            keepalive: self.keepalive.unless_zero(),
            socket_busy_poll: self.socket_busy_poll.unless_zero(),
            socket_send_buffer: NonZeroUsize::new(self.socket_send_buffer.bytes()),
            socket_receive_buffer: NonZeroUsize::new(self.socket_receive_buffer.bytes()),
            tcp_notsent_lowat: NonZeroUsize::new(self.tcp_notsent_lowat.bytes()),
            incoming_cpu: self.incoming_cpu.0,
            path: self.path.clone(),
            origins: self.origins.clone(),
            subprotocols: self.subprotocols.clone(),
            max_message: self.max_message.map(|size| size.0).filter(|&size| size > 0),
            max_fragments: NonZeroU32::new(self.max_fragments).unwrap_or(NonZeroU32::MAX),
            window: self.window.bytes(),
            read_size: self.read_size.map(Size::bytes),
            max_connections: NonZeroUsize::new(self.max_connections).unwrap_or(NonZeroUsize::MAX),
            max_connections_per_address: NonZeroUsize::new(self.max_connections_per_address),
            max_handshakes: self.max_handshakes,
            handshake_rate: self.handshake_rate.and_then(|limit| limit.0),
            handshake_burst: self.handshake_burst,
            max_held_bytes: NonZeroUsize::new(self.max_held_bytes.bytes()),
            max_backlog: self.max_backlog.map(Size::bytes),
            max_tcp_memory: self.max_tcp_memory.map(Size::bytes),
            idle_timeout: self.idle_timeout.unless_zero(),
            pong_timeout: self.pong_timeout.0,
            write_timeout: self.write_timeout.0,
            handshake_timeout: self.handshake_timeout.0,
            close_timeout: self.close_timeout.0,
            max_header_bytes: self.max_header_bytes.bytes(),
            drain_timeout: self.drain_timeout.0,
            drain_spread: self.drain_spread.0,
            shutdown_delay: self.shutdown_delay.0,
            access_log: self.access_log.0,
            access_log_fields: self.access_log_fields.clone(),
            access_log_rate: self.access_log_rate.0,
        };
        config.validate()?;
        Ok(config)
    }
}

/// The error for a setting that needs another one.
fn needs(setting: &'static str, other: &str) -> Error {
    Error::Config {
        setting,
        reason: format!("--{setting} needs --{other}"),
    }
}

/// The values that were possible, if the error is about such a value.
pub(crate) fn possible_values(error: &clap::Error) -> Option<String> {
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) if !values.is_empty() => {
            Some(format!("expected {}", values.join(" or ")))
        }
        _ => None,
    }
}

/// The parsed arguments.
pub(crate) struct CommandLine(ArgMatches);

/// The subcommand, or to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Serve,
    ShowConfig,
    Reload,
    Doctor(ReportFormat),
    Probe(Probe, Duration),
}

/// The format of the doctor's report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    Text,
    Json,
}

impl CommandLine {
    pub(crate) fn parse(
        arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        with_file(Args::command())
            .subcommands([
                config_command(),
                reload_command(),
                doctor_command(),
                health_command(),
            ])
            .subcommand_value_name("COMMAND")
            .disable_help_subcommand(true)
            .args_conflicts_with_subcommands(true)
            .try_get_matches_from(arguments)
            .map(Self)
    }

    pub(crate) fn task(&self) -> Task {
        let Some((name, matches)) = self.0.subcommand() else {
            return Task::Serve;
        };
        match name {
            RELOAD => Task::Reload,
            DOCTOR => Task::Doctor(value(matches, FORMAT)),
            HEALTH => {
                let probe = if matches.get_flag(READY) {
                    Probe::Readiness
                } else {
                    Probe::Health
                };
                Task::Probe(probe, value::<Span>(matches, TIMEOUT).0)
            }
            _config => Task::ShowConfig,
        }
    }

    /// The value of `--config`.
    pub(crate) fn config(&self) -> Option<PathBuf> {
        self.flags().get_one(CONFIG).cloned()
    }

    /// The flags, of the subcommand if there is one.
    pub(crate) fn flags(&self) -> &ArgMatches {
        self.0.subcommand().map_or(&self.0, |(_name, flags)| flags)
    }
}

/// The value of an argument that has a default.
fn value<T: Copy + Send + Sync + 'static>(matches: &ArgMatches, name: &str) -> T {
    *matches.get_one(name).expect("it has a default")
}

fn config_command() -> Command {
    subcommand(
        CONFIG,
        "Print the effective configuration as TOML, with the source of each value",
        "The options are those of the server. The output is a file for --config.",
    )
}

fn reload_command() -> Command {
    subcommand(
        RELOAD,
        "Replace the running server by a new process, without a refused connection",
        "The options are those of the server, and only --pid-file matters. The server starts \
         its command again, with its arguments, environment and listening sockets. Once the \
         new process serves, the old one drains: every open WebSocket gets Close 1001.\n\n\
         Exit status: 0 the new process serves, 1 it does not, with the reason on stderr, 2 wrong \
         arguments.",
    )
}

fn doctor_command() -> Command {
    subcommand(
        DOCTOR,
        "Check this machine for a server with this configuration, and print what to change",
        "The options are those of the server. Run it as the server's user, in its unit or \
         container, or it checks another environment. It listens on the addresses for a moment \
         and changes nothing.\n\nExit status: 0 no problem (warnings are none), 1 a problem, 2 \
         wrong arguments.",
    )
    .arg(
        Arg::new(FORMAT)
            .long(FORMAT)
            .value_name("FORMAT")
            .value_parser(value_parser!(ReportFormat))
            .default_value("text")
            .hide_possible_values(true)
            .help("Format of the report: text or json")
            .display_order(0),
    )
}

fn health_command() -> Command {
    subcommand(
        HEALTH,
        "Probe /healthz of the server with this configuration, at --admin",
        "The options are those of the server, and only --admin matters. In a container, the \
         environment has it already.\n\nExit status: 0 healthy, 1 not healthy or no answer, 2 \
         wrong arguments.",
    )
    .arg(
        Arg::new(READY)
            .long(READY)
            .action(ArgAction::SetTrue)
            .help("Probe /readyz, which fails at a limit on connections too, instead of /healthz")
            .display_order(0),
    )
    .arg(
        Arg::new(TIMEOUT)
            .long(TIMEOUT)
            .value_name("TIME")
            .value_parser(value_parser!(Span))
            .default_value("5s")
            .help("Time the answer may take")
            .display_order(0),
    )
}

/// A subcommand with the options of the server.
fn subcommand(name: &'static str, about: &'static str, after_help: &'static str) -> Command {
    with_file(Args::command())
        .name(name)
        .about(about)
        .long_about(None)
        .after_help(after_help)
}

/// Adds `--config`, which is no setting: a file cannot name itself.
fn with_file(command: Command) -> Command {
    command.arg(
        Arg::new(CONFIG)
            .long("config")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("Read settings from this TOML file, see deploy/ringback.toml [default: RINGBACK_CONFIG, or no file]")
            .display_order(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringback::EngineKind;

    fn config(args: &[&str]) -> Config {
        Args::try_parse_from([&["ringback"], args].concat())
            .expect("valid arguments")
            .config()
            .expect("a valid configuration")
    }

    fn rejection(args: &[&str]) -> String {
        match Args::try_parse_from([&["ringback"], args].concat()) {
            Ok(args) => args.config().expect_err("refused").to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn without_arguments_the_configuration_is_the_default() {
        assert_eq!(
            format!("{:?}", config(&[])),
            format!("{:?}", Config::default())
        );
    }

    #[test]
    fn every_flag_reaches_the_configuration() {
        let config = config(&[
            "--listen=127.0.0.1:0",
            "--listen",
            "[::1]:80",
            "--unix-mode=600",
            "--pid-file=/run/echo.pid",
            "--tls-listen=127.0.0.1:443",
            "--tls-cert=chain.pem",
            "--tls-key=key.pem",
            "--tls-reload=5m",
            "--proxy-protocol=10.0.0.0/8",
            "--proxy-protocol=unix",
            "--admin=127.0.0.1:9090",
            "--engine=tokio-uring",
            "--threads=3",
            "--no-pin",
            "--busy-poll=50us",
            "--backlog=7",
            "--path=/echo",
            "--origin=https://a.example",
            "--origin=https://b.example",
            "--subprotocol=chat",
            "--subprotocol=superchat",
            "--max-message=1m",
            "--max-fragments=9",
            "--window=1K",
            "--read-size=8k",
            "--max-connections=11",
            "--max-connections-per-address=12",
            "--max-handshakes=15",
            "--handshake-rate=10/m",
            "--handshake-burst=13",
            "--max-held-bytes=14m",
            "--max-backlog=13m",
            "--idle-timeout=1s",
            "--pong-timeout=2s",
            "--write-timeout=3s",
            "--handshake-timeout=4s",
            "--close-timeout=500ms",
            "--max-header-bytes=32k",
            "--drain-timeout=6s",
            "--drain-spread=3s",
            "--shutdown-delay=5s",
            "--access-log",
        ]);
        assert_eq!(config.listen.len(), 2);
        assert_eq!(config.tls_listen.len(), 1);
        let files = TlsFiles {
            certificate: "chain.pem".into(),
            key: "key.pem".into(),
        };
        assert_eq!(config.tls, Some(files));
        assert_eq!(config.tls_reload, Some(Duration::from_secs(300)));
        let proxies = ["10.0.0.0/8", "unix"].map(|proxy| proxy.parse().expect("a proxy"));
        assert_eq!(config.proxy_protocol, proxies);
        assert_eq!(config.admin, "127.0.0.1:9090".parse().ok());
        assert_eq!(config.engine, EngineChoice::Only(EngineKind::TokioUring));
        assert_eq!(config.threads.map(NonZeroUsize::get), Some(3));
        assert!(!config.pin);
        assert_eq!(config.busy_poll, Duration::from_micros(50));
        assert_eq!(config.backlog.get(), 7);
        assert_eq!(config.unix_mode, 0o600);
        assert_eq!(config.pid_file, Some("/run/echo.pid".into()));
        assert_eq!(config.path.as_deref(), Some("/echo"));
        let origins = ["https://a.example", "https://b.example"];
        assert_eq!(
            config.origins,
            origins.map(|origin| origin.parse().expect("an origin"))
        );
        assert_eq!(config.subprotocols, ["chat", "superchat"]);
        assert_eq!(config.max_message, Some(1 << 20));
        assert_eq!(config.max_fragments.get(), 9);
        assert_eq!(config.window, 1024);
        assert_eq!(config.read_size, Some(8192));
        assert_eq!(config.max_connections.get(), 11);
        assert_eq!(
            config.max_connections_per_address.map(NonZeroUsize::get),
            Some(12)
        );
        assert_eq!(config.max_handshakes, Some(15));
        assert_eq!(config.handshake_rate, "10/m".parse().ok());
        assert_eq!(config.handshake_burst.map(NonZeroU32::get), Some(13));
        assert_eq!(config.max_held_bytes, NonZeroUsize::new(14 << 20));
        assert_eq!(config.max_backlog, Some(13 << 20));
        assert_eq!(config.idle_timeout, Some(Duration::from_secs(1)));
        assert_eq!(config.pong_timeout, Duration::from_secs(2));
        assert_eq!(config.write_timeout, Duration::from_secs(3));
        assert_eq!(config.handshake_timeout, Duration::from_secs(4));
        assert_eq!(config.close_timeout, Duration::from_millis(500));
        assert_eq!(config.max_header_bytes, 32 * 1024);
        let times = [
            config.drain_timeout,
            config.drain_spread,
            config.shutdown_delay,
        ];
        assert_eq!(times, [6, 3, 5].map(Duration::from_secs));
        assert!(config.access_log);
    }

    #[test]
    fn every_flag_about_sockets_reaches_the_configuration() {
        let config = config(&[
            "--defer-accept=3s",
            "--user-timeout=8s",
            "--keepalive=90s",
            "--socket-busy-poll=70us",
            "--socket-send-buffer=1m",
            "--socket-receive-buffer=2m",
            "--tcp-notsent-lowat=64k",
            "--max-tcp-memory=16m",
        ]);
        assert_eq!(config.defer_accept, Some(Duration::from_secs(3)));
        assert_eq!(config.user_timeout, Some(Duration::from_secs(8)));
        assert_eq!(config.keepalive, Some(Duration::from_secs(90)));
        assert_eq!(config.socket_busy_poll, Some(Duration::from_micros(70)));
        assert_eq!(config.socket_send_buffer, NonZeroUsize::new(1 << 20));
        assert_eq!(config.socket_receive_buffer, NonZeroUsize::new(2 << 20));
        assert_eq!(config.tcp_notsent_lowat, NonZeroUsize::new(1 << 16));
        assert_eq!(config.max_tcp_memory, Some(16 << 20));
    }

    #[test]
    fn every_flag_about_clients_reaches_the_configuration() {
        let config = config(&[
            "--forwarded-from=10.0.0.0/8",
            "--forwarded-from=unix",
            "--forwarded-header=forwarded",
            "--access-log",
            "--access-log-fields=host,origin",
            "--access-log-fields=query",
        ]);
        let proxies = ["10.0.0.0/8", "unix"].map(|proxy| proxy.parse().expect("a proxy"));
        assert_eq!(config.forwarded_from, proxies);
        assert_eq!(config.forwarded_header, ForwardedHeader::Forwarded);
        let fields = [AccessField::Host, AccessField::Origin, AccessField::Query];
        assert_eq!(config.access_log_fields, fields);
    }

    #[test]
    fn tls_listen_removes_the_default_of_listen() {
        let tls = ["--tls-listen=[::1]:443", "--tls-cert=a", "--tls-key=b"];
        assert!(config(&tls).listen.is_empty());
        let both = [&tls[..], &["--listen=127.0.0.1:80"]].concat();
        assert_eq!(config(&both).listen.len(), 1);
    }

    #[test]
    fn an_idle_timeout_of_0_is_none() {
        assert_eq!(config(&["--idle-timeout=0"]).idle_timeout, None);
    }

    #[test]
    fn incoming_cpu_needs_pinned_workers() {
        assert!(config(&["--incoming-cpu"]).incoming_cpu);
        let refused = rejection(&["--incoming-cpu", "--no-pin"]);
        assert!(refused.contains("no-pin"), "{refused}");
    }

    #[test]
    fn an_invalid_value_is_rejected_with_the_name_of_its_setting() {
        for (arg, name) in [
            ("--listen=here", "--listen"),
            ("--tls-listen=here", "--tls-listen"),
            ("--tls-listen=127.0.0.1:0", "--tls-cert"),
            ("--tls-cert=chain.pem", "--tls-key"),
            ("--tls-key=key.pem", "--tls-cert"),
            ("--tls-reload=1ms", "tls reload"),
            ("--proxy-protocol=10.0.0.1/8", "--proxy-protocol"),
            ("--forwarded-from=10.0.0.1/8", "--forwarded-from"),
            ("--forwarded-header=via", "x-forwarded-for or forwarded"),
            ("--access-log-fields=cookie", "user-agent"),
            ("--access-log-fields=host", "--access-log"),
            ("--admin=9090", "--admin"),
            ("--engine=kqueue", "--engine"),
            ("--threads=0", "--threads"),
            ("--busy-poll=always", "--busy-poll"),
            ("--busy-poll=1001ms", "busy poll"),
            ("--backlog=-1", "--backlog"),
            ("--unix-mode=9", "--unix-mode"),
            ("--unix-mode=1777", "777"),
            ("--defer-accept=1ms", "defer accept"),
            ("--keepalive=1ms", "keepalive"),
            ("--user-timeout=1ms", "user timeout"),
            ("--socket-busy-poll=2s", "socket busy poll"),
            ("--socket-send-buffer=4095", "socket send buffer"),
            ("--socket-receive-buffer=2g", "socket receive buffer"),
            ("--tcp-notsent-lowat=1", "tcp notsent lowat"),
            ("--path=echo", "path"),
            ("--origin=nowhere", "write https://nowhere"),
            ("--subprotocol=a b", "subprotocol"),
            ("--max-message=many", "--max-message"),
            ("--max-message=18446744073709551615g", "--max-message"),
            ("--max-fragments=-1", "--max-fragments"),
            ("--window=1", "window"),
            ("--read-size=31k", "read size"),
            ("--max-connections=x", "--max-connections"),
            (
                "--max-connections-per-address=-1",
                "--max-connections-per-address",
            ),
            ("--max-handshakes=some", "--max-handshakes"),
            ("--handshake-rate=10", "--handshake-rate"),
            ("--handshake-burst=5", "handshake burst"),
            ("--max-held-bytes=1k", "held bytes"),
            ("--max-backlog=2g", "backlog"),
            ("--idle-timeout=long", "--idle-timeout"),
            ("--pong-timeout=0", "pong timeout"),
            ("--max-header-bytes=1k", "header bytes"),
        ] {
            assert!(
                rejection(&[arg]).contains(name),
                "{arg}: {}",
                rejection(&[arg])
            );
        }
    }

    #[test]
    fn a_limit_of_0_is_none() {
        let config = config(&[
            "--max-message=0",
            "--max-fragments=0",
            "--max-connections=0",
            "--max-connections-per-address=0",
            "--max-handshakes=0",
            "--handshake-rate=0",
            "--max-held-bytes=0",
        ]);
        assert_eq!(config.max_message, None);
        assert_eq!(config.max_fragments, NonZeroU32::MAX);
        assert_eq!(config.max_connections, NonZeroUsize::MAX);
        assert_eq!(config.max_connections_per_address, None);
        assert_eq!(config.handshake_rate, None);
        assert_eq!(config.effective_max_handshakes(), usize::MAX);
        assert_eq!(config.max_held_bytes, None);
    }

    #[test]
    fn numbers_out_of_range_are_rejected_with_the_valid_range() {
        for (arg, valid) in [
            ("--threads=0", "from 1 to 1024"),
            ("--threads=4294967296", "at most 1024"),
            ("--threads=1152921504606846976", "at most 1024"),
            ("--threads=18446744073709551616", "from 1 to 1024"),
            ("--backlog=0", "from 1 to 4294967295"),
            ("--handshake-burst=0", "from 1 to 4294967295"),
            ("--window=0", "256 to"),
            ("--read-size=0", "32768 to"),
            ("--max-header-bytes=0", "at least 8192"),
            ("--pong-timeout=0", "10ms"),
            ("--write-timeout=0", "10ms"),
            ("--handshake-timeout=0", "10ms"),
            ("--close-timeout=0", "10ms"),
            ("--handshake-rate=0/s", "10/s, 30/m or 600/h, or 0"),
        ] {
            let refused = rejection(&[arg]);
            assert!(refused.contains(valid), "{arg}: {refused}");
        }
    }

    #[test]
    fn a_switch_takes_true_and_false() {
        assert!(!config(&["--no-pin"]).pin);
        assert!(!config(&["--no-pin=true"]).pin);
        assert!(config(&["--no-pin=false"]).pin);
        assert!(rejection(&["--no-pin=no"]).contains("--no-pin"));
    }

    #[test]
    fn config_prints_the_configuration_and_takes_the_servers_options() {
        let parse = |args: &[&str]| CommandLine::parse([&["ringback"], args].concat());
        assert_eq!(parse(&[]).expect("valid").task(), Task::Serve);
        let shown = parse(&["config", "--config=x.toml", "--window=1k"]).expect("valid");
        assert_eq!(shown.task(), Task::ShowConfig);
        assert_eq!(shown.config(), Some("x.toml".into()));
        assert!(parse(&["--window=1k", "config"]).is_err());
        assert!(parse(&["confg"]).is_err());
    }

    #[test]
    fn doctor_and_health_take_the_servers_options_and_their_own() {
        let parse = |args: &[&str]| CommandLine::parse([&["ringback"], args].concat());
        let task = |args: &[&str]| parse(args).expect("valid").task();
        assert_eq!(
            task(&["doctor", "--window=1k"]),
            Task::Doctor(ReportFormat::Text)
        );
        assert_eq!(
            task(&["doctor", "--format=json"]),
            Task::Doctor(ReportFormat::Json)
        );
        assert_eq!(
            task(&["health", "--admin=127.0.0.1:9090"]),
            Task::Probe(Probe::Health, Duration::from_secs(5))
        );
        assert_eq!(
            task(&["health", "--ready", "--timeout=200ms"]),
            Task::Probe(Probe::Readiness, Duration::from_millis(200))
        );
        for wrong in [
            &["doctor", "--format=xml"][..],
            &["health", "--timeout=soon"],
            &["config", "--ready"],
            &["--ready"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
