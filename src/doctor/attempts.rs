//! Listening on every address, to see whether it works.

use std::io;

use crate::admin;
use crate::config::Config;
use crate::config::error::Error;
use crate::net::address::Address;
use crate::sys::owned_path::OwnedPath;
use crate::transport::listener::{Listeners, all_for_this_kernel, ipv4_ports};

/// What came of listening on an address.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) check: &'static str,
    pub(super) address: Address,
    pub(super) outcome: io::Result<()>,
}

pub(super) const LISTEN: &str = "listen address";
pub(super) const TLS: &str = "TLS address";
pub(super) const ADMIN: &str = "admin address";

/// Listens on every address as the server does, all at the same time, and lets
/// go of them at once. A socket's file is there for a moment, as one that a
/// server has left behind is replaced.
pub(super) fn attempt(config: &Config) -> Vec<Attempt> {
    let config = &all_for_this_kernel(config.clone());
    let listeners = Listeners::new(config, vec![None]);
    let mut held = Vec::new();
    let mut attempts = Vec::new();
    let plain = config.listen.iter().map(|address| (LISTEN, address));
    let tls = config.tls_listen.iter().map(|address| (TLS, address));
    for (check, address) in plain.chain(tls) {
        let outcome = listeners.open(address).map(|listening| {
            // A socket's file goes with it.
            let file = address.file().map(OwnedPath::of);
            held.push((listening, file));
        });
        attempts.push(Attempt {
            check,
            address: address.clone(),
            outcome: outcome.map_err(source),
        });
    }
    if let Some(address) = config.admin {
        let bound = admin::Bound::new(address, &ipv4_ports(config), None);
        attempts.push(Attempt {
            check: ADMIN,
            address: address.into(),
            outcome: bound.map(drop).map_err(source),
        });
    }
    attempts
}

fn source(error: Error) -> io::Error {
    match error {
        Error::Listen { source, .. } | Error::Admin { source, .. } => source,
        other => io::Error::other(other),
    }
}
