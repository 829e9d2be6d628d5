//! One worker per core, with its own thread, listener and connections.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use host::Root;
use host::cgroup::Limits;

use crate::common::client::Client;
use crate::common::engines::{Engine, on_every_engine};
use crate::common::process::{Process, listening_sockets};
use crate::common::server::{Server, binary, binary_with};
use crate::common::wait_until;

on_every_engine![
    default_is_one_worker_per_core,
    every_worker_listens_and_gets_connections,
    every_worker_is_pinned_to_a_core,
    no_pin_leaves_workers_unpinned,
];

fn default_is_one_worker_per_core(engine: Engine) {
    let server = Server::start(engine, &[]);
    let quota = Limits::read(&Root::of_this_machine()).cpu_cores_max;
    let cores = (1..cores_in(&Process::current().cores()))
        .find(|&cores| quota.is_some_and(|quota| cores as f64 >= quota))
        .unwrap_or_else(|| cores_in(&Process::current().cores()));
    assert!(
        server.start_lines()[0].ends_with(&format!(" threads={cores}")),
        "{:?} on {cores} cores",
        server.start_lines()
    );
    assert_eq!(server.process().workers().len(), cores);
}

fn every_worker_listens_and_gets_connections(engine: Engine) {
    let server = Server::start(engine, &["--threads=3"]);
    assert!(
        server.start_lines()[0].ends_with(" threads=3"),
        "{:?}",
        server.start_lines()
    );
    assert_eq!(listening_sockets(server.address()), 3);
    let before = server.process().workers();
    // The kernel distributes them by a hash of their addresses.
    let mut clients: Vec<_> = (0..300)
        .map(|_| Client::connect(server.address()))
        .collect();
    for client in &mut clients {
        client.echo("hello");
    }
    let after = server.process().workers();
    let used: Vec<_> = before
        .iter()
        .zip(&after)
        .map(|(before, after)| after.cpu_time.saturating_sub(before.cpu_time))
        .collect();
    let all: std::time::Duration = used.iter().sum();
    assert_eq!(used.len(), 3);
    assert!(
        used.iter().all(|used| *used > all / 10),
        "CPU time of the workers: {used:?}"
    );
}

fn every_worker_is_pinned_to_a_core(engine: Engine) {
    let quota = Limits::read(&Root::of_this_machine()).cpu_cores_max;
    let cores = cores_in(&Process::current().cores());
    if quota.is_some_and(|quota| quota < cores as f64) {
        // With a quota none is pinned, which has its own test.
        return;
    }
    let mut command = binary();
    command.args(["--listen=127.0.0.1:0", "--threads=2", "--engine", engine]);
    let server = Server::spawn(&mut command, 1);
    let workers = server.process().workers();
    assert_eq!(workers.len(), 2);
    for worker in &workers {
        assert_eq!(cores_in(&worker.cores), 1, "{worker:?}");
    }
    let taken: BTreeSet<_> = workers.iter().map(|worker| &worker.cores).collect();
    assert_eq!(
        taken.len(),
        cores_in(&Process::current().cores()).min(2),
        "{workers:?}"
    );
    Client::connect(server.address()).echo("bound");
}

fn no_pin_leaves_workers_unpinned(engine: Engine) {
    // All servers of these tests run with `--no-pin`.
    let server = Server::start(engine, &["--threads=2"]);
    for worker in server.process().workers() {
        assert_eq!(worker.cores, Process::current().cores(), "{worker:?}");
    }
}

/// A control group with a CPU quota, removed at the end.
struct Cgroup(PathBuf);

impl Cgroup {
    /// With half a core; `None` if this process may not make groups.
    fn of_half_a_core() -> Option<Self> {
        let name = format!("ringback-test-{}", std::process::id());
        // Version 2, if its root has the controller, and version 1.
        for (parent, limits) in [
            ("/sys/fs/cgroup", &[("cpu.max", "50000 100000")][..]),
            (
                "/sys/fs/cgroup/cpu",
                &[
                    ("cpu.cfs_period_us", "100000"),
                    ("cpu.cfs_quota_us", "50000"),
                ],
            ),
        ] {
            let path = Path::new(parent).join(&name);
            if fs::create_dir(&path).is_err() {
                continue;
            }
            let group = Self(path);
            let is_set = |(file, value): &(&str, &str)| {
                let file = group.0.join(file);
                file.exists() && fs::write(file, value).is_ok()
            };
            if limits.iter().all(is_set) {
                return Some(group);
            }
        }
        None
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A process may have ended a moment ago.
        wait_until("the group is empty", || {
            fs::remove_dir(&self.0).is_ok() || !self.0.exists()
        });
    }
}

#[test]
fn cpu_quota_bounds_threads_and_is_logged() {
    let Some(group) = Cgroup::of_half_a_core() else {
        // Unit tests cover how a group is read.
        let note = "not run with a real CPU quota: this process may make no control group\n";
        let _ = std::io::stderr().write_all(note.as_bytes());
        return;
    };
    let group_path = group.0.display();
    let join = format!("echo $$ >'{group_path}/cgroup.procs'");
    let start = |flags: &[&str]| {
        let mut command = binary_with(&join);
        command.args(["--listen=127.0.0.1:0", "--engine=epoll"]);
        Server::spawn(command.args(flags), 1)
    };
    let expected = format!("threads=1: the CPU quota of {group_path} is 0.5 cores");
    let server = start(&[]);
    assert!(server.start_lines()[0].ends_with(" threads=1"));
    if cores_in(&Process::current().cores()) > 1 {
        server.wait_for_log(&expected);
        let workers = server.process().workers();
        assert_eq!(workers[0].cores, Process::current().cores(), "not pinned");
    }
    Client::connect(server.address()).echo("served");
    drop(server);
    let named = start(&["--threads=2"]);
    assert!(named.start_lines()[0].ends_with(" threads=2"));
}

/// The number of cores in a list such as `0-3,7`.
fn cores_in(ranges: &str) -> usize {
    let number = |text: &str| text.parse::<usize>().expect("a core");
    ranges
        .split(',')
        .map(|range| match range.split_once('-') {
            Some((first, last)) => number(last) - number(first) + 1,
            None => 1,
        })
        .sum()
}
