//! The ports that the kernel chooses for outgoing connections.

use host::cores;
use host::finding::Finding;

use super::system::System;
use crate::config::Config;
use crate::net::address::Address;

const CHECK: &str = "local ports";

/// A listening port in that range may be an outgoing connection's when the
/// server starts; for load generators on this host, the range is the most
/// connections they can open from an address to an address.
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
            format!("{found}: {port} may be taken by one when the server starts"),
        )
        .advise(format!(
            "sysctl -w net.ipv4.ip_local_reserved_ports={port}, or a port below {first}"
        )),
    })
}

/// Whether a list as `8080,9000-9010` has this port.
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
        check(&config, &system).expect("judged").level
    }

    #[test]
    fn a_port_that_an_outgoing_connection_may_have_is_at_risk() {
        assert_eq!(level(9001, ""), Level::Ok);
        assert_eq!(level(0, ""), Level::Ok);
        assert_eq!(level(40_000, ""), Level::Warning);
        assert_eq!(level(40_000, "8080,39999-40001"), Level::Ok);
        assert_eq!(level(40_000, "40000"), Level::Ok);
        assert_eq!(level(40_000, "4000"), Level::Warning);
    }

    #[test]
    fn the_admin_port_is_one_as_well() {
        let config = Config {
            admin: Some(([127, 0, 0, 1], 50_000).into()),
            ..Config::default()
        };
        let system = System {
            local_ports: Some(32_768..=60_999),
            ..system()
        };
        let found = check(&config, &system).expect("judged");
        assert_eq!(found.level, Level::Warning);
        assert!(found.found.contains("28232 to one address"), "{found:?}");
    }
}
