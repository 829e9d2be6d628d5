//! Changes of the files of a certificate in use.
//!
//! Two files that are written one after the other do not match for a moment. So a fault is
//! reported only if the next check finds it as well. From then on, the files are read at
//! every check, as time may mend it, for a certificate that is not valid yet.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::identity::{Certificate, Identity, wrong};
use super::validity::Standing;
use crate::config::TlsFiles;
use crate::config::error::Error;

/// The last known state of the files.
#[derive(Debug)]
pub(super) struct Watch {
    stamps: [Option<Stamp>; 2],
    in_use: Certificate,
    trouble: Option<Trouble>,
}

/// Changes if a file is replaced or written to. Links are followed: in Kubernetes, a link
/// to a directory changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    file: (u64, u64),
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The fault of files that are not used.
#[derive(Debug)]
struct Trouble {
    reason: String,
    is_reported: bool,
}

impl Watch {
    pub(super) fn new(stamps: [Option<Stamp>; 2], in_use: Certificate) -> Self {
        Self {
            stamps,
            in_use,
            trouble: None,
        }
    }

    /// Reads both files.
    ///
    /// # Errors
    /// [`Error::Tls`] with their fault, also if the certificate in use is better.
    pub(super) fn read(&mut self, files: &TlsFiles) -> Result<Identity, Error> {
        // Later writes are found by the next check.
        self.stamps = stamps(files);
        let identity = Identity::read(&files.certificate, &files.key)?;
        refuse_worse(files, &identity, &self.in_use)?;
        Ok(identity)
    }

    /// Reads both files if they have changed, or had a fault; `None` if they have not, or
    /// hold the certificate in use.
    pub(super) fn read_changed(&mut self, files: &TlsFiles) -> Option<Result<Identity, Error>> {
        if self.trouble.is_none() && stamps(files) == self.stamps {
            return None;
        }
        let read = self.read(files);
        if read
            .as_ref()
            .is_ok_and(|it| it.certificate().chain == self.in_use.chain)
        {
            self.trouble = None;
            return None;
        }
        Some(read)
    }

    /// Sets the certificate in use.
    pub(super) fn set_in_use(&mut self, certificate: Certificate) {
        self.in_use = certificate;
        self.trouble = None;
    }

    /// Notes that this error is reported.
    pub(super) fn set_reported(&mut self, error: &Error) {
        self.trouble = Some(Trouble {
            reason: error.to_string(),
            is_reported: true,
        });
    }

    /// Whether to report this error of a check: once, if the last check found it as well.
    pub(super) fn should_report(&mut self, error: &Error) -> bool {
        let reason = error.to_string();
        match &mut self.trouble {
            Some(trouble) if trouble.reason == reason => {
                !std::mem::replace(&mut trouble.is_reported, true)
            }
            trouble => {
                let is_reported = false;
                *trouble = Some(Trouble {
                    reason,
                    is_reported,
                });
                false
            }
        }
    }
}

/// An invalid certificate does not replace a valid one.
fn refuse_worse(files: &TlsFiles, new: &Identity, in_use: &Certificate) -> Result<(), Error> {
    if !matches!(in_use.standing(), Some(Standing::Valid { .. })) {
        return Ok(());
    }
    let date = humantime::format_rfc3339_seconds;
    let reason = match new.standing() {
        Some(Standing::Expired { at }) => {
            format!("it has expired: it was valid until {}", date(at))
        }
        Some(Standing::NotYet { from }) => format!("it is not valid before {}", date(from)),
        Some(Standing::Valid { .. }) | None => return Ok(()),
    };
    Err(wrong(
        &files.certificate,
        format!("{reason}, and the certificate in use is valid"),
    ))
}

/// The stamps of the certificate and of its key, `None` for a missing file. A pipe has
/// none either: it is read once, as a second read would wait for a writer.
pub(super) fn stamps(files: &TlsFiles) -> [Option<Stamp>; 2] {
    [&files.certificate, &files.key].map(|path| stamp(path))
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some(Stamp {
        file: (metadata.dev(), metadata.ino()),
        len: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}
