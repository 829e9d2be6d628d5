//! The server's identity: its certificate chain and the key.

use std::fs::{self, File};
use std::io::Read;
use std::ops::RangeInclusive;
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

use super::diagnosis::{self, Wanted};
use super::unix_seconds;
use super::validity::{self, Standing};
use crate::config::error::Error;

/// The largest file of a certificate chain or a key. Real ones have a few kilobytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Editors on Windows write it before UTF-8 text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The permissions of others.
const OTHERS: u32 = 0o007;

/// A certificate chain with the matching key.
#[derive(Debug)]
pub(super) struct Identity {
    certified: CertifiedKey,
    certificate: Certificate,
}

/// The certificate in use.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// `None` if it cannot be read.
    validity: Option<RangeInclusive<SystemTime>>,
}

impl Certificate {
    /// Whether the certificate is valid now, `None` if its dates cannot be read.
    #[expect(
        clippy::disallowed_methods,
        reason = "a certificate's dates are those of the wall clock"
    )]
    pub(super) fn standing(&self) -> Option<Standing> {
        let validity = self.validity.as_ref()?;
        Some(Standing::at(SystemTime::now(), validity))
    }
}

impl Identity {
    /// Reads and checks both files.
    ///
    /// # Errors
    /// [`Error::Tls`] with the file, and its fault.
    pub(super) fn read(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let chain = read_chain(certificate)?;
        let private_key = read_key(key)?;
        let signing_key = default_provider()
            .key_provider
            .load_private_key(private_key.clone_key())
            .map_err(|_of_its_types| wrong(key, diagnosis::unusable(&private_key)))?;
        let certified = CertifiedKey::new(chain, signing_key);
        match certified.keys_match() {
            // As in rustls: a key without its public half may match.
            Ok(()) | Err(TlsError::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(TlsError::InconsistentKeys(_)) => {
                let reason = format!(
                    "the key does not match the first certificate in {}, which must be the \
                     server's own",
                    certificate.display()
                );
                return Err(wrong(key, reason));
            }
            Err(_of_its_types) => {
                let own = certified.cert.first();
                let version = own.and_then(|own| validity::version(own));
                return Err(wrong(certificate, unusable(version, certificate)));
            }
        }
        let own = certified.cert.first();
        let certificate = Certificate {
            validity: own.and_then(|own| validity::read(own)),
            chain: certified.cert.clone(),
        };
        Ok(Self {
            certified,
            certificate,
        })
    }

    /// Logs the end of its validity, and warnings about its files.
    pub(super) fn log(&self, certificate: &Path, key: &Path) {
        let file = certificate.display();
        let date = humantime::format_rfc3339_seconds;
        match self.standing() {
            None => tracing::warn!(%file, "cannot read when the certificate expires"),
            Some(Standing::NotYet { from }) => {
                tracing::warn!(%file, not_before = %date(from), "the certificate is not valid yet");
            }
            Some(Standing::Expired { at }) => {
                tracing::warn!(%file, not_after = %date(at), "the certificate has expired");
            }
            Some(Standing::Valid { until, .. }) => {
                tracing::info!(%file, not_after = %date(until), "certificate");
            }
        }
        if let Some(mode) = exposed_mode(key) {
            let (file, mode) = (key.display(), format!("{mode:o}"));
            tracing::warn!(%file, mode, "others may read the private key");
        }
    }

    pub(super) fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Whether the certificate is valid now, `None` if its dates cannot be read.
    pub(super) fn standing(&self) -> Option<Standing> {
        self.certificate.standing()
    }

    /// The end of the validity, in seconds since 1970; 0 if it cannot be read.
    pub(super) fn not_after_s(&self) -> u64 {
        let validity = self.certificate.validity.as_ref();
        validity.map_or(0, |validity| unix_seconds(*validity.end()))
    }

    /// A resolver that presents this certificate for any server name.
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
        let reason = diagnosis::what_instead(Wanted::Certificate, path, &text);
        return Err(wrong(path, reason));
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let text = read(path)?;
    if let Some(reason) = diagnosis::key_fault(path, &text) {
        return Err(wrong(path, reason));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let reason = match error {
            pem::Error::NoItemsFound => diagnosis::what_instead(Wanted::Key, path, &text),
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
    if text.starts_with(BYTE_ORDER_MARK) {
        text.drain(..BYTE_ORDER_MARK.len());
    }
    if text.len() as u64 > FILE_BYTES_MAX {
        let reason = format!("it is larger than {FILE_BYTES_MAX} bytes");
        return Err(wrong(path, reason));
    }
    Ok(text)
}

/// Why rustls cannot use a certificate.
fn unusable(version: Option<u8>, file: &Path) -> String {
    let file = file.display();
    match version {
        Some(version @ (1 | 2)) => format!(
            "the first certificate has X.509 version {version}, but clients accept only version 3; \
             sign it with extensions: openssl x509 -req -extfile, or openssl req -x509 -addext \
             subjectAltName=DNS:NAME"
        ),
        _ => format!(
            "the first certificate is damaged: openssl x509 -in {file} -noout -text shows how far \
             it can be read"
        ),
    }
}

fn explain(error: &pem::Error) -> String {
    match error {
        pem::Error::Base64Decode(_of_its_types) => {
            "the text between its first and its last line is not base64".to_owned()
        }
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

/// The permissions of a key's file, if others may read it.
pub(super) fn exposed_mode(key: &Path) -> Option<u32> {
    let mode = fs::metadata(key).ok()?.permissions().mode();
    (mode & OTHERS != 0).then_some(mode & 0o7777)
}

pub(super) fn wrong(file: &Path, reason: String) -> Error {
    Error::Tls {
        file: file.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests;
