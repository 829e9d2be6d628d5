//! Servers compared by interleaved runs, each started afresh for every one.
//!
//! What disturbs a machine comes and goes over seconds, so runs that follow each
//! other belong together: a round has one of each side, and what is compared are
//! the ratios within rounds. The order within a round is left to chance, in
//! `order`.

mod bench;
mod conclude;
mod folder;
mod order;
mod progress;
mod series;
mod warnings;

use crate::args::{Ab, Contender, CoreList, LoadPlan};
use crate::compare::{exit_code, report};
use crate::comparison::Settings;
use crate::cores::Cores;
use crate::failure::{Failure, affinity};
use crate::interrupt::{EXIT_INTERRUPTED, Interrupt};
use crate::machine::Environment;
use crate::metric::Metric;
use crate::output::first_of;
use crate::plan::Plan;
use crate::preflight::check_plan;
use crate::result::RSS_SOCKETS_MIN;
use crate::session::{make_room, say};

use bench::Bench;
use conclude::Measured;
use folder::Folder;
use progress::View;
use series::{Equipment, Series};

/// Compares the servers of the command line, and says how the program ends.
///
/// # Errors
/// A failure before the first run, or in one, ends the comparison. The pairs that were
/// complete by then are reported.
pub fn measure(args: &Ab) -> Result<u8, Failure> {
    let contenders = args.contenders()?;
    let mut load = args.load_plan(&contenders)?;
    let plan = &load.plan;
    check_plan(plan, &args.server_pin.0)?;
    let mut settings = args.criteria.settings(!plan.is_open_loop(), plan.seed);
    if args.criteria.metrics.is_empty() && plan.sockets() < RSS_SOCKETS_MIN {
        // No run will have it.
        settings
            .metrics
            .retain(|metric| *metric != Metric::RssPerConnection);
    }
    let folder = args.directory.as_deref().map(Folder::claim).transpose()?;
    let interrupt = Interrupt::catch()?;
    make_room(&load.plan, sockets_of_others(args, &load.plan, &contenders))?;
    let server_pin = keep_apart(args, &mut load.plan)?;
    let bench = Bench {
        environment: args
            .annotate
            .annotated(Environment::capture(load.plan.is_loopback())),
        load,
        server_pin,
        server_wait: args.server_wait,
        interrupt: &interrupt,
    };
    let measured = measure_all(args, &contenders, &settings, &bench, folder.as_ref())?;
    let comparison = measured.conclude(&settings, &bench);
    let reported = match &comparison {
        Some(it) => report(it, args.format, folder.map(Folder::for_comparison)),
        None => Ok(()),
    };
    let any_invalid = measured.any_invalid();
    first_of(measured.failure.map_or(Ok(()), Err), reported)?;
    Ok(match comparison {
        Some(it) if !interrupt.is_asked() => exit_code(&it, &args.criteria, any_invalid),
        Some(_) => EXIT_INTERRUPTED,
        None => {
            say("interrupted before two pairs were complete");
            EXIT_INTERRUPTED
        }
    })
}

/// Sockets that are open at the same time beside those of one run.
fn sockets_of_others(args: &Ab, plan: &Plan, contenders: &[Contender]) -> u64 {
    if plan.slices == 1 {
        return 0;
    }
    let together = contenders.len().max(if args.aa { 2 } else { 1 });
    plan.sockets() * (together as u64 - 1)
}

/// The cores of the servers; the generator's go into the plan.
fn keep_apart(args: &Ab, plan: &mut Plan) -> Result<CoreList, Failure> {
    let cores = Cores::of_this_thread().map_err(affinity)?;
    let (server, generator) = cores.apart(&args.server_pin.0, &plan.pin, plan.threads as usize);
    let is_shared = server.iter().any(|core| generator.contains(core));
    say(&if server.is_empty() || generator.is_empty() || is_shared {
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

/// Starts each server once, then measures: the noise first, if it is asked for.
fn measure_all<'a>(
    args: &Ab,
    contenders: &'a [Contender],
    settings: &Settings,
    bench: &Bench<'_>,
    folder: Option<&Folder>,
) -> Result<Measured<'a>, Failure> {
    let noise = args.aa.then(|| Series::against_itself(&contenders[0]));
    let pairs = (contenders.len() > 1).then(|| Series::of(contenders));
    let all_series: Vec<_> = noise.iter().chain(&pairs).collect();
    announce(&bench.load, &all_series, args.pairs, settings);
    for contender in contenders {
        bench.try_start(contender)?;
    }
    let runs: usize = all_series
        .iter()
        .map(|it| it.turns.len() * args.pairs)
        .sum();
    let mut equipment = Equipment {
        bench,
        folder,
        settings,
        rounds: args.pairs,
        view: View::on_stderr(runs),
        failure: None,
    };
    let mut measure = |series: Option<Series<'a>>| series.map(|it| it.measure(&mut equipment));
    Ok(Measured {
        noise: measure(noise),
        pairs: measure(pairs),
        rounds_asked: args.pairs,
        failure: equipment.failure,
    })
}

fn announce(load: &LoadPlan, all_series: &[&Series<'_>], rounds: usize, settings: &Settings) {
    let plan = &load.plan;
    say(&format!("seed {}", plan.seed));
    say(&plan.to_string());
    let told = all_series.iter().map(|series| {
        let labels: Vec<_> = series.turns.iter().map(|it| it.label.as_str()).collect();
        format!("{rounds} {}s of {}", series.round, labels.join(", "))
    });
    say(&told.collect::<Vec<_>>().join(", then "));
    let unit = all_series.last().map_or("pair", |series| series.round);
    say(&match settings.too_few_pairs(rounds, unit) {
        Some(warning) => format!("warning: {warning}"),
        None => format!(
            "the fewest {unit}s that find a difference: {}",
            settings.pairs_needed()
        ),
    });
    if !load.has_free_port {
        say(
            "one whole run after the other; with {port} in the commands runs take turns, slice by \
             slice, and smaller differences are told",
        );
    }
}
