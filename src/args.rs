//! The command line: raw arguments first, a validated [`Config`] second.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use ringback::{Config, EngineChoice, Error};

/// A WebSocket echo server, thread per core, on epoll and io_uring.
///
/// Every message comes back as it went, fragment by fragment. What a client
/// may do is what RFC 6455 allows; whatever it does, a connection's memory does
/// not depend on the size of its messages.
#[derive(Debug, Parser)]
#[command(
    name = "ringback",
    version,
    max_term_width = 90,
    after_help = "\
Sizes take k, m or g (powers of 1024), times take us, ms, s, m or h.

When it accepts connections, ringback prints one line per address on stdout:
  listening ws://127.0.0.1:9001 engine=epoll threads=2
Logs go to stderr. SIGTERM and SIGINT drain and exit with 0, a second one exits at once.
Exit status: 0 drained, 1 cannot start or go on, 2 wrong arguments.

Examples:
  ringback                                     echo on ws://127.0.0.1:9001
  ringback --listen 0.0.0.0:80 --path /echo    any address, one path
  ringback --engine epoll --threads 1          one core, without io_uring
  ringback --print-messages                    show who sends what"
)]
pub(crate) struct Args {
    /// Address to listen on; may be given several times, port 0 takes a free
    /// port [default: 127.0.0.1:9001]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,

    /// What moves the bytes: auto, ring, epoll or tokio-uring. auto takes ring
    /// where an echo through it works, and else epoll; one that is named must
    /// work
    #[arg(long, value_name = "NAME", default_value = "auto")]
    engine: EngineChoice,

    /// Worker threads [default: one for each core this process may run on]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,

    /// Do not bind each worker to a core
    #[arg(long)]
    no_pin: bool,

    /// Let a worker look for the next event for this long before it sleeps, at
    /// most 1s: quicker answers for all of its core while messages come
    #[arg(long, value_name = "TIME", default_value = "0")]
    busy_poll: Span,

    /// Connections that may wait to be accepted, per worker (the kernel caps it
    /// at net.core.somaxconn)
    #[arg(long, value_name = "N", default_value_t = Config::default().backlog)]
    backlog: NonZeroU32,

    /// Accept upgrades on this path only [default: any path]
    #[arg(long, value_name = "PATH")]
    path: Option<String>,

    /// Let only pages of this origin connect (403 for others); may be given
    /// several times. Clients that are no browsers send none and may connect
    #[arg(long = "origin", value_name = "ORIGIN")]
    origins: Vec<String>,

    /// Offer this subprotocol; may be given several times. A client gets the
    /// first of its own list that is offered
    #[arg(long = "subprotocol", value_name = "NAME")]
    subprotocols: Vec<String>,

    /// Print every message to stdout as `ADDR sent: TEXT`. Messages are then
    /// read and answered whole
    #[arg(long)]
    print_messages: bool,

    /// Largest message, over all its fragments; a longer one gets Close 1009
    /// [default: unlimited, since frames stream through without being
    /// collected; 16m with --print-messages, which collects them]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    max_message: Option<Size>,

    /// Most fragments in a message; more get Close 1009
    #[arg(long, value_name = "N", default_value_t = Config::default().max_fragments, help_heading = "Limits")]
    max_fragments: NonZeroU32,

    /// Largest frame that is held until it is complete; a longer one streams
    /// through
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "16k",
        help_heading = "Limits"
    )]
    window: Size,

    /// Bytes read at once from a client with much to say; at least twice the
    /// window, at most 2m. Others wait while they are answered [default: 68k, or
    /// twice the window where that is more]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    read_size: Option<Size>,

    /// Most connections at a time, over all workers; more get 503
    #[arg(long, value_name = "N", default_value_t = Config::default().max_connections, help_heading = "Limits")]
    max_connections: NonZeroUsize,

    /// Silence after which a client is pinged; 0 never does
    #[arg(
        long,
        value_name = "TIME",
        default_value = "120s",
        help_heading = "Limits"
    )]
    idle_timeout: Span,

    /// Silence after that ping until Close 1001
    #[arg(
        long,
        value_name = "TIME",
        default_value = "20s",
        help_heading = "Limits"
    )]
    pong_timeout: Span,

    /// Time a client may take to read the replies to one buffer, before it is
    /// cut off
    #[arg(
        long,
        value_name = "TIME",
        default_value = "30s",
        help_heading = "Limits"
    )]
    write_timeout: Span,

    /// Time from accepting a connection to the end of its handshake; a slower
    /// one gets 408
    #[arg(
        long,
        value_name = "TIME",
        default_value = "10s",
        help_heading = "Limits"
    )]
    handshake_timeout: Span,

    /// Time a client may take to hang up once the connection is closed
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

    /// Time that connections have to end when the server stops
    #[arg(
        long,
        value_name = "TIME",
        default_value = "10s",
        help_heading = "Limits"
    )]
    drain_timeout: Span,

    /// What is logged to stderr: off, error, warn, info, debug, trace, or
    /// directives such as ringback=debug [default: RUST_LOG, or info]
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
}

impl Args {
    pub(crate) fn print_messages(&self) -> bool {
        self.print_messages
    }

    pub(crate) fn log(&self) -> Option<&str> {
        self.log.as_deref()
    }

    /// What the server is told.
    ///
    /// # Errors
    /// [`Error::Config`] with the first thing that is wrong.
    pub(crate) fn into_config(self) -> Result<Config, Error> {
        let defaults = Config::default();
        let config = Config {
            listen: if self.listen.is_empty() {
                defaults.listen
            } else {
                self.listen
            },
            engine: self.engine,
            threads: self.threads,
            pin: !self.no_pin,
            busy_poll: self.busy_poll.0,
            backlog: self.backlog,
            path: self.path,
            origins: self.origins,
            subprotocols: self.subprotocols,
            max_message: self.max_message.map(|size| size.0),
            max_fragments: self.max_fragments,
            window: self.window.bytes(),
            read_size: self.read_size.map(Size::bytes),
            max_connections: self.max_connections,
            idle_timeout: Some(self.idle_timeout.0).filter(|timeout| !timeout.is_zero()),
            pong_timeout: self.pong_timeout.0,
            write_timeout: self.write_timeout.0,
            handshake_timeout: self.handshake_timeout.0,
            close_timeout: self.close_timeout.0,
            max_header_bytes: self.max_header_bytes.bytes(),
            drain_timeout: self.drain_timeout.0,
        };
        config.validate()?;
        Ok(config)
    }
}

/// A number of bytes: `4096`, `16k`, `1m`, `2g`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size(u64);

impl Size {
    fn bytes(self) -> usize {
        // What does not fit is too large for the limits on it as well.
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let (digits, shift) = match lower.strip_suffix(['k', 'm', 'g']) {
            Some(digits) if lower.ends_with('k') => (digits, 10),
            Some(digits) if lower.ends_with('m') => (digits, 20),
            Some(digits) => (digits, 30),
            None => (&lower[..], 0),
        };
        digits
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(1 << shift))
            .map(Self)
            .ok_or_else(|| "expected a size such as 4096, 16k or 1m".to_owned())
    }
}

/// A length of time: `500ms`, `10s`, `2m`, or `0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span(Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|_humantime| "expected a time such as 500ms, 10s or 2m".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringback::EngineKind;

    fn config(args: &[&str]) -> Config {
        Args::try_parse_from([&["ringback"], args].concat())
            .expect("valid arguments")
            .into_config()
            .expect("a valid configuration")
    }

    fn refusal(args: &[&str]) -> String {
        match Args::try_parse_from([&["ringback"], args].concat()) {
            Ok(args) => args.into_config().expect_err("refused").to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn no_arguments_are_the_default_configuration() {
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
            "--idle-timeout=1s",
            "--pong-timeout=2s",
            "--write-timeout=3s",
            "--handshake-timeout=4s",
            "--close-timeout=500ms",
            "--max-header-bytes=32k",
            "--drain-timeout=6s",
        ]);
        assert_eq!(config.listen.len(), 2);
        assert_eq!(config.engine, EngineChoice::Only(EngineKind::TokioUring));
        assert_eq!(config.threads.map(NonZeroUsize::get), Some(3));
        assert!(!config.pin);
        assert_eq!(config.busy_poll, Duration::from_micros(50));
        assert_eq!(config.backlog.get(), 7);
        assert_eq!(config.path.as_deref(), Some("/echo"));
        assert_eq!(config.origins, ["https://a.example", "https://b.example"]);
        assert_eq!(config.subprotocols, ["chat", "superchat"]);
        assert_eq!(config.max_message, Some(1 << 20));
        assert_eq!(config.max_fragments.get(), 9);
        assert_eq!(config.window, 1024);
        assert_eq!(config.read_size, Some(8192));
        assert_eq!(config.max_connections.get(), 11);
        assert_eq!(config.idle_timeout, Some(Duration::from_secs(1)));
        assert_eq!(config.pong_timeout, Duration::from_secs(2));
        assert_eq!(config.write_timeout, Duration::from_secs(3));
        assert_eq!(config.handshake_timeout, Duration::from_secs(4));
        assert_eq!(config.close_timeout, Duration::from_millis(500));
        assert_eq!(config.max_header_bytes, 32 * 1024);
        assert_eq!(config.drain_timeout, Duration::from_secs(6));
    }

    #[test]
    fn an_idle_timeout_of_nothing_is_none() {
        assert_eq!(config(&["--idle-timeout=0"]).idle_timeout, None);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (arg, name) in [
            ("--listen=here", "--listen"),
            ("--engine=kqueue", "--engine"),
            ("--threads=0", "--threads"),
            ("--busy-poll=always", "--busy-poll"),
            ("--busy-poll=1001ms", "busy poll"),
            ("--backlog=-1", "--backlog"),
            ("--path=echo", "path"),
            ("--origin=nowhere", "origin"),
            ("--subprotocol=a b", "subprotocol"),
            ("--max-message=many", "--max-message"),
            ("--max-message=18446744073709551615g", "--max-message"),
            ("--max-fragments=0", "--max-fragments"),
            ("--window=1", "window"),
            ("--read-size=31k", "read size"),
            ("--max-connections=0", "--max-connections"),
            ("--idle-timeout=long", "--idle-timeout"),
            ("--pong-timeout=0", "pong timeout"),
            ("--max-header-bytes=1k", "header bytes"),
        ] {
            assert!(refusal(&[arg]).contains(name), "{arg}: {}", refusal(&[arg]));
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!("0".parse(), Ok(Size(0)));
        assert_eq!("16k".parse(), Ok(Size(16_384)));
        assert_eq!("3M".parse(), Ok(Size(3 << 20)));
        assert_eq!("1g".parse(), Ok(Size(1 << 30)));
        for wrong in ["", "k", "1.5k", "-1", "1kb", "0x10"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }
}
