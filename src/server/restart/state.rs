//! The state that a server keeps to start its replacement.

use std::io;
use std::os::fd::OwnedFd;

use crate::admin::Bound;
use crate::config::error::Error;
use crate::server::listening_sockets::ListeningSockets;
use crate::server::restart::inherited::{Inherited, Origin};
use crate::server::restart::invocation::Invocation;

pub(in crate::server) struct RestartState {
    pub(in crate::server) invocation: Invocation,
    pub(in crate::server) origin: Origin,
    pub(in crate::server) sockets: Vec<OwnedFd>,
    /// The admin listener's.
    pub(in crate::server) admin: Option<OwnedFd>,
}

impl RestartState {
    /// # Errors
    /// [`Error::Start`]: no descriptor is left, or the program's path is unknown.
    pub(in crate::server) fn new(
        inherited: &Inherited,
        listening: &ListeningSockets,
        admin: Option<&Bound>,
    ) -> Result<Self, Error> {
        let start = |source| Error::Start {
            what: "a server that can be replaced",
            source,
        };
        let sockets = listening.all().flat_map(|it| &it.sockets);
        let sockets = sockets
            .map(OwnedFd::try_clone)
            .collect::<io::Result<Vec<_>>>()
            .map_err(start)?;
        let admin = admin.map(Bound::try_clone).transpose().map_err(start)?;
        Ok(Self {
            invocation: Invocation::of_this_process().map_err(start)?,
            origin: inherited.origin,
            sockets,
            admin,
        })
    }
}
