//! The frame core, each operation beside its references.
//!
//! `cargo bench --bench core -- frame/` measures one operation. A group is an operation;
//! an id is the implementation, its variant and, last, the bytes of payload. `baseline`
//! is ringback without the wider vectors that this machine may have.

#![allow(missing_docs, reason = "criterion's macros write items")]

mod close;
mod frame;
mod mask;
mod reference;
mod resume;
mod support;
mod text;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1));
    targets = mask::bench, frame::bench, text::bench, close::bench, resume::bench
}
criterion_main!(benches);
