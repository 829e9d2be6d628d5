//! Handshakes with changes: the gate against the rules in other words.
//!
//! Input: a door (1 byte), a head as `Head::take` has it.

#![no_main]

use std::sync::LazyLock;

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use ringback::fuzzing::{Gate, Verdict};
use ringback_fuzz::handshake::{DOORS, Fate, Head};

static GATES: LazyLock<Vec<Gate>> = LazyLock::new(|| {
    DOORS
        .iter()
        .map(|door| Gate::new(door.path, door.origins, door.subprotocols))
        .collect()
});

fuzz_target!(|data: &[u8]| {
    let mut input = Unstructured::new(data);
    let door = usize::from(input.arbitrary::<u8>().unwrap_or(0)) % DOORS.len();
    let Ok(head) = Head::take(&mut input) else {
        return;
    };
    let Some(request) = head.request() else {
        return;
    };
    let fate = match GATES[door].judge(&request) {
        Verdict::Plain => Fate::Plain,
        Verdict::Refused(status) => Fate::Refused(status),
        Verdict::Upgraded(subprotocol) => Fate::Upgraded(subprotocol),
    };
    assert_eq!(fate, head.fate(&DOORS[door]), "{head:?}");
});
