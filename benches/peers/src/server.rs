//! A server that is measured: its command, and how it is come by.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use loadtest::interrupt::Interrupt;
use ringback::EngineKind;
use thiserror::Error;

use crate::process;

/// The name of the raw TCP echo that the others are held against.
pub const FLOOR: &str = "raw";

/// How long a program may take to say its version.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// What makes all programs that are written in Rust.
const CARGO: &str = "cargo build --release --workspace";

/// Where programs are looked for.
#[derive(Debug, Clone)]
pub struct Places {
    /// The directory of those that cargo builds.
    pub binaries: PathBuf,
    /// The directory of this package, which has those in other languages.
    pub peers: PathBuf,
}

/// A server and its one-line start.
#[derive(Debug, Clone)]
pub struct Server {
    /// What it is called on the command line and in tables.
    pub name: String,
    /// The program and its arguments, the address or port excepted.
    words: Vec<String>,
    /// What stands before the port in the last argument.
    before_port: &'static str,
    /// The program and its arguments up to where it is asked for its version.
    asked: Vec<String>,
    /// What makes it.
    made_by: String,
    /// The engine that has to work here.
    engine: Option<EngineKind>,
    scheme: &'static str,
}

/// Why a server cannot be measured: one line that says what to do.
#[derive(Debug, Error)]
pub enum Missing {
    /// Its program is not there, or does not run.
    #[error("{name} is missing ({reason}): run {made_by}, or leave it out with --without {name}")]
    Program {
        /// The server.
        name: String,
        /// What was tried and failed.
        reason: String,
        /// What makes it.
        made_by: String,
    },
    /// It is there, but this machine does not let it work.
    #[error("{name} does not work here ({reason}): leave it out with --without {name}")]
    Engine {
        /// The server.
        name: String,
        /// What the engine's probe said.
        reason: String,
    },
}

impl Server {
    /// All servers there are, the floor first. The raw TCP echo reads at most
    /// `read_len` bytes at once.
    pub fn all(places: &Places, read_len: usize) -> Vec<Self> {
        let binary = |name: &str| places.binaries.join(name).display().to_string();
        let peer = |path: &str| places.peers.join(path).display().to_string();
        let mut raw = Self::new(FLOOR, &[binary("peer-raw")], CARGO.to_owned());
        raw.scheme = "tcp";
        raw.words
            .extend(["--read-len".to_owned(), read_len.to_string()]);

        let mut servers = vec![raw];
        servers.extend(
            EngineKind::ALL
                .iter()
                .map(|&engine| Self::ringback(engine, &binary("ringback"))),
        );
        servers.extend(["fastwebsockets", "tungstenite"].map(|name| {
            let program = binary(&format!("peer-{name}"));
            Self::new(name, &[program], CARGO.to_owned())
        }));
        let go = [peer("gorilla/server")];
        servers.push(Self::new("gorilla", &go, peer("gorilla/setup.sh")));
        let node = ["node".to_owned(), peer("ws/server.mjs")];
        servers.push(Self::new("ws", &node, peer("ws/setup.sh")));
        servers
    }

    /// The URL it is driven at when it listens on this port.
    pub fn url(&self, port: u16) -> String {
        format!("{}://127.0.0.1:{port}/", self.scheme)
    }

    /// The line that starts it on this port of 127.0.0.1, for a shell.
    pub fn command_line(&self, port: u16) -> String {
        let last = format!("{}{port}", self.before_port);
        let words = self.words.iter().map(String::as_str).chain([last.as_str()]);
        shell_words::join(words)
    }

    /// What it is made of, as it says itself.
    ///
    /// # Errors
    /// When it is not there, or cannot work here.
    pub fn version(&self, interrupt: &Interrupt) -> Result<String, Missing> {
        let name = self.name.clone();
        if let Some(Err(error)) = self.engine.map(EngineKind::probe) {
            let reason = error.to_string();
            return Err(Missing::Engine { name, reason });
        }
        version_of(&self.asked, interrupt).map_err(|reason| Missing::Program {
            name,
            reason,
            made_by: self.made_by.clone(),
        })
    }

    fn new(name: &str, words: &[String], made_by: String) -> Self {
        Self {
            name: name.to_owned(),
            words: words.to_vec(),
            before_port: "",
            asked: words.to_vec(),
            made_by,
            engine: None,
            scheme: "ws",
        }
    }

    fn ringback(engine: EngineKind, program: &str) -> Self {
        let name = format!("ringback-{engine}");
        let mut server = Self::new(&name, &[program.to_owned()], CARGO.to_owned());
        let flags = ["--engine", engine.name(), "--threads", "1", "--log", "warn"];
        server.words.extend(flags.map(str::to_owned));
        server.words.push("--listen".to_owned());
        server.before_port = "127.0.0.1:";
        server.engine = Some(engine);
        server
    }
}

/// The first line that a program prints when it is asked for its version.
fn version_of(words: &[String], interrupt: &Interrupt) -> Result<String, String> {
    let Some((program, arguments)) = words.split_first() else {
        return Err("no program".to_owned());
    };
    let mut command = Command::new(program);
    command.args(arguments).arg("--version");
    let ended = process::run(&mut command, VERSION_LIMIT, interrupt)
        .map_err(|error| format!("{program}: {error}"))?;
    let first_line = String::from_utf8_lossy(&ended.stdout)
        .lines()
        .next()
        .map(str::to_owned);
    match first_line {
        Some(line) if ended.status.success() => Ok(line),
        _ => Err(format!("{} --version failed", shell_words::join(words))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers() -> Vec<Server> {
        let places = Places {
            binaries: "bin".into(),
            peers: "a b".into(),
        };
        Server::all(&places, 65_536)
    }

    fn server(name: &str) -> Server {
        let mut servers = servers().into_iter();
        servers.find(|server| server.name == name).unwrap()
    }

    #[test]
    fn the_floor_comes_first_and_speaks_tcp() {
        let floor = &servers()[0];
        assert_eq!(floor.name, FLOOR);
        assert_eq!(floor.url(7), "tcp://127.0.0.1:7/");
        assert_eq!(floor.command_line(7), "bin/peer-raw --read-len 65536 7");
    }

    #[test]
    fn every_engine_is_a_server() {
        for engine in EngineKind::ALL {
            let server = server(&format!("ringback-{engine}"));
            let line = server.command_line(7);
            assert!(
                line.contains(&format!("--engine {engine} --threads 1")),
                "{line}"
            );
            assert!(line.ends_with("--listen 127.0.0.1:7"), "{line}");
        }
    }

    #[test]
    fn a_command_line_is_quoted_for_a_shell() {
        assert_eq!(server("ws").command_line(7), "node 'a b/ws/server.mjs' 7");
    }

    #[test]
    fn who_is_missing_is_named_with_what_makes_it() {
        let missing = server("gorilla")
            .version(&Interrupt::default())
            .unwrap_err();
        let line = missing.to_string();
        assert!(
            line.starts_with("gorilla is missing (a b/gorilla/server: "),
            "{line}"
        );
        assert!(line.contains("run a b/gorilla/setup.sh"), "{line}");
        assert!(line.ends_with("--without gorilla"), "{line}");
    }

    #[test]
    fn a_version_is_the_first_line_that_was_printed() {
        let words = ["echo".to_owned(), "x 1".to_owned()];
        let version = version_of(&words, &Interrupt::default());
        assert_eq!(version.unwrap(), "x 1 --version");
        let failing = version_of(&["false".to_owned()], &Interrupt::default());
        assert_eq!(failing.unwrap_err(), "false --version failed");
    }
}
