//! Runs the binary for commands that end by themselves.

use std::process::Output;

use super::server::{binary, run_to_end};

/// Runs the binary to its end.
#[track_caller]
pub(crate) fn run(args: &[&str]) -> Output {
    run_with(args, &[])
}

/// The same with these environment variables.
#[track_caller]
pub(crate) fn run_with(args: &[&str], variables: &[(&str, &str)]) -> Output {
    run_to_end(binary().args(args).envs(variables.iter().copied()))
}
