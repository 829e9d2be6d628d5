//! The certificate for TLS, and its key.

use std::path::Path;
use std::time::Duration;

use host::finding::Finding;

use super::system::System;
use crate::config::{Config, TlsFiles};
use crate::transport::tls::{Examination, Standing};

const CHECK: &str = "certificate";
const KEY: &str = "private key";

/// The time before the end of validity, as in the alert of docs/metrics.md.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

const RENEW: &str = "replace it by a new certificate; a running server loads that within \
                     --tls-reload, or at once after kill -HUP";

pub(super) fn check(config: &Config, system: &System) -> Vec<Finding> {
    let (Some(files), Some(credentials)) = (&config.tls, &system.credentials) else {
        return Vec::new();
    };
    match credentials {
        Ok(examination) => judge(files, examination),
        Err(error) => vec![Finding::problem(CHECK, error.to_string()).advise(
            "--tls-cert and --tls-key: a chain and the key to its first certificate, in PEM, \
             which the server's user may read",
        )],
    }
}

fn judge(files: &TlsFiles, examination: &Examination) -> Vec<Finding> {
    let mut findings = vec![judge_dates(&files.certificate, examination.standing)];
    if let Some(mode) = examination.exposed_mode {
        let key = files.key.display();
        findings.push(
            Finding::warning(
                KEY,
                format!("{key} has the mode {mode:o}: others may read it"),
            )
            .advise(format!(
                "chmod 640 {key}, and the group of the server's user"
            )),
        );
    }
    findings
}

fn judge_dates(file: &Path, standing: Option<Standing>) -> Finding {
    let file = file.display();
    let date = humantime::format_rfc3339_seconds;
    match standing {
        None => Finding::warning(CHECK, format!("{file} has no readable date of expiry"))
            .advise("see what is in it: openssl x509 -noout -dates"),
        Some(Standing::NotYet { from }) => {
            Finding::problem(CHECK, format!("{file} is valid from {} on", date(from)))
                .advise("a certificate that is valid now, or set the clock: timedatectl")
        }
        Some(Standing::Expired { at }) => Finding::problem(
            CHECK,
            format!("{file} has expired: it was valid until {}", date(at)),
        )
        .advise(RENEW),
        Some(Standing::Valid { until, left }) => {
            let found = format!("{file} is valid until {}", date(until));
            if left < SOON {
                Finding::warning(CHECK, found).advise(RENEW)
            } else {
                Finding::ok(CHECK, found)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use host::finding::Level;

    use super::*;
    use crate::config::error::Error;
    use crate::doctor::tests::system;

    fn checked(credentials: Result<Examination, Error>) -> Vec<Finding> {
        let config = Config {
            tls: Some(TlsFiles {
                certificate: "cert.pem".into(),
                key: "key.pem".into(),
            }),
            ..Config::default()
        };
        let system = System {
            credentials: Some(credentials),
            ..system()
        };
        check(&config, &system)
    }

    fn dated(standing: Option<Standing>) -> Finding {
        let [finding] = &checked(Ok(Examination {
            standing,
            exposed_mode: None,
        }))[..] else {
            panic!("one finding");
        };
        finding.clone()
    }

    #[test]
    fn without_tls_there_is_no_finding() {
        assert!(check(&Config::default(), &system()).is_empty());
    }

    #[test]
    fn a_certificate_that_expires_soon_is_a_warning_and_an_invalid_one_a_problem() {
        let day = Duration::from_secs(24 * 60 * 60);
        let then = SystemTime::UNIX_EPOCH + 10_000 * day;
        let valid = |left| Some(Standing::Valid { until: then, left });
        for (standing, level) in [
            (valid(15 * day), Level::Ok),
            (valid(13 * day), Level::Warning),
            (None, Level::Warning),
            (Some(Standing::Expired { at: then }), Level::Problem),
            (Some(Standing::NotYet { from: then }), Level::Problem),
        ] {
            let found = dated(standing);
            assert_eq!(found.level, level, "{found:?}");
            assert!(found.found.contains("cert.pem"), "{found:?}");
            let has_date = found.found.contains("1997-05-19T00:00:00Z");
            assert_eq!(has_date, standing.is_some(), "{found:?}");
        }
    }

    #[test]
    fn unusable_files_are_a_problem_and_a_readable_key_is_a_warning() {
        let findings = checked(Err(Error::Tls {
            file: "key.pem".into(),
            reason: "the key does not match".into(),
        }));
        let [unusable] = &findings[..] else {
            panic!("one finding: {findings:?}");
        };
        assert_eq!(unusable.level, Level::Problem);
        assert!(unusable.found.contains("key.pem"), "{unusable:?}");
        let findings = checked(Ok(Examination {
            standing: None,
            exposed_mode: Some(0o644),
        }));
        let [_dates, open] = &findings[..] else {
            panic!("two findings: {findings:?}");
        };
        assert_eq!(open.level, Level::Warning);
        assert!(open.found.contains("key.pem has the mode 644"), "{open:?}");
    }
}
