//! What a server keeps ready for its successor.

use std::io;
use std::os::fd::OwnedFd;

use super::doors::Doors;
use crate::admin::Bound;
use crate::error::Error;
use crate::invocation::Invocation;
use crate::listener::inherited::{Inherited, Origin};

/// What a successor is handed.
pub(super) struct Handover {
    pub(super) invocation: Invocation,
    pub(super) origin: Origin,
    pub(super) sockets: Vec<OwnedFd>,
    /// The admin listener's.
    pub(super) admin: Option<OwnedFd>,
}

impl Handover {
    /// # Errors
    /// [`Error::Start`]: no descriptor is left, or nobody knows which program this is.
    pub(super) fn new(
        inherited: &Inherited,
        doors: &Doors,
        admin: Option<&Bound>,
    ) -> Result<Self, Error> {
        let start = |source| Error::Start {
            what: "a server that can be replaced",
            source,
        };
        let sockets = doors.all().flat_map(|it| &it.sockets);
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
