//! What becomes of a certificate whose files change while it is in use.
//!
//! Where two files are written one after the other, they do not match for a
//! moment. So what is wrong with them is an error only if the next look finds the
//! same; and from then on they are read at every look, as time may mend it, for a
//! certificate that is not valid yet.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::identity::{Certificate, Identity, wrong};
use super::validity::Standing;
use crate::config::TlsFiles;
use crate::config::error::Error;

/// What is known of the files.
#[derive(Debug)]
pub(super) struct Watch {
    stamps: [Option<Stamp>; 2],
    in_use: Certificate,
    trouble: Option<Trouble>,
}

/// What tells that a file is another one, or was written to. Links are followed:
/// in Kubernetes it is a link to a directory that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    file: (u64, u64),
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// What is wrong with files that are not used.
#[derive(Debug)]
struct Trouble {
    reason: String,
    is_told: bool,
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
    /// [`Error::Tls`] with what is wrong with them, also that what is in use is
    /// better.
    pub(super) fn read(&mut self, files: &TlsFiles) -> Result<Identity, Error> {
        // What is written later is seen at the next look.
        self.stamps = stamps(files);
        let identity = Identity::read(&files.certificate, &files.key)?;
        refuse_worse(files, &identity, &self.in_use)?;
        Ok(identity)
    }

    /// Reads both files if they have changed, or were no good; `None` if they
    /// have not, or hold what is in use.
    pub(super) fn read_what_is_new(&mut self, files: &TlsFiles) -> Option<Result<Identity, Error>> {
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

    /// This certificate is in use.
    pub(super) fn uses(&mut self, certificate: Certificate) {
        self.in_use = certificate;
        self.trouble = None;
    }

    /// The operator has heard of this error.
    pub(super) fn has_told(&mut self, error: &Error) {
        self.trouble = Some(Trouble {
            reason: error.to_string(),
            is_told: true,
        });
    }

    /// Whether the operator is to hear of this error, which a look at the files
    /// has found: when the last one found it as well, and once.
    pub(super) fn is_to_be_told(&mut self, error: &Error) -> bool {
        let reason = error.to_string();
        match &mut self.trouble {
            Some(trouble) if trouble.reason == reason => {
                !std::mem::replace(&mut trouble.is_told, true)
            }
            trouble => {
                let is_told = false;
                *trouble = Some(Trouble { reason, is_told });
                false
            }
        }
    }
}

/// A certificate that is not valid does not take the place of one that is.
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

/// Those of the certificate and of its key, `None` for a file that is not there. A
/// pipe has none either: it is read once, and who reads it again waits for a writer.
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
