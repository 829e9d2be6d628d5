//! The demo: an embedded ringback server for each engine.

use std::net::SocketAddr;

use host::cores::pin;
use ringback::{Address, Config, EngineChoice, EngineKind};

use crate::args::Cli;
use crate::cores::AllowedCores;
use crate::failure::{Failure, affinity};
use crate::interrupt::Interrupt;
use crate::output::first_failure;
use crate::preflight::check_plan;
use crate::report::{Measured, ServerRow};
use crate::session::{drive, log, raise_file_limit};
use crate::table::TableBuilder;
use crate::target::{Scheme, Target};
use crate::verdict::{Facts, judge};
use crate::watch::ThreadGroup;

/// Drives every engine that works here, one after the other, and prints a table.
/// The server runs on the first core this thread may use, the generator on the
/// second, unless it is pinned elsewhere.
///
/// # Errors
/// The first failure of any engine; the table of those before it is printed all the same.
pub fn compare_engines(cli: &Cli, interrupt: &Interrupt) -> Result<u8, Failure> {
    let cores = AllowedCores::of_this_thread().map_err(affinity)?;
    let (server_core, generator_core) = cores.server_and_generator();
    let mut plan = cli.demo_plan(Target::at(Scheme::Ws, ([127, 0, 0, 1], 1).into()))?;
    check_plan(&plan, &[])?;
    if plan.pin.is_empty() {
        plan.pin = vec![generator_core];
    }
    // Both ends of every connection are in this process.
    raise_file_limit(&plan, plan.sockets())?;
    log(&format!("seed {}", plan.seed));
    log(&if server_core == generator_core {
        format!("server and generator share core {server_core}: expect both to be slower")
    } else {
        format!("server on core {server_core}, generator on core {generator_core}")
    });

    let mut comparison = TableBuilder::new(cli.report.format);
    let mut any = false;
    for &engine in EngineKind::ALL {
        if let Err(reason) = engine.probe() {
            comparison.push(ServerRow {
                server: engine.to_string(),
                measured: Measured::Unavailable(format!("unavailable: {reason}")),
            });
            continue;
        }
        any = true;
        log(&format!("{engine}: {plan}"));
        let driven = drive_engine(engine, &mut plan, &cores, server_core, interrupt);
        match driven {
            Ok(row) => comparison.push(row),
            Err(failure) => return first_failure(comparison.print(&plan), Err(failure)),
        }
        if comparison.is_cut_short() {
            break;
        }
    }
    comparison.print(&plan)?;
    if any {
        Ok(comparison.exit_code())
    } else {
        Err(Failure::NoEngine)
    }
}

fn drive_engine(
    engine: EngineKind,
    plan: &mut crate::plan::Plan,
    cores: &AllowedCores,
    server_core: usize,
    interrupt: &Interrupt,
) -> Result<ServerRow, Failure> {
    let embedded = |reason: String| Failure::Embedded {
        engine: engine.to_string(),
        reason,
    };
    // The server starts one worker per core its starter may run on.
    pin(server_core).map_err(affinity)?;
    let started = ringback::Server::start(Config {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
        engine: EngineChoice::Only(engine),
        ..Config::default()
    });
    cores.restore().map_err(affinity)?;
    let server = started.map_err(|error| embedded(error.to_string()))?;

    let address = server.addresses().first().and_then(Address::internet);
    let address = address.ok_or_else(|| embedded("it listens nowhere".to_owned()))?;
    plan.targets = vec![Target::at(Scheme::Ws, address)];
    let mut workers = ThreadGroup::of(server.worker_thread_ids()).ok();
    let watched = workers.as_mut().map(|workers| workers as _);
    let outcome = drive(plan, watched, interrupt)?;
    server.stop().map_err(|error| embedded(error.to_string()))?;
    let judgement = judge(&Facts::of(plan, &outcome));
    Ok(ServerRow {
        server: engine.to_string(),
        measured: Measured::Run(Box::new(outcome), judgement),
    })
}
