//! Tries to listen on every address.

use std::io;

use crate::admin;
use crate::config::Config;
use crate::config::error::Error;
use crate::net::address::Address;
use crate::sys::owned_path::OwnedPath;
use crate::transport::listener::{Listeners, all_for_this_kernel, ipv4_ports};

/// The result of listening on an address.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) check: &'static str,
    pub(super) address: Address,
    pub(super) result: io::Result<()>,
}

pub(super) const LISTEN: &str = "listen address";
pub(super) const TLS: &str = "TLS address";
pub(super) const ADMIN: &str = "admin address";

/// Listens on every address as the server does, all at the same time, and closes the
/// sockets at once. A socket's file exists for a moment, and replaces one that a server
/// has left.
pub(super) fn attempt(config: &Config) -> Vec<Attempt> {
    let config = &all_for_this_kernel(config.clone());
    let listeners = Listeners::new(config, vec![None]);
    let mut open = Vec::new();
    let mut attempts = Vec::new();
    let plain = config.listen.iter().map(|address| (LISTEN, address));
    let tls = config.tls_listen.iter().map(|address| (TLS, address));
    for (check, address) in plain.chain(tls) {
        let result = listeners.open(address).map(|listening| {
            // Dropped with the socket, which removes the file.
            let file = address.file().map(OwnedPath::of);
            open.push((listening, file));
        });
        attempts.push(Attempt {
            check,
            address: address.clone(),
            result: result.map_err(source),
        });
    }
    if let Some(address) = config.admin {
        let bound = admin::Bound::new(address, &ipv4_ports(config), None);
        attempts.push(Attempt {
            check: ADMIN,
            address: address.into(),
            result: bound.map(drop).map_err(source),
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
