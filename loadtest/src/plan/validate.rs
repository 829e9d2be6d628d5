//! The limits of a plan, also for plans from result files, which may have been edited by hand.

use std::fmt;
use std::time::Duration;

use super::{
    CONNECTIONS_MAX, Extent, FRAGMENTS_MAX, Load, PAYLOAD_LEN_MAX, PAYLOAD_LEN_SUM_MAX, Plan,
    Protocol, RATE_MAX, SIZES_MAX, SKIP_MAX, SLICES_MAX, THREADS_MAX, WEIGHT_SUM_MAX, WINDOW_MAX,
};
use crate::outcome::LATENCY_NS_MAX;
use crate::target::Scheme;
use crate::units::format_duration;

/// The longest phase of a run: long enough for any, and short enough to be
/// added to a clock.
pub const PHASE_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The longest timeout: longer latencies are not distinguished.
pub const TIMEOUT_MAX: Duration = Duration::from_nanos(LATENCY_NS_MAX);

/// The highest core that can be in an affinity mask (`CPU_SETSIZE`).
const CORE_MAX: usize = 1023;

/// The characters of a header field's name, beside letters and digits (RFC 9110, section 5.6.2).
const TOKEN_MARKS: &str = "!#$%&'*+-.^_`|~";

impl Plan {
    /// Checks every limit a plan has.
    ///
    /// # Errors
    /// A sentence that names the first field that is beyond one.
    pub fn validate(&self) -> Result<(), String> {
        self.validate_targets()?;
        self.validate_load()?;
        self.validate_phases()?;
        self.validate_connections()?;
        self.validate_messages()?;
        self.validate_fields()
    }

    fn validate_targets(&self) -> Result<(), String> {
        if self.targets.is_empty() {
            return Err("targets: the list is empty".to_owned());
        }
        let is_raw = self.protocol == Protocol::RawTcp;
        match self
            .targets
            .iter()
            .find(|target| (target.scheme() == Scheme::Tcp) != is_raw)
        {
            None => Ok(()),
            Some(target) => Err(format!(
                "targets: {target} cannot be mixed with other schemes: tcp:// is raw TCP"
            )),
        }
    }

    fn validate_load(&self) -> Result<(), String> {
        match self.load {
            Load::Closed { window } => in_range("window", window, 1, WINDOW_MAX),
            Load::Open { rate, .. } => positive_rate("rate", Some(rate)),
        }
    }

    fn validate_phases(&self) -> Result<(), String> {
        match self.extent {
            Extent::Duration(time) => phase("duration_ns", time, Duration::from_nanos(1))?,
            Extent::Messages(count) => in_range("messages", count, 1, u64::MAX)?,
        }
        in_range("slices", self.slices, 1, SLICES_MAX)?;
        if self.slices > 1 {
            self.validate_slices()?;
        }
        phase("warmup_ns", self.warmup, Duration::ZERO)?;
        phase("timeout_ns", self.timeout, Duration::from_nanos(1))?;
        if self.timeout > TIMEOUT_MAX {
            return Err(format!(
                "timeout_ns: more than {}",
                format_duration(TIMEOUT_MAX)
            ));
        }
        Ok(())
    }

    /// A load that goes on in pauses, or has no fixed end, cannot be sliced.
    fn validate_slices(&self) -> Result<(), String> {
        let uncut = [
            (matches!(self.extent, Extent::Messages(_)), "messages"),
            (self.churn_rate.is_some(), "churn_rate"),
            (self.slow_readers > 0, "slow_readers"),
        ];
        if let Some((_, field)) = uncut.iter().find(|(is_so, _)| *is_so) {
            return Err(format!("slices: there cannot be several with {field}"));
        }
        match self.slice(0).length {
            Some(length) if length.is_zero() => {
                Err(format!("slices: {} are too many", self.slices))
            }
            _ => Ok(()),
        }
    }

    fn validate_connections(&self) -> Result<(), String> {
        in_range("connections", self.connections, 1, CONNECTIONS_MAX)?;
        in_range(
            "idle_connections",
            self.idle_connections,
            0,
            CONNECTIONS_MAX,
        )?;
        in_range("slow_readers", self.slow_readers, 0, CONNECTIONS_MAX)?;
        positive_rate("connect_rate", self.connect_rate)?;
        positive_rate("churn_rate", self.churn_rate)?;
        if self.sockets() > u64::from(CONNECTIONS_MAX) {
            return Err(format!(
                "connections: {} in all are more than {CONNECTIONS_MAX}",
                self.sockets()
            ));
        }
        in_range("threads", self.threads, 1, THREADS_MAX)?;
        if self.threads > self.connections {
            return Err(format!(
                "threads: {} are too many for {} connections, as each needs one",
                self.threads, self.connections
            ));
        }
        for &core in &self.pin {
            in_range("pin", core, 0, CORE_MAX)?;
        }
        Ok(())
    }

    fn validate_messages(&self) -> Result<(), String> {
        in_range("sizes", self.sizes.len(), 1, SIZES_MAX)?;
        let mut weight_sum = 0u32;
        for share in &self.sizes {
            in_range("sizes: len", share.len, 0, PAYLOAD_LEN_MAX)?;
            in_range("sizes: weight", share.weight, 1, WEIGHT_SUM_MAX)?;
            // At most SIZES_MAX × WEIGHT_SUM_MAX.
            weight_sum += share.weight;
        }
        in_range("sizes: sum of the weights", weight_sum, 1, WEIGHT_SUM_MAX)?;
        let lens: usize = self.sizes.iter().map(|share| share.len).sum();
        in_range("sizes: sum of the lengths", lens, 0, PAYLOAD_LEN_SUM_MAX)?;
        if self.protocol == Protocol::RawTcp && self.fragments != 1 {
            return Err("fragments: raw TCP has none".to_owned());
        }
        if self.protocol == Protocol::RawTcp && self.skip != 0 {
            return Err("skip: raw TCP has no messages".to_owned());
        }
        in_range("skip", self.skip, 0, SKIP_MAX)?;
        in_range("fragments", self.fragments, 1, FRAGMENTS_MAX)
    }

    /// They become part of the request: a line break would end its line.
    fn validate_fields(&self) -> Result<(), String> {
        for (name, value) in &self.headers {
            if !is_token(name) {
                return Err(format!("headers: {name:?} is not a field name"));
            }
            if let Some(instead) = instead_of(name) {
                return Err(format!(
                    "headers: {name} belongs to the handshake itself{instead}"
                ));
            }
            if value.chars().any(|c| c.is_control() && c != '\t') {
                return Err(format!(
                    "headers: the value of {name} has control characters"
                ));
            }
        }
        match self.subprotocols.iter().find(|name| !is_token(name)) {
            None => Ok(()),
            Some(name) => Err(format!("subprotocols: {name:?} is not a token")),
        }
    }
}

fn in_range<T: Copy + PartialOrd + fmt::Display>(
    field: &str,
    value: T,
    min: T,
    max: T,
) -> Result<(), String> {
    if value < min || value > max {
        return Err(format!("{field}: {value} is not within {min} and {max}"));
    }
    Ok(())
}

fn positive_rate(field: &str, rate: Option<f64>) -> Result<(), String> {
    match rate {
        // Written so that NaN is refused.
        Some(rate) if !(rate > 0.0 && rate <= RATE_MAX) => Err(format!(
            "{field}: {rate}/s is not above 0 and at most {RATE_MAX}"
        )),
        _ => Ok(()),
    }
}

fn phase(field: &str, time: Duration, min: Duration) -> Result<(), String> {
    if time < min || time > PHASE_MAX {
        return Err(format!(
            "{field}: {} is not within {} and {}",
            format_duration(time),
            format_duration(min),
            format_duration(PHASE_MAX)
        ));
    }
    Ok(())
}

/// The alternative to a field that the handshake sets itself, or that a GET without a body cannot
/// have.
fn instead_of(name: &str) -> Option<&'static str> {
    let own = [
        ("connection", ""),
        ("content-length", ""),
        ("sec-websocket-accept", ""),
        ("sec-websocket-extensions", "; no extension is spoken"),
        ("sec-websocket-key", ""),
        ("sec-websocket-protocol", ": use --subprotocol"),
        ("sec-websocket-version", ""),
        ("transfer-encoding", ""),
        ("upgrade", ""),
    ];
    let found = own.iter().find(|(own, _)| name.eq_ignore_ascii_case(own));
    found.map(|&(_, instead)| instead)
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || TOKEN_MARKS.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::plan::{Arrival, SizeShare};

    /// The error of `validate` for the fixture's plan after a change.
    fn after(change: impl FnOnce(&mut Plan)) -> String {
        let mut plan = fixture::plan();
        change(&mut plan);
        plan.validate().err().unwrap_or_default()
    }

    #[test]
    fn a_plan_at_its_limits_is_sound() {
        assert_eq!(fixture::plan().validate(), Ok(()));
        let error = after(|plan| {
            plan.connections = CONNECTIONS_MAX;
            plan.load = Load::Closed { window: WINDOW_MAX };
            plan.threads = THREADS_MAX;
            plan.fragments = FRAGMENTS_MAX;
            plan.pin = vec![0, CORE_MAX];
            plan.extent = Extent::Messages(u64::MAX);
            plan.warmup = PHASE_MAX;
            plan.connect_rate = Some(RATE_MAX);
            plan.headers = vec![("X-A_b".to_owned(), "1\t2 ü".to_owned())];
            plan.subprotocols = vec!["chat.v1".to_owned()];
            let size = |len| SizeShare {
                len,
                weight: WEIGHT_SUM_MAX / 64,
            };
            plan.sizes = vec![size(0); SIZES_MAX];
            plan.sizes[0] = size(PAYLOAD_LEN_MAX);
            plan.sizes[1] = size(PAYLOAD_LEN_SUM_MAX - PAYLOAD_LEN_MAX);
        });
        assert_eq!(error, "");
    }

    #[test]
    fn every_limit_is_checked() {
        let rate = |rate| Load::Open {
            rate,
            arrival: Arrival::Fixed,
        };
        let size = |len, weight| vec![SizeShare { len, weight }];
        for (field, error) in [
            ("targets", after(|plan| plan.targets.clear())),
            ("targets", after(|plan| plan.protocol = Protocol::RawTcp)),
            (
                "window",
                after(|plan| plan.load = Load::Closed { window: 0 }),
            ),
            ("rate", after(|plan| plan.load = rate(0.0))),
            ("rate", after(|plan| plan.load = rate(f64::NAN))),
            ("rate", after(|plan| plan.load = rate(1.1e9))),
            (
                "duration_ns",
                after(|plan| plan.extent = Extent::Duration(Duration::ZERO)),
            ),
            ("messages", after(|plan| plan.extent = Extent::Messages(0))),
            (
                "warmup_ns",
                after(|plan| plan.warmup = PHASE_MAX + Duration::from_nanos(1)),
            ),
            ("timeout_ns", after(|plan| plan.timeout = Duration::ZERO)),
            (
                "timeout_ns",
                after(|plan| plan.timeout = TIMEOUT_MAX + Duration::from_nanos(1)),
            ),
            ("connections", after(|plan| plan.connections = 0)),
            (
                "connections",
                after(|plan| plan.connections = CONNECTIONS_MAX + 1),
            ),
            (
                "idle_connections",
                after(|plan| plan.idle_connections = u32::MAX),
            ),
            ("slow_readers", after(|plan| plan.slow_readers = u32::MAX)),
            ("connect_rate", after(|plan| plan.connect_rate = Some(-1.0))),
            ("churn_rate", after(|plan| plan.churn_rate = Some(0.0))),
            ("threads", after(|plan| plan.threads = 0)),
            (
                "threads",
                after(|plan| (plan.connections, plan.threads) = (1, 2)),
            ),
            ("pin", after(|plan| plan.pin = vec![1024])),
            ("sizes", after(|plan| plan.sizes.clear())),
            ("sizes: len", after(|plan| plan.sizes = size(usize::MAX, 1))),
            ("sizes: weight", after(|plan| plan.sizes = size(1, 0))),
            (
                "sizes: sum of the weights",
                after(|plan| plan.sizes = [size(1, 4096), size(2, 1)].concat()),
            ),
            (
                "sizes: sum of the lengths",
                after(|plan| {
                    plan.sizes = [
                        size(PAYLOAD_LEN_MAX, 1),
                        size(PAYLOAD_LEN_MAX, 1),
                        size(1, 1),
                    ]
                    .concat();
                }),
            ),
            ("fragments", after(|plan| plan.fragments = 1025)),
            ("skip", after(|plan| plan.skip = SKIP_MAX + 1)),
            (
                "headers",
                after(|plan| plan.headers = vec![("upgrade".to_owned(), "h2c".to_owned())]),
            ),
            (
                "headers",
                after(|plan| plan.headers = vec![("a b".to_owned(), String::new())]),
            ),
            (
                "headers",
                after(|plan| plan.headers = vec![("a".to_owned(), "b\r\nc: d".to_owned())]),
            ),
            (
                "subprotocols",
                after(|plan| plan.subprotocols = vec![String::new()]),
            ),
        ] {
            assert!(
                error.starts_with(&format!("{field}: ")),
                "{field}: {error:?}"
            );
            assert!(!error.contains('\n'), "{error:?}");
        }
    }

    #[test]
    fn loads_that_cannot_pause_have_one_slice() {
        for error in [
            after(|plan| plan.slices = 0),
            after(|plan| plan.slices = SLICES_MAX + 1),
            after(|plan| (plan.slices, plan.slow_readers) = (2, 1)),
            after(|plan| (plan.slices, plan.churn_rate) = (2, Some(1.0))),
            after(|plan| (plan.slices, plan.extent) = (2, Extent::Messages(100))),
            after(|plan| {
                plan.extent = Extent::Duration(Duration::from_nanos(9));
                plan.slices = 10;
            }),
        ] {
            assert!(error.starts_with("slices: "), "{error:?}");
        }
        assert_eq!(after(|plan| plan.slices = 10), "");
    }
}
