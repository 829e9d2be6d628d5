//! The accept queue and the SYN queue.

use host::finding::Finding;

use super::system::System;
use crate::config::Config;

pub(super) fn check(config: &Config, system: &System) -> Vec<Finding> {
    let backlog = u64::from(config.backlog.get());
    [accept_queue(backlog, system), syn_queue(backlog, system)]
        .into_iter()
        .flatten()
        .collect()
}

/// `listen(2)` caps the backlog without an error.
fn accept_queue(backlog: u64, system: &System) -> Option<Finding> {
    const CHECK: &str = "accept queue";
    let somaxconn = system.somaxconn?;
    if somaxconn >= backlog {
        let found = format!("{backlog} for each worker (net.core.somaxconn is {somaxconn})");
        return Some(Finding::ok(CHECK, found));
    }
    let found = format!(
        "{somaxconn} for each worker, as net.core.somaxconn caps --backlog {backlog}: when it \
         is full, a client's connect takes a second longer"
    );
    let change = format!(
        "sysctl -w net.core.somaxconn={backlog} before the server starts, \
         or docker run --sysctl net.core.somaxconn={backlog}"
    );
    Some(Finding::warning(CHECK, found).advise(change))
}

/// Only without SYN cookies does the kernel drop connections beyond
/// `tcp_max_syn_backlog`; with them, these get a cookie (`tcp_conn_request`).
fn syn_queue(backlog: u64, system: &System) -> Option<Finding> {
    const CHECK: &str = "SYN queue";
    let (cookies, most) = (system.syn_cookies?, system.syn_backlog_max?);
    if cookies > 0 {
        return Some(Finding::ok(CHECK, "SYN cookies take over when it is full"));
    }
    if most >= backlog {
        let found = format!("{most} (net.ipv4.tcp_max_syn_backlog), without SYN cookies");
        return Some(Finding::ok(CHECK, found));
    }
    let found = format!(
        "{most} (net.ipv4.tcp_max_syn_backlog) is less than --backlog {backlog}: without SYN \
         cookies, connections beyond it are dropped"
    );
    let change =
        format!("sysctl -w net.ipv4.tcp_syncookies=1, or net.ipv4.tcp_max_syn_backlog={backlog}");
    Some(Finding::warning(CHECK, found).advise(change))
}

#[cfg(test)]
mod tests {
    use host::finding::Level;

    use super::*;
    use crate::doctor::tests::system;

    #[test]
    fn a_backlog_above_somaxconn_is_a_warning() {
        for (somaxconn, level) in [(4096, Level::Ok), (4095, Level::Warning)] {
            let system = System {
                somaxconn: Some(somaxconn),
                ..system()
            };
            let found = accept_queue(4096, &system).expect("a finding");
            assert_eq!(found.level, level, "{found:?}");
        }
        let unknown = System {
            somaxconn: None,
            ..system()
        };
        assert_eq!(accept_queue(4096, &unknown), None);
    }

    #[test]
    fn a_short_syn_queue_is_a_warning_only_without_cookies() {
        for (cookies, most, level) in [
            (1, 128, Level::Ok),
            (0, 4096, Level::Ok),
            (0, 1024, Level::Warning),
        ] {
            let system = System {
                syn_cookies: Some(cookies),
                syn_backlog_max: Some(most),
                ..system()
            };
            let found = syn_queue(4096, &system).expect("a finding");
            assert_eq!(found.level, level, "{found:?}");
        }
    }
}
