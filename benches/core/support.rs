//! The input: batches of a client's frames, as a connection reads them.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Throughput};
use ringback::proto::{Echo, Isa, Limits, Next, TAIL_ROOM};

pub(crate) const KEY: [u8; 4] = [0x1d, 0xe5, 0x77, 0x0a];

pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;

/// Text of one byte per character.
pub(crate) const ASCII: &str = "The quick brown fox jumps over the lazy dog. ";

/// Text of one to four bytes per character.
pub(crate) const MIXED: &str = "Zwölf große Boxkämpfer, съешь ещё этих булок, 你好世界 😀, plain. ";

/// A batch is as many frames as fit in a read, but no more than this.
const BATCH_BYTES: usize = 64 * 1024;
const BATCH_FRAMES: usize = 256;

/// Frames of one kind and length.
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) frames: usize,
}

impl Batch {
    pub(crate) fn new(first_byte: u8, payload: &[u8]) -> Self {
        let frame = masked_frame(first_byte, payload);
        let frames = (BATCH_BYTES / frame.len()).clamp(1, BATCH_FRAMES);
        Self {
            bytes: frame.repeat(frames),
            frames,
        }
    }

    pub(crate) fn frame_len(&self) -> usize {
        self.bytes.len() / self.frames
    }

    /// The time of `work` for `count` frames.
    ///
    /// An echo in place changes its input, so each batch is copied anew, which is not
    /// timed.
    pub(crate) fn time(&self, iterations: u64, mut work: impl FnMut(&mut [u8])) -> Duration {
        let mut buf = vec![0; self.bytes.len() + TAIL_ROOM];
        let frames = self.frames as u64;
        let batches = iterations.div_ceil(frames);
        let mut spent = Duration::ZERO;
        for _ in 0..batches {
            buf[..self.bytes.len()].copy_from_slice(&self.bytes);
            let start = Instant::now();
            work(black_box(&mut buf));
            spent += start.elapsed();
        }
        spent.mul_f64(iterations as f64 / (batches * frames) as f64)
    }

    /// The time of the core for `count` frames, one read per batch.
    pub(crate) fn time_echo(&self, isa: Isa, iterations: u64) -> Duration {
        let limits = Limits::default();
        self.time(iterations, |buf| {
            let step = Echo::new().advance_on(isa, &limits, buf, self.bytes.len());
            assert!(step.next == Next::Read && step.messages as usize == self.frames);
        })
    }
}

/// Frames of one kind, each for a connection of its own, with the room that the core
/// needs after each.
pub(crate) struct Apart(Batch);

impl Apart {
    pub(crate) fn new(frame: &[u8]) -> Self {
        let slot = [frame, &[0; TAIL_ROOM]].concat();
        let frames = (BATCH_BYTES / slot.len()).clamp(1, BATCH_FRAMES);
        Self(Batch {
            bytes: slot.repeat(frames),
            frames,
        })
    }

    /// The time of `work`, which gets one frame and the room after it, for `count`
    /// frames.
    pub(crate) fn time(&self, iterations: u64, mut work: impl FnMut(&mut [u8])) -> Duration {
        let slot_len = self.0.frame_len();
        self.0.time(iterations, |buf| {
            for slot in buf.chunks_exact_mut(slot_len) {
                work(slot);
            }
        })
    }
}

/// `len` bytes of `pattern`, repeated, without splitting a character.
pub(crate) fn text(pattern: &str, len: usize) -> Vec<u8> {
    let mut text = pattern.repeat(len / pattern.len() + 1);
    while text.len() > len {
        text.pop();
    }
    text.push_str(&"x".repeat(len - text.len()));
    text.into_bytes()
}

/// A client's frame, with the shortest form of its length.
pub(crate) fn masked_frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len();
    let mut frame = vec![first_byte];
    if let Ok(short) = u8::try_from(len)
        && short < 126
    {
        frame.push(0x80 | short);
    } else if let Ok(medium) = u16::try_from(len) {
        frame.push(0x80 | 126);
        frame.extend(medium.to_be_bytes());
    } else {
        frame.push(0x80 | 127);
        frame.extend((len as u64).to_be_bytes());
    }
    frame.extend(KEY);
    let masked = payload.iter().zip(KEY.iter().cycle());
    frame.extend(masked.map(|(byte, key)| byte ^ key));
    frame
}

/// Adds a benchmark of `time`, which gets the number of frames.
pub(crate) fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    who: &str,
    payload_len: usize,
    mut time: impl FnMut(u64) -> Duration,
) {
    group.throughput(Throughput::Bytes(payload_len as u64));
    group.bench_function(BenchmarkId::new(who, payload_len), |bencher| {
        bencher.iter_custom(&mut time);
    });
}
