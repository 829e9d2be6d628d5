//! The ports that the kernel chooses for outgoing connections.

use host::cores;
use host::finding::Finding;

use super::system::System;
use crate::config::Config;
use crate::net::address::Address;

const CHECK: &str = "local ports";

/// An outgoing connection may use a listening port in that range when the server starts.
/// For a load generator on this host, the size of the range is the most connections from
/// one address to one address and port.
pub(super) fn check(config: &Config, system: &System) -> Option<Finding> {
    let range = system.local_ports.clone()?;
    let (first, last) = (*range.start(), *range.end());
    let found = format!(
        "{first}-{last} for outgoing connections, {} to one address and port",
        range.len()
    );
    let addresses = config.listen.iter().chain(&config.tls_listen);
    let listening = addresses.filter_map(Address::internet);
    let at_risk = listening
        .chain(config.admin)
        .map(|address| address.port())
        .find(|port| range.contains(port) && !is_reserved(*port, &system.reserved_ports));
    Some(match at_risk {
        None => Finding::ok(CHECK, found),
        Some(port) => Finding::warning(
            CHECK,
            format!("{found}: one of them may use {port} when the server starts"),
        )
        .advise(format!(
            "sysctl -w net.ipv4.ip_local_reserved_ports={port}, or a port below {first}"
        )),
    })
}

/// Whether a list such as `8080,9000-9010` has this port.
fn is_reserved(port: u16, list: &str) -> bool {
    cores::parse_list(list).is_some_and(|ports| ports.contains(&port.into()))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use host::finding::Level;

    use super::*;
    use crate::doctor::tests::system;

    fn level(port: u16, reserved: &str) -> Level {
        let config = Config {
            listen: vec![SocketAddr::from(([0, 0, 0, 0], port)).into()],
            ..Config::default()
        };
        let system = System {
            local_ports: Some(32_768..=60_999),
            reserved_ports: reserved.to_owned(),
            ..system()
        };
        check(&config, &system).expect("a finding").level
    }

    #[test]
    fn a_listening_port_in_the_range_of_outgoing_ones_is_a_warning() {
        assert_eq!(level(9001, ""), Level::Ok);
        assert_eq!(level(0, ""), Level::Ok);
        assert_eq!(level(40_000, ""), Level::Warning);
        assert_eq!(level(40_000, "8080,39999-40001"), Level::Ok);
        assert_eq!(level(40_000, "40000"), Level::Ok);
        assert_eq!(level(40_000, "4000"), Level::Warning);
    }

    #[test]
    fn the_admin_port_is_checked_as_well() {
        let config = Config {
            admin: Some(([127, 0, 0, 1], 50_000).into()),
            ..Config::default()
        };
        let system = System {
            local_ports: Some(32_768..=60_999),
            ..system()
        };
        let found = check(&config, &system).expect("a finding");
        assert_eq!(found.level, Level::Warning);
        assert!(found.found.contains("28232 to one address"), "{found:?}");
    }
}
