//! Binary messages of one frame: time per frame of a batch.

use criterion::Criterion;
use ringback::proto::Isa;

use crate::reference::{Endless, time_fastwebsockets, time_memcpy, time_tungstenite};
use crate::support::{ASCII, BINARY, Batch, measure, text};

const PAYLOAD_LENS: [usize; 8] = [8, 32, 64, 125, 1024, 4096, 16 * 1024, 64 * 1024];

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    for len in PAYLOAD_LENS {
        let batch = Batch::new(BINARY, &text(ASCII, len));
        measure(&mut group, "ringback", len, |n| {
            batch.time_echo(Isa::best(), n)
        });
        measure(&mut group, "baseline", len, |n| {
            batch.time_echo(Isa::BASELINE, n)
        });
        measure(&mut group, "memcpy", len, |n| time_memcpy(&batch, n));
        measure(&mut group, "fastwebsockets", len, |n| {
            time_fastwebsockets(Endless::new(&batch), n)
        });
        measure(&mut group, "tungstenite", len, |n| {
            time_tungstenite(Endless::new(&batch), n)
        });
    }
}
