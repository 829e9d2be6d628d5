//! Text messages of one frame, with validation: time per frame of a batch.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use ringback::proto::Isa;

use crate::reference::{Endless, time_fastwebsockets, time_memcpy, time_tungstenite};
use crate::support::{ASCII, Batch, MIXED, TEXT, measure, text};

const PAYLOAD_LENS: [usize; 7] = [8, 32, 64, 125, 1024, 16 * 1024, 64 * 1024];

pub(crate) fn bench(criterion: &mut Criterion) {
    for (name, pattern) in [("text-ascii", ASCII), ("text-mixed", MIXED)] {
        let mut group = criterion.benchmark_group(name);
        for len in PAYLOAD_LENS {
            let payload = text(pattern, len);
            let batch = Batch::new(TEXT, &payload);
            measure(&mut group, "ringback", len, |n| {
                batch.time_echo(Isa::best(), n)
            });
            measure(&mut group, "baseline", len, |n| {
                batch.time_echo(Isa::BASELINE, n)
            });
            measure(&mut group, "memcpy", len, |n| time_memcpy(&batch, n));
            measure(&mut group, "simdutf8", len, |n| time_simdutf8(&payload, n));
            measure(&mut group, "fastwebsockets", len, |n| {
                time_fastwebsockets(Endless::new(&batch), n)
            });
            measure(&mut group, "tungstenite", len, |n| {
                time_tungstenite(Endless::new(&batch), n)
            });
        }
    }
}

/// Validation alone.
fn time_simdutf8(payload: &[u8], iterations: u64) -> Duration {
    let start = Instant::now();
    for _ in 0..iterations {
        assert!(simdutf8::basic::from_utf8(black_box(payload)).is_ok());
    }
    start.elapsed()
}
