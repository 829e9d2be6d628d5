//! The limit on open files, which is the limit on connections.

use std::num::NonZeroUsize;

use host::finding::Finding;
use host::open_files::how_to_raise;

use super::system::System;
use super::{Need, shortfall_level};
use crate::config::Config;
use crate::limits::descriptors::{DescriptorBudget, besides_connections, room_for};

const CHECK: &str = "open files";

pub(super) fn check(config: &Config, system: &System) -> Finding {
    let besides = besides_connections(config, Need::of(config, system).threads);
    let requested = config.max_connections;
    let needed = besides.saturating_add(room_for(requested));
    let Some(hard) = system.open_files.maximum else {
        return Finding::ok(CHECK, "no limit");
    };
    let found = format!("{hard} at most (hard limit), {needed} needed for {requested} connections");
    // The binary raises its limit to the hard one.
    match DescriptorBudget::share_out(config, besides, Some(hard)) {
        None => {
            let needed = raise_to(system, needed);
            let found = format!("{found}: the server cannot even start");
            Finding::problem(CHECK, found).advise(needed)
        }
        Some(budget) if budget.connections == requested => Finding::ok(CHECK, found),
        Some(budget) if requested == NonZeroUsize::MAX => {
            let found = format!(
                "{hard} at most (hard limit), for {} connections",
                budget.connections
            );
            Finding::ok(CHECK, found)
        }
        Some(budget) => {
            let allowed = budget.connections;
            let found = format!("{found}: it serves {allowed}");
            let change = format!(
                "--max-connections {allowed}, or {}",
                raise_to(system, needed)
            );
            Finding::new(shortfall_level(config), CHECK, found).advise(change)
        }
    }
}

/// The advice to raise the limit to `needed`.
fn raise_to(system: &System, needed: u64) -> String {
    let everywhere = how_to_raise(needed);
    match system.open_files_max {
        Some(most) if most < needed => {
            format!("first sysctl -w fs.nr_open={needed}, then {everywhere}")
        }
        _ => everywhere,
    }
}

#[cfg(test)]
mod tests {
    use host::finding::Level;

    use super::*;
    use crate::doctor::tests::{config, limit, system};

    fn checked(hard: Option<u64>, max_connections: usize) -> Finding {
        let system = System {
            open_files: limit(hard),
            open_files_max: Some(1 << 20),
            ..system()
        };
        check(&config(max_connections), &system)
    }

    #[test]
    fn too_few_descriptors_for_max_connections_are_a_problem() {
        assert_eq!(checked(None, 1000).level, Level::Ok);
        assert_eq!(checked(Some(20_000), 10_000).level, Level::Ok);
        let few = checked(Some(8192), 10_000);
        assert_eq!(few.level, Level::Problem);
        assert!(few.found.starts_with("8192 at most"), "{few:?}");
        assert!(few.found.contains(": it serves 7"), "{few:?}");
        let change = few.change.expect("advice");
        assert!(change.starts_with("--max-connections 7"), "{change}");
        assert!(change.contains("LimitNOFILE=10"), "{change}");
        assert!(!change.contains("nr_open"), "{change}");
    }

    #[test]
    fn the_advised_number_of_connections_fits() {
        let change = checked(Some(8192), 10_000).change.expect("advice");
        let room = change.split([' ', ',']).nth(1).expect("a number");
        let room = room.parse().expect("a number");
        assert_eq!(checked(Some(8192), room).level, Level::Ok);
        assert_eq!(checked(Some(8192), room + 1).level, Level::Problem);
    }

    #[test]
    fn without_max_connections_the_limit_on_open_files_is_the_limit() {
        let unlimited = checked(Some(8192), usize::MAX);
        assert_eq!(unlimited.level, Level::Ok);
        assert!(unlimited.found.ends_with("connections"), "{unlimited:?}");
    }

    #[test]
    fn fewer_connections_than_the_default_are_a_warning() {
        let few = checked(Some(8192), 1_000_000);
        assert_eq!(few.level, Level::Warning);
    }

    #[test]
    fn a_limit_below_the_servers_own_descriptors_is_a_problem() {
        let few = checked(Some(40), 1_000_000);
        assert_eq!(few.level, Level::Problem);
        assert!(few.found.ends_with("cannot even start"), "{few:?}");
    }

    #[test]
    fn the_advice_raises_nr_open_if_it_is_too_low() {
        let few = checked(Some(8192), 2_000_000);
        assert!(
            few.change
                .expect("advice")
                .contains("sysctl -w fs.nr_open=2000")
        );
    }
}
