//! The file for the process id.

use std::path::Path;

use host::finding::Finding;

use super::system::System;
use crate::config::Config;
use crate::server::restart::pid_file::Obstacle;

const CHECK: &str = "pid file";

pub(super) fn check(config: &Config, system: &System) -> Option<Finding> {
    let path = config.pid_file.as_deref()?;
    Some(judge(path, system.pid_file.as_ref()?))
}

fn judge(path: &Path, outcome: &Result<(), Obstacle>) -> Finding {
    let path = path.display();
    match outcome {
        Ok(()) => Finding::ok(CHECK, format!("{path} can be written")),
        Err(taken @ Obstacle::Taken(_)) => Finding::problem(CHECK, format!("{path} {taken}"))
            .advise("end that server, or --pid-file: a file for each server"),
        Err(Obstacle::Unusable(reason)) => Finding::problem(CHECK, format!("{path} {reason}"))
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
    fn a_file_that_cannot_be_written_is_a_problem() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pid");
        assert_eq!(examined(&path).level, Level::Ok);
        assert!(!path.exists(), "nothing was changed");
        let nowhere = examined(&directory.path().join("no/pid"));
        assert_eq!(nowhere.level, Level::Problem);
        assert!(nowhere.found.contains("No such file"), "{nowhere:?}");
        fs::write(&path, "not = 'a pid file'").expect("written");
        let in_the_way = examined(&path);
        assert!(in_the_way.found.contains("in the way"), "{in_the_way:?}");
        let taken = judge(&path, &Err(Obstacle::Taken(Owner::Elsewhere)));
        assert!(taken.change.expect("a way out").contains("end that server"));
    }
}
