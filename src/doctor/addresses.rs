//! Whether the server could listen on its addresses.

use std::io;
use std::net::SocketAddr;

use host::finding::Finding;

use super::attempts::{ADMIN, Attempt};
use super::system::System;
use crate::net::address::Address;

pub(super) fn check(system: &System) -> Vec<Finding> {
    let attempts = system.attempts.iter();
    attempts.map(|attempt| judge(attempt, system)).collect()
}

fn judge(attempt: &Attempt, system: &System) -> Finding {
    let Attempt {
        check,
        address,
        result,
    } = attempt;
    match result {
        Ok(()) => reachable(check, address),
        Err(error) => {
            let change = match address {
                Address::Tcp(address) => tcp_advice(error, *address, system),
                Address::Unix(_) => unix_advice(error),
            };
            Finding::problem(check, format!("{address}: {error}")).advise(change)
        }
    }
}

fn tcp_advice(error: &io::Error, address: SocketAddr, system: &System) -> String {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "end the process that uses it (ss -ltnp 'sport = :{port}' shows it), or choose another \
             port; two settings must not name the same address"
        ),
        io::ErrorKind::PermissionDenied => {
            let first = system.unprivileged_port_first.unwrap_or(1024);
            format!(
                "a port from {first} on, or the capability: \
                 AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit, docker run \
                 --cap-add NET_BIND_SERVICE, or setcap cap_net_bind_service=+ep on the binary"
            )
        }
        io::ErrorKind::AddrNotAvailable => {
            "an address of this host: ip -brief address shows them; 0.0.0.0 or [::] is all of them"
                .to_owned()
        }
        _ if address.is_ipv6() => {
            "an IPv4 address, or IPv6 on this host: sysctl net.ipv6.conf.all.disable_ipv6"
                .to_owned()
        }
        _ => "another address".to_owned(),
    }
}

fn unix_advice(error: &io::Error) -> String {
    let change = match error.kind() {
        io::ErrorKind::AddrInUse => "end the process that listens there: ss -lxp shows it",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "a directory that the server may write: RuntimeDirectory=ringback in the unit"
        }
        io::ErrorKind::NotFound => {
            "create the directory: RuntimeDirectory=ringback in the unit, or mkdir"
        }
        _ => "another path",
    };
    change.to_owned()
}

/// The finding for a free address: what hosts can reach it.
fn reachable(check: &'static str, address: &Address) -> Finding {
    let Some(internet) = address.internet() else {
        return Finding::ok(check, format!("{address} is free"));
    };
    let ip = internet.ip();
    if ip.is_loopback() {
        return Finding::ok(check, format!("{address} is free, for this machine only"));
    }
    let found = format!("{address} is free");
    if check == ADMIN && ip.is_unspecified() {
        return Finding::warning(
            check,
            format!("{found}, and open to every host that reaches this machine"),
        )
        .advise(
            "--admin 127.0.0.1:PORT, or close the port to the public: a firewall, or \
             deploy/kubernetes/networkpolicy.yaml",
        );
    }
    Finding::ok(check, found)
}

#[cfg(test)]
mod tests {
    use host::finding::Level;

    use rustix::io::Errno;

    use super::super::attempts::{LISTEN, TLS, attempt};
    use super::*;
    use crate::config::Config;
    use crate::doctor::tests::system;

    fn finding(check: &'static str, address: &str, result: Result<(), Errno>) -> Finding {
        let attempt = Attempt {
            check,
            address: address.parse().expect("an address"),
            result: result.map_err(io::Error::from),
        };
        judge(&attempt, &system())
    }

    #[test]
    fn a_free_address_is_ok_and_a_public_admin_address_a_warning() {
        let local = finding(LISTEN, "127.0.0.1:9001", Ok(()));
        assert_eq!(local.level, Level::Ok);
        assert!(local.found.ends_with("this machine only"), "{local:?}");
        assert_eq!(finding(LISTEN, "0.0.0.0:80", Ok(())).level, Level::Ok);
        assert_eq!(finding(ADMIN, "10.0.0.1:9090", Ok(())).level, Level::Ok);
        assert_eq!(finding(ADMIN, "0.0.0.0:9090", Ok(())).level, Level::Warning);
    }

    #[test]
    fn the_advice_fits_the_error() {
        for (address, errno, word) in [
            ("127.0.0.1:9001", Errno::ADDRINUSE, "sport = :9001"),
            ("0.0.0.0:80", Errno::ACCESS, "CAP_NET_BIND_SERVICE"),
            ("192.0.2.1:9001", Errno::ADDRNOTAVAIL, "ip -brief address"),
            ("[::]:9001", Errno::AFNOSUPPORT, "disable_ipv6"),
        ] {
            let found = finding(LISTEN, address, Err(errno));
            assert_eq!(found.level, Level::Problem);
            assert!(found.found.starts_with(address), "{found:?}");
            assert!(found.change.expect("advice").contains(word), "{address}");
        }
    }

    #[test]
    fn a_unix_socket_is_tried_and_its_file_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("echo.sock");
        let finding = |path: std::path::PathBuf| {
            let config = Config {
                listen: vec![Address::Unix(path)],
                ..Config::default()
            };
            let [attempt] = &attempt(&config)[..] else {
                panic!("one attempt");
            };
            judge(attempt, &system())
        };
        assert_eq!(finding(path.clone()).level, Level::Ok);
        assert!(!path.exists(), "its file is removed");
        let nowhere = finding(directory.path().join("no/echo.sock"));
        assert!(nowhere.change.expect("advice").contains("mkdir"));
        let _listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        let taken = finding(path);
        assert!(taken.change.expect("advice").contains("ss -lxp"));
    }

    #[test]
    fn every_address_is_tried() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let taken = taken.local_addr().map(|address| (taken, address));
        let (_taken, address) = taken.expect("bound");
        let config = Config {
            listen: vec![
                "127.0.0.1:0".parse().expect("an address"),
                address.into(),
                "192.0.2.1:0".parse().expect("an address of no host"),
            ],
            tls_listen: vec!["127.0.0.1:0".parse().expect("an address"), address.into()],
            admin: Some(address),
            ..Config::default()
        };
        let attempts = attempt(&config);
        let kinds = attempts.iter().map(|attempt| {
            let error = attempt.result.as_ref().err();
            (attempt.check, error.map(io::Error::kind))
        });
        let in_use = Some(io::ErrorKind::AddrInUse);
        assert_eq!(
            kinds.collect::<Vec<_>>(),
            [
                (LISTEN, None),
                (LISTEN, in_use),
                (LISTEN, Some(io::ErrorKind::AddrNotAvailable)),
                (TLS, None),
                (TLS, in_use),
                (ADMIN, in_use),
            ]
        );
    }

    #[test]
    fn an_address_that_is_set_twice_is_in_use() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("bound");
        drop(taken);
        let config = Config {
            listen: vec![address.into(), address.into()],
            tls_listen: vec![address.into()],
            ..Config::default()
        };
        let [first, second, third] = &attempt(&config)[..] else {
            panic!("three attempts");
        };
        assert!(first.result.is_ok() && second.result.is_err() && third.result.is_err());
    }
}
