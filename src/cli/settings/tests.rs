use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use super::*;

/// A file that is removed on drop.
struct TempFile(PathBuf);

impl TempFile {
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

impl Drop for TempFile {
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
fn rejection(flags: &[&str], variables: &[(&str, &str)]) -> String {
    resolve(flags, variables).expect_err("rejected")
}

/// A setting's line of [`show`]: assignment and source.
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
fn without_settings_the_configuration_is_the_default() {
    let config = config(&[], &[("PATH", "/bin")]);
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
}

#[test]
fn precedence_is_flag_environment_file_profile_default() {
    let file = TempFile::new("layers", "busy-poll = '3us'\nprofile = 'latency'");
    let plain = TempFile::new("profile", "profile = 'latency'");
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
fn the_profile_is_chosen_by_the_same_precedence() {
    let file = TempFile::new("chosen", "profile = 'memory'");
    let file = file.flag();
    let profile = |flags: &[&str], variables: &[_]| shown(&resolved(flags, variables), "profile").0;
    let variable = [("RINGBACK_PROFILE", "throughput")];
    assert_eq!(profile(&[&file], &[]), "profile = \"memory\"");
    assert_eq!(profile(&[&file], &variable), "profile = \"throughput\"");
    assert_eq!(
        profile(&["--profile=latency", &file], &variable),
        "profile = \"latency\""
    );
    // An empty variable resets the file's profile.
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
fn the_config_flag_overrides_ringback_config() {
    let (weak, strong) = (
        TempFile::new("weak", "window = 512"),
        TempFile::new("strong", "window = 1024"),
    );
    let weak = weak.0.to_str().expect("UTF-8");
    assert_eq!(config(&[], &[("RINGBACK_CONFIG", weak)]).window, 512);
    assert_eq!(
        config(&[&strong.flag()], &[("RINGBACK_CONFIG", weak)]).window,
        1024
    );
}

#[test]
fn a_list_replaces_the_weaker_layers_list() {
    let file = TempFile::new(
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
fn a_stronger_layer_may_turn_a_switch_off() {
    let file = TempFile::new("switch", "no-pin = true");
    let file = file.flag();
    assert!(!config(&[&file], &[]).pin);
    assert!(config(&[&file], &[("RINGBACK_NO_PIN", "0")]).pin);
    assert!(config(&[&file, "--no-pin=false"], &[]).pin);
}

#[test]
fn a_value_out_of_range_is_rejected_with_its_source() {
    let file = TempFile::new("unfit", "\nwindow = 255");
    let place = format!("{}:2", file.0.display());
    assert_eq!(
        rejection(&[&file.flag()], &[]),
        format!("{place}: the window is 255 bytes; it must be 256 to 1048576")
    );
    assert_eq!(
        rejection(&[], &[("RINGBACK_PONG_TIMEOUT", "0")]),
        "RINGBACK_PONG_TIMEOUT: the pong timeout is shorter than 10ms"
    );
    assert!(
        rejection(&["--window=64k", "--profile=memory"], &[])
            .starts_with("profile memory: the read size")
    );
    assert_eq!(
        rejection(&["--path=x"], &[]),
        "'x' is no path: it must start with / and hold no query"
    );
    assert!(
        rejection(&[], &[("RINGBACK_PROFILE", "speed")]).starts_with("RINGBACK_PROFILE: invalid")
    );
    assert!(rejection(&["--config=/nowhere.toml"], &[]).starts_with("cannot read /nowhere.toml"));
}

/// Values that are invalid for nearly every setting.
const INVALID: [&str; 22] = [
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

/// Phrases from error messages of Rust's standard library and clap.
const FOREIGN_PHRASES: [&str; 16] = [
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

/// Phrases that introduce the valid values.
const ADVICE: [&str; 6] = [
    "expected ",
    "must ",
    "at least ",
    "at most ",
    "write ",
    " needs ",
];

#[test]
fn every_invalid_value_is_rejected_with_the_valid_values() {
    let mut rejections = 0;
    let mut without_advice = Vec::new();
    let schema = Schema::new();
    for setting in schema.settings() {
        let name = setting.name();
        for value in INVALID {
            let variable = format!("RINGBACK_{}", name.to_uppercase().replace('-', "_"));
            let Err(rejected) = resolve(&[], &[(&variable, value)]) else {
                continue;
            };
            rejections += 1;
            let phrase = FOREIGN_PHRASES
                .iter()
                .find(|&phrase| rejected.contains(phrase));
            assert_eq!(phrase, None, "{rejected}");
            let has_advice = ADVICE.iter().any(|phrase| rejected.contains(phrase));
            if !has_advice {
                without_advice.push(rejected.clone());
            }
            // As a flag it is rejected with the same text.
            let (_, reason) = rejected.split_once(": ").expect("a source");
            let reason = reason.rsplit_once(&format!("for '{name}': "));
            let Some((_, reason)) = reason else { continue };
            // The items of a variable's list are trimmed.
            if value.trim().is_empty() {
                continue;
            }
            let flag = format!("--{name}={value}");
            let by_flag = rejection(&[&flag], &[]);
            let words: Vec<_> = by_flag.split_whitespace().collect();
            let expected: Vec<_> = reason.split_whitespace().collect();
            let has = words.windows(expected.len()).any(|part| part == expected);
            let possible = by_flag.contains("possible values");
            assert!(has || possible, "{by_flag}: {reason}");
        }
    }
    assert!(without_advice.is_empty(), "{without_advice:#?}");
    assert!(rejections > 400, "{rejections}");
}

/// Found by fuzzing: some errors held line feeds of the values they quote.
#[test]
fn an_error_is_one_line_whatever_it_quotes() {
    for name in ["PATH", "ORIGIN", "SUBPROTOCOL", "LOG", "ENGINE", "LISTEN"] {
        for value in ["a\nb", "a=\n", "[\n]=\u{1b}", "\u{2}"] {
            let variable = format!("RINGBACK_{name}");
            let rejected = rejection(&[], &[(&variable, value)]);
            assert!(rejected.starts_with(&format!("{variable}: ")), "{rejected}");
            assert!(!rejected.contains(char::is_control), "{rejected:?}");
        }
    }
}

/// Found by fuzzing: the parser of log directives panics.
#[test]
fn a_log_directive_must_be_ascii() {
    let rejected = rejection(&[], &[("RINGBACK_LOG", " wi\u{648}= ")]);
    assert!(rejected.starts_with("RINGBACK_LOG: invalid"), "{rejected}");
    assert!(rejected.contains("ASCII"), "{rejected}");
}

#[test]
fn an_invalid_value_is_rejected_even_if_a_stronger_layer_overrides_it() {
    let variable = [("RINGBACK_WINDOW", "x")];
    assert!(rejection(&["--window=1k"], &variable).starts_with("RINGBACK_WINDOW: "));
}

#[test]
fn the_output_of_show_parses_as_the_same_configuration() {
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
        // Found by fuzzing: settings of a profile that were reset were not shown.
        (
            &["--profile=latency"],
            &[("RINGBACK_READ_SIZE", ""), ("RINGBACK_BUSY_POLL", "")],
        ),
    ] {
        let before = resolved(flags, variables);
        let file = TempFile::new("again", &show(&before));
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
fn a_setting_without_a_value_is_shown_as_a_comment() {
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

/// The text of `deploy/ringback.toml`.
fn deployed() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/ringback.toml");
    fs::read_to_string(path).expect("the file is there")
}

/// The text with its settings (`# name = value`) uncommented, and its prose not.
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
    let file = TempFile::new("deployed", &deployed());
    let effective = resolved(&[&file.flag()], &[]);
    assert!(effective.given.is_empty(), "{:?}", effective.given);
}

#[test]
fn the_deployed_file_has_every_setting_and_no_other_at_its_default() {
    let file = TempFile::new("uncommented", &uncommented(&deployed()));
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
