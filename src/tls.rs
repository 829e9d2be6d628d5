//! TLS: the certificate and its key, read again on SIGHUP, and connections that
//! speak it.
//!
//! TLS 1.2 and 1.3 by rustls, without I/O of its own: [`TlsStream`] decrypts
//! what its socket brings and encrypts what it takes, so that everything above
//! it works as over a socket. What is refused, and why:
//!
//! * renegotiation: rustls has none
//! * 0-RTT: an attacker can send its data again (RFC 8446 section 8), and a
//!   handshake that opens a connection twice is none
//! * any protocol but `http/1.1`, where a client names some (ALPN)
//!
//! Sessions are resumed by tickets alone, whose keys change every six hours and
//! with every new certificate: the server keeps nothing of a client that left.

mod identity;
mod outbox;
mod stream;
mod validity;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::server::NoServerSessionStorage;

use crate::config::TlsFiles;
use crate::error::Error;
use identity::Identity;
pub(crate) use stream::{Acceptor, Failure, TlsStream};
pub(crate) use validity::Standing;

/// The one protocol that is spoken over TLS.
const ALPN: &[u8] = b"http/1.1";

/// The certificate in effect, and what new connections are to be told.
#[derive(Debug)]
pub(crate) struct Tls {
    files: TlsFiles,
    config: RwLock<Arc<ServerConfig>>,
    /// When the certificate ends, in seconds since 1970.
    not_after_s: AtomicU64,
    reloads: AtomicU64,
    failed_reloads: AtomicU64,
}

impl Tls {
    /// Reads a PEM file with the certificate chain, the server's own first, and
    /// one with the private key.
    ///
    /// # Errors
    /// [`Error::Tls`] with the file, and what is wrong with it.
    pub(crate) fn load(files: TlsFiles) -> Result<Self, Error> {
        let (config, not_after_s) = read(&files)?;
        Ok(Self {
            files,
            config: RwLock::new(config),
            not_after_s: AtomicU64::new(not_after_s),
            reloads: AtomicU64::new(0),
            failed_reloads: AtomicU64::new(0),
        })
    }

    /// Reads both files again. New connections get what is in them; if they are
    /// no good, everything stays as it is.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub(crate) fn reload(&self) -> Result<(), Error> {
        match read(&self.files) {
            Ok((config, not_after_s)) => {
                // Replacing an `Arc` cannot leave a half-written one behind.
                *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
                self.not_after_s.store(not_after_s, Relaxed);
                self.reloads.fetch_add(1, Relaxed);
                Ok(())
            }
            Err(error) => {
                self.failed_reloads.fetch_add(1, Relaxed);
                Err(error)
            }
        }
    }

    /// What the next connection is told.
    fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// When the certificate in effect ends, in seconds since 1970.
    pub(crate) fn not_after_s(&self) -> u64 {
        self.not_after_s.load(Relaxed)
    }

    /// How often the files were read again, and how often they were no good.
    pub(crate) fn reloads(&self) -> (u64, u64) {
        (
            self.reloads.load(Relaxed),
            self.failed_reloads.load(Relaxed),
        )
    }
}

/// What is suspicious about a certificate and its key that can be used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Examination {
    /// `None` if its dates cannot be made out.
    pub(crate) standing: Option<Standing>,
    /// The permissions of the key, if others may read it.
    pub(crate) exposed_mode: Option<u32>,
}

/// Reads both files: what new connections are told, and when the certificate
/// ends, in seconds since 1970.
fn read(files: &TlsFiles) -> Result<(Arc<ServerConfig>, u64), Error> {
    let identity = Identity::read(&files.certificate, &files.key)?;
    identity.tell(&files.certificate, &files.key);
    let not_after_s = identity.not_after_s();
    Ok((server_config(identity)?, not_after_s))
}

/// Reads both files as a server does, and uses them for nothing.
///
/// # Errors
/// As [`Tls::load`].
pub(crate) fn examine(files: &TlsFiles) -> Result<Examination, Error> {
    let identity = Identity::read(&files.certificate, &files.key)?;
    Ok(Examination {
        standing: identity.standing(),
        exposed_mode: identity::exposed_mode(&files.key),
    })
}

fn server_config(identity: Identity) -> Result<Arc<ServerConfig>, Error> {
    let start = |error: rustls::Error| Error::Start {
        what: "TLS",
        source: io::Error::other(error),
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(start)?
        .with_no_client_auth()
        .with_cert_resolver(identity.into_resolver());
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Ticketer::new().map_err(start)?;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// Seconds since 1970; 0 for what was before.
fn unix_seconds(moment: SystemTime) -> u64 {
    moment
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
