//! The listening sockets of a server.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::config::error::Error;
use crate::net::address::Address;
use crate::server::restart::inherited::{Inherited, Origin};
use crate::sys::owned_path::OwnedPath;
use crate::transport::listener::{Listeners, Listening};

/// All listening sockets, without and with TLS.
pub(super) struct ListeningSockets {
    pub(super) plain: Vec<Listening>,
    pub(super) tls: Vec<Listening>,
}

impl ListeningSockets {
    /// Takes the sockets that systemd has passed, or else listens on the configured
    /// addresses, with the predecessor's sockets if it has them.
    ///
    /// # Errors
    /// [`Error::Listen`], or systemd has not passed a socket for a TLS address.
    pub(super) fn open(
        config: &Config,
        inherited: &mut Inherited,
        cores: Vec<Option<usize>>,
    ) -> Result<Self, Error> {
        let listeners = Listeners::new(config, cores);
        let tls = config.tls_listen.clone();
        let plain = if inherited.is_activated() {
            tracing::info!(
                "listening on the sockets from systemd, not on the configured addresses"
            );
            let passed = inherited.addresses();
            // Otherwise an address for TLS might be served without it.
            if let Some(address) = tls.iter().find(|address| !passed.contains(address)) {
                return Err(Error::Config {
                    setting: "tls-listen",
                    reason: format!("systemd has passed no socket for {address}"),
                });
            }
            passed.into_iter().filter(|it| !tls.contains(it)).collect()
        } else {
            listeners.check_handed_over(&inherited.sockets)?;
            config.listen.clone()
        };
        let mut open = |addresses: Vec<Address>| {
            let listening = addresses.into_iter().map(|address| {
                let given = inherited.take(&address);
                if given.is_empty() {
                    listeners.open(&address)
                } else {
                    listeners.adopt(address, given)
                }
            });
            listening.collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            plain: open(plain)?,
            tls: open(tls)?,
        })
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Listening> {
        self.plain.iter().chain(&self.tls)
    }

    /// The files of sockets that this process created: removed with the server, even if
    /// it does not start.
    pub(super) fn own_files(&self) -> Vec<OwnedPath> {
        let own = self.all().filter(|it| !it.is_adopted);
        let files = own.filter_map(|it| it.address.file());
        files.filter_map(|path| OwnedPath::of(path).ok()).collect()
    }

    /// The files of sockets that the predecessor created: its own until this server
    /// serves, then removed with it. Those from systemd stay systemd's.
    pub(super) fn adopted_files(&self, origin: Origin) -> Vec<PathBuf> {
        let adopted = self.all().filter(|it| it.is_adopted);
        let files = adopted.filter_map(|it| it.address.file());
        files
            .filter(|_| origin == Origin::Server)
            .map(Path::to_owned)
            .collect()
    }
}

pub(super) fn addresses(listening: &[Listening]) -> Vec<Address> {
    listening.iter().map(|it| it.address.clone()).collect()
}

/// Distributes the sockets over the workers.
pub(super) fn by_worker(listening: Vec<Listening>, workers: usize) -> Vec<Vec<OwnedFd>> {
    let mut by_worker: Vec<Vec<OwnedFd>> = (0..workers).map(|_| Vec::new()).collect();
    for Listening { sockets, .. } in listening {
        for (index, socket) in sockets.into_iter().enumerate() {
            by_worker[index % workers].push(socket);
        }
    }
    by_worker
}

/// Duplicates the descriptors.
pub(super) fn clones(sockets: &[OwnedFd]) -> io::Result<Vec<OwnedFd>> {
    sockets.iter().map(OwnedFd::try_clone).collect()
}
