use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use super::*;

/// A file that is gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, text: &str) -> Self {
        let name = format!("ringback-{}-{name}.toml", process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).expect("written");
        Self(path)
    }

    fn flag(&self) -> String {
        format!("--config={}", self.0.display())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing depends on it.
        let _ = fs::remove_file(&self.0);
    }
}

fn resolve(flags: &[&str], variables: &[(&str, &str)]) -> Result<Effective, String> {
    let command_line =
        CommandLine::parse([&["ringback"], flags].concat()).map_err(|error| error.to_string())?;
    let variables = variables
        .iter()
        .map(|&(name, value)| (name.into(), value.into()));
    let effective = Effective::resolve(&command_line, variables)?;
    effective.config()?;
    Ok(effective)
}

#[track_caller]
fn resolved(flags: &[&str], variables: &[(&str, &str)]) -> Effective {
    resolve(flags, variables).expect("valid")
}

#[track_caller]
fn config(flags: &[&str], variables: &[(&str, &str)]) -> Config {
    resolved(flags, variables).config().expect("valid")
}

#[track_caller]
fn refusal(flags: &[&str], variables: &[(&str, &str)]) -> String {
    resolve(flags, variables).expect_err("refused")
}

/// What one line of [`show`] says of a setting.
#[track_caller]
fn shown(effective: &Effective, name: &str) -> (String, String) {
    let text = show(effective);
    let line = text
        .lines()
        .find(|line| {
            line.trim_start_matches("# ")
                .starts_with(&format!("{name} = "))
        })
        .expect("every setting is shown");
    let (assignment, source) = line.rsplit_once("  # ").expect("a source");
    (assignment.trim_end().to_owned(), source.to_owned())
}

#[test]
fn nothing_at_all_is_the_default_configuration() {
    let config = config(&[], &[("PATH", "/bin")]);
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
}

#[test]
fn each_layer_is_stronger_than_the_next() {
    let file = Scratch::new("layers", "busy-poll = '3us'\nprofile = 'latency'");
    let plain = Scratch::new("profile", "profile = 'latency'");
    let with_file = file.flag();
    let with_profile = plain.flag();
    let variable = [("RINGBACK_BUSY_POLL", "2us")];
    let place = format!("{}:1", file.0.display());
    for (flags, variables, value, source) in [
        (
            &["--busy-poll=1us", &with_file][..],
            &variable[..],
            "1us",
            "flag",
        ),
        (&[&with_file], &variable, "2us", "RINGBACK_BUSY_POLL"),
        (&[&with_file], &[], "3us", &place),
        (&[&with_profile], &[], "200us", "profile latency"),
        (&[], &[], "0", "default"),
    ] {
        let effective = resolved(flags, variables);
        let text = if value == "0" {
            value.to_owned()
        } else {
            format!("\"{value}\"")
        };
        assert_eq!(
            shown(&effective, "busy-poll"),
            (format!("busy-poll = {text}"), source.to_owned())
        );
        let busy_poll = effective.config().expect("valid").busy_poll;
        assert_eq!(busy_poll, humantime::parse_duration(value).expect("a time"));
    }
}

#[test]
fn the_profile_itself_has_layers() {
    let file = Scratch::new("chosen", "profile = 'memory'");
    let file = file.flag();
    let profile = |flags: &[&str], variables: &[_]| shown(&resolved(flags, variables), "profile").0;
    let variable = [("RINGBACK_PROFILE", "throughput")];
    assert_eq!(profile(&[&file], &[]), "profile = \"memory\"");
    assert_eq!(profile(&[&file], &variable), "profile = \"throughput\"");
    assert_eq!(
        profile(&["--profile=latency", &file], &variable),
        "profile = \"latency\""
    );
    // Not at all, whatever the file says.
    assert_eq!(
        profile(&[&file], &[("RINGBACK_PROFILE", "")]),
        "profile = \"\""
    );
    assert_eq!(
        config(&[&file], &[("RINGBACK_PROFILE", "")]).read_size,
        None
    );
}

#[test]
fn the_file_may_be_named_by_a_variable() {
    let (weak, strong) = (
        Scratch::new("weak", "window = 512"),
        Scratch::new("strong", "window = 1024"),
    );
    let weak = weak.0.to_str().expect("UTF-8");
    assert_eq!(config(&[], &[("RINGBACK_CONFIG", weak)]).window, 512);
    assert_eq!(
        config(&[&strong.flag()], &[("RINGBACK_CONFIG", weak)]).window,
        1024
    );
}

#[test]
fn lists_are_replaced_and_not_merged() {
    let file = Scratch::new(
        "lists",
        "origin = ['http://a', 'http://b']\nlisten = '127.0.0.1:1'",
    );
    let file = file.flag();
    let origins = |flags: &[&str]| -> Vec<String> {
        let origins = config(flags, &[]).origins;
        origins.iter().map(ToString::to_string).collect()
    };
    assert_eq!(origins(&[&file]), ["http://a", "http://b"]);
    assert_eq!(origins(&[&file, "--origin=http://c"]), ["http://c"]);
    let config = config(
        &[&file],
        &[("RINGBACK_ORIGIN", ""), ("RINGBACK_LISTEN", "")],
    );
    assert!(config.origins.is_empty());
    assert_eq!(config.listen, Config::default().listen);
}

#[test]
fn a_switch_may_be_turned_off_again() {
    let file = Scratch::new("switch", "no-pin = true");
    let file = file.flag();
    assert!(!config(&[&file], &[]).pin);
    assert!(config(&[&file], &[("RINGBACK_NO_PIN", "0")]).pin);
    assert!(config(&[&file, "--no-pin=false"], &[]).pin);
}

#[test]
fn what_does_not_fit_is_refused_with_its_source() {
    let file = Scratch::new("unfit", "\nwindow = 255");
    let place = format!("{}:2", file.0.display());
    assert_eq!(
        refusal(&[&file.flag()], &[]),
        format!("{place}: the window is 255 bytes; it must be 256 to 1048576")
    );
    assert_eq!(
        refusal(&[], &[("RINGBACK_PONG_TIMEOUT", "0")]),
        "RINGBACK_PONG_TIMEOUT: the pong timeout is shorter than 10ms"
    );
    assert!(
        refusal(&["--window=64k", "--profile=memory"], &[])
            .starts_with("profile memory: the read size")
    );
    assert_eq!(
        refusal(&["--path=x"], &[]),
        "'x' is no path: it must start with / and hold no query"
    );
    assert!(
        refusal(&[], &[("RINGBACK_PROFILE", "speed")]).starts_with("RINGBACK_PROFILE: invalid")
    );
    assert!(refusal(&["--config=/nowhere.toml"], &[]).starts_with("cannot read /nowhere.toml"));
}

/// Values that hardly any setting takes.
const WRONG: [&str; 22] = [
    "x",
    "-1",
    "-0",
    "0x10",
    "1.5",
    "1e3",
    "18446744073709551616",
    "99999999999999999999999k",
    "4294967296",
    "1152921504606846976",
    " ",
    "\u{e4}",
    "1:2:3",
    "[::1",
    "127.0.0.1",
    "localhost:1",
    "127.0.0.1:65536",
    "10/d",
    "unix:",
    "NaN",
    "true or false",
    "loud",
];

/// What the parsers of Rust's standard library, and clap, say of their types.
const PHRASES: [&str; 16] = [
    "invalid digit",
    "number would be",
    "number too",
    "cannot parse",
    "non-zero type",
    "SUN_LEN",
    "socket address syntax",
    "invalid IP",
    "invalid float",
    "provided string",
    "variant",
    "out of range",
    "isn't valid",
    "ParseIntError",
    "empty string",
    "(os error",
];

/// ... of what would be right.
const VALID: [&str; 6] = [
    "expected ",
    "must ",
    "at least ",
    "at most ",
    "write ",
    " needs ",
];

#[test]
fn every_wrong_value_is_refused_in_words_with_what_is_valid() {
    let mut refusals = 0;
    let mut silent = Vec::new();
    let schema = Schema::new();
    for setting in schema.settings() {
        let name = setting.name();
        for value in WRONG {
            let variable = format!("RINGBACK_{}", name.to_uppercase().replace('-', "_"));
            let Err(refused) = resolve(&[], &[(&variable, value)]) else {
                continue;
            };
            refusals += 1;
            let phrase = PHRASES.iter().find(|&phrase| refused.contains(phrase));
            assert_eq!(phrase, None, "{refused}");
            let is_valid_said = VALID.iter().any(|words| refused.contains(words));
            if !is_valid_said {
                silent.push(refused.clone());
            }
            // As a flag, and in a file, it is refused with the same words.
            let (_, reason) = refused.split_once(": ").expect("a source");
            let reason = reason.rsplit_once(&format!("for '{name}': "));
            let Some((_, reason)) = reason else { continue };
            // The items of a variable's list are trimmed.
            if value.trim().is_empty() {
                continue;
            }
            let flag = format!("--{name}={value}");
            let by_flag = refusal(&[&flag], &[]);
            let words: Vec<_> = by_flag.split_whitespace().collect();
            let expected: Vec<_> = reason.split_whitespace().collect();
            let has = words.windows(expected.len()).any(|part| part == expected);
            let possible = by_flag.contains("possible values");
            assert!(has || possible, "{by_flag}: {reason}");
        }
    }
    assert!(silent.is_empty(), "what is valid is not said: {silent:#?}");
    assert!(refusals > 400, "{refusals}");
}

/// Found by fuzzing: some refusals held line feeds of the values they quote.
#[test]
fn a_refusal_is_one_line_whatever_it_quotes() {
    for name in ["PATH", "ORIGIN", "SUBPROTOCOL", "LOG", "ENGINE", "LISTEN"] {
        for value in ["a\nb", "a=\n", "[\n]=\u{1b}", "\u{2}"] {
            let variable = format!("RINGBACK_{name}");
            let refused = refusal(&[], &[(&variable, value)]);
            assert!(refused.starts_with(&format!("{variable}: ")), "{refused}");
            assert!(!refused.contains(char::is_control), "{refused:?}");
        }
    }
}

/// Found by fuzzing: the parser of log directives panics.
#[test]
fn a_log_directive_is_ascii() {
    let refused = refusal(&[], &[("RINGBACK_LOG", " wi\u{648}= ")]);
    assert!(refused.starts_with("RINGBACK_LOG: invalid"), "{refused}");
    assert!(refused.contains("ASCII"), "{refused}");
}

/// What is wrong is found where it is, even if something stronger hides it.
#[test]
fn what_is_overridden_is_checked_as_well() {
    let variable = [("RINGBACK_WINDOW", "x")];
    assert!(refusal(&["--window=1k"], &variable).starts_with("RINGBACK_WINDOW: "));
}

#[test]
fn what_is_shown_is_the_same_configuration_again() {
    let flags = [
        "--listen=127.0.0.1:0",
        "--listen=[::1]:80",
        "--engine=epoll",
        "--threads=3",
        "--no-pin",
        "--path=/a'b",
        "--origin=HTTP://A:80/",
        "--pid-file=/a\"b\\c",
        "--subprotocol=a",
        "--subprotocol=b",
        "--max-message=18446744073709551615",
        "--idle-timeout=0",
        "--log=ringback=debug",
        "--log-format=json",
        "--print-messages",
    ];
    for (flags, variables) in [
        (&flags[..], &[("RINGBACK_PROFILE", "memory")][..]),
        (&[], &[]),
        (&["--window=1m"], &[]),
        // Found by fuzzing: what was taken back from a profile was not said.
        (
            &["--profile=latency"],
            &[("RINGBACK_READ_SIZE", ""), ("RINGBACK_BUSY_POLL", "")],
        ),
    ] {
        let before = resolved(flags, variables);
        let file = Scratch::new("again", &show(&before));
        let after = resolved(&[&file.flag()], &[]);
        assert_eq!(
            format!("{:?}", after.args),
            format!("{:?}", before.args),
            "{}",
            show(&before)
        );
        let sources = |effective| {
            show(effective)
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(sources(&before).len(), sources(&after).len());
    }
}

#[test]
fn what_nobody_set_and_has_no_value_is_shown_as_a_comment() {
    let effective = resolved(&["--max-message=1m"], &[]);
    assert_eq!(
        shown(&effective, "max-message"),
        ("max-message = \"1m\"".into(), "flag".into())
    );
    assert_eq!(
        shown(&effective, "path"),
        ("# path = \"\"".into(), "default: any path".into())
    );
    assert_eq!(
        shown(&effective, "origin"),
        ("origin = []".into(), "default".into())
    );
    assert_eq!(
        shown(&effective, "no-pin"),
        ("no-pin = false".into(), "default".into())
    );
    assert_eq!(
        shown(&effective, "backlog"),
        ("backlog = 4096".into(), "default".into())
    );
}

/// The file that operators start from.
fn deployed() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/ringback.toml");
    fs::read_to_string(path).expect("the file is there")
}

/// The settings of that file that are commented out: `# name = value`, where
/// prose is `# words`.
fn uncommented(text: &str) -> String {
    let is_setting = |line: &str| {
        let name = line.split(" = ").next().unwrap_or_default();
        line.contains(" = ")
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    };
    let lines = text.lines().map(|line| match line.strip_prefix("# ") {
        Some(setting) if is_setting(setting) => setting,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_deployed_file_sets_nothing() {
    let file = Scratch::new("deployed", &deployed());
    let effective = resolved(&[&file.flag()], &[]);
    assert!(effective.given.is_empty(), "{:?}", effective.given);
}

#[test]
fn the_deployed_file_has_every_setting_and_no_other_at_its_default() {
    let file = Scratch::new("uncommented", &uncommented(&deployed()));
    // Refuses what is unknown.
    let effective = resolved(&[&file.flag()], &[]);
    for setting in Schema::new().settings() {
        assert!(
            effective.given(setting.name()).is_some(),
            "{} is missing",
            setting.name()
        );
    }
    let default = resolved(&[], &[]);
    assert_eq!(
        format!("{:?}", effective.args),
        format!("{:?}", default.args)
    );
}
