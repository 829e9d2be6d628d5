//! A result that tests make others of.

use serde_json::Value;

use super::own_server::{Manner, OwnServer};
use super::program::loadtest;

/// The result file of a short run, with a server of its own. The name tells the
/// tests of a process apart.
pub(crate) fn result_of_a_run(name: &str) -> Value {
    let server = OwnServer::new(Manner::Echoes, &format!("{name}-server"));
    let (command, url) = (server.command(), server.url());
    let run = loadtest(&[
        "run",
        "--format=json",
        "-c2",
        "-w8",
        "-n5000",
        "--warmup=0s",
        "--seed=1",
        "--server-cmd",
        &command,
        &url,
    ]);
    serde_json::from_str(&run.fine().stdout).expect("JSON")
}
