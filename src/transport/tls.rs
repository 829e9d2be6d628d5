//! TLS: the certificate and its key, read again on SIGHUP and when their files
//! change, and connections that speak it.
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
pub(crate) use stream::{Acceptor, Failure, TlsStream, is_broken_tls};
pub(crate) use validity::Standing;
use watch::Watch;

/// What a connection holds in its handshake besides what came from its client: keys,
/// and what rustls has to remember.
pub(crate) const HANDSHAKE_BYTES: usize = 4608;

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
    watch: Mutex<Watch>,
}

impl Tls {
    /// Reads a PEM file with the certificate chain, the server's own first, and
    /// one with the private key.
    ///
    /// # Errors
    /// [`Error::Tls`] with the file, and what is wrong with it.
    pub(crate) fn load(files: TlsFiles) -> Result<Self, Error> {
        let stamps = watch::stamps(&files);
        let identity = Identity::read(&files.certificate, &files.key)?;
        identity.tell(&files.certificate, &files.key);
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

    /// Reads both files again. New connections get what is in them; if they are
    /// no good, or worse than what is in use, everything stays as it is.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub(crate) fn reload(&self) -> Result<(), Error> {
        let mut watch = self.watch();
        let renewed = watch
            .read(&self.files)
            .and_then(|identity| self.use_from_now_on(identity, &mut watch));
        if let Err(error) = &renewed {
            watch.has_told(error);
            self.failed_reloads.fetch_add(1, Relaxed);
        }
        renewed
    }

    /// Looks whether the files have changed, and then does as
    /// [`reload`](Self::reload) does. `None` if there is nothing to be said: they
    /// have not, or what is wrong with them was said, or may not be for long.
    ///
    /// # Errors
    /// As [`load`](Self::load), once.
    pub(crate) fn check(&self) -> Option<Result<(), Error>> {
        let mut watch = self.watch();
        let renewed = watch
            .read_what_is_new(&self.files)?
            .and_then(|identity| self.use_from_now_on(identity, &mut watch));
        match renewed {
            Ok(()) => Some(Ok(())),
            Err(error) if watch.is_to_be_told(&error) => {
                self.failed_reloads.fetch_add(1, Relaxed);
                Some(Err(error))
            }
            Err(_) => None,
        }
    }

    fn use_from_now_on(&self, identity: Identity, watch: &mut Watch) -> Result<(), Error> {
        identity.tell(&self.files.certificate, &self.files.key);
        let not_after_s = identity.not_after_s();
        let certificate = identity.certificate().clone();
        let config = server_config(identity)?;
        // Replacing an `Arc` cannot leave a half-written one behind.
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        self.not_after_s.store(not_after_s, Relaxed);
        self.reloads.fetch_add(1, Relaxed);
        watch.uses(certificate);
        Ok(())
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        // A look at the files that did not end leaves nothing half done.
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
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
