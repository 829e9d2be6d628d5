//! The machine of a measurement: its description for results, and checks for disturbances.
//!
//! All of it is read from `/proc` and `/sys`, nothing is changed, and nothing fails: a value
//! that the kernel does not export is unknown.

pub mod doctor;
pub mod environment;
mod frequency;
pub mod steal;
mod topology;

pub use doctor::{DoctorReport, examine, to_json};
pub use environment::{Environment, binary_sha256};
pub use steal::StealClock;
