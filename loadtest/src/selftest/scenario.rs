//! The scenarios, in their order.

use std::time::Duration;

use super::injection::{FAULT_AT, Injection, Tolerance};
use crate::builtin::{Fault, Stall};
use crate::client::MessageKind;
use crate::plan::{Arrival, Extent, Load, Pace, Plan, Protocol, SizeShare};

/// A quiet machine adds tens of microseconds. These bounds are for one with neighbours, and still
/// distinguish a delay from twice the delay.
const FULL: Tolerance = Tolerance {
    p50_ns: 1_500_000,
    p90_ns: 3_000_000,
    p99_ns: 10_000_000,
    lag_ns: 5_000_000,
    stray_share: 0.0,
};

/// For a run of a second, in which one disturbance is a hundredth.
const QUICK: Tolerance = Tolerance {
    p50_ns: 2_500_000,
    p90_ns: 8_000_000,
    p99_ns: 20_000_000,
    lag_ns: 20_000_000,
    stray_share: 0.0,
};

/// For a quick run whose cores were taken by other processes in every attempt. The checks that
/// remain are those without a tolerance, and the order of the modes: p90 of replies that are 1 ms
/// late stays below the 40 ms of the rare ones.
const QUICK_BUSY: Tolerance = Tolerance {
    p50_ns: 25_000_000,
    p90_ns: 38_000_000,
    p99_ns: 100_000_000,
    lag_ns: 50_000_000,
    stray_share: 0.05,
};

/// Involuntary context switches of server or generator per second from which on the machine
/// counts as busy. On cores of their own there are a handful.
const BUSY_SWITCHES_PER_S: f64 = 20.0;

/// One run: the load, the server's behaviour, and a title.
#[derive(Debug)]
pub(super) struct Scenario {
    /// A description of the injected behaviour. Scenarios with the same one are listed together.
    pub(super) title: String,
    pub(super) plan: Plan,
    pub(super) injection: Injection,
    pub(super) quick: bool,
}

impl Scenario {
    /// The tolerance, and whether it is wider than usual: in the last attempt of a quick run on a
    /// busy machine.
    pub(super) fn tolerance(&self, is_last: bool, switches_per_s: f64) -> (Tolerance, bool) {
        let is_wide = self.quick && is_last && switches_per_s > BUSY_SWITCHES_PER_S;
        let tolerance = match self.quick {
            true if is_wide => QUICK_BUSY,
            true => QUICK,
            false => FULL,
        };
        (tolerance, is_wide)
    }
}

/// All of them.
pub(super) fn scenarios(quick: bool, generator_core: usize) -> Vec<Scenario> {
    let maker = ScenarioBuilder {
        quick,
        generator_core,
    };
    let mut all = vec![
        maker.nothing(),
        maker.constant(),
        maker.bimodal(),
        maker.open_stall(),
        maker.closed_stall(),
        maker.timeout(),
        maker.overload(),
        maker.random_arrivals(),
    ];
    all.extend(maker.faults());
    all
}

struct ScenarioBuilder {
    quick: bool,
    generator_core: usize,
}

impl ScenarioBuilder {
    fn nothing(&self) -> Scenario {
        let plan = self.plan(open(2_000.0), 100, self.seconds(1, 5));
        self.scenario("no delay", plan, Injection::Nothing)
    }

    fn constant(&self) -> Scenario {
        let plan = self.plan(open(1_000.0), 100, self.seconds(1, 5));
        let delay = Duration::from_millis(5);
        self.scenario("each reply 5 ms late", plan, Injection::Constant(delay))
    }

    /// Each connection has a message every 100 ms: none waits for a reply that is 40 ms late.
    fn bimodal(&self) -> Scenario {
        let plan = self.plan(open(2_000.0), 200, self.seconds(1, 10));
        let injection = Injection::Bimodal {
            n: 50,
            usual: Duration::from_millis(1),
            rare: Duration::from_millis(40),
        };
        self.scenario(
            "every 50th reply 40 ms late, the others 1 ms",
            plan,
            injection,
        )
    }

    fn open_stall(&self) -> Scenario {
        let plan = self.plan(open(1_000.0), 50, self.seconds(3, 5));
        let stall = Stall {
            at: self.seconds(1, 2),
            length: Duration::from_secs(1),
        };
        self.scenario("a stall of 1 s", plan, Injection::OpenStall(stall))
    }

    fn closed_stall(&self) -> Scenario {
        let plan = self.plan(Load::Closed { window: 1 }, 1, self.seconds(2, 3));
        let stall = Stall {
            at: Duration::from_millis(500),
            length: Duration::from_secs(1),
        };
        self.scenario(
            "the same stall, and what a closed loop makes of it",
            plan,
            Injection::ClosedStall(stall),
        )
    }

    fn timeout(&self) -> Scenario {
        let mut plan = self.plan(open(1_000.0), 50, Duration::from_secs(3));
        plan.timeout = Duration::from_millis(300);
        let stall = Stall {
            at: Duration::from_millis(500),
            length: Duration::from_secs(1),
        };
        self.scenario(
            "a stall of 1 s with a timeout of 300 ms",
            plan,
            Injection::Timeout(stall),
        )
    }

    fn overload(&self) -> Scenario {
        let mut plan = self.plan(open(20e6), 10, Duration::from_millis(200));
        plan.timeout = Duration::from_millis(500);
        self.scenario("more than can be sent", plan, Injection::Overload)
    }

    fn random_arrivals(&self) -> Scenario {
        let load = Load::Open {
            rate: 2_000.0,
            arrival: Arrival::Poisson,
        };
        let plan = self.plan(load, 100, self.seconds(1, 5));
        self.scenario("no delay, random arrivals", plan, Injection::RandomArrivals)
    }

    /// Each fault where it can be distinguished from correct behaviour.
    fn faults(&self) -> Vec<Scenario> {
        let [open, alone, four] = [
            open(2_000.0),
            Load::Closed { window: 1 },
            Load::Closed { window: 4 },
        ];
        let fault = |load: Load, fault: Fault| {
            let mut plan = self.plan(load, 1, Duration::from_secs(5));
            match fault {
                // Only the timeout shows that a reply is missing.
                Fault::Drop | Fault::Swap if load == alone => {
                    plan.timeout = Duration::from_millis(300);
                }
                // It is detected at the end.
                Fault::WrongCloseCode => {
                    plan.extent = Extent::Duration(Duration::from_millis(100));
                }
                _ => {}
            }
            Scenario {
                title: format!("one fault, with message {} of 1 connection", FAULT_AT + 1),
                plan,
                injection: Injection::Fault(fault),
                quick: self.quick,
            }
        };
        [
            Fault::WrongByte,
            Fault::WrongType,
            Fault::Drop,
            Fault::Swap,
            Fault::Duplicate,
            Fault::WrongCloseCode,
            Fault::Disconnect,
        ]
        .into_iter()
        .flat_map(|which| [alone, four, open].map(|load| fault(load, which)))
        .collect()
    }

    fn scenario(&self, what: &str, plan: Plan, injection: Injection) -> Scenario {
        Scenario {
            title: format!("{what}: {plan}"),
            plan,
            injection,
            quick: self.quick,
        }
    }

    fn seconds(&self, quick: u64, full: u64) -> Duration {
        Duration::from_secs(if self.quick { quick } else { full })
    }

    /// A plan without a warm-up: what the server counts is what is measured.
    fn plan(&self, load: Load, connections: u32, time: Duration) -> Plan {
        Plan {
            targets: Vec::new(),
            protocol: Protocol::WebSocket,
            extent: Extent::Duration(time),
            slices: 1,
            warmup: Duration::ZERO,
            timeout: Duration::from_secs(5),
            connections,
            connect_rate: None,
            churn_rate: None,
            idle_connections: 0,
            slow_readers: 0,
            threads: 1,
            pin: vec![self.generator_core],
            pace: Pace::default_for(&load),
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
            load,
        }
    }
}

fn open(rate: f64) -> Load {
    Load::Open {
        rate,
        arrival: Arrival::Fixed,
    }
}
