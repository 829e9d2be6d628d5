//! The command line: raw arguments, then a contest.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use loadtest::cores::Cores;
use loadtest::units::{parse_duration, parse_size};

use crate::contest::Contest;
use crate::report::Format;
use crate::server::{Places, Server};
use crate::shape::Shapes;

const EXAMPLES: &str = "\
Examples, from the root of the repository:
  cargo build --release --workspace && benches/peers/setup.sh    all there is to build
  target/release/side-by-side --check                            is everybody there?
  target/release/side-by-side                                    the comparison
  target/release/side-by-side --format markdown                  the same, for a README
  target/release/side-by-side --without ws,gorilla --shapes 8x1x1m,100x16x1k -d 1s

Exit codes: 0 fine; 1 a server is missing or failed; 2 wrong arguments; 4 a result
is INVALID; 130 interrupted, with what there was until then.";

/// The longest that a run may be told to take.
const PHASE_MAX: Duration = Duration::from_secs(3600);

/// Measures ringback's engines and echo servers on other foundations, one at a
/// time, each on a core of its own, interleaved in rounds.
///
/// CPU time and throughput are told as the median over the rounds with its range,
/// and as a multiple of the floor: a raw TCP echo, measured in the same round.
#[derive(Debug, Parser)]
#[command(name = "side-by-side", version, after_help = EXAMPLES)]
pub struct Args {
    /// How often each server is put under each load
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,

    /// The loads, connections x in flight x bytes: 50x256x32,50x2x16k; `default`
    /// and `all` name several
    #[arg(long, value_name = "LIST", default_value = "default")]
    pub shapes: Shapes,

    /// Only these servers [default: all that --check lists]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub servers: Vec<String>,

    /// Not these servers
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub without: Vec<String>,

    /// How long to measure each time
    #[arg(short, long, value_name = "TIME", default_value = "3s", value_parser = time)]
    pub duration: Duration,

    /// Load before each measurement, not counted
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = time)]
    pub warmup: Duration,

    /// How to write the results
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,

    /// Decides the payloads and the orders
    #[arg(long, value_name = "N", default_value = "1")]
    pub seed: u64,

    /// Bytes that the raw TCP echo reads at once
    #[arg(long, value_name = "BYTES", default_value = "64k", value_parser = read_len)]
    pub raw_read_len: usize,

    /// The core of the servers [default: the first this process may use]
    #[arg(long, value_name = "CORE", value_parser = core)]
    pub server_core: Option<usize>,

    /// The core of the generator [default: the second]
    #[arg(long, value_name = "CORE", value_parser = core)]
    pub generator_core: Option<usize>,

    /// Where cargo's programs are [default: beside this one]
    #[arg(long, value_name = "DIR")]
    pub binaries: Option<PathBuf>,

    /// Where the servers in other languages are
    #[arg(long, value_name = "DIR", default_value = "benches/peers")]
    pub peers: PathBuf,

    /// Only say which servers are there, and what they are made of
    #[arg(long)]
    pub check: bool,
}

impl Args {
    /// What is to be measured.
    ///
    /// # Errors
    /// A sentence for the user, when arguments do not fit together.
    pub fn contest(&self) -> Result<Contest, String> {
        let cores = Cores::of_this_thread().map_err(|error| format!("no cores: {error}"))?;
        let (server_core, generator_core) = cores.server_and_generator();
        let binaries = self.binaries()?;
        Ok(Contest {
            loadtest: binaries.join("loadtest"),
            servers: self.chosen(Server::all(
                &Places {
                    binaries,
                    peers: self.peers.clone(),
                },
                self.raw_read_len,
            ))?,
            shapes: self.shapes.0.clone(),
            rounds: self.rounds,
            duration: self.duration,
            warmup: self.warmup,
            seed: self.seed,
            server_core: self.server_core.unwrap_or(server_core),
            generator_core: self.generator_core.unwrap_or(generator_core),
        })
    }

    fn binaries(&self) -> Result<PathBuf, String> {
        if let Some(directory) = &self.binaries {
            return Ok(directory.clone());
        }
        let program = env::current_exe().map_err(|error| format!("where am I? {error}"))?;
        let directory = program.parent().ok_or("where am I?")?;
        Ok(directory.to_owned())
    }

    fn chosen(&self, mut servers: Vec<Server>) -> Result<Vec<Server>, String> {
        let names: Vec<_> = servers.iter().map(|server| server.name.clone()).collect();
        let mut asked_for = self.servers.iter().chain(&self.without);
        if let Some(stranger) = asked_for.find(|name| !names.contains(name)) {
            return Err(format!(
                "there is no server {stranger:?}, but {}",
                names.join(", ")
            ));
        }
        servers.retain(|server| {
            let name = &server.name;
            let wanted = self.servers.is_empty() || self.servers.contains(name);
            wanted && !self.without.contains(name)
        });
        if servers.is_empty() {
            return Err("no server is left".to_owned());
        }
        Ok(servers)
    }
}

fn time(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        time if time < Duration::from_millis(1) => Err("at least 1ms".to_owned()),
        time if time > PHASE_MAX => Err("at most 1h".to_owned()),
        time => Ok(time),
    }
}

fn core(text: &str) -> Result<usize, String> {
    let core = text.parse().ok().filter(|core| *core < 1024);
    core.ok_or_else(|| "write a core as a number below 1024".to_owned())
}

fn read_len(text: &str) -> Result<usize, String> {
    match parse_size(text)? {
        0 => Err("at least 1".to_owned()),
        len => Ok(len),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::shape::Shape;

    fn parse(line: &str) -> Result<Contest, String> {
        let words = std::iter::once("side-by-side").chain(line.split_whitespace());
        let args = Args::try_parse_from(words).map_err(|error| error.to_string())?;
        args.contest()
    }

    fn names(line: &str) -> Vec<String> {
        let servers = parse(line).unwrap().servers;
        servers.into_iter().map(|server| server.name).collect()
    }

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn without_arguments_everybody_is_measured_five_times() {
        let contest = parse("").unwrap();
        assert_eq!(contest.rounds, 5);
        assert_eq!(contest.shapes, Shape::DEFAULT);
        let expected = [
            "raw",
            "ringback-epoll",
            "fastwebsockets",
            "tungstenite",
            "gorilla",
            "ws",
        ];
        let names = names("");
        assert!(expected.iter().all(|name| names.iter().any(|n| n == name)));
        assert_eq!(contest.runs(), 5 * 4 * names.len());
    }

    #[test]
    fn servers_are_chosen_and_left_out_by_name() {
        assert_eq!(names("--servers ws,raw"), ["raw", "ws"]);
        assert_eq!(names("--servers ws,raw --without ws"), ["raw"]);
        assert!(!names("--without gorilla").contains(&"gorilla".to_owned()));
        assert!(parse("--servers raw --without raw").is_err());
        let error = parse("--without ngrilla").unwrap_err();
        assert!(
            error.contains("\"ngrilla\", but raw, ringback-epoll"),
            "{error}"
        );
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for line in [
            "--rounds 0",
            "-d 0s",
            "-d 2h",
            "--shapes 1x1",
            "--raw-read-len 0",
            "--server-core 2000",
            "x",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
