//! Frames that arrive in two reads, split at every byte in turn, beside frames that
//! arrive in one: time per frame, one frame at a time.

use criterion::Criterion;
use ringback::proto::{Echo, Limits, TAIL_ROOM};

use crate::reference::{Endless, time_fastwebsockets, time_tungstenite};
use crate::support::{ASCII, Apart, BINARY, Batch, TEXT, masked_frame, measure, text};

const PAYLOAD_LENS: [usize; 4] = [8, 32, 125, 1024];

pub(crate) fn bench(criterion: &mut Criterion) {
    for (name, first_byte) in [("resume-binary", BINARY), ("resume-text", TEXT)] {
        let mut group = criterion.benchmark_group(name);
        for len in PAYLOAD_LENS {
            let payload = text(ASCII, len);
            let apart = Apart::new(&masked_frame(first_byte, &payload));
            let batch = Batch::new(first_byte, &payload);
            let mut cut = 0;
            measure(&mut group, "ringback", len, |n| {
                apart.time(n, |slot| {
                    cut = (cut + 1) % (slot.len() - TAIL_ROOM);
                    echo_in_two(slot, cut);
                })
            });
            measure(&mut group, "uncut", len, |n| apart.time(n, echo_in_one));
            measure(&mut group, "fastwebsockets", len, |n| {
                time_fastwebsockets(Endless::cut(&batch), n)
            });
            measure(&mut group, "tungstenite", len, |n| {
                time_tungstenite(Endless::cut(&batch), n)
            });
        }
    }
}

fn echo_in_one(slot: &mut [u8]) {
    let filled = slot.len() - TAIL_ROOM;
    let step = Echo::new().advance(&Limits::default(), slot, filled);
    assert!(step.messages == 1);
}

/// The rest of the first read stands before the second.
fn echo_in_two(slot: &mut [u8], cut: usize) {
    let limits = Limits::default();
    let filled = slot.len() - TAIL_ROOM;
    let mut echo = Echo::new();
    let kept = echo.advance(&limits, slot, cut).consumed;
    let step = echo.advance(&limits, &mut slot[kept..], filled - kept);
    assert!(step.messages == 1);
}
