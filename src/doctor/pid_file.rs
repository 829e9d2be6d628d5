//! The pid file.

use std::path::Path;

use host::finding::Finding;

use super::system::System;
use crate::config::Config;
use crate::server::restart::pid_file::ClaimError;

const CHECK: &str = "pid file";

pub(super) fn check(config: &Config, system: &System) -> Option<Finding> {
    let path = config.pid_file.as_deref()?;
    Some(judge(path, system.pid_file.as_ref()?))
}

fn judge(path: &Path, result: &Result<(), ClaimError>) -> Finding {
    let path = path.display();
    match result {
        Ok(()) => Finding::ok(CHECK, format!("{path} can be written")),
        Err(error @ ClaimError::Locked(_)) => Finding::problem(CHECK, format!("{path} {error}"))
            .advise("end that server, or --pid-file: a file for each server"),
        Err(ClaimError::Unusable(reason)) => Finding::problem(CHECK, format!("{path} {reason}"))
            .advise(
                "--pid-file in a directory that the server may write: RuntimeDirectory=ringback in \
             the unit, and /run/ringback/pid",
            ),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use host::finding::Level;

    use super::*;
    use crate::server::restart::pid_file::{self, Owner};

    fn examined(path: &Path) -> Finding {
        judge(path, &pid_file::examine(path))
    }

    #[test]
    fn a_pid_file_that_cannot_be_claimed_is_a_problem() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pid");
        assert_eq!(examined(&path).level, Level::Ok);
        assert!(!path.exists(), "nothing was changed");
        let nowhere = examined(&directory.path().join("no/pid"));
        assert_eq!(nowhere.level, Level::Problem);
        assert!(nowhere.found.contains("No such file"), "{nowhere:?}");
        fs::write(&path, "not = 'a pid file'").expect("written");
        let other_file = examined(&path);
        assert!(
            other_file.found.contains("is no pid file"),
            "{other_file:?}"
        );
        let locked = judge(&path, &Err(ClaimError::Locked(Owner::Elsewhere)));
        assert!(locked.change.expect("advice").contains("end that server"));
    }
}
