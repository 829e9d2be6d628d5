//! The floor: what a raw TCP echo costs under the same load.

use crate::args::Floor;
use crate::builtin::RawEcho;
use crate::cores::AllowedCores;
use crate::failure::{Failure, affinity};
use crate::interrupt::Interrupt;
use crate::outcome::Outcome;
use crate::plan::{Plan, Protocol};
use crate::preflight::{check_plan, check_server};
use crate::report::{Measured, OutputFormat, ServerRow};
use crate::session::{ServerProcess, drive, log, print, raise_file_limit};
use crate::table::TableBuilder;
use crate::target::{Scheme, Target};
use crate::verdict::{Facts, judge};
use crate::watch::ThreadGroup;

/// The label of the floor's row.
const LABEL: &str = "raw TCP echo";

/// Drives a raw TCP echo that is built in, and then the servers of the command
/// line, and prints a table.
///
/// # Errors
/// A failure before the measurement.
pub fn measure(args: &Floor, interrupt: &Interrupt) -> Result<u8, Failure> {
    let cores = AllowedCores::of_this_thread().map_err(affinity)?;
    let (server_core, generator_core) = cores.server_and_generator();
    let server_core = args.server.pin.0.first().copied().unwrap_or(server_core);
    let placeholder = Target::at(Scheme::Ws, ([127, 0, 0, 1], 1).into());
    let given = args.targets.clone();
    let mut plan = args.plan(if given.is_empty() {
        std::slice::from_ref(&placeholder)
    } else {
        &given
    })?;
    if given.is_empty() && (args.server.pid.is_some() || args.server.command.is_some()) {
        let why = "--server-pid and --server-cmd are for a server that a URL names";
        return Err(why.to_owned().into());
    }
    check_server(&args.server)?;
    check_plan(&plan, &args.server.pin.0)?;
    if plan.pin.is_empty() {
        plan.pin = vec![generator_core];
    }
    raise_file_limit(&plan, plan.sockets())?;
    log(&format!("seed {}", plan.seed));

    let mut comparison = TableBuilder::new(args.report.format);
    comparison.push(drive_floor(&plan, server_core, interrupt)?);
    if !given.is_empty() && !comparison.is_cut_short() {
        let mut watch = ServerProcess::new(&args.server, &plan, interrupt)?;
        let outcome = watch.drive(&plan, interrupt);
        watch.stop();
        let label: Vec<_> = given.iter().map(ToString::to_string).collect();
        comparison.push(row(&label.join(" "), &plan, outcome?));
    }
    comparison.print(&plan)?;
    if args.report.format == OutputFormat::Text {
        print(&ratios(comparison.rows()))?;
    }
    Ok(comparison.exit_code())
}

fn drive_floor(plan: &Plan, core: usize, interrupt: &Interrupt) -> Result<ServerRow, Failure> {
    let local = |source| Failure::Local {
        what: "starting the raw TCP echo",
        source,
    };
    let server = RawEcho::start(Some(core)).map_err(local)?;
    let plan = Plan {
        targets: vec![Target::at(Scheme::Tcp, server.address())],
        protocol: Protocol::RawTcp,
        // A raw echo has no frames; the number of bytes is the same, but for headers.
        fragments: 1,
        headers: Vec::new(),
        subprotocols: Vec::new(),
        skip: 0,
        sources: None,
        ..plan.clone()
    };
    log(&format!("{LABEL} on core {core}: {plan}"));
    let mut thread = ThreadGroup::of(&[server.thread_id()]).ok();
    let watched = thread.as_mut().map(|thread| thread as _);
    let outcome = drive(&plan, watched, interrupt);
    server.stop();
    Ok(row(LABEL, &plan, outcome?))
}

fn row(label: &str, plan: &Plan, outcome: Outcome) -> ServerRow {
    let judgement = judge(&Facts::of(plan, &outcome));
    ServerRow {
        server: label.to_owned(),
        measured: Measured::Run(Box::new(outcome), judgement),
    }
}

/// Each server's numbers as multiples of the floor's.
fn ratios(rows: &[ServerRow]) -> String {
    let outcome = |row: &ServerRow| match &row.measured {
        Measured::Run(outcome, _) => Some(numbers(outcome)),
        Measured::Unavailable(_) => None,
    };
    let Some((floor, others)) = rows.split_first() else {
        return String::new();
    };
    let Some(floor) = outcome(floor) else {
        return String::new();
    };
    let mut text = String::new();
    for row in others {
        let Some(numbers) = outcome(row) else {
            continue;
        };
        let ratios: Vec<_> = floor
            .into_iter()
            .zip(numbers)
            .filter_map(|((name, floor), (_, number))| {
                let (floor, number) = (floor?, number?);
                (floor > 0.0).then(|| format!("{name} {:.2} ×", number / floor))
            })
            .collect();
        text.extend([&row.server, " to the floor: ", &ratios.join(", "), "\n"]);
    }
    text
}

fn numbers(outcome: &Outcome) -> [(&'static str, Option<f64>); 4] {
    let response_ns = &outcome.latencies.response_ns;
    let server = outcome.server.map(|usage| usage.cpu_ns);
    [
        ("messages/s", Some(outcome.rate())),
        ("p50", Some(response_ns.value_at_quantile(0.5) as f64)),
        ("p99", Some(response_ns.value_at_quantile(0.99) as f64)),
        (
            "server CPU/msg",
            server.and_then(|ns| outcome.per_message(ns)),
        ),
    ]
}
