//! A result from which tests derive others.

use serde_json::{Value, json};

use super::child_server::{Behavior, ChildServer};
use super::program::loadtest;

/// The result file of a short run, with a server of its own.
pub(crate) fn result_of_a_run() -> Value {
    let server = ChildServer::new(Behavior::Echo);
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
    let mut run = serde_json::from_str(&run.assert_ok().stdout).expect("JSON");
    remove_other_load(&mut run);
    run
}

/// Removes other load of the machine, which would be a reason against the result.
fn remove_other_load(run: &mut Value) {
    for place in [
        "/shared_core",
        "/steal_share",
        "/server/usage/run_queue_wait_ns",
        "/summary/server/run_queue_wait_share",
        "/generator/usage/run_queue_wait_ns",
    ] {
        *run.pointer_mut(place).expect("its place") = Value::Null;
    }
    run["judgement"] = json!({"verdict": "valid", "reasons": [], "notes": []});
}

/// Sets the server's CPU time per message.
pub(crate) fn set_cpu_per_message(run: &mut Value, ns: f64) {
    let number = |value: &Value| value.as_f64().expect("a number");
    let echoed = number(&run["counts"]["echoed"]);
    let elapsed_ns = number(&run["elapsed_ns"]);
    let cpu_ns = (ns * echoed).round();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some milliseconds"
    )]
    let usage = json!(cpu_ns as u64);
    run["server"]["usage"]["cpu_ns"] = usage;
    let cost = &mut run["summary"]["server"];
    cost["cpu_ns_per_message"] = json!(cpu_ns / echoed);
    cost["cores"] = json!(cpu_ns / elapsed_ns);
}
