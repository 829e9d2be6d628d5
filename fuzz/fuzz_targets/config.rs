//! Any file and any environment. What is accepted: `ringback config` prints a file that
//! gives the same configuration. What is refused: one line that begins with its place.
//!
//! Input: variables (1 byte for their number; each a byte for the name, one for the
//! length, and the value), then the file.

#![no_main]

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use ringback::fuzzing::configure;
use ringback_fuzz::file;

static FILE: LazyLock<(File, String)> = LazyLock::new(|| {
    let (file, path) = file::in_memory();
    (file, path.display().to_string())
});

const VARIABLES: [&str; 20] = [
    "RINGBACK_WINDOW",
    "RINGBACK_READ_SIZE",
    "RINGBACK_PROFILE",
    "RINGBACK_LISTEN",
    "RINGBACK_ORIGIN",
    "RINGBACK_NO_PIN",
    "RINGBACK_IDLE_TIMEOUT",
    "RINGBACK_PATH",
    "RINGBACK_LOG",
    "RINGBACK_THREADS",
    "RINGBACK_MAX_MESAGE",
    "HOME",
    "RINGBACK_UNIX_MODE",
    "RINGBACK_HANDSHAKE_RATE",
    "RINGBACK_HANDSHAKE_BURST",
    "RINGBACK_KEEPALIVE",
    "RINGBACK_PID_FILE",
    "RINGBACK_MAX_HELD_BYTES",
    "RINGBACK_MAX_BACKLOG",
    "RINGBACK_MAX_HANDSHAKES",
];

fuzz_target!(|data: &[u8]| {
    let mut input = Unstructured::new(data);
    if let Ok(variables) = take_variables(&mut input) {
        check(&variables, input.take_rest());
    }
});

fn take_variables(input: &mut Unstructured<'_>) -> Result<Vec<(OsString, OsString)>> {
    let count = input.arbitrary::<u8>()? % 4;
    (0..count)
        .map(|_| {
            let name: u8 = input.arbitrary()?;
            let len: u8 = input.arbitrary()?;
            let value = input.bytes(usize::from(len).min(input.len()))?;
            // The environment has no zero bytes.
            let value = value.iter().copied().filter(|&byte| byte != 0).collect();
            let name = VARIABLES[usize::from(name) % VARIABLES.len()];
            Ok((name.into(), OsString::from_vec(value)))
        })
        .collect()
}

fn check(variables: &[(OsString, OsString)], text: &[u8]) {
    match configure_with(variables, text) {
        Ok((shown, args)) => {
            let again = configure_with(&[], shown.as_bytes());
            let (shown_again, args_again) = again.expect("what is printed is a file");
            assert_eq!(args, args_again, "printed as\n{shown}");
            assert_eq!(without_sources(&shown), without_sources(&shown_again));
        }
        Err(line) => check_refusal(&line, text),
    }
}

fn configure_with(
    variables: &[(OsString, OsString)],
    text: &[u8],
) -> std::result::Result<(String, String), String> {
    let (mut file, path) = (&FILE.0, &FILE.1);
    file.set_len(0).expect("truncated");
    file.write_all_at(text, 0).expect("written");
    file.flush().expect("flushed");
    let arguments = ["ringback".to_owned(), format!("--config={path}")];
    configure(&arguments, variables.iter().cloned())
}

/// One line, which begins with the place: a line of the file, a variable, or
/// a profile.
fn check_refusal(line: &str, text: &[u8]) {
    assert!(
        !line.chars().any(char::is_control),
        "more than one line: {line:?}"
    );
    let place = line.strip_prefix(&FILE.1[..]);
    if let Some(place) = place {
        let number = place
            .strip_prefix(':')
            .and_then(|rest| rest.split(':').next());
        let number = number.and_then(|number| number.parse::<usize>().ok());
        let lines = text.split(|&byte| byte == b'\n').count();
        let is_too_large = place.starts_with(": larger than ");
        assert!(
            is_too_large || number.is_some_and(|number| (1..=lines).contains(&number)),
            "no line of {lines}: {line}"
        );
    } else {
        assert!(
            line.starts_with("RINGBACK_") || line.starts_with("profile "),
            "says not where: {line}"
        );
    }
}

fn without_sources(shown: &str) -> Vec<&str> {
    shown
        .lines()
        .map(|line| {
            line.rsplit_once("  # ")
                .map_or(line, |(setting, _)| setting.trim_end())
        })
        .collect()
}
