//! TLS connections, and the certificate and its key, reloaded on SIGHUP and when their
//! files change.
//!
//! TLS 1.2 and 1.3 by rustls, without I/O of its own: [`TlsStream`] decrypts and encrypts
//! the bytes of its socket, so that everything above works as over a socket. Refused are:
//!
//! * renegotiation: rustls has none
//! * 0-RTT: an attacker can replay its data (RFC 8446 section 8)
//! * any protocol but `http/1.1`, if a client offers some (ALPN)
//!
//! Sessions are resumed by tickets alone, whose keys change every six hours and with every
//! new certificate: the server stores no session.

mod der;
mod diagnosis;
mod identity;
mod outbox;
mod record_budget;
mod stream;
mod validity;
mod watch;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::server::NoServerSessionStorage;

use crate::config::TlsFiles;
use crate::config::error::Error;
use identity::Identity;
pub(crate) use stream::{Acceptor, HandshakeError, TlsStream, is_broken_tls};
pub(crate) use validity::Standing;
use watch::Watch;

/// Memory of a connection in its TLS handshake besides the client's bytes: keys, and the
/// state of rustls.
pub(crate) const HANDSHAKE_BYTES: usize = 4608;

/// The only protocol over TLS.
const ALPN: &[u8] = b"http/1.1";

/// The certificate in use, and the settings of new connections.
#[derive(Debug)]
pub(crate) struct Tls {
    files: TlsFiles,
    config: RwLock<Arc<ServerConfig>>,
    /// The end of the certificate's validity, in seconds since 1970.
    not_after_s: AtomicU64,
    reloads: AtomicU64,
    failed_reloads: AtomicU64,
    watch: Mutex<Watch>,
}

impl Tls {
    /// Reads a PEM file with the certificate chain, the server's own first, and
    /// one with the private key.
    ///
    /// # Errors
    /// [`Error::Tls`] with the file, and its fault.
    pub(crate) fn load(files: TlsFiles) -> Result<Self, Error> {
        let stamps = watch::stamps(&files);
        let identity = Identity::read(&files.certificate, &files.key)?;
        identity.log(&files.certificate, &files.key);
        let watch = Watch::new(stamps, identity.certificate().clone());
        Ok(Self {
            not_after_s: AtomicU64::new(identity.not_after_s()),
            config: RwLock::new(server_config(identity)?),
            files,
            reloads: AtomicU64::new(0),
            failed_reloads: AtomicU64::new(0),
            watch: Mutex::new(watch),
        })
    }

    /// Reads both files again, for new connections. If they are invalid, or worse than the
    /// certificate in use, everything stays as it is.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub(crate) fn reload(&self) -> Result<(), Error> {
        let mut watch = self.watch();
        let renewed = watch
            .read(&self.files)
            .and_then(|identity| self.replace(identity, &mut watch));
        if let Err(error) = &renewed {
            watch.set_reported(error);
            self.failed_reloads.fetch_add(1, Relaxed);
        }
        renewed
    }

    /// [Reloads](Self::reload) the files if they have changed. `None` if they have not, or
    /// if their fault is reported already, or new and possibly temporary.
    ///
    /// # Errors
    /// As [`load`](Self::load), once.
    pub(crate) fn check(&self) -> Option<Result<(), Error>> {
        let mut watch = self.watch();
        let renewed = watch
            .read_changed(&self.files)?
            .and_then(|identity| self.replace(identity, &mut watch));
        match renewed {
            Ok(()) => Some(Ok(())),
            Err(error) if watch.should_report(&error) => {
                self.failed_reloads.fetch_add(1, Relaxed);
                Some(Err(error))
            }
            Err(_) => None,
        }
    }

    fn replace(&self, identity: Identity, watch: &mut Watch) -> Result<(), Error> {
        identity.log(&self.files.certificate, &self.files.key);
        let not_after_s = identity.not_after_s();
        let certificate = identity.certificate().clone();
        let config = server_config(identity)?;
        // Replacing an `Arc` cannot leave a half-written one behind.
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        self.not_after_s.store(not_after_s, Relaxed);
        self.reloads.fetch_add(1, Relaxed);
        watch.set_in_use(certificate);
        Ok(())
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        // A panic while it is locked leaves it valid.
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The settings of the next connection.
    fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The end of the certificate's validity, in seconds since 1970.
    pub(crate) fn not_after_s(&self) -> u64 {
        self.not_after_s.load(Relaxed)
    }

    /// The numbers of successful and failed reloads.
    pub(crate) fn reloads(&self) -> (u64, u64) {
        (
            self.reloads.load(Relaxed),
            self.failed_reloads.load(Relaxed),
        )
    }
}

/// Warnings about a usable certificate and its key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Examination {
    /// `None` if its dates cannot be read.
    pub(crate) standing: Option<Standing>,
    /// The permissions of the key, if others may read it.
    pub(crate) exposed_mode: Option<u32>,
}

/// Reads and checks both files as a server does.
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

/// Seconds since 1970; 0 for an earlier moment.
fn unix_seconds(moment: SystemTime) -> u64 {
    moment
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
