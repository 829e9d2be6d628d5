//! Listening sockets that this process was started with: by systemd, which
//! listens for services (`sd_listen_fds(3)`), or by the server before it.

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

/// Says to a successor what it is handed: the process id of its predecessor,
/// where its sockets come from, their descriptors, and that of a pipe to report
/// on. Of no use to anybody else, and no setting.
pub(crate) const HANDOVER: &str = "_RINGBACK_HANDOVER";

/// The first behind the standard streams, which Rust's runtime owns.
const FIRST_DESCRIPTOR: RawFd = 3;

/// What a successor reports when it serves; anything else is why it does not.
pub(crate) const SERVES: &str = "serves";

/// Listening sockets that this process was started with. To be taken once, at
/// the start, before other descriptors are opened.
#[derive(Debug, Default)]
pub struct Inherited {
    pub(crate) origin: Origin,
    pub(crate) sockets: Vec<(Address, OwnedFd)>,
    /// That of the predecessor's admin listener, on which nothing else is to be
    /// served.
    admin: Option<(Address, OwnedFd)>,
    /// Where the predecessor waits to hear what becomes of this process.
    pub(crate) report: Option<Report>,
}

/// The pipe to a predecessor, which waits for one line.
#[derive(Debug)]
pub(crate) struct Report {
    pipe: OwnedFd,
    /// Its process.
    pub(crate) predecessor: Pid,
}

impl Report {
    /// This process serves.
    pub(crate) fn serves(self) {
        self.write(SERVES);
    }

    /// It will not, for this reason.
    pub(crate) fn failed(self, reason: &str) {
        self.write(reason);
    }

    fn write(&self, line: &str) {
        // In one write, and short enough for an empty pipe to take it whole.
        let line = format!("{}\n", line.replace('\n', " "));
        if let Err(error) = rustix::io::write(&self.pipe, line.as_bytes()) {
            tracing::warn!(%error, "cannot report to the predecessor");
        }
    }
}

/// Who has made the sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A server like this one: those of an address that is not configured any
    /// more are closed, and what is missing is made.
    #[default]
    Server,
    /// systemd: they are what is listened on, whatever is configured.
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
    /// Takes what the environment says this process was given, which may be
    /// nothing. Only the first call is given anything.
    ///
    /// # Errors
    /// [`Error::Inherited`]: a descriptor is no listening stream socket.
    pub fn from_environment() -> Result<Self, Error> {
        static IS_TAKEN: AtomicBool = AtomicBool::new(false);
        if IS_TAKEN.swap(true, Relaxed) {
            return Ok(Self::default());
        }
        if let Some(handover) = env::var(HANDOVER).ok().as_deref().and_then(parse) {
            return take(handover);
        }
        let descriptors = sd_notify::listen_fds().map_err(|source| Error::Inherited {
            descriptor: None,
            source,
        })?;
        let sockets: Vec<_> = descriptors.collect();
        if sockets.is_empty() {
            return Ok(Self::default());
        }
        take(RestartState {
            origin: Origin::Systemd,
            sockets,
            admin: None,
            report: None,
        })
    }

    /// Tells the predecessor, if there is one, why this process does not serve.
    pub fn report_failure(&mut self, reason: &str) {
        if let Some(report) = self.report.take() {
            report.failed(reason);
        }
    }

    /// Whether systemd listens for this process.
    pub(crate) fn is_activated(&self) -> bool {
        self.origin == Origin::Systemd
    }

    /// What they listen on, each address once.
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

#[derive(Debug, PartialEq, Eq)]
struct RestartState {
    origin: Origin,
    sockets: Vec<RawFd>,
    /// One of those.
    admin: Option<RawFd>,
    /// The pipe to the predecessor, and its process.
    report: Option<(RawFd, Pid)>,
}

/// What [`HANDOVER`] says, if it is meant for this process.
fn parse(value: &str) -> Option<RestartState> {
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
    // Predecessors did not always say.
    let admin = match parts.next() {
        Some(number) => Some(number.parse().ok()?),
        None => None,
    };
    Some(RestartState {
        origin,
        sockets,
        admin,
        report: Some((report, predecessor)),
    })
}

/// The value that [`parse`] reads; `admin` comes last of the sockets.
pub(crate) fn describe(
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

/// Refuses numbers of which this process would not be the owner, or twice.
fn check(handover: &RestartState) -> Result<(), Error> {
    let report = handover.report.map(|(descriptor, _predecessor)| descriptor);
    let mut seen = HashSet::new();
    for descriptor in report.into_iter().chain(handover.sockets.iter().copied()) {
        let reason = if descriptor < FIRST_DESCRIPTOR {
            "it is none that can be handed over"
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

fn take(handover: RestartState) -> Result<Inherited, Error> {
    check(&handover)?;
    let mut inherited = Inherited {
        origin: handover.origin,
        ..Inherited::default()
    };
    // The first, so that what is wrong with the others can be reported.
    if let Some((descriptor, predecessor)) = handover.report {
        let pipe = own(descriptor).map_err(|source| Error::Inherited {
            descriptor: Some(descriptor),
            source,
        })?;
        inherited.report = Some(Report { pipe, predecessor });
    }
    take_sockets(handover, &mut inherited)
        .inspect_err(|error| inherited.report_failure(&error.to_string()))?;
    Ok(inherited)
}

fn take_sockets(handover: RestartState, inherited: &mut Inherited) -> Result<(), Error> {
    for descriptor in handover.sockets {
        let in_context = |source| Error::Inherited {
            descriptor: Some(descriptor),
            source,
        };
        let socket = own(descriptor).map_err(in_context)?;
        let address = listens_on(&socket).map_err(in_context)?;
        if Some(descriptor) == handover.admin {
            inherited.admin = Some((address, socket));
        } else {
            inherited.sockets.push((address, socket));
        }
    }
    Ok(())
}

/// Takes a descriptor over, and keeps it from those that this process starts.
fn own(descriptor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: `check` lets no -1 pass; the borrow ends with the call, which fails for
    // a number that is no open descriptor.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let flags = fcntl_getfd(borrowed)?;
    fcntl_setfd(borrowed, flags | FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and whoever started this process says in its
    // environment that it is for us; nothing else here knows its number, which is
    // taken once: `from_environment` is, and `check` lets none pass that is named
    // twice, or is a standard stream's.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// The address of a listening stream socket.
fn listens_on(socket: &OwnedFd) -> io::Result<Address> {
    let socket = SockRef::from(socket);
    let refuse = |reason| io::Error::new(io::ErrorKind::InvalidInput, reason);
    if socket.r#type()? != Type::STREAM {
        return Err(refuse("it is no stream socket"));
    }
    if !socket.is_listener()? {
        return Err(refuse("it does not listen (systemd: Accept=no)"));
    }
    Address::from_kernel(&socket.local_addr()?)
        .ok_or_else(|| refuse("it has no address of the Internet and no name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::{AsRawFd, IntoRawFd};

    #[test]
    fn a_handover_is_for_the_child_of_who_describes_it() {
        let predecessor = getppid().expect("a parent");
        let parent = predecessor.as_raw_nonzero();
        let expected = |admin| RestartState {
            origin: Origin::Systemd,
            sockets: vec![5, 6],
            admin,
            report: Some((9, predecessor)),
        };
        let described = format!("{parent}:systemd:9:5,6");
        assert_eq!(parse(&described), Some(expected(None)));
        let described = format!("{described}:6");
        assert_eq!(parse(&described), Some(expected(Some(6))));
        let own = std::process::id();
        let described = describe(Origin::Server, 9, &[5], Some(6));
        assert_eq!(described, format!("{own}:server:9:5,6:6"));
        for value in [
            "",
            "1",
            &format!("{parent}:systemd:9"),
            &format!("{parent}:nobody:9:5"),
            &format!("{parent}:server:9:x"),
            &format!("{parent}:server:9:5,6:"),
            // Described by this process, for a child of it.
            &describe(Origin::Server, 9, &[5], None),
        ] {
            assert_eq!(parse(value), None, "{value:?}");
        }
    }

    fn taken(descriptor: RawFd) -> Result<Inherited, Error> {
        take(RestartState {
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
    fn a_descriptor_has_one_owner() {
        let refusal = |report: RawFd, sockets: &[RawFd]| {
            let handover = RestartState {
                origin: Origin::Server,
                sockets: sockets.to_vec(),
                admin: None,
                report: Some((report, Pid::INIT)),
            };
            take(handover).expect_err("refused").to_string()
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
            let refusal = refusal(report, sockets);
            assert!(refusal.contains(reason), "{report}, {sockets:?}: {refusal}");
        }
    }

    #[test]
    fn whatever_else_is_refused_by_its_number() {
        let datagrams = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let number = datagrams.as_raw_fd();
        let refused = taken(datagrams.into_raw_fd()).expect_err("datagrams");
        assert!(
            refused.to_string().contains(&number.to_string()),
            "{refused}"
        );
        assert!(refused.to_string().contains("no stream"), "{refused}");
        let refused = taken(RawFd::MAX).expect_err("not open");
        assert!(refused.to_string().contains("Bad file"), "{refused}");
    }
}
