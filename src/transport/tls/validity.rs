//! The validity of a certificate.
//!
//! rustls does the rest of X.509, so this skips to the two dates (RFC 5280 section 4.1)
//! and reads no further. Its input is the operator's own file.

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use super::der::{INTEGER, SEQUENCE, TAG_0, skim, take};

const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0] EXPLICIT`: the certificate's version.
const VERSION: u8 = TAG_0;

/// The state of a certificate's validity at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    NotYet { from: SystemTime },
    Valid { until: SystemTime, left: Duration },
    Expired { at: SystemTime },
}

impl Standing {
    pub(super) fn at(now: SystemTime, validity: &RangeInclusive<SystemTime>) -> Self {
        let (from, until) = (*validity.start(), *validity.end());
        match until.duration_since(now) {
            Err(_over) => Self::Expired { at: until },
            Ok(_) if now < from => Self::NotYet { from },
            Ok(left) => Self::Valid { until, left },
        }
    }
}

/// The version of a certificate in DER, `None` if it cannot be read.
pub(super) fn version(certificate: &[u8]) -> Option<u8> {
    let (mut certificate, _) = take(certificate, SEQUENCE)?;
    let mut to_be_signed = skim(&mut certificate, SEQUENCE)?;
    if to_be_signed.first() != Some(&VERSION) {
        // Version 1 is the default, which is not encoded.
        return Some(1);
    }
    let (number, _) = take(skim(&mut to_be_signed, VERSION)?, INTEGER)?;
    number.first()?.checked_add(1)
}

/// The validity of a certificate in DER, `None` if it cannot be read.
pub(super) fn read(certificate: &[u8]) -> Option<RangeInclusive<SystemTime>> {
    let (mut certificate, _) = take(certificate, SEQUENCE)?;
    let mut to_be_signed = skim(&mut certificate, SEQUENCE)?;
    if to_be_signed.first() == Some(&VERSION) {
        skim(&mut to_be_signed, VERSION)?;
    }
    skim(&mut to_be_signed, INTEGER)?; // serial number
    skim(&mut to_be_signed, SEQUENCE)?; // signature algorithm
    skim(&mut to_be_signed, SEQUENCE)?; // issuer
    let mut validity = skim(&mut to_be_signed, SEQUENCE)?;
    Some(time(&mut validity)?..=time(&mut validity)?)
}

fn time(bytes: &mut &[u8]) -> Option<SystemTime> {
    let tag = *bytes.first()?;
    let text = str::from_utf8(skim(bytes, tag)?).ok()?;
    // Both forms end in seconds and Z (RFC 5280 section 4.1.2.5).
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let century = if year < "50" { "20" } else { "19" };
            (format!("{century}{year}"), rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.to_owned(), rest)
        }
        _ => return None,
    };
    let field = |at: usize| rest.get(at..at + 2);
    let (month, day) = (field(0)?, field(2)?);
    let (hour, minute, second) = (field(4)?, field(6)?, field(8)?);
    let end = rest.get(10..)?;
    humantime::parse_rfc3339(&format!(
        "{year}-{month}-{day}T{hour}:{minute}:{second}{end}"
    ))
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    fn certificate(from: (i32, u8, u8), to: (i32, u8, u8)) -> Vec<u8> {
        let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(to.0, to.1, to.2);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("signed").der().to_vec()
    }

    #[test]
    fn utc_time_and_generalized_time_are_read() {
        // Up to 2049 in two digits, later in four.
        for (to, text) in [
            ((2026, 2, 28), "2026-02-28T00:00:00Z"),
            ((2049, 12, 31), "2049-12-31T00:00:00Z"),
            ((2050, 1, 1), "2050-01-01T00:00:00Z"),
            ((4096, 7, 9), "4096-07-09T00:00:00Z"),
        ] {
            let validity = read(&certificate((1999, 12, 31), to)).expect("two dates");
            let shown = humantime::format_rfc3339_seconds(*validity.end()).to_string();
            assert_eq!(shown, text);
            let shown = humantime::format_rfc3339_seconds(*validity.start()).to_string();
            assert_eq!(shown, "1999-12-31T00:00:00Z");
        }
    }

    #[test]
    fn damaged_certificate_has_no_dates_and_causes_no_panic() {
        let whole = certificate((2020, 1, 1), (2030, 1, 1));
        for len in 0..whole.len() {
            assert_eq!(read(&whole[..len]), None, "{len} bytes");
        }
        for at in 0..whole.len().min(160) {
            let mut wrong = whole.clone();
            wrong[at] ^= 0xff;
            let _ = read(&wrong);
        }
    }
}
