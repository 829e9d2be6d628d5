//! The statistics against enumeration, invariance and simulation, with fixed seeds.

mod coverage;
mod exact;
mod invariance;
mod level;
mod needed;
pub(crate) mod source;
