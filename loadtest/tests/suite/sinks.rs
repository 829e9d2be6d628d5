//! Results that cannot be written: every command, every stream, every kind of file that a shell
//! can open.

use std::fs::{self, File};
use std::io::{Read, Write, pipe};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use crate::support::example::result_of_a_run;
use crate::support::peer::{Peer, ringback, url_of};
use crate::support::program::{Program, Run};
use crate::support::scratch::Scratch;
use loadtest::result::{Document, ResultFile};
use rustix::pipe::fcntl_setpipe_size;
use serde_json::json;

const SHORT: [&str; 4] = ["-c1", "-n50", "--warmup=0s", "--seed=1"];

/// Runs the program by a shell that does something to its streams first.
fn by_shell(prepare: &str, arguments: &[&str]) -> Run {
    let script = format!("{prepare}\nexec \"$0\" \"$@\"");
    let mut command = Command::new("bash");
    command
        .args(["-c", &script, env!("CARGO_BIN_EXE_loadtest")])
        .args(arguments);
    Program::start_as(&mut command).finish()
}

/// Results for the commands that read files.
struct Results {
    scratch: Scratch,
    files: Vec<String>,
    /// Two groups of them, to compare.
    groups: [String; 2],
}

impl Results {
    fn new() -> Self {
        let scratch = Scratch::new();
        let mut result = result_of_a_run();
        // Each is a run of its own, as copies do not count.
        let file = |index: usize| {
            result["started_at"] = json!(format!("2026-11-28T10:00:0{index}.000Z"));
            let file = scratch.file(&format!("{index}.json"));
            fs::write(&file, result.to_string()).expect("a file");
            file
        };
        let files = (0..8).map(file).collect();
        let groups = ["a=[0-3]", "b=[4-7]"].map(|group| {
            let (name, files) = group.split_once('=').expect("a name");
            format!("{name}={}", scratch.file(&format!("{files}.json")))
        });
        Self {
            scratch,
            files,
            groups,
        }
    }

    fn directory(&self) -> &str {
        self.scratch.path().to_str().expect("UTF-8")
    }

    /// Commands that print something from existing files.
    fn commands(&self) -> Vec<Vec<&str>> {
        let file = self.files[0].as_str();
        let mut compare = vec!["compare"];
        compare.extend(self.groups.iter().map(String::as_str));
        let mut commands = vec![
            vec!["--help"],
            vec!["--version"],
            vec!["run", "--help"],
            vec!["help", "ab"],
            vec!["doctor"],
            vec!["doctor", "--format=json"],
            vec!["schema"],
            vec!["schema", "sweep"],
            vec!["completions", "bash"],
            vec!["export", "--csv", file],
            vec!["export", "--openmetrics", file],
            vec!["history", self.directory()],
            vec!["merge", file],
        ];
        for format in ["text", "json", "csv", "markdown"] {
            let mut compare = compare.clone();
            compare.extend(["--format", format]);
            commands.push(compare);
        }
        commands
    }
}

/// Commands that make runs: an error that can be known before a run is reported before it.
const RUNS: [&[&str]; 7] = [
    &["-c1", "-n50", "--warmup=0s"],
    &["floor", "-c1", "-n50", "--warmup=0s"],
    &["selftest", "--quick"],
    &["run", "ws://127.0.0.1:1/"],
    &["rerun"],
    &["sweep", "ws://127.0.0.1:1/", "--rates=1k"],
    &["ab", "--a=sleep 60", "--b=sleep 61"],
];

#[test]
fn a_full_or_closed_stdout_is_one_line_and_exit_2_in_every_command() {
    let results = Results::new();
    for prepare in ["exec >/dev/full", "exec >&-", "exec 1</dev/null"] {
        let mut commands = results.commands();
        commands.extend(RUNS.map(<[_]>::to_vec));
        for mut arguments in commands {
            if arguments == ["rerun"] {
                arguments.push(&results.files[0]);
            }
            let run = by_shell(prepare, &arguments);
            assert_eq!(run.code, Some(2), "{prepare}, {arguments:?}: {run:?}");
            assert_eq!(run.stderr.lines().count(), 1, "{arguments:?}: {run:?}");
            let error = run.error();
            assert!(
                error.starts_with("cannot write to standard output: "),
                "{arguments:?}: {run:?}"
            );
        }
    }
}

#[test]
fn a_disk_that_is_full_in_the_end_is_one_line_and_exit_2() {
    let results = Results::new();
    let server = ringback(|_| {});
    let url = url_of(&server);
    let out = results.scratch.file("out");
    // A file that may not grow stands for a full disk.
    let prepare = format!("exec >'{out}'\nulimit -f 0");
    let run = [&["run"], &SHORT[..], &[&url]].concat();
    let rerun = vec!["rerun", "--target", &url, &results.files[0]];
    let demo = SHORT.to_vec();
    let floor = [&["floor"], &SHORT[..]].concat();
    let mut commands = results.commands();
    commands.extend([run, rerun, demo, floor]);
    for arguments in commands {
        let run = by_shell(&prepare, &arguments);
        assert_eq!(run.code, Some(2), "{arguments:?}: {run:?}");
        assert_eq!(
            run.error(),
            "cannot write to standard output: File too large (os error 27)",
            "{arguments:?}: {run:?}"
        );
        let complaints = run.stderr.matches("cannot write").count();
        assert_eq!(complaints, 1, "{arguments:?}: {run:?}");
    }
}

#[test]
fn a_result_file_is_written_although_its_report_cannot_be_printed() {
    let results = Results::new();
    let (out, kept) = (results.scratch.file("out"), results.scratch.file("kept"));
    fs::write(&kept, "before").expect("a file");
    let [a, b] = &results.groups;
    // A report is some hundreds of bytes, and does not fit in a file close to its limit.
    let prepare = format!("head -c 1048500 /dev/zero >'{out}'; exec >>'{out}'; ulimit -f 1024");
    for command in [&["merge", &results.files[0]][..], &["compare", a, b]] {
        let run = by_shell(&prepare, &[command, &["-o", &kept]].concat());
        assert_eq!(run.code, Some(2), "{run:?}");
        let error = run.error();
        assert!(error.starts_with("cannot write to standard output: "));
        let text = fs::read_to_string(&kept).expect("a file");
        assert!(text.starts_with("{\n") && text.ends_with("}\n"), "{text}");
    }
}

#[test]
fn a_full_or_closed_stderr_changes_nothing() {
    let server = ringback(|_| {});
    let url = url_of(&server);
    for prepare in [
        "exec 2>/dev/full",
        "exec 2>&-",
        "exec 2> >(true)",
        "exec 2</dev/null",
    ] {
        let arguments = ["run", "-c1", "-d1100ms", "--warmup=0s", &url];
        let run = by_shell(prepare, &arguments);
        assert!(matches!(run.code, Some(0 | 4)), "{prepare}: {run:?}");
        assert!(run.stdout.contains("  response time  "), "{run:?}");
        let run = by_shell(prepare, &["run"]);
        assert_eq!(run.code, Some(2), "{prepare}: {run:?}");
    }
}

#[test]
fn an_unread_stderr_does_not_block_a_run() {
    let server = ringback(|_| {});
    let (reader, mut writer) = pipe().expect("a pipe");
    let size = fcntl_setpipe_size(&writer, 4096).expect("a small pipe");
    writer.write_all(&vec![0; size]).expect("it fits");
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["run", "-c1", "-d1100ms", "--warmup=0s", &url_of(&server)])
        .stderr(writer)
        .output()
        .expect("it runs to its end");
    assert!(matches!(output.status.code(), Some(0 | 4)), "{output:?}");
    assert!(!output.stdout.is_empty());
    drop(reader);
}

/// Asserts that there is a whole result at the end of a text.
fn assert_result(text: &str) {
    let begin = text.find("\n{\n").map_or(0, |at| at + 1);
    let json = &text.as_bytes()[begin..];
    if let Err(problem) = ResultFile::from_json(json) {
        panic!("{problem}: {text}");
    }
}

#[test]
fn an_open_descriptor_is_written_at_its_position() {
    let server = ringback(|_| {});
    let (url, scratch) = (url_of(&server), Scratch::new());
    let out = scratch.file("out");
    for (prepare, file) in [
        (format!("exec >'{out}'; echo before"), "/dev/stdout"),
        (format!("exec >'{out}'; echo before"), "/proc/self/fd/1"),
        (format!("exec 3>'{out}'; echo before >&3"), "/dev/fd/3"),
        (
            format!("echo before >'{out}'; exec 3>>'{out}'"),
            "/dev/fd/3",
        ),
    ] {
        let arguments = [&["run"], &SHORT[..], &["-o", file, &url]].concat();
        let run = by_shell(&prepare, &arguments);
        assert_eq!(run.code, Some(0), "{prepare}: {run:?}");
        let text = fs::read_to_string(&out).expect("a file");
        assert!(text.starts_with("before\n"), "{prepare}: {text}");
        assert_result(&text);
    }
    // A pipe, and one to another process.
    let arguments = [&["run"], &SHORT[..], &["-o", "/dev/stdout", &url]].concat();
    assert_result(&by_shell("", &arguments).stdout);
    let arguments = [&["run"], &SHORT[..], &["-o", "/dev/fd/3", &url]].concat();
    let run = by_shell("exec 4>&1; exec 3> >(cat >&4)", &arguments);
    let json = run.stdout.find("\n{\n");
    assert!(json.is_some() || run.stdout.starts_with("{\n"), "{run:?}");
}

#[test]
fn a_pipe_is_open_from_before_the_run_until_all_is_written() {
    let server = ringback(|_| {});
    let (url, scratch) = (url_of(&server), Scratch::new());
    let fifo = scratch.file("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.expect("mkfifo").success());
    let arguments = [&["run"], &SHORT[..], &["-o", &fifo, &url]].concat();
    let program = Program::start(&arguments);
    // The reader may open the pipe later than the program.
    program.wait_for_stderr("waiting for a reader of ");
    let reader = thread::spawn(move || fs::read_to_string(&fifo).expect("a pipe"));
    let run = program.finish();
    assert_eq!(run.code, Some(0), "{run:?}");
    let text = reader.join().expect("it reads");
    assert_result(&text);
    assert!(text.starts_with("{\n"));
}

#[test]
fn a_file_that_cannot_be_written_is_refused_before_the_run() {
    let scratch = Scratch::new();
    let (plain, directory) = (scratch.file("plain"), scratch.file("directory"));
    fs::write(&plain, "before").expect("a file");
    fs::create_dir(&directory).expect("a directory");
    let long = scratch.file(&"n".repeat(256));
    let slash = format!("{plain}/");
    let below_a_file = format!("{plain}/run.json");
    let nowhere = scratch.file("no/run.json");
    let ring = scratch.file("ring");
    std::os::unix::fs::symlink(&ring, &ring).expect("a link");
    for (file, reason) in [
        ("..", "this is not the name of a file"),
        ("/", "Is a directory (os error 21)"),
        ("/dev/full", "No space left on device (os error 28)"),
        ("/dev/fd/77", "No such file or directory (os error 2)"),
        (directory.as_str(), "Is a directory (os error 21)"),
        (&slash, "Is a directory (os error 21)"),
        (&below_a_file, "Not a directory (os error 20)"),
        (&nowhere, "No such file or directory (os error 2)"),
        (&long, "File name too long (os error 36)"),
        (&ring, "Too many levels of symbolic links (os error 40)"),
    ] {
        for command in [
            &["run", "ws://127.0.0.1:1/"][..],
            &["sweep", "ws://127.0.0.1:1/", "--rates=1k"],
        ] {
            let run = by_shell("", &[command, &["-o", file]].concat());
            assert_eq!(run.refused(2), format!("{file}: {reason}"));
            assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
        }
    }
    // A disk without room.
    let run = by_shell("ulimit -f 0", &["run", "ws://127.0.0.1:1/", "-o", &plain]);
    assert_eq!(
        run.refused(2),
        format!("{plain}: File too large (os error 27)")
    );
    assert_eq!(fs::read_to_string(&plain).expect("a file"), "before");
    assert_no_more_than(&scratch, 3);
}

#[test]
fn every_command_reports_a_document_that_cannot_be_written() {
    let results = Results::new();
    let file = results.files[0].as_str();
    let [a, b] = &results.groups;
    let nowhere = results.scratch.file("no/file");
    for sink in ["/dev/full", &nowhere, results.directory()] {
        for command in [
            &["report", file][..],
            &["export", "--csv", file],
            &["merge", file],
            &["compare", a, b],
        ] {
            let run = by_shell("", &[command, &["-o", sink]].concat());
            let error = run.refused(2);
            assert!(error.starts_with(&format!("{sink}: ")), "{run:?}");
        }
    }
    let under_a_file = format!("{file}/results");
    let run = by_shell("", &["ab", "--a=x", "--b=y", "-o", &under_a_file]);
    assert!(run.refused(2).starts_with(&under_a_file), "{run:?}");
}

fn assert_no_more_than(scratch: &Scratch, count: usize) {
    let names = fs::read_dir(scratch.path()).expect("a directory");
    let names: Vec<_> = names.map(|entry| entry.expect("an entry").path()).collect();
    assert!(names.len() <= count, "{names:?}");
}

/// Runs the program without root's right to write everywhere.
fn without_privilege(arguments: &[&str]) -> Run {
    if !rustix::process::geteuid().is_root() {
        return by_shell("", arguments);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--bounding-set=-dac_override,-dac_read_search", "--"])
        .arg(env!("CARGO_BIN_EXE_loadtest"))
        .args(arguments);
    Program::start_as(&mut command).finish()
}

#[test]
fn permissions_are_those_of_a_shell() {
    let results = Results::new();
    let file = results.files[0].as_str();
    let mode = |path: &str, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("own file");
    };
    let export = |to: &str| without_privilege(&["export", "--csv", file, "-o", to]);

    // A write-protected file in a writable directory.
    let protected = results.scratch.file("protected");
    fs::write(&protected, "before").expect("a file");
    mode(&protected, 0o444);
    let denied = format!("{protected}: Permission denied (os error 13)");
    assert_eq!(export(&protected).refused(2), denied);
    assert_eq!(fs::read_to_string(&protected).expect("a file"), "before");

    // A writable file in a directory that accepts no new one.
    let directory = results.scratch.file("directory");
    fs::create_dir(&directory).expect("a directory");
    let inside = format!("{directory}/out.csv");
    fs::write(&inside, "before").expect("a file");
    mode(&directory, 0o555);
    let run = export(&inside);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(fs::read_to_string(&inside).expect("a file").contains(','));
    let other = format!("{directory}/other.csv");
    let denied = format!("{other}: Permission denied (os error 13)");
    assert_eq!(export(&other).refused(2), denied);
    mode(&directory, 0o755);

    // A file that is replaced stays as private as it was.
    let private = results.scratch.file("private");
    fs::write(&private, "before").expect("a file");
    mode(&private, 0o600);
    assert_eq!(export(&private).code, Some(0));
    let there = fs::metadata(&private).expect("a file");
    assert_eq!(there.mode() & 0o777, 0o600);
}

#[test]
fn a_link_to_nothing_is_followed() {
    let results = Results::new();
    let (link, target) = (results.scratch.file("link"), results.scratch.file("target"));
    std::os::unix::fs::symlink("target", &link).expect("a link");
    let run = by_shell("", &["export", "--csv", &results.files[0], "-o", &link]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let link = fs::symlink_metadata(&link).expect("it is there");
    assert!(link.is_symlink() && Path::new(&target).is_file());
}

#[test]
fn a_nonblocking_stdout_is_written_whole() {
    // A process that shares a pipe may have set it to non-blocking.
    let (mut reader, writer) = pipe().expect("a pipe");
    fcntl_setpipe_size(&writer, 4096).expect("a small pipe");
    rustix::io::ioctl_fionbio(&writer, true).expect("an option");
    let mut child = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .arg("schema")
        .stdout(writer)
        .spawn()
        .expect("it starts");
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("a schema");
    assert!(child.wait().expect("it ends").success());
    assert_eq!(text, include_str!("../../schema/result-v1.schema.json"));
}

#[test]
fn dev_null_is_a_valid_output() {
    let peer = Peer::echo();
    let url = peer.url();
    let arguments = [&["run"], &SHORT[..], &["-o", "/dev/null", &url]].concat();
    // A shell opens it for writing only, others also for reading.
    for null in [
        File::options().write(true).open("/dev/null"),
        File::options().read(true).write(true).open("/dev/null"),
    ] {
        let status = Command::new(env!("CARGO_BIN_EXE_loadtest"))
            .args(&arguments)
            .stdout(null.expect("a device"))
            .stderr(Stdio::null())
            .status();
        assert!(status.expect("it runs").success());
    }
}
