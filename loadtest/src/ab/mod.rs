//! Servers compared by interleaved runs, with a fresh server for each run.
//!
//! Disturbances of a machine last for seconds, so runs that follow each other belong together:
//! a round has one run of each side, and the ratios within rounds are compared. The order
//! within a round is random, see `order`.

mod conclude;
mod order;
mod output_directory;
mod progress;
mod runner;
mod series;
mod warnings;

use crate::args::{Ab, CoreList, LoadPlan, ServerSpec};
use crate::compare::{exit_code, report};
use crate::comparison::Settings;
use crate::cores::AllowedCores;
use crate::failure::{Failure, affinity};
use crate::interrupt::{EXIT_INTERRUPTED, Interrupt};
use crate::machine::Environment;
use crate::metric::Metric;
use crate::output::first_failure;
use crate::plan::Plan;
use crate::preflight::check_plan;
use crate::result::RSS_SOCKETS_MIN;
use crate::session::{log, raise_file_limit};

use conclude::CompletedRounds;
use output_directory::OutputDirectory;
use progress::ProgressView;
use runner::Runner;
use series::{RunSeries, SeriesContext};

/// Compares the servers of the command line, and returns the exit code.
///
/// # Errors
/// A failure before the first run, or in one, ends the comparison. The pairs that were
/// complete by then are reported.
pub fn measure(args: &Ab) -> Result<u8, Failure> {
    let servers = args.servers()?;
    let mut load = args.load_plan(&servers)?;
    let plan = &load.plan;
    check_plan(plan, &args.server_pin.0)?;
    let mut settings = args.criteria.settings(!plan.is_open_loop(), plan.seed);
    if args.criteria.metrics.is_empty() && plan.sockets() < RSS_SOCKETS_MIN {
        // The port is replaced in each run.
        settings
            .metrics
            .retain(|metric| *metric != Metric::RssPerConnection);
    }
    let directory = args
        .directory
        .as_deref()
        .map(OutputDirectory::claim)
        .transpose()?;
    let interrupt = Interrupt::catch()?;
    raise_file_limit(&load.plan, sockets_of_others(args, &load.plan, &servers))?;
    let server_pin = assign_cores(args, &mut load.plan)?;
    let runner = Runner {
        environment: args
            .annotate
            .annotated(Environment::capture(load.plan.is_loopback())),
        load,
        server_pin,
        server_wait: args.server_wait,
        interrupt: &interrupt,
    };
    let measured = measure_all(args, &servers, &settings, &runner, directory.as_ref())?;
    let comparison = measured.conclude(&settings, &runner);
    let reported = match &comparison {
        Some(it) => report(
            it,
            args.format,
            directory.map(OutputDirectory::for_comparison),
        ),
        None => Ok(()),
    };
    let any_invalid = measured.any_invalid();
    first_failure(measured.failure.map_or(Ok(()), Err), reported)?;
    Ok(match comparison {
        Some(it) if !interrupt.is_requested() => exit_code(&it, &args.criteria, any_invalid),
        Some(_) => EXIT_INTERRUPTED,
        None => {
            log("interrupted before two pairs were complete");
            EXIT_INTERRUPTED
        }
    })
}

/// Sockets that the other servers of a round have open beside those of one run.
fn sockets_of_others(args: &Ab, plan: &Plan, servers: &[ServerSpec]) -> u64 {
    if plan.slices == 1 {
        return 0;
    }
    let together = servers.len().max(if args.aa { 2 } else { 1 });
    plan.sockets() * (together as u64 - 1)
}

/// Assigns the cores of the servers and the generator; returns the servers'.
fn assign_cores(args: &Ab, plan: &mut Plan) -> Result<CoreList, Failure> {
    let cores = AllowedCores::of_this_thread().map_err(affinity)?;
    let (server, generator) = cores.apart(&args.server_pin.0, &plan.pin, plan.threads as usize);
    let is_shared = server.iter().any(|core| generator.contains(core));
    log(&if server.is_empty() || generator.is_empty() || is_shared {
        "server and generator share a core: each takes the other's time".to_owned()
    } else {
        let list = |cores: &[usize]| {
            let s = if cores.len() == 1 { "" } else { "s" };
            let numbers: Vec<_> = cores.iter().map(ToString::to_string).collect();
            format!("core{s} {}", numbers.join(","))
        };
        let (server, generator) = (list(&server), list(&generator));
        format!("server on {server}, generator on {generator}")
    });
    plan.pin = generator;
    Ok(CoreList(server))
}

/// Starts each server once, then measures, with `--aa` the noise first.
fn measure_all<'a>(
    args: &Ab,
    servers: &'a [ServerSpec],
    settings: &Settings,
    runner: &Runner<'_>,
    directory: Option<&OutputDirectory>,
) -> Result<CompletedRounds<'a>, Failure> {
    let noise = args.aa.then(|| RunSeries::against_itself(&servers[0]));
    let pairs = (servers.len() > 1).then(|| RunSeries::of(servers));
    let all_series: Vec<_> = noise.iter().chain(&pairs).collect();
    announce(&runner.load, &all_series, args.pairs, settings);
    for server in servers {
        runner.try_start(server)?;
    }
    let runs: usize = all_series
        .iter()
        .map(|it| it.sides.len() * args.pairs)
        .sum();
    let mut context = SeriesContext {
        runner,
        directory,
        settings,
        rounds: args.pairs,
        view: ProgressView::on_stderr(runs),
        failure: None,
    };
    let mut measure = |series: Option<RunSeries<'a>>| series.map(|it| it.measure(&mut context));
    Ok(CompletedRounds {
        noise: measure(noise),
        pairs: measure(pairs),
        rounds_requested: args.pairs,
        failure: context.failure,
    })
}

fn announce(load: &LoadPlan, all_series: &[&RunSeries<'_>], rounds: usize, settings: &Settings) {
    let plan = &load.plan;
    log(&format!("seed {}", plan.seed));
    log(&plan.to_string());
    let texts = all_series.iter().map(|series| {
        let labels: Vec<_> = series.sides.iter().map(|it| it.label.as_str()).collect();
        format!("{rounds} {}s of {}", series.round, labels.join(", "))
    });
    log(&texts.collect::<Vec<_>>().join(", then "));
    let unit = all_series.last().map_or("pair", |series| series.round);
    log(&match settings.too_few_pairs(rounds, unit) {
        Some(warning) => format!("warning: {warning}"),
        None => format!(
            "the fewest {unit}s that find a difference: {}",
            settings.pairs_needed()
        ),
    });
    if !load.has_free_port {
        log(
            "one whole run after the other; with {port} in the commands runs alternate by \
             slices, and smaller differences are found",
        );
    }
}
