//! Listening sockets that this process inherits from systemd (`sd_listen_fds(3)`) or
//! from its predecessor.

use std::collections::HashSet;
use std::env;
use std::io;
use std::mem;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::process::{Pid, getppid};
use socket2::{SockRef, Type};

use crate::config::error::Error;
use crate::net::address::Address;

/// The variable that passes [`InheritedFds`] to a replacement; no setting.
pub(crate) const VARIABLE: &str = "_RINGBACK_HANDOVER";

/// The first after the standard streams, which Rust's runtime owns.
const FIRST_DESCRIPTOR: RawFd = 3;

/// The line of a replacement that serves; any other line is the reason why it does not.
pub(crate) const SERVES: &str = "serves";

/// Listening sockets that this process inherited. Take them once, at the start, before
/// other descriptors are opened.
#[derive(Debug, Default)]
pub struct Inherited {
    pub(crate) origin: Origin,
    pub(crate) sockets: Vec<(Address, OwnedFd)>,
    /// That of the predecessor's admin listener: never used for connections.
    admin: Option<(Address, OwnedFd)>,
    pub(crate) readiness: Option<ReadinessPipe>,
}

/// The pipe to a predecessor, which waits for one line.
#[derive(Debug)]
pub(crate) struct ReadinessPipe {
    pipe: OwnedFd,
    pub(crate) predecessor: Pid,
}

impl ReadinessPipe {
    /// Reports that this process serves.
    pub(crate) fn serves(self) {
        self.write(SERVES);
    }

    /// Reports why it does not serve.
    pub(crate) fn failed(self, reason: &str) {
        self.write(reason);
    }

    fn write(&self, line: &str) {
        // One write, short enough for an empty pipe.
        let line = format!("{}\n", line.replace('\n', " "));
        if let Err(error) = rustix::io::write(&self.pipe, line.as_bytes()) {
            tracing::warn!(%error, "cannot report to the predecessor");
        }
    }
}

/// The process that created the sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The predecessor: sockets of addresses that are no longer configured are closed, and
    /// missing ones are created.
    #[default]
    Server,
    /// systemd: its sockets replace the configured addresses.
    Systemd,
}

impl Origin {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Systemd => "systemd",
        }
    }
}

impl Inherited {
    /// Takes the descriptors named in the environment, if any. Only the first call gets
    /// them.
    ///
    /// # Errors
    /// [`Error::Inherited`]: a descriptor is no listening stream socket.
    pub fn from_environment() -> Result<Self, Error> {
        static IS_TAKEN: AtomicBool = AtomicBool::new(false);
        if IS_TAKEN.swap(true, Relaxed) {
            return Ok(Self::default());
        }
        if let Some(fds) = env::var(VARIABLE).ok().as_deref().and_then(parse) {
            return take(fds);
        }
        let descriptors = sd_notify::listen_fds().map_err(|source| Error::Inherited {
            descriptor: None,
            source,
        })?;
        let sockets: Vec<_> = descriptors.collect();
        if sockets.is_empty() {
            return Ok(Self::default());
        }
        take(InheritedFds {
            origin: Origin::Systemd,
            sockets,
            admin: None,
            report: None,
        })
    }

    /// Reports to the predecessor, if there is one, why this process does not serve.
    pub fn report_failure(&mut self, reason: &str) {
        if let Some(readiness) = self.readiness.take() {
            readiness.failed(reason);
        }
    }

    /// Whether the sockets come from systemd (socket activation).
    pub(crate) fn is_activated(&self) -> bool {
        self.origin == Origin::Systemd
    }

    /// The addresses of the sockets, each once.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        let mut addresses: Vec<Address> = Vec::new();
        for (address, _) in &self.sockets {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        addresses
    }

    /// Takes a socket for an admin listener on this address.
    pub(crate) fn take_admin(&mut self, address: &Address) -> Option<OwnedFd> {
        match self.admin.take() {
            Some((bound, socket)) if bound == *address => Some(socket),
            _ => self.take(address).into_iter().next(),
        }
    }

    /// Takes the sockets of this address.
    pub(crate) fn take(&mut self, address: &Address) -> Vec<OwnedFd> {
        let (taken, rest) = mem::take(&mut self.sockets)
            .into_iter()
            .partition(|(bound, _)| bound == address);
        self.sockets = rest;
        taken.into_iter().map(|(_, socket)| socket).collect()
    }
}

/// The numbers of the inherited descriptors.
#[derive(Debug, PartialEq, Eq)]
struct InheritedFds {
    origin: Origin,
    sockets: Vec<RawFd>,
    /// One of those.
    admin: Option<RawFd>,
    /// The pipe to the predecessor, and the predecessor's process id.
    report: Option<(RawFd, Pid)>,
}

/// Parses [`VARIABLE`]; `None` if it is not from this process' parent.
fn parse(value: &str) -> Option<InheritedFds> {
    let mut parts = value.split(':');
    let parent: i32 = parts.next()?.parse().ok()?;
    let predecessor = getppid().filter(|ppid| ppid.as_raw_nonzero().get() == parent)?;
    let origin = match parts.next()? {
        "server" => Origin::Server,
        "systemd" => Origin::Systemd,
        _ => return None,
    };
    let report = parts.next()?.parse().ok()?;
    let sockets = parts
        .next()?
        .split(',')
        .map(|number| number.parse().ok())
        .collect::<Option<_>>()?;
    // Older versions do not pass it.
    let admin = match parts.next() {
        Some(number) => Some(number.parse().ok()?),
        None => None,
    };
    Some(InheritedFds {
        origin,
        sockets,
        admin,
        report: Some((report, predecessor)),
    })
}

/// The value of [`VARIABLE`]; `admin` is the last of the sockets.
pub(crate) fn encode(
    origin: Origin,
    report: RawFd,
    sockets: &[RawFd],
    admin: Option<RawFd>,
) -> String {
    let numbers = sockets.iter().copied().chain(admin);
    let sockets: Vec<_> = numbers.map(|number| number.to_string()).collect();
    let admin = admin.map_or(String::new(), |number| format!(":{number}"));
    format!(
        "{}:{}:{report}:{}{admin}",
        std::process::id(),
        origin.name(),
        sockets.join(",")
    )
}

/// Rejects the numbers of standard streams, and duplicates: each has one owner.
fn check(fds: &InheritedFds) -> Result<(), Error> {
    let report = fds.report.map(|(descriptor, _predecessor)| descriptor);
    let mut seen = HashSet::new();
    for descriptor in report.into_iter().chain(fds.sockets.iter().copied()) {
        let reason = if descriptor < FIRST_DESCRIPTOR {
            "it is none that can be inherited"
        } else if !seen.insert(descriptor) {
            "it is named twice"
        } else {
            continue;
        };
        return Err(Error::Inherited {
            descriptor: Some(descriptor),
            source: io::Error::new(io::ErrorKind::InvalidInput, reason),
        });
    }
    Ok(())
}

fn take(fds: InheritedFds) -> Result<Inherited, Error> {
    check(&fds)?;
    let mut inherited = Inherited {
        origin: fds.origin,
        ..Inherited::default()
    };
    // The pipe first, so that an error in the others can be reported.
    if let Some((descriptor, predecessor)) = fds.report {
        let pipe = own(descriptor).map_err(|source| Error::Inherited {
            descriptor: Some(descriptor),
            source,
        })?;
        inherited.readiness = Some(ReadinessPipe { pipe, predecessor });
    }
    take_sockets(fds, &mut inherited)
        .inspect_err(|error| inherited.report_failure(&error.to_string()))?;
    Ok(inherited)
}

fn take_sockets(fds: InheritedFds, inherited: &mut Inherited) -> Result<(), Error> {
    for descriptor in fds.sockets {
        let in_context = |source| Error::Inherited {
            descriptor: Some(descriptor),
            source,
        };
        let socket = own(descriptor).map_err(in_context)?;
        let address = listens_on(&socket).map_err(in_context)?;
        if Some(descriptor) == fds.admin {
            inherited.admin = Some((address, socket));
        } else {
            inherited.sockets.push((address, socket));
        }
    }
    Ok(())
}

/// Takes ownership of a descriptor, and sets close-on-exec.
fn own(descriptor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: `check` rejects -1; the borrow ends with the call, which fails for a number
    // that is no open descriptor.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let flags = fcntl_getfd(borrowed)?;
    fcntl_setfd(borrowed, flags | FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and the parent passed it to this process in the environment.
    // Nothing else here knows its number, which is taken once: `from_environment` takes
    // once, and `check` rejects duplicates and standard streams.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// The address of a listening stream socket.
fn listens_on(socket: &OwnedFd) -> io::Result<Address> {
    let socket = SockRef::from(socket);
    let reject = |reason| io::Error::new(io::ErrorKind::InvalidInput, reason);
    if socket.r#type()? != Type::STREAM {
        return Err(reject("it is no stream socket"));
    }
    if !socket.is_listener()? {
        return Err(reject("it does not listen (systemd: Accept=no)"));
    }
    Address::from_kernel(&socket.local_addr()?)
        .ok_or_else(|| reject("its address is neither IP nor a Unix-domain name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::{AsRawFd, IntoRawFd};

    #[test]
    fn inherited_fds_are_accepted_from_the_parent_only() {
        let predecessor = getppid().expect("a parent");
        let parent = predecessor.as_raw_nonzero();
        let expected = |admin| InheritedFds {
            origin: Origin::Systemd,
            sockets: vec![5, 6],
            admin,
            report: Some((9, predecessor)),
        };
        let encoded = format!("{parent}:systemd:9:5,6");
        assert_eq!(parse(&encoded), Some(expected(None)));
        let encoded = format!("{encoded}:6");
        assert_eq!(parse(&encoded), Some(expected(Some(6))));
        let own = std::process::id();
        let encoded = encode(Origin::Server, 9, &[5], Some(6));
        assert_eq!(encoded, format!("{own}:server:9:5,6:6"));
        for value in [
            "",
            "1",
            &format!("{parent}:systemd:9"),
            &format!("{parent}:nobody:9:5"),
            &format!("{parent}:server:9:x"),
            &format!("{parent}:server:9:5,6:"),
            // From this process, for a child.
            &encode(Origin::Server, 9, &[5], None),
        ] {
            assert_eq!(parse(value), None, "{value:?}");
        }
    }

    fn taken(descriptor: RawFd) -> Result<Inherited, Error> {
        take(InheritedFds {
            origin: Origin::Server,
            sockets: vec![descriptor],
            admin: None,
            report: None,
        })
    }

    #[test]
    fn a_listening_socket_is_taken_by_its_address() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = Address::from(listener.local_addr().expect("bound"));
        let mut inherited = taken(listener.into_raw_fd()).expect("listens");
        let other = "127.0.0.1:1".parse().expect("an address");
        assert!(inherited.take(&other).is_empty());
        assert_eq!(inherited.take(&address).len(), 1);
        assert!(inherited.take(&address).is_empty());
    }

    #[test]
    fn standard_streams_and_duplicate_descriptors_are_rejected() {
        let rejection = |report: RawFd, sockets: &[RawFd]| {
            let fds = InheritedFds {
                origin: Origin::Server,
                sockets: sockets.to_vec(),
                admin: None,
                report: Some((report, Pid::INIT)),
            };
            take(fds).expect_err("rejected").to_string()
        };
        // None of these numbers is open, nor touched.
        for (report, sockets, reason) in [
            (-1, &[][..], "descriptor -1: it is none that can be"),
            (901, &[-1], "descriptor -1: it is none that can be"),
            (901, &[902, RawFd::MIN], "it is none that can be"),
            (901, &[0], "descriptor 0: it is none that can be"),
            (901, &[902, 902], "descriptor 902: it is named twice"),
            (901, &[902, 901], "descriptor 901: it is named twice"),
        ] {
            let rejection = rejection(report, sockets);
            assert!(
                rejection.contains(reason),
                "{report}, {sockets:?}: {rejection}"
            );
        }
    }

    #[test]
    fn a_descriptor_that_is_no_listening_socket_is_rejected_by_number() {
        let datagrams = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let number = datagrams.as_raw_fd();
        let rejected = taken(datagrams.into_raw_fd()).expect_err("datagrams");
        assert!(
            rejected.to_string().contains(&number.to_string()),
            "{rejected}"
        );
        assert!(rejected.to_string().contains("no stream"), "{rejected}");
        let rejected = taken(RawFd::MAX).expect_err("not open");
        assert!(rejected.to_string().contains("Bad file"), "{rejected}");
    }
}
