//! A plan and an outcome for the tests of what is made of them.

use std::time::{Duration, UNIX_EPOCH};

use crate::client::MessageKind;
use crate::machine::Environment;
use crate::outcome::{Counts, GeneratorUse, Interval, Latencies, Outcome, histogram};
use crate::plan::{Arrival, Extent, Load, Pace, Plan, Protocol, SizeShare};
use crate::result::{Record, ResultFile, encode_latencies};
use crate::slo::Slo;
use crate::verdict::{Facts, judge};
use crate::watch::Usage;

/// An open loop at 50,000/s for 10 s.
pub(crate) fn plan() -> Plan {
    Plan {
        targets: vec!["ws://127.0.0.1:9001/".parse().unwrap()],
        protocol: Protocol::WebSocket,
        load: Load::Open {
            rate: 50_000.0,
            arrival: Arrival::Fixed,
        },
        extent: Extent::Duration(Duration::from_secs(10)),
        slices: 1,
        warmup: Duration::from_secs(1),
        timeout: Duration::from_secs(5),
        connections: 100,
        connect_rate: None,
        churn_rate: None,
        idle_connections: 0,
        slow_readers: 0,
        threads: 1,
        pin: Vec::new(),
        pace: Pace::Spin,
        sizes: vec![SizeShare { len: 32, weight: 1 }],
        kind: MessageKind::Binary,
        fragments: 1,
        split: false,
        headers: Vec::new(),
        subprotocols: Vec::new(),
        skip: 0,
        insecure: false,
        ca_file: None,
        sources: None,
        seed: 1,
    }
}

/// The outcome of the plan when all goes well: 500,000 messages, the slowest of which took 5 ms.
pub(crate) fn outcome() -> Outcome {
    let mut whole = Latencies::new();
    let mut intervals = Vec::new();
    for second in 0..10 {
        let latencies = second_of_latencies();
        whole.add(&latencies);
        intervals.push(Interval {
            start: Duration::from_secs(second),
            length: Duration::from_secs(1),
            due: 50_000,
            echoed: 50_000,
            timed_out: 0,
            latencies: encode_latencies(&latencies),
        });
    }
    let mut handshake_ns = histogram();
    handshake_ns.record_n(200_000, 100).unwrap();
    Outcome {
        addresses: vec!["127.0.0.1:9001".to_owned()],
        started_at: UNIX_EPOCH + Duration::from_millis(1_764_028_636_007),
        elapsed: Duration::from_secs(10),
        counts: counts(),
        latencies: whole,
        handshake_ns,
        handshakes_at_a_time: Some(2),
        intervals,
        generator: GeneratorUse {
            usage: Usage {
                cpu_ns: 5_000_000_000,
                run_queue_wait_ns: Some(10_000_000),
                user_ns: 3_000_000_000,
                system_ns: 2_000_000_000,
                voluntary_switches: 5_000,
                involuntary_switches: 50,
                rss_before: 8 << 20,
                rss_after: 9 << 20,
                threads: 1,
            },
            spin_ns: 1_000_000_000,
            busy_max: 0.4,
        },
        server: Some(Usage {
            cpu_ns: 2_500_000_000,
            run_queue_wait_ns: Some(100_000_000),
            user_ns: 500_000_000,
            system_ns: 2_000_000_000,
            voluntary_switches: 250_000,
            involuntary_switches: 0,
            rss_before: 4 << 20,
            rss_after: (4 << 20) + 100 * 2_048,
            threads: 1,
        }),
        server_busy_max: Some(0.24),
        idle_cores: None,
        added_sources: 0,
        unclosed: None,
        shared_core: Some(false),
        steal_share: Some(0.001),
        interrupted: false,
        failure: None,
    }
}

/// The outcome as a result file.
pub(crate) fn result() -> ResultFile {
    result_of(&plan(), &outcome())
}

/// An outcome as a result file.
pub(crate) fn result_of(plan: &Plan, outcome: &Outcome) -> ResultFile {
    let slo: Slo = "p99<2ms".parse().unwrap();
    ResultFile::new(&Record {
        label: "epoll",
        plan,
        args: &["--rate".to_owned(), "50k".to_owned()],
        outcome,
        judgement: &judge(&Facts::of(plan, outcome)),
        objectives: &slo.evaluate(outcome, plan.sockets()),
        server_command: Some("ringback --port 9001"),
        server_sha256: None,
        environment: &Environment::default(),
    })
}

/// The outcome of the plan when nothing is answered.
pub(crate) fn silent_outcome() -> Outcome {
    Outcome {
        counts: Counts::default(),
        latencies: Latencies::new(),
        handshake_ns: histogram(),
        intervals: Vec::new(),
        generator: GeneratorUse::default(),
        server: None,
        server_busy_max: None,
        idle_cores: None,
        shared_core: None,
        ..outcome()
    }
}

fn counts() -> Counts {
    Counts {
        due: 500_000,
        sent: 500_000,
        sent_total: 550_000,
        answered: 500_000,
        echoed: 500_000,
        echoed_bytes: 16_000_000,
        carried_in: 4,
        reads: 400_000,
        writes: 500_000,
        handshakes: 100,
        ..Counts::default()
    }
}

fn second_of_latencies() -> Latencies {
    let mut latencies = Latencies::new();
    for (response_ns, count) in [
        (50_000, 49_000),
        (80_000, 940),
        (1_000_000, 59),
        (5_000_000, 1),
    ] {
        latencies.response_ns.record_n(response_ns, count).unwrap();
        let service_ns = response_ns - 1_000;
        latencies.service_ns.record_n(service_ns, count).unwrap();
    }
    latencies.lag_ns.record_n(1_000, 50_000).unwrap();
    latencies
}
