//! The frame core: time per frame, beside a memcpy of the same bytes.
//!
//! One iteration is one frame of a batch as a connection would read it: as many
//! frames as fit in a read buffer, 256 at most. The echo works in place and
//! thereby spoils its input, so each batch is laid out anew outside of the
//! measured time.

#![allow(
    missing_docs,
    clippy::cast_possible_truncation,
    reason = "criterion's macros write items; lengths are matched before they are cast"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringback::proto::{Echo, Limits, Next, TAIL_ROOM};

const PAYLOAD_LENS: [usize; 8] = [8, 32, 64, 125, 1024, 4096, 16 * 1024, 64 * 1024];
const BATCH_BYTES: usize = 64 * 1024;
const BATCH_FRAMES: usize = 256;

/// A batch of masked client frames, and how many there are.
fn batch(first_byte: u8, payload_len: usize) -> (Vec<u8>, u64) {
    let mask = [0x1d, 0xe5, 0x77, 0x0a];
    let mut frame = vec![first_byte];
    match payload_len {
        0..126 => frame.push(0x80 | payload_len as u8),
        126..0x1_0000 => {
            frame.push(0x80 | 126);
            frame.extend((payload_len as u16).to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend((payload_len as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    let text = b"The quick brown fox jumps over the lazy dog. "
        .iter()
        .cycle();
    frame.extend(
        text.zip(mask.iter().cycle())
            .take(payload_len)
            .map(|(byte, key)| byte ^ key),
    );
    let frames = (BATCH_BYTES / frame.len()).clamp(1, BATCH_FRAMES);
    (frame.repeat(frames), frames as u64)
}

/// Times `work` on fresh copies of `input` until `iterations` frames are done.
fn time_batches(
    iterations: u64,
    input: &[u8],
    frames: u64,
    mut work: impl FnMut(&mut [u8]),
) -> Duration {
    let mut buf = vec![0; input.len() + TAIL_ROOM];
    let batches = iterations.div_ceil(frames);
    let mut spent = Duration::ZERO;
    for _ in 0..batches {
        buf[..input.len()].copy_from_slice(input);
        let start = Instant::now();
        work(black_box(&mut buf));
        spent += start.elapsed();
    }
    spent.mul_f64(iterations as f64 / (batches * frames) as f64)
}

fn echo(criterion: &mut Criterion, name: &str, first_byte: u8) {
    let mut group = criterion.benchmark_group(name);
    for payload_len in PAYLOAD_LENS {
        let (input, frames) = batch(first_byte, payload_len);
        group.throughput(Throughput::Bytes(payload_len as u64));
        group.bench_function(BenchmarkId::from_parameter(payload_len), |bencher| {
            bencher.iter_custom(|iterations| {
                let limits = Limits::default();
                time_batches(iterations, &input, frames, |buf| {
                    let step = Echo::new().advance(&limits, buf, input.len());
                    assert!(step.next == Next::Read && u64::from(step.messages) == frames);
                })
            });
        });
    }
}

fn memcpy(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("memcpy");
    for payload_len in PAYLOAD_LENS {
        let (input, frames) = batch(0x82, payload_len);
        let mut target = vec![0; input.len()];
        group.throughput(Throughput::Bytes(payload_len as u64));
        group.bench_function(BenchmarkId::from_parameter(payload_len), |bencher| {
            bencher.iter_custom(|iterations| {
                time_batches(iterations, &input, frames, |buf| {
                    for (to, from) in target
                        .chunks_mut(input.len() / frames as usize)
                        .zip(buf.chunks(input.len() / frames as usize))
                    {
                        to.copy_from_slice(from);
                    }
                    black_box(&mut target);
                })
            });
        });
    }
}

fn frame(criterion: &mut Criterion) {
    echo(criterion, "echo-binary", 0x82);
    echo(criterion, "echo-text", 0x81);
    memcpy(criterion);
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = frame
}
criterion_main!(benches);
