//! Checks before a run, each failing with one line as for a wrong argument.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};

use crate::args::{PORT, ServerFlags};
use crate::cores::AllowedCores;
use crate::failure::{Failure, affinity};
use crate::plan::Plan;
use crate::source::SourceRange;
use crate::tls;

/// The most source addresses that are tried: one has room for some 28,000 connections.
const SOURCES_MAX: u32 = 1 << 16;

/// Checks that this machine has the cores, the addresses and the certificates that a plan names,
/// and the cores for a server.
///
/// # Errors
/// [`Failure::Usage`] with the flag and what is wrong with it, and [`Failure::Trust`].
pub fn check_plan(plan: &Plan, server_pin: &[usize]) -> Result<(), Failure> {
    tls::config_for(plan)?;
    check_cores("--pin", &plan.pin)?;
    check_cores("--server-pin", server_pin)?;
    plan.sources
        .map_or(Ok(()), |sources| check_sources(sources, plan.sockets()))
}

fn check_cores(flag: &str, cores: &[usize]) -> Result<(), Failure> {
    let own = AllowedCores::of_this_thread().map_err(affinity)?;
    for &core in cores {
        // The kernel decides: it grants more cores than this thread may run on now, and fewer
        // than exist.
        let granted = AllowedCores::pin_to(&[core]);
        let restored = own.restore();
        if granted.is_err() || restored.is_err() {
            let online = fs::read_to_string("/sys/devices/system/cpu/online");
            let online = online.unwrap_or_default();
            let why = format!(
                "{flag}: nothing of this program may run on core {core}; online are {}",
                online.trim()
            );
            return Err(why.into());
        }
    }
    Ok(())
}

fn check_sources(sources: SourceRange, sockets: u64) -> Result<(), Failure> {
    let count = u64::from(sources.count()).min(sockets);
    let count = u32::try_from(count).unwrap_or(u32::MAX).min(SOURCES_MAX);
    let is_foreign = |address: &Ipv4Addr| {
        // All of 127.0.0.0/8 is this machine's.
        !address.is_loopback()
            && UdpSocket::bind((*address, 0))
                .is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
    };
    let mut addresses = (0..count).map(|index| sources.address(index));
    match addresses.find(is_foreign) {
        Some(address) => {
            Err(format!("--source: {address} is not an address of this machine").into())
        }
        None => Ok(()),
    }
}

/// Checks the server's flags.
///
/// # Errors
/// [`Failure::Usage`] when a command has a port placeholder, which only `ab` replaces; when there
/// is no process with the id, when it is the id of a thread, or of an ancestor of this program.
pub fn check_server(server: &ServerFlags) -> Result<(), Failure> {
    if server.command.as_ref().is_some_and(|it| it.contains(PORT)) {
        let why = format!("--server-cmd: {PORT} is for loadtest ab; write the port of the URL");
        return Err(why.into());
    }
    server.pid.map_or(Ok(()), check_pid)
}

fn check_pid(pid: u32) -> Result<(), Failure> {
    let why = match ProcessStatus::of(pid) {
        None => format!("--server-pid: there is no process {pid}"),
        Some(status) if status.process != pid => format!(
            "--server-pid: {pid} is a thread of process {}",
            status.process
        ),
        Some(status) if is_self_or_ancestor(pid) => format!(
            "--server-pid: process {pid} ({}) has started this program, whose own cost would \
             count as the server's",
            status.name
        ),
        Some(_) => return Ok(()),
    };
    Err(why.into())
}

/// Whether a process is this one or an ancestor of it.
fn is_self_or_ancestor(pid: u32) -> bool {
    let mut seen = BTreeSet::new();
    let mut own = std::process::id();
    while own != pid {
        // Ids are reused, so the chain of parents may change meanwhile and have a cycle.
        let parent = ProcessStatus::of(own).map(|status| status.parent);
        match parent.filter(|&parent| parent != 0 && seen.insert(parent)) {
            Some(parent) => own = parent,
            None => return false,
        }
    }
    true
}

/// The fields of `/proc/PID/status` of a process that has not ended.
struct ProcessStatus {
    name: String,
    process: u32,
    parent: u32,
}

impl ProcessStatus {
    fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| Some(line.strip_prefix(name)?.trim()))
        };
        let has_ended = field("State:")?.starts_with(['Z', 'X']);
        (!has_ended).then_some(())?;
        Some(Self {
            name: field("Name:")?.to_owned(),
            process: field("Tgid:")?.parse().ok()?,
            parent: field("PPid:")?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use std::process::{self, Command};
    use std::sync::mpsc::channel;
    use std::thread;

    fn why(checked: Result<(), Failure>) -> String {
        let failure = checked.expect_err("it is wrong");
        assert!(matches!(failure, Failure::Usage(_)), "{failure}");
        failure.to_string()
    }

    #[test]
    fn cores_are_those_of_this_machine() {
        let plan = |pin: &[usize]| Plan {
            pin: pin.to_vec(),
            ..fixture::plan()
        };
        let before = format!("{:?}", AllowedCores::of_this_thread());
        let (first, second) = AllowedCores::of_this_thread()
            .expect("an affinity mask")
            .server_and_generator();
        check_plan(&plan(&[second]), &[first]).expect("both are there");
        let error = why(check_plan(&plan(&[first, 1023]), &[]));
        assert!(error.contains("--pin: nothing of this program may run on core 1023"));
        let error = why(check_plan(&plan(&[]), &[1023]));
        assert!(
            error.contains("--server-pin: nothing of this program"),
            "{error}"
        );
        assert_eq!(format!("{:?}", AllowedCores::of_this_thread()), before);
    }

    #[test]
    fn sources_are_addresses_of_this_machine() {
        let plan = |text: &str| Plan {
            sources: Some(text.parse().expect("addresses")),
            ..fixture::plan()
        };
        for fine in [
            "127.0.0.1",
            "127.1.0.0/16",
            "127.255.255.254-127.255.255.255",
        ] {
            check_plan(&plan(fine), &[]).expect(fine);
        }
        // 192.0.2.0/24 is reserved for documentation (RFC 5737).
        for wrong in ["192.0.2.7", "192.0.2.0/24", "127.255.255.255-128.0.0.0"] {
            let error = why(check_plan(&plan(wrong), &[]));
            assert!(
                error.contains("is not an address of this machine"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_server_is_a_process_that_did_not_start_this_one() {
        assert!(why(check_pid(0)).contains("there is no process 0"));
        assert!(why(check_pid(u32::MAX)).contains("there is no process 4294967295"));
        for own in [
            process::id(),
            rustix::process::getppid().map_or(1, |it| it.as_raw_nonzero().get().unsigned_abs()),
        ] {
            let error = why(check_pid(own));
            assert!(error.contains("has started this program"), "{error}");
        }
        let mut child = Command::new("sleep").arg("60").spawn().expect("it starts");
        check_pid(child.id()).expect("a process");
        child.kill().expect("it runs");
        let ended = child.id();
        child.wait().expect("it ends");
        assert!(why(check_pid(ended)).contains("there is no process"));

        let (sender, receiver) = channel();
        let (end, ended) = channel::<()>();
        let thread = thread::spawn(move || {
            let id = rustix::thread::gettid().as_raw_nonzero().get();
            sender.send(id.unsigned_abs()).expect("it listens");
            let _ = ended.recv();
        });
        let error = why(check_pid(receiver.recv().expect("an id")));
        assert!(error.contains("is a thread of process"), "{error}");
        drop(end);
        thread.join().expect("it ends");
    }
}
