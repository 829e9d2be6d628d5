//! Handshakes with changes: the gate against the rules as a list.
//!
//! Input: a gate (1 byte), a head as `Head::take` reads it.

#![no_main]

use std::sync::LazyLock;

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use ringback::fuzzing::{Gate, GateResult};
use ringback_fuzz::handshake::{GATE_CONFIGS, Head, Outcome};

static GATES: LazyLock<Vec<Gate>> = LazyLock::new(|| {
    GATE_CONFIGS
        .iter()
        .map(|config| Gate::new(config.path, config.origins, config.subprotocols))
        .collect()
});

fuzz_target!(|data: &[u8]| {
    let mut input = Unstructured::new(data);
    let config = usize::from(input.arbitrary::<u8>().unwrap_or(0)) % GATE_CONFIGS.len();
    let Ok(head) = Head::take(&mut input) else {
        return;
    };
    let Some(request) = head.request() else {
        return;
    };
    let outcome = match GATES[config].check(&request) {
        GateResult::Plain => Outcome::Plain,
        GateResult::Refused(status) => Outcome::Refused(status),
        GateResult::Upgraded(subprotocol) => Outcome::Upgraded(subprotocol),
    };
    assert_eq!(outcome, head.outcome(&GATE_CONFIGS[config]), "{head:?}");
});
