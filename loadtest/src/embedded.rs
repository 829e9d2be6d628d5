//! The demo: an embedded ringback server for each engine.

use ringback::{Config, EngineChoice, EngineKind, Server};

use crate::cores::Cores;
use crate::cpu;
use crate::driver::{Phase, drive};
use crate::failure::Failure;
use crate::plan::Plan;
use crate::report::{Measured, Row};
use crate::target::Target;

/// Drives every engine that works here, one after the other. The server runs
/// on the first core this thread may use, the generator, which is this thread,
/// on the second. Finished rows are appended to `rows` one by one, so that
/// they are there even if a later engine fails.
///
/// # Errors
/// The first thing that went wrong, with any engine.
pub fn compare_engines(
    plan: &Plan,
    rows: &mut Vec<Row>,
    progress: &mut dyn FnMut(&str),
) -> Result<(), Failure> {
    let cores = Cores::of_this_thread().map_err(affinity)?;
    let (server_core, generator_core) = cores.server_and_generator();
    progress(&if server_core == generator_core {
        format!("server and generator share core {server_core}: expect both to be slower")
    } else {
        format!("server on core {server_core}, generator on core {generator_core}")
    });
    let mut any = false;
    for &engine in EngineKind::ALL {
        let result = if let Err(reason) = engine.probe() {
            Measured::Unavailable(format!("unavailable: {reason}"))
        } else {
            any = true;
            progress(&format!("{engine}: {plan}"));
            let measured = drive_engine(engine, plan, server_core, generator_core);
            cores.restore().map_err(affinity)?;
            measured?
        };
        rows.push(Row {
            server: engine.to_string(),
            result,
        });
    }
    if any { Ok(()) } else { Err(Failure::NoEngine) }
}

fn drive_engine(
    engine: EngineKind,
    plan: &Plan,
    server_core: usize,
    generator_core: usize,
) -> Result<Measured, Failure> {
    let embedded = |reason: String| Failure::Embedded {
        engine: engine.to_string(),
        reason,
    };
    // The server starts one worker per core its starter may run on.
    Cores::pin(server_core).map_err(affinity)?;
    let server = Server::start(Config {
        listen: vec![([127, 0, 0, 1], 0).into()],
        engine: EngineChoice::Only(engine),
        ..Config::default()
    })
    .map_err(|error| embedded(error.to_string()))?;
    Cores::pin(generator_core).map_err(affinity)?;

    let address = server.addresses().first().copied();
    let address = address.ok_or_else(|| embedded("it listens nowhere".to_owned()))?;
    let workers = server.worker_thread_ids();
    let mut started_ns = None;
    let mut server_cpu_ns = None;
    let outcome = drive(plan, &Target::at(address), &mut |phase| match phase {
        Phase::WarmUp => {}
        Phase::Measure => started_ns = cpu::threads_ns(workers),
        Phase::Drain => {
            let stopped_ns = cpu::threads_ns(workers);
            server_cpu_ns = stopped_ns.zip(started_ns).map(|(stop, start)| stop - start);
        }
    })?;
    server.stop().map_err(|error| embedded(error.to_string()))?;
    Ok(Measured::Echoed {
        outcome,
        server_cpu_ns,
    })
}

fn affinity(errno: rustix::io::Errno) -> Failure {
    Failure::Local {
        what: "choosing a core",
        source: errno.into(),
    }
}
