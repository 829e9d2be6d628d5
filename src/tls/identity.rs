//! Who the server is: its certificate chain and the key to it.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ResolvesServerCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{Error as TlsError, InconsistentKeys};

use super::{unix_seconds, validity};
use crate::error::Error;

/// The largest file that is read for a certificate chain or a key. Real ones
/// have a few kilobytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The permissions of those who are neither the owner nor of its group.
const OTHERS: u32 = 0o007;

/// A certificate chain with its key, which have been found to match.
#[derive(Debug)]
pub(super) struct Identity {
    certified: CertifiedKey,
    not_after: Option<SystemTime>,
}

impl Identity {
    /// Reads and checks both files. What is only suspicious is logged.
    ///
    /// # Errors
    /// [`Error::Tls`] with the file that is wrong, and how.
    pub(super) fn read(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let chain = read_chain(certificate)?;
        let private_key = read_key(key)?;
        let certified = CertifiedKey::from_der(chain, private_key, &default_provider());
        let certified = certified.map_err(|error| match error {
            TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch) => wrong(
                key,
                format!(
                    "the key does not match the first certificate in {}, which must be the \
                     server's own",
                    certificate.display()
                ),
            ),
            TlsError::InvalidCertificate(reason) => wrong(
                certificate,
                format!("the first certificate is unusable: {reason:?}"),
            ),
            error => wrong(key, format!("the private key is unusable: {error}")),
        })?;
        let not_after = check_dates(certificate, &certified);
        warn_of_readers(key);
        Ok(Self {
            certified,
            not_after,
        })
    }

    /// When the certificate ends, in seconds since 1970; 0 if that cannot be
    /// made out.
    pub(super) fn not_after_s(&self) -> u64 {
        self.not_after.map_or(0, unix_seconds)
    }

    /// Presents this certificate to everybody, whatever name they ask for.
    pub(super) fn into_resolver(self) -> Arc<dyn ResolvesServerCert> {
        Arc::new(SingleCertAndKey::from(self.certified))
    }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = read(path)?;
    let chain = CertificateDer::pem_slice_iter(&text)
        .enumerate()
        .map(|(index, item)| {
            item.map_err(|error| {
                let number = index + 1;
                wrong(path, format!("certificate {number}: {}", explain(&error)))
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    if chain.is_empty() {
        return Err(wrong(
            path,
            "there is no certificate in it: no '-----BEGIN CERTIFICATE-----'".to_owned(),
        ));
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let is_encrypted = text
            .windows(b"ENCRYPTED".len())
            .any(|bytes| bytes == b"ENCRYPTED");
        let reason = match error {
            pem::Error::NoItemsFound if is_encrypted => {
                "the private key is encrypted; store it without a passphrase".to_owned()
            }
            pem::Error::NoItemsFound => {
                "there is no private key in it: PKCS#8, SEC1 and PKCS#1 in PEM are understood"
                    .to_owned()
            }
            error => format!("private key: {}", explain(&error)),
        };
        wrong(path, reason)
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text))
        .map_err(|error| wrong(path, error.to_string()))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let reason = format!("it is larger than {FILE_BYTES_MAX} bytes");
        return Err(wrong(path, reason));
    }
    Ok(text)
}

fn explain(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            format!(
                "the end is missing: {}",
                String::from_utf8_lossy(end_marker)
            )
        }
        pem::Error::IllegalSectionStart { line } => {
            format!(
                "no beginning of a section: {}",
                String::from_utf8_lossy(line)
            )
        }
        error => error.to_string(),
    }
}

/// Warns if the certificate is not valid now, and says when it ends.
#[expect(
    clippy::disallowed_methods,
    reason = "a certificate's dates are those of the wall clock"
)]
fn check_dates(path: &Path, certified: &CertifiedKey) -> Option<SystemTime> {
    let file = path.display();
    let Some(validity) = certified.cert.first().and_then(|own| validity::read(own)) else {
        tracing::warn!(%file, "cannot make out when the certificate ends");
        return None;
    };
    let date = humantime::format_rfc3339_seconds;
    let now = SystemTime::now();
    let (not_before, not_after) = (*validity.start(), *validity.end());
    if now > not_after {
        tracing::warn!(%file, not_after = %date(not_after), "the certificate has expired");
    } else if now < not_before {
        tracing::warn!(%file, not_before = %date(not_before), "the certificate is not valid yet");
    } else {
        tracing::info!(%file, not_after = %date(not_after), "certificate");
    }
    Some(not_after)
}

fn warn_of_readers(key: &Path) {
    if let Ok(metadata) = fs::metadata(key)
        && metadata.permissions().mode() & OTHERS != 0
    {
        let (file, mode) = (key.display(), metadata.permissions().mode() & 0o7777);
        tracing::warn!(%file, mode = format!("{mode:o}"), "others may read the private key");
    }
}

fn wrong(file: &Path, reason: String) -> Error {
    Error::Tls {
        file: file.to_owned(),
        reason,
    }
}
