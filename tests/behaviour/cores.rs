//! One worker per core: a thread, a listener, connections of its own.

use std::collections::BTreeSet;

use crate::common::client::Client;
use crate::common::engines::{Engine, on_every_engine};
use crate::common::process::{Process, listening_sockets};
use crate::common::server::{Server, binary};

on_every_engine![
    there_is_one_worker_for_each_core,
    every_worker_has_a_listener_and_gets_connections,
    every_worker_is_bound_to_a_core,
    workers_are_not_bound_with_no_pin,
];

fn there_is_one_worker_for_each_core(engine: Engine) {
    let server = Server::start(engine, &[]);
    let cores = cores_in(&Process::current().cores());
    assert!(
        server.greeting()[0].ends_with(&format!(" threads={cores}")),
        "{:?} on {cores} cores",
        server.greeting()
    );
    assert_eq!(server.process().workers().len(), cores);
}

fn every_worker_has_a_listener_and_gets_connections(engine: Engine) {
    let server = Server::start(engine, &["--threads=3"]);
    assert!(
        server.greeting()[0].ends_with(" threads=3"),
        "{:?}",
        server.greeting()
    );
    assert_eq!(listening_sockets(server.address()), 3);
    let before = server.process().workers();
    // The kernel deals them out by a hash of their addresses.
    let mut clients: Vec<_> = (0..300)
        .map(|_| Client::connect(server.address()))
        .collect();
    for client in &mut clients {
        client.echo("who serves me?");
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

fn every_worker_is_bound_to_a_core(engine: Engine) {
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

fn workers_are_not_bound_with_no_pin(engine: Engine) {
    // This is how all servers of these tests are started.
    let server = Server::start(engine, &["--threads=2"]);
    for worker in server.process().workers() {
        assert_eq!(worker.cores, Process::current().cores(), "{worker:?}");
    }
}

/// How many cores a list such as `0-3,7` has.
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
