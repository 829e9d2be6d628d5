//! Frames, most of them well-formed, with payloads that are mutated in clear: the core
//! against the reference.
//!
//! Input: limits (1 byte), cuts (1 byte and 2 for each), frames as `take_frames` reads
//! them.

#![no_main]

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use ringback_fuzz::arrivals::{Cuts, take_limits};
use ringback_fuzz::frames::take_frames;
use ringback_fuzz::{core, second};

fuzz_target!(|data: &[u8]| {
    let mut input = Unstructured::new(data);
    let (Ok(limits), Ok(cuts)) = (take_limits(&mut input), Cuts::take(&mut input)) else {
        return;
    };
    let mut stream = Vec::new();
    if take_frames(&mut input, &mut stream).is_ok() {
        core::check(&limits, &stream, &cuts);
        second::compare(&stream);
    }
});
