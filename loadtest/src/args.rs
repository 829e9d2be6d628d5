//! The command line: raw arguments, then a plan.

use std::time::Duration;

use clap::Parser;

use crate::client::MessageKind;
use crate::plan::{CONNECTIONS_MAX, PAYLOAD_LEN_MAX, Plan, WINDOW_MAX};
use crate::target::Target;
use crate::units::{format_size, parse_duration, parse_size};

const EXAMPLES: &str = "\
Examples:
  loadtest                                  the demo: every engine of ringback
  loadtest -c 50 -w 256                     throughput: 50 × 256 in flight
  loadtest -c 50 -w 2 -s 16k                longer messages
  loadtest ws://127.0.0.1:9001/             a server that is running already
  loadtest --text -c 1 -d 10s ws://HOST/    one ping-pong client, text frames

The table is on stdout, everything else on stderr. MB/s counts payload bytes in
one direction. Latency runs from the write call that sent a message to the read
call that brought the last byte of its reply; the load is a closed loop.

Exit codes: 0 every byte came back right, 1 it did not, 2 wrong arguments.";

/// Loads WebSocket echo servers and checks every byte they echo.
///
/// Without a URL it starts an embedded ringback server for each engine that
/// works on this machine, drives one after the other, and compares them.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version, after_help = EXAMPLES)]
pub struct Args {
    /// The server to drive, ws://HOST:PORT/PATH
    #[arg(value_name = "URL")]
    pub target: Option<Target>,

    /// Connections, all open at the same time
    #[arg(short, long, value_name = "N", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(CONNECTIONS_MAX)))]
    pub connections: u32,

    /// Messages in flight per connection
    #[arg(short, long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(WINDOW_MAX)))]
    pub window: u32,

    /// Payload bytes per message: 32, 16k, 1m
    #[arg(short, long, value_name = "BYTES", default_value = "32", value_parser = payload_len)]
    pub size: usize,

    /// How long to measure: 500ms, 3s, 2m
    #[arg(short, long, value_name = "TIME", default_value = "3s", value_parser = positive)]
    pub duration: Duration,

    /// Load before the measurement, not counted
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = phase)]
    pub warmup: Duration,

    /// Send text messages instead of binary ones
    #[arg(long)]
    pub text: bool,

    /// Give up when a connection makes no progress for this long
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = positive)]
    pub timeout: Duration,

    /// Repeat the payloads and masks of another run [default: random]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

impl Args {
    /// What they ask for.
    pub fn plan(&self) -> Plan {
        Plan {
            connections: self.connections,
            window: self.window,
            payload_len: self.size,
            kind: if self.text {
                MessageKind::Text
            } else {
                MessageKind::Binary
            },
            warmup: self.warmup,
            duration: self.duration,
            timeout: self.timeout,
            seed: self.seed.unwrap_or_else(|| fastrand::u64(..)),
        }
    }
}

fn payload_len(text: &str) -> Result<usize, String> {
    match parse_size(text)? {
        len if len <= PAYLOAD_LEN_MAX => Ok(len),
        _ => Err(format!("at most {}", format_size(PAYLOAD_LEN_MAX))),
    }
}

/// Long enough for any run, and short enough to be added to a clock.
const PHASE_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

fn phase(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        time if time <= PHASE_MAX => Ok(time),
        _ => Err("at most 168h".to_owned()),
    }
}

fn positive(text: &str) -> Result<Duration, String> {
    match phase(text)? {
        time if time < Duration::from_millis(1) => Err("at least 1ms".to_owned()),
        time => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn plan(arguments: &[&str]) -> Result<Plan, clap::Error> {
        let all = [&["loadtest"], arguments].concat();
        Args::try_parse_from(all).map(|args| args.plan())
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn no_argument_is_the_demo() {
        let plan = plan(&[]).unwrap();
        assert_eq!((plan.connections, plan.window), (100, 1));
        assert_eq!(plan.payload_len, 32);
        assert_eq!(plan.kind, MessageKind::Binary);
        assert_eq!(plan.duration, Duration::from_secs(3));
        assert_eq!(plan.warmup, Duration::from_millis(500));
        assert_eq!(plan.timeout, Duration::from_secs(5));
    }

    #[test]
    fn flags_are_read() {
        let plan = plan(&[
            "-c5", "-w", "2", "-s", "16k", "-d", "1s", "--text", "--seed=7",
        ]);
        let plan = plan.unwrap();
        assert_eq!((plan.connections, plan.window), (5, 2));
        assert_eq!(plan.payload_len, 16 << 10);
        assert_eq!(plan.kind, MessageKind::Text);
        assert_eq!(plan.seed, 7);
    }

    #[test]
    fn nonsense_is_refused() {
        for wrong in [
            "-c0",
            "-w0",
            "-s65m",
            "-s1x",
            "-d0s",
            "-d3",
            "--timeout=0s",
            "--warmup=-1s",
            "-d999h",
            "http://h",
        ] {
            assert!(plan(&[wrong]).is_err(), "{wrong}");
        }
    }
}
