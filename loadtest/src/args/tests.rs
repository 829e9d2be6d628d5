//! The flags, and their plans.

use std::time::Duration;

use clap::CommandFactory;

use super::*;
use crate::client::MessageKind;
use crate::plan::{Arrival, Extent, Load, Pace, SizeShare};

const URL: &str = "ws://h:1/";

fn demo(arguments: &[&str]) -> Result<Plan, String> {
    let all = [&["loadtest"], arguments].concat();
    let cli = Cli::read(all).map_err(|error| error.to_string())?;
    cli.demo_plan(URL.parse()?)
}

fn run(arguments: &[&str]) -> Result<Plan, String> {
    let all = [&["loadtest", "run"], arguments].concat();
    let cli = Cli::read(all).map_err(|error| error.to_string())?;
    match cli.command {
        Some(Command::Run(run)) => run.plan(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_clap_definition_is_valid() {
    Cli::command().debug_assert();
}

#[test]
fn no_argument_is_the_demo() {
    let plan = demo(&[]).unwrap();
    assert_eq!(plan.connections, 100);
    assert_eq!(plan.load, Load::Closed { window: 1 });
    assert_eq!(plan.sizes, [SizeShare { len: 32, weight: 1 }]);
    assert_eq!(plan.kind, MessageKind::Binary);
    assert_eq!(plan.extent, Extent::Duration(Duration::from_secs(3)));
    assert_eq!(plan.warmup, Duration::from_millis(500));
    assert_eq!(plan.timeout, Duration::from_secs(5));
    assert_eq!(plan.threads, 1);
}

#[test]
fn loads_are_closed_or_open() {
    let load = |arguments: &[&str]| run(&[arguments, &[URL]].concat()).unwrap().load;
    assert_eq!(load(&["-w", "16"]), Load::Closed { window: 16 });
    let open = |rate, arrival| Load::Open { rate, arrival };
    assert_eq!(load(&["--rate=50k"]), open(50_000.0, Arrival::Fixed));
    assert_eq!(
        load(&["--rate-per-conn=2.5", "-c10", "--arrival=poisson"]),
        open(25.0, Arrival::Poisson)
    );
}

#[test]
fn every_flag_reaches_the_plan() {
    let plan = run(&[
        "ws://h:1/a",
        "ws://h:2/b",
        "-c20k",
        "--rate=1m",
        "--pace=sleep",
        "-n3m",
        "--warmup=2s",
        "--timeout=7s",
        "--size=64:9,4k:1",
        "--type=text",
        "--fragment=3",
        "--split",
        "--seed=7",
        "--connect-rate=1k",
        "--idle=1k",
        "--churn=5",
        "--slow-readers=2",
        "--pin=2,4-5",
        "--path=/x",
        "-HX-A: b",
        "--subprotocol=chat",
        "-k",
        "--source=127.0.0.1-127.0.0.9",
    ])
    .unwrap();
    let targets: Vec<_> = plan.targets.iter().map(ToString::to_string).collect();
    assert_eq!(targets, ["ws://h:1/x", "ws://h:2/x"]);
    assert_eq!(plan.connections, 20_000);
    assert_eq!(plan.pace, Pace::Sleep);
    assert_eq!(plan.extent, Extent::Messages(3_000_000));
    assert_eq!(plan.warmup, Duration::from_secs(2));
    assert_eq!(plan.timeout, Duration::from_secs(7));
    let sizes = [(64, 9), (4096, 1)].map(|(len, weight)| SizeShare { len, weight });
    assert_eq!(plan.sizes, sizes);
    assert_eq!((plan.kind, plan.fragments), (MessageKind::Text, 3));
    assert!(plan.split && plan.insecure);
    assert_eq!(plan.seed, 7);
    assert_eq!((plan.connect_rate, plan.churn_rate), (Some(1e3), Some(5.0)));
    assert_eq!((plan.idle_connections, plan.slow_readers), (1_000, 2));
    assert_eq!((plan.threads, &plan.pin[..]), (3, &[2, 4, 5][..]));
    assert_eq!(plan.headers, [("X-A".to_owned(), "b".to_owned())]);
    assert_eq!(plan.subprotocols, ["chat"]);
    assert_eq!(plan.sources.unwrap().count(), 9);
}

#[test]
fn an_open_loop_spins_and_a_closed_one_sleeps_by_default() {
    let pace = |arguments: &[&str]| run(&[arguments, &[URL]].concat()).unwrap().pace;
    assert_eq!(pace(&[]), Pace::Sleep);
    assert_eq!(pace(&["--pace=spin"]), Pace::Spin);
    assert_eq!(pace(&["--rate=1"]), Pace::Spin);
    assert_eq!(pace(&["--rate=1", "--pace=sleep"]), Pace::Sleep);
}

#[test]
fn invalid_arguments_are_rejected() {
    for wrong in [
        &["-c0"][..],
        &["-w0"],
        &["-s65m"],
        &["-s1x"],
        &["-s64:0"],
        &["-s1:5000"],
        &["-d0s"],
        &["-d3"],
        &["-n0"],
        &["-n1", "-d1s"],
        &["--timeout=0s"],
        &["--timeout=2h"],
        &["--warmup=-1s"],
        &["-d999h"],
        &["--rate=0"],
        &["--rate=2g"],
        &["--rate=1", "-w1"],
        &["--rate=1", "--rate-per-conn=1"],
        &["--arrival=poisson"],
        &["--arrival=never", "--rate=1"],
        &["--pace=never"],
        &["--fragment=0"],
        &["--text", "--type=text"],
        &["-t2", "-c1"],
        &["--pin=x"],
        &["--pin=3-1"],
        &["--idle=17m"],
    ] {
        assert!(demo(wrong).is_err(), "{wrong:?}");
    }
    for wrong in [
        &[][..],
        &["http://h"],
        &[URL, "tcp://h:1"],
        &["tcp://h:1", "--fragment=2"],
        &[URL, "--path=x"],
        &[URL, "-Hx"],
        &[URL, "-Hx y: z"],
        &[URL, "-Hx: y\r\nz: a"],
        &[URL, "--subprotocol=a b"],
        &[URL, "-k", "--ca=x"],
        &[URL, "--source=::1"],
        &[URL, "--server-pid=1", "--server-cmd=x"],
        &[URL, "--slo=p99"],
        &[URL, "--format=xml"],
    ] {
        assert!(run(wrong).is_err(), "{wrong:?}");
    }
}

/// Every option that takes a value, with the arguments before it.
fn options(command: &clap::Command, words: &[String]) -> Vec<(Vec<String>, clap::Arg)> {
    let own = command.get_arguments().filter(|arg| {
        !arg.is_positional() && arg.get_action().takes_values() && arg.get_long().is_some()
    });
    let own = own.map(|arg| (words.to_vec(), arg.clone()));
    let below = command.get_subcommands().flat_map(|below| {
        let words = [words, &[below.get_name().to_owned()]].concat();
        options(below, &words)
    });
    own.chain(below).collect()
}

#[test]
fn errors_of_wrong_values_name_the_right_form() {
    let command = Cli::command();
    let options = options(&command, &["loadtest".to_owned()]);
    assert!(options.len() > 100, "{}", options.len());
    // Messages of Rust's parsers and of clap that do not name the right form.
    let meaningless = [
        "invalid digit",
        "too large to fit",
        "empty string",
        "invalid float",
        "unexpected argument",
        "tip:",
    ];
    for (words, arg) in options {
        let names = arg.get_value_names().unwrap_or_default();
        if names.iter().any(|name| FREE_TEXTS.contains(&name.as_str())) {
            continue;
        }
        let long = arg.get_long().expect("it has one");
        for value in ["-1", "-1s", "-x", "--", "x", "1e99", "99999999999999999999"] {
            // With a blank, and with an equals sign.
            let apart = [format!("--{long}"), value.to_owned()];
            let joined = [format!("--{long}={value}")];
            for flag in [&apart[..], &joined] {
                let arguments = [&words, flag].concat();
                let Err(error) = Cli::read(&arguments) else {
                    continue;
                };
                let reason = reason_of(&error);
                assert!(!reason.contains('\n'), "{arguments:?}: {reason}");
                for words in meaningless {
                    assert!(!reason.contains(words), "{arguments:?}: {reason}");
                }
                if value != "--" {
                    assert!(
                        reason.contains(&format!("--{long}")),
                        "{arguments:?}: {reason}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_negative_number_is_a_wrong_value() {
    for flag in [
        "-c",
        "-n",
        "--seed",
        "--rate",
        "--duration",
        "--idle",
        "--server-pid",
    ] {
        let arguments = ["loadtest", "run", URL, flag, "-1"];
        let error = Cli::read(arguments).expect_err("it is wrong");
        let reason = reason_of(&error);
        assert!(reason.starts_with("invalid value '-1' for "), "{reason}");
        assert!(reason.contains(": write "), "{reason}");
    }
    let error = Cli::read(["loadtest", "sweep", URL, "--rates=1k", "--repeats", "-1"]);
    let reason = reason_of(&error.expect_err("it is wrong"));
    assert!(
        reason.ends_with(": write a number from 1 to 100"),
        "{reason}"
    );
}
