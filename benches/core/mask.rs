//! Unmasking alone: in place, and moved left by the four bytes of a mask.
//!
//! Each iteration reads what the previous one wrote, four bytes further on if it moved.
//! For short moves this costs some 2 ns that no connection pays.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use fastwebsockets::{Frame, OpCode, Payload};
use ringback::proto::{Isa, mask};

use crate::support::KEY;

const PAYLOAD_LENS: [usize; 7] = [8, 32, 64, 125, 1024, 16 * 1024, 64 * 1024];

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mask");
    for len in PAYLOAD_LENS {
        let mut span = vec![0x5a; len + KEY.len()];
        let mut target = span.clone();
        let id = |who| BenchmarkId::new(who, len);
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(id("in-place"), |bencher| {
            bencher.iter(|| mask::unmask(black_box(&mut span[..len]), KEY));
        });
        group.bench_function(id("left"), |bencher| {
            bencher.iter(|| mask::unmask_left(black_box(&mut span), len, KEY));
        });
        group.bench_function(id("left-baseline"), |bencher| {
            bencher.iter(|| mask::unmask_left_on(Isa::BASELINE, black_box(&mut span), len, KEY));
        });
        group.bench_function(id("memcpy"), |bencher| {
            bencher.iter(|| black_box(&mut target[..len]).copy_from_slice(&span[..len]));
        });
        group.bench_function(id("fastwebsockets"), |bencher| {
            bencher.iter(|| {
                let payload = Payload::BorrowedMut(black_box(&mut span[..len]));
                Frame::new(true, OpCode::Binary, Some(KEY), payload).unmask();
            });
        });
    }
}
