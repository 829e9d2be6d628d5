//! The start of a server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::Server;
use super::listening_sockets::{ListeningSockets, addresses, by_worker, clones};
use super::restart::inherited::Inherited;
use super::restart::pid_file::PidFile;
use super::restart::state::RestartState;
use super::signals::Interrupt;
use super::workers::Workers;
use crate::admin::{Bound, Overview, Watched};
use crate::config::Config;
use crate::config::error::Error;
use crate::handler::Handler;
use crate::limits::admission::ServerLimits;
use crate::limits::descriptors::DescriptorBudget;
use crate::server::cores;
use crate::sys::owned_path::OwnedPath;
use crate::sys::shutdown;
use crate::transport::listener::{all_for_this_kernel, ipv4_ports};
use crate::transport::tls::Tls;
use crate::worker::{Assignment, Shared};

impl Server {
    /// Starts a server. With `inherited`, even without sockets, it can be replaced.
    ///
    /// # Errors
    /// As [`start_inheriting`](Self::start_inheriting). Workers that run by then end.
    pub(super) fn launch(
        config: Config,
        inherited: Option<&mut Inherited>,
        handler: Option<&Handler>,
        interrupt: &Interrupt,
    ) -> Result<Self, Error> {
        config.validate()?;
        let is_replaceable = inherited.is_some();
        let mut empty = Inherited::default();
        let inherited = inherited.unwrap_or(&mut empty);
        let predecessor = inherited.readiness.as_ref().map(|it| it.predecessor);
        let (config, cores, budget) = adapt(config, inherited.sockets.len())?;
        let claim = |path: &PathBuf| PidFile::claim(path, predecessor);
        let pid_file = config.pid_file.as_ref().map(claim).transpose()?;
        let tls = config.tls.clone().map(Tls::load).transpose()?.map(Arc::new);
        let admin = bind_admin(&config, inherited)?;
        let listening = ListeningSockets::open(&config, inherited, cores.clone())?;
        let files = listening.own_files();
        let adopted_files = listening.adopted_files(inherited.origin);
        let restart_state = is_replaceable
            .then(|| RestartState::new(inherited, &listening, admin.as_ref()))
            .transpose()?;
        let (trigger, shutdown) = shutdown::channel();
        let shared = Arc::new(Shared {
            server_limits: ServerLimits::new(&config, budget.rejects),
            config,
            cores,
            tls,
            epoch: Instant::now(),
            shutdown,
            handler: handler.cloned(),
        });
        let (addresses, tls_addresses) = (addresses(&listening.plain), addresses(&listening.tls));
        let workers = start_workers(&shared, listening, interrupt)?;
        let start =
            |bound: Bound| bound.start(overview(&shared, &workers), budget.admin_connections);
        let admin = admin.map(start).transpose()?;
        let mut server = Self {
            addresses,
            tls_addresses,
            restart_state,
            readiness: None,
            files,
            workers,
            trigger,
            admin,
            pid_file,
            shared,
        };
        // From here on they are removed with this server.
        let adopted = adopted_files.iter();
        let adopted = adopted.filter_map(|path| OwnedPath::of(path).ok());
        server.files.extend(adopted);
        if predecessor.is_none() {
            server.publish_pid_file()?;
        }
        budget.log_shortfall();
        Ok(server)
    }
}

/// Starts the workers, on the first engine that works.
fn start_workers(
    shared: &Arc<Shared>,
    listening: ListeningSockets,
    interrupt: &Interrupt,
) -> Result<Workers, Error> {
    let threads = shared.cores.len();
    let listeners = by_worker(listening.plain, threads);
    let tls_listeners = by_worker(listening.tls, threads);
    shared.config.engine.start(|engine| {
        let assignment = |index: usize| {
            Ok(Assignment {
                shared: Arc::clone(shared),
                engine,
                index,
                // The next engine that is tried needs them, too.
                listeners: clones(&listeners[index])?,
                tls_listeners: clones(&tls_listeners[index])?,
                counters: Arc::default(),
            })
        };
        Workers::start(engine, threads, assignment, interrupt)
    })
}

/// What the admin listener reports on.
fn overview(shared: &Shared, workers: &Workers) -> Overview {
    let watched = workers.threads.iter().zip(&workers.thread_ids);
    Overview {
        engine: workers.engine,
        workers: watched
            .map(|(worker, &id)| Watched::new(Arc::clone(&worker.counters), id))
            .collect(),
        server_limits: Arc::clone(&shared.server_limits),
        tls: shared.tls.clone(),
        epoch: shared.epoch,
        shutdown: shared.shutdown.clone(),
    }
}

fn bind_admin(config: &Config, inherited: &mut Inherited) -> Result<Option<Bound>, Error> {
    let bind = |address: SocketAddr| {
        let given = inherited.take_admin(&address.into());
        Bound::new(address, &ipv4_ports(config), given)
    };
    config.admin.map(bind).transpose()
}

/// The configuration within this machine's limits, the core of each worker, and the
/// descriptor budget.
fn adapt(
    config: Config,
    inherited_sockets: usize,
) -> Result<(Config, Vec<Option<usize>>, DescriptorBudget), Error> {
    let mut config = all_for_this_kernel(config);
    let cores = cores::assign(&config).map_err(|source| Error::Start {
        what: "counting the cores",
        source,
    })?;
    let budget = DescriptorBudget::of_this_process(&config, cores.len(), inherited_sockets)?;
    config.max_connections = budget.connections;
    Ok((config, cores, budget))
}
