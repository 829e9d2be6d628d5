//! What the statistics promise, held against enumeration, invariance and
//! simulation. All of it is drawn from fixed seeds, so it finds the same each time.

mod coverage;
mod exact;
mod invariance;
mod level;
mod needed;
pub(crate) mod source;
