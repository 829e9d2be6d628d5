//! The real binary, where it has nothing to serve.

use std::process::Output;

use super::server::{binary, run_to_end};

/// Runs the binary to its end, which comes soon where it has nothing to serve.
#[track_caller]
pub(crate) fn run(args: &[&str]) -> Output {
    run_with(args, &[])
}

/// The same with these variables in its environment.
#[track_caller]
pub(crate) fn run_with(args: &[&str], variables: &[(&str, &str)]) -> Output {
    run_to_end(binary().args(args).envs(variables.iter().copied()))
}
