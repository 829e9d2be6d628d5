//! The flags of messages, in the bytes on the wire.

use std::collections::HashSet;

use crate::support::frames::{BINARY, CONTINUATION, TEXT, Transcript};
use crate::support::peer::Peer;
use crate::support::program::{loadtest, result_of};
use loadtest::client::MessageKind;

/// The bytes that one connection sends with these flags.
fn sent_with(arguments: &[&str]) -> Transcript {
    let peer = Peer::echo();
    let url = peer.url();
    let common = ["-c1", "--warmup=0s", &url];
    let counts = result_of(&[&common, arguments].concat()).counts;
    assert_eq!(counts.due, counts.answered);
    let transcript = peer.transcript();
    assert_eq!(transcript.messages() as u64, counts.due);
    assert!(transcript.ended_well(), "Close 1000 comes last");
    transcript
}

#[test]
fn messages_have_the_sizes_and_their_weights() {
    for load in [&["-w8"][..], &["--rate=10k"]] {
        let arguments = ["--size=64:3,5000:1", "-n2000", "--seed=3"];
        let sent = sent_with(&[load, &arguments].concat());
        let of_len = |len| {
            let data = sent.data();
            data.iter()
                .filter(|frame| frame.payload.len() == len)
                .count()
        };
        assert_eq!(of_len(64) + of_len(5000), 2000);
        // Five standard deviations around a quarter.
        assert!((403..=597).contains(&of_len(5000)), "{}", of_len(5000));
    }
}

#[test]
fn every_length_of_a_header_occurs() {
    for len in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
        let size = format!("-s{len}");
        for load in [&["-w3"][..], &["--rate=1k", "--text"]] {
            let sent = sent_with(&[load, &["-n20", &size]].concat());
            for frame in sent.data() {
                assert_eq!(frame.payload.len(), len);
            }
        }
    }
}

#[test]
fn messages_are_of_their_type() {
    for (flags, opcode) in [
        (&[][..], BINARY),
        (&["--type=binary"], BINARY),
        (&["--type=text"], TEXT),
        (&["--text"], TEXT),
    ] {
        let sent = sent_with(&[&["-n40", "-s200"], flags].concat());
        for frame in sent.data() {
            assert_eq!((frame.opcode, frame.is_final), (opcode, true));
            if opcode == TEXT {
                assert!(frame.payload.iter().all(u8::is_ascii));
            }
        }
    }
}

#[test]
fn masks_and_payloads_vary() {
    let data = sent_with(&["-n200", "-w4"]).data();
    let masks: HashSet<_> = data.iter().map(|frame| frame.mask).collect();
    assert!(masks.len() > 10, "{}", masks.len());
    let payloads: HashSet<_> = data.iter().map(|frame| &frame.payload).collect();
    assert_eq!(payloads.len(), 200, "no message is like another");
}

#[test]
fn messages_are_sent_in_fragments() {
    for (size, parts) in [
        ("-s20", [7, 7, 6]),
        ("-s1", [1, 0, 0]),
        ("-s200k", [68_267, 68_267, 68_266]),
    ] {
        for kind in ["--type=text", "--type=binary"] {
            let sent = sent_with(&["--fragment=3", "-n50", "-w2", size, kind]);
            let first = if kind == "--type=text" { TEXT } else { BINARY };
            let data = sent.data();
            assert_eq!(data.len(), 150);
            for message in data.chunks_exact(3) {
                let opcodes = message.iter().map(|frame| (frame.opcode, frame.is_final));
                let expected = [(first, false), (CONTINUATION, false), (CONTINUATION, true)];
                assert!(opcodes.eq(expected), "{message:?}");
                let lens = message.iter().map(|frame| frame.payload.len());
                assert!(lens.eq(parts), "{size}");
            }
        }
    }
}

#[test]
fn frames_are_cut_across_writes() {
    let mut cut = 0;
    for load in [&["-w1"][..], &["-w8"], &["--rate=2k"]] {
        let peer = Peer::echo();
        let url = peer.url();
        let arguments = ["-c1", "--split", "-n400", "-s300", "--warmup=0s", &url];
        let result = result_of(&[load, &arguments].concat());
        assert!(result.plan.split);
        assert_eq!((result.counts.due, result.counts.answered), (400, 400));
        // A write takes a whole frame only by chance.
        assert!(result.counts.writes > 500, "{:?}", result.counts);
        let sent = peer.transcript();
        let frames: HashSet<_> = sent.frames().iter().map(|frame| frame.end).collect();
        let inside = |end: &&usize| **end > 0 && !frames.contains(*end);
        cut += sent.read_ends.iter().filter(inside).count();
    }
    // A peer that is late reads what two writes have brought at once.
    assert!(cut > 0, "no read ended in the middle of a frame");
}

#[test]
fn frames_stay_whole_without_the_flag() {
    let peer = Peer::echo();
    let url = peer.url();
    let result = result_of(&["-c1", "-n400", "-s300", "--warmup=0s", &url]);
    assert_eq!(result.counts.writes, 400);
}

#[test]
fn a_seed_repeats_every_byte() {
    for flags in [
        &["-w5"][..],
        &["--rate=2k", "--text"],
        &["--split", "--size=10:1,3000:2", "--fragment=2"],
    ] {
        let send = |seed: &str| sent_with(&[flags, &["-n100", seed]].concat());
        let (one, again, other) = (send("--seed=7"), send("--seed=7"), send("--seed=8"));
        assert_eq!(one.bytes, again.bytes);
        let key = |sent: &Transcript| sent.field("Sec-WebSocket-Key").map(str::to_owned);
        assert!(key(&one).is_some());
        assert_eq!(key(&one), key(&again));
        assert_ne!(one.bytes, other.bytes);
    }
}

#[test]
fn a_seed_is_printed_and_recorded() {
    let peer = Peer::echo();
    let url = peer.url();
    let common = ["run", "--format=json", "-c1", "-n3", "--warmup=0s", &url];
    let run = loadtest(&[&common[..], &["--seed=12"]].concat()).assert_ok();
    assert!(run.stderr.starts_with("loadtest: seed 12\n"), "{run:?}");
    assert_eq!(run.result().plan.seed, 12);
    let seeds = [(), ()].map(|()| loadtest(&common).assert_ok().result().plan.seed);
    assert_ne!(seeds[0], seeds[1], "it is random by default");
}

#[test]
fn the_plan_keeps_what_messages_are_like() {
    let peer = Peer::echo();
    let url = peer.url();
    let flags = [
        "--text",
        "--fragment=4",
        "-s10:1,20:2",
        "-n10",
        "--warmup=0s",
    ];
    let plan = result_of(&[&flags[..], &["-c2", &url]].concat()).plan;
    assert_eq!((plan.kind, plan.fragments), (MessageKind::Text, 4));
    let sizes = plan.sizes.iter().map(|share| (share.len, share.weight));
    assert!(sizes.eq([(10, 1), (20, 2)]));
}
