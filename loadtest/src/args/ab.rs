//! The flags of `ab`, and the load after its `--`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser};

use super::{
    Annotate, Connect, CoreList, Criteria, Defaults, Workload, plan_for, reason_of, values,
    with_hyphen_values,
};
use crate::plan::{Extent, Plan, SLICES_MAX};
use crate::report::OutputFormat;
use crate::statistics::PAIRS_MAX;
use crate::target::Target;

/// The default URL.
const URL: &str = "ws://127.0.0.1:9001/";

/// The default URL when the commands have a free port.
const URL_OF_FREE_PORT: &str = "ws://127.0.0.1:{port}/";

/// The placeholder for a run's port.
pub const PORT: &str = "{port}";

/// The fewest pairs: of one there is no interval.
const PAIRS_MIN: usize = 2;

/// The default length of a slice: disturbances last longer, and the generator's start and end are
/// a small part of it.
const SLICE: Duration = Duration::from_millis(50);

/// The most servers: there is no letter for more.
pub const SERVERS_MAX: usize = 26;

const AB_EXAMPLES: &str = "\
Examples:
  Is one engine cheaper than the other? Twenty pairs of runs that alternate by slices:
    loadtest ab --a 'target/release/ringback --engine epoll --listen 127.0.0.1:{port}' \\
        --b 'target/release/ringback --engine ring --listen 127.0.0.1:{port}' \\
        -- -c 50 -w 16

  The same with names, and the machine's noise first:
    loadtest ab --aa \\
        --a 'epoll=target/release/ringback --engine epoll --listen 127.0.0.1:{port}' \\
        --b 'ring=target/release/ringback --engine ring --listen 127.0.0.1:{port}' \\
        -- -c 50 -w 16

  Which differences can this machine show at all?
    loadtest ab --aa --a 'target/release/ringback --listen 127.0.0.1:{port}'

  Has a change made it worse? An exit code for CI, and everything kept:
    loadtest ab --a 'old/ringback --listen 127.0.0.1:{port}' \\
        --b 'target/release/ringback --listen 127.0.0.1:{port}' \\
        --fail-on-regression -o ab-results -- -c 50 -w 16

  Servers whose port cannot be set, one whole run after the other:
    loadtest ab --a old/server --b new/server -- ws://127.0.0.1:9001/ -d 2s

  Which of them is the best?
    loadtest ab --a 'one=…' --b 'two=…' --c 'three=…' --c 'four=…' \\
        -- ws://127.0.0.1:9001/ --rate 20k

After -- come the URL and the flags of the load, as for `run`, with other
defaults: ws://127.0.0.1:9001/, -d 400ms, --warmup 200ms. {port} in the commands and
the URL is a free port, another one for every run; runs that have one alternate
by slices, so that a disturbance of the machine affects all of them alike.

Exit codes: 0 fine; 1 failed: a server did not start, a reply was wrong, a
connection lost; 2 wrong arguments; 3 a regression, with --fail-on-regression;
4 a run was INVALID; 5 inconclusive, with --fail-on-inconclusive; 130
interrupted, with a report of the pairs that were complete.";

/// The arguments of `ab`.
#[derive(Debug, Args)]
#[command(after_help = AB_EXAMPLES, next_help_heading = "Comparing")]
pub struct Ab {
    /// The command of the baseline: CMD, run without a shell, or NAME=CMD
    #[arg(long, value_name = "CMD")]
    pub a: NamedCommand,

    /// The other server
    #[arg(long, value_name = "CMD", required_unless_present = "aa")]
    pub b: Option<NamedCommand>,

    /// One more; repeatable
    #[arg(long, value_name = "CMD", requires = "b")]
    pub c: Vec<NamedCommand>,

    /// Number of rounds, each with one run of every server
    #[arg(long, value_name = "N", default_value = "20", value_parser = pairs)]
    pub pairs: usize,

    /// First compare A with itself, in the same number of pairs: the noise of the machine
    #[arg(long)]
    pub aa: bool,

    /// The criteria of a difference.
    #[command(flatten)]
    pub criteria: Criteria,

    /// Length of the slices in which the servers of a round are measured in turn; each needs a
    /// {port} of its own. none: one whole run after the other [default: 50ms, or none without
    /// {port}]
    #[arg(long, value_name = "TIME|none", help_heading = "Comparing")]
    pub slice: Option<SliceLength>,

    /// Cores for the servers: 0 or 0,2-3 [default: the first one]
    #[arg(
        long,
        value_name = "CORES",
        default_value = "",
        hide_default_value = true,
        help_heading = "Servers"
    )]
    pub server_pin: CoreList,

    /// Longest time until a server completes a handshake
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = values::positive, help_heading = "Servers")]
    pub server_wait: Duration,

    /// Output format
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        help_heading = "Output"
    )]
    pub format: OutputFormat,

    /// Write the result of every run and the comparison to this directory
    #[arg(
        short = 'o',
        long = "output",
        value_name = "DIR",
        help_heading = "Output"
    )]
    pub directory: Option<PathBuf>,

    /// Labels and a note for the results.
    #[command(flatten)]
    pub annotate: Annotate,

    /// The URL and the load, as `run` has them
    #[arg(last = true, value_name = "RUN-FLAGS", help_heading = "Comparing")]
    pub load: Vec<String>,
}

/// A server's command, with an optional name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedCommand {
    name: Option<String>,
    command: String,
}

/// How a run is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SliceLength {
    /// Into slices of about this length.
    Time(Duration),
    /// Not at all.
    Whole,
}

/// A server to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSpec {
    /// The label in reports.
    pub label: String,
    /// The letter in file names, and the label of a server without a name.
    pub letter: char,
    /// The command that starts it, with the placeholder [`PORT`].
    command: String,
}

/// The plan that all runs share.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadPlan {
    /// The plan of each run, but for the port.
    pub plan: Plan,
    /// Whether every run gets a port of its own.
    pub has_free_port: bool,
}

/// The arguments after `--`.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct LoadArgs {
    #[arg(value_name = "URL")]
    url: Option<String>,

    #[command(flatten)]
    workload: Workload,

    #[command(flatten)]
    connect: Connect,
}

impl Ab {
    /// The servers to compare, A first.
    ///
    /// # Errors
    /// A sentence for the user when there are too many, or two with the same name.
    pub fn servers(&self) -> Result<Vec<ServerSpec>, String> {
        let candidates = [&self.a].into_iter().chain(&self.b).chain(&self.c);
        let servers: Vec<_> = ('a'..='z')
            .zip(candidates)
            .map(|(letter, candidate)| ServerSpec::of(letter, candidate))
            .collect();
        if 2 + self.c.len() > SERVERS_MAX {
            return Err(format!("at most {SERVERS_MAX} servers are compared"));
        }
        for (index, server) in servers.iter().enumerate() {
            let label = &server.label;
            if servers[..index].iter().any(|it| it.label == *label) {
                return Err(format!("two servers are called {label}"));
            }
        }
        Ok(servers)
    }

    /// The load of all runs.
    ///
    /// # Errors
    /// A sentence for the user when the flags after `--` are wrong, or do not match the commands.
    pub fn load_plan(&self, servers: &[ServerSpec]) -> Result<LoadPlan, String> {
        let load = with_hyphen_values(LoadArgs::command())
            .try_get_matches_from(&self.load)
            .and_then(|matches| LoadArgs::from_arg_matches(&matches))
            .map_err(|error| reason_of(&error))?;
        let has_port = |server: &ServerSpec| server.command.contains(PORT);
        let url = match &load.url {
            Some(url) => url,
            None if servers.iter().any(has_port) => URL_OF_FREE_PORT,
            None => URL,
        };
        let free = format!(":{PORT}");
        let has_free_port = url.contains(&free);
        if let Some(odd) = servers.iter().find(|it| has_port(it) != has_free_port) {
            let (with, without) = if has_free_port {
                ("the URL", format!("the command of {}", odd.label))
            } else {
                ("a command", "the URL".to_owned())
            };
            return Err(format!("{with} has {PORT}, but {without} has not"));
        }
        let target: Target = url.replacen(&free, ":1", 1).parse()?;
        let mut plan = plan_for(&load.workload, &load.connect, &[target], Defaults::AB)?;
        plan.slices = self.slices(&plan, has_free_port)?;
        Ok(LoadPlan {
            plan,
            has_free_port,
        })
    }

    /// The number of slices of a run: by default one where a run cannot be divided.
    fn slices(&self, plan: &Plan, has_free_port: bool) -> Result<u32, String> {
        let (length, is_requested) = match self.slice {
            None => (SLICE, false),
            Some(SliceLength::Whole) => return Ok(1),
            Some(SliceLength::Time(length)) => (length, true),
        };
        let slices = match plan.extent {
            _ if !has_free_port => Err(format!(
                "--slice needs a port for each server: {PORT} in the commands"
            )),
            _ if plan.churn_rate.is_some() => Err("--slice cannot be used with --churn".to_owned()),
            _ if plan.slow_readers > 0 => {
                Err("--slice cannot be used with --slow-readers".to_owned())
            }
            Extent::Messages(_) => Err("--slice cannot be used with -n".to_owned()),
            Extent::Duration(time) => {
                let slices = (time.as_nanos() / length.as_nanos()).clamp(1, SLICES_MAX.into());
                Ok(u32::try_from(slices).unwrap_or(SLICES_MAX))
            }
        };
        if is_requested {
            slices
        } else {
            Ok(slices.unwrap_or(1))
        }
    }
}

impl ServerSpec {
    fn of(letter: char, candidate: &NamedCommand) -> Self {
        let capital = || letter.to_ascii_uppercase().to_string();
        Self {
            label: candidate.name.clone().unwrap_or_else(capital),
            letter,
            command: candidate.command.clone(),
        }
    }

    /// Its command as given.
    pub fn template(&self) -> &str {
        &self.command
    }

    /// The command that starts it at a port.
    pub fn command_at(&self, port: u16) -> String {
        self.command.replace(PORT, &port.to_string())
    }
}

impl FromStr for NamedCommand {
    type Err = String;

    /// Reads `CMD` or `NAME=CMD`. A name has letters, digits, `.`, `-` and `_`,
    /// so that an option of a command with a path or a blank in it is none.
    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = |name: &str| {
            let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
            !name.is_empty() && name.chars().all(is_plain)
        };
        let (name, command) = match text.split_once('=') {
            Some((name, command)) if is_name(name) => (Some(name.to_owned()), command),
            _ => (None, text),
        };
        match shell_words::split(command) {
            Err(error) => Err(error.to_string()),
            Ok(words) if words.is_empty() => Err("the command is empty".to_owned()),
            Ok(_) => Ok(Self {
                name,
                command: command.to_owned(),
            }),
        }
    }
}

impl FromStr for SliceLength {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::Whole),
            text => values::positive(text).map(Self::Time),
        }
    }
}

fn pairs(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|count| (PAIRS_MIN..=PAIRS_MAX).contains(count))
        .ok_or_else(|| format!("write a number from {PAIRS_MIN} to {PAIRS_MAX}"))
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, Command};
    use super::*;
    use crate::plan::Load as Loop;

    fn ab(arguments: &[&str]) -> Result<Ab, String> {
        let all = [&["loadtest", "ab"], arguments].concat();
        match Cli::try_parse_from(all).map_err(|error| reason_of(&error))? {
            Cli {
                command: Some(Command::Ab(ab)),
                ..
            } => Ok(*ab),
            other => panic!("{other:?}"),
        }
    }

    fn load_plan(arguments: &[&str]) -> Result<LoadPlan, String> {
        let ab = ab(arguments)?;
        ab.load_plan(&ab.servers()?)
    }

    #[test]
    fn a_command_may_have_a_name() {
        let parsed = |text: &str| {
            let candidate: NamedCommand = text.parse().unwrap();
            (candidate.name.unwrap_or_default(), candidate.command)
        };
        for (text, name, command) in [
            ("server --port 1", "", "server --port 1"),
            ("new=server --port=1", "new", "server --port=1"),
            ("v1.2-b_3=s", "v1.2-b_3", "s"),
            ("./server=x", "", "./server=x"),
            ("env A=b server", "", "env A=b server"),
            ("=x", "", "=x"),
        ] {
            assert_eq!(parsed(text), (name.to_owned(), command.to_owned()));
        }
        for (text, why) in [
            ("", "the command is empty"),
            ("a= ", "the command is empty"),
            ("a='x", "missing closing quote"),
        ] {
            assert_eq!(text.parse::<NamedCommand>(), Err(why.to_owned()));
        }
    }

    #[test]
    fn the_default_label_is_the_letter() {
        let ab = ab(&["--a=x", "--b=new=y", "--c=z", "--c=w"]).unwrap();
        let servers = ab.servers().unwrap();
        let labels: Vec<_> = servers.iter().map(|it| it.label.as_str()).collect();
        assert_eq!(labels, ["A", "new", "C", "D"]);
        let letters: String = servers.iter().map(|it| it.letter).collect();
        assert_eq!(letters, "abcd");
        assert_eq!(servers[1].template(), "y");
    }

    #[test]
    fn duplicate_names_are_rejected() {
        let why = |arguments: &[&str]| ab(arguments).unwrap().servers().unwrap_err();
        assert_eq!(why(&["--a=x", "--b=A=y"]), "two servers are called A");
        let many = [&["--a=x", "--b=y"][..], &["--c=z"; 25]].concat();
        assert_eq!(why(&many), "at most 26 servers are compared");
    }

    #[test]
    fn the_load_is_parsed_after_the_dashes() {
        let LoadPlan {
            plan,
            has_free_port,
        } = load_plan(&[
            "--a=x",
            "--b=y",
            "--",
            "-c5",
            "-w3",
            "ws://h:7/",
            "--path=/p",
        ])
        .unwrap();
        assert_eq!(plan.targets[0].to_string(), "ws://h:7/p");
        assert_eq!(
            (plan.connections, plan.load),
            (5, Loop::Closed { window: 3 })
        );
        assert_eq!(plan.extent, Extent::Duration(Duration::from_millis(400)));
        assert_eq!(plan.warmup, Duration::from_millis(200));
        assert!(!has_free_port);
        let plan = load_plan(&["--a=x", "--b=y"]).unwrap().plan;
        assert_eq!(plan.targets[0].to_string(), URL);
    }

    #[test]
    fn runs_are_sliced_by_default_where_possible() {
        let slices = |arguments: &[&str]| {
            let pair = [&["--a=x {port}", "--b=y {port}"][..], arguments].concat();
            load_plan(&pair).map(|load| load.plan.slices)
        };
        for (arguments, expected) in [
            (&[][..], 8),
            (&["--slice=none"], 1),
            (&["--slice=100ms"], 4),
            (&["--slice=1s"], 1),
            (&["--", "-d74ms"], 1),
            (&["--", "-d5s"], 100),
            (&["--", "-n100"], 1),
            (&["--", "--churn=10"], 1),
            (&["--", "--slow-readers=1"], 1),
        ] {
            assert_eq!(slices(arguments), Ok(expected), "{arguments:?}");
        }
        let most = slices(&["--slice=1ms", "--", "-d1h"]);
        assert_eq!(most, Ok(SLICES_MAX), "they get longer");
        let why = slices(&["--slice=50ms", "--", "--churn=10"]).unwrap_err();
        assert_eq!(why, "--slice cannot be used with --churn");
        assert_eq!(load_plan(&["--a=x", "--b=y"]).unwrap().plan.slices, 1);
    }

    #[test]
    fn errors_after_the_dashes_are_one_line() {
        for (load, why) in [
            ("--server-pid=1", "unexpected argument '--server-pid' found"),
            ("-h", "unexpected argument '-h' found"),
            ("-c0", "invalid value '0' for '--connections <N>'"),
            ("-t200", "200 are too many for 100 connections"),
            ("http://h/", "http:// is not ws:// or wss://"),
        ] {
            let error = load_plan(&["--a=x", "--b=y", "--", load]).unwrap_err();
            assert!(error.contains(why), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_free_port_is_in_all_commands_and_the_url_or_in_none() {
        let with = |a: &str, b: &str, load: &[&str]| {
            let arguments = ["--a", a, "--b", b, "--"];
            load_plan(&[&arguments[..], load].concat())
        };
        let url = "wss://h:{port}/x";
        assert!(with("x {port}", "y {port}", &[url]).unwrap().has_free_port);
        let free = with("x {port}", "y {port}", &[]).unwrap();
        assert!(free.has_free_port && free.plan.targets[0].is_loopback());
        for (a, b, load, why) in [
            (
                "x",
                "y",
                &[url][..],
                "the URL has {port}, but the command of A has not",
            ),
            (
                "x {port}",
                "y",
                &[],
                "the URL has {port}, but the command of B has not",
            ),
            (
                "x {port}",
                "y",
                &[URL],
                "a command has {port}, but the URL has not",
            ),
        ] {
            assert_eq!(with(a, b, load).unwrap_err(), why);
        }
        let server = ServerSpec::of('a', &"s --listen 127.0.0.1:{port}".parse().unwrap());
        assert_eq!(server.command_at(81), "s --listen 127.0.0.1:81");
    }

    #[test]
    fn a_single_server_needs_aa() {
        for (arguments, why) in [
            (&["--a=x"][..], "--b <CMD>"),
            (&["--b=x"], "--a <CMD>"),
            (&["--a=x", "--aa", "--c=y"], "--b <CMD>"),
            (&["--a=x", "--aa", "--pairs=1"], "from 2 to 1000"),
            (&["--a=x", "--aa", "--min-effect=2"], "write a share as 2%"),
            (
                &["--a=x", "--aa", "--metric=p98"],
                "\"p98\" is not a metric",
            ),
            (
                &["--a=x", "--aa", "ws://h/"],
                "unexpected argument 'ws://h/'",
            ),
        ] {
            let error = ab(arguments).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert!(ab(&["--a=x", "--aa"]).is_ok());
    }
}
