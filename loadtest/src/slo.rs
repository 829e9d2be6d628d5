//! Service level objectives of a run, and their evaluation.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::outcome::{Histogram, Outcome};
use crate::percentile::Percentile;
use crate::result::numbers::{Cost, RSS_SOCKETS_MIN};
use crate::units::{
    format_bytes, format_count, format_duration, format_ns, format_rate, parse_count,
    parse_duration, parse_rate, parse_size,
};

/// The text for an unknown number.
const UNKNOWN: &str = "–";

/// Objectives, at least one. The text form is `p99<2ms,errors<0.01%,rate>50k`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Slo {
    objectives: Vec<Objective>,
}

/// The result of one objective.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SloResult {
    /// The objective: `p99<2ms`.
    pub objective: String,
    /// The observed value: `1.20 ms`, or why there is none.
    pub observed: String,
    /// Whether it was kept to.
    pub met: bool,
    /// Whether it could be evaluated; if not, as with too few messages, it is not met.
    pub supported: bool,
}

impl Slo {
    /// Evaluates the objectives for a run, in their order.
    ///
    /// A time that is only a lower bound, because messages were unanswered, is below no limit.
    ///
    /// Memory is per socket of `sockets`.
    pub fn evaluate(&self, outcome: &Outcome, sockets: u64) -> Vec<SloResult> {
        self.objectives
            .iter()
            .map(|objective| objective.evaluate(outcome, sockets))
            .collect()
    }
}

impl SloResult {
    /// Evaluates the objective against a run again, whatever the file says. An unknown one, as of
    /// a later release, is not met.
    pub fn evaluate_again(&mut self, outcome: &Outcome, sockets: u64) {
        if let Ok(objective) = self.objective.parse::<Objective>() {
            *self = objective.evaluate(outcome, sockets);
        } else {
            "this loadtest does not know it".clone_into(&mut self.observed);
            (self.met, self.supported) = (false, false);
        }
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, objective) in self.objectives.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{objective}")?;
        }
        Ok(())
    }
}

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let objectives = text.split(',').map(str::trim).map(str::parse);
        Ok(Self {
            objectives: objectives.collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<String> for Slo {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Slo> for String {
    fn from(slo: Slo) -> Self {
        slo.to_string()
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Objective {
    metric: MetricLimit,
    relation: Relation,
}

/// A metric with its limit, which is in the metric's unit.
#[derive(Debug, Clone, Copy, PartialEq)]
enum MetricLimit {
    Response(Statistic, Duration),
    Service(Statistic, Duration),
    Lag(Statistic, Duration),
    Handshake(Statistic, Duration),
    /// The server's CPU time per message.
    Cpu(Duration),
    /// The server's resident memory per connection, in bytes.
    Rss(usize),
    ErrorCount(u64),
    ErrorPercent(f64),
    Rate(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Statistic {
    Percentile(Percentile),
    Max,
    Mean,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Less,
    AtMost,
    More,
    AtLeast,
}

impl Objective {
    fn evaluate(&self, outcome: &Outcome, sockets: u64) -> SloResult {
        let counts = &outcome.counts;
        let mut why_unknown = UNKNOWN;
        let observed = match self.metric {
            MetricLimit::Response(statistic, limit) => {
                let response_ns = &outcome.latencies.response_ns;
                self.time(statistic, limit, response_ns, counts.unanswered)
            }
            MetricLimit::Service(statistic, limit) => {
                // Messages that were never sent have no service time.
                let sent_unanswered = counts
                    .unanswered
                    .min(counts.sent.saturating_sub(counts.answered));
                let service_ns = &outcome.latencies.service_ns;
                self.time(statistic, limit, service_ns, sent_unanswered)
            }
            MetricLimit::Lag(statistic, limit) => {
                // Messages that were never sent have a lag longer than the recorded one.
                let unsent = counts.due.saturating_sub(counts.sent);
                self.time(statistic, limit, &outcome.latencies.lag_ns, unsent)
            }
            MetricLimit::Handshake(statistic, limit) => {
                self.time(statistic, limit, &outcome.handshake_ns, 0)
            }
            MetricLimit::Cpu(limit) => {
                why_unknown = "the server's process is not known: --server-cmd, --server-pid";
                let cost = outcome
                    .server
                    .map(|usage| Cost::of(&usage, outcome, sockets));
                cost.and_then(|cost| cost.cpu_ns_per_message)
                    .map(|ns| Observed {
                        text: format_ns(rounded(ns)),
                        met: self.relation.holds(&ns, &(limit.as_nanos() as f64)),
                    })
            }
            MetricLimit::Rss(limit) => {
                why_unknown = if sockets < RSS_SOCKETS_MIN {
                    "fewer than 1,000 connections are too few"
                } else {
                    "the server's process is not known: --server-cmd, --server-pid"
                };
                let cost = outcome
                    .server
                    .map(|usage| Cost::of(&usage, outcome, sockets));
                cost.and_then(|cost| cost.rss_bytes_per_connection)
                    .map(|bytes| Observed {
                        text: format_bytes(bytes as f64),
                        met: self.relation.holds(&bytes, &(limit as u64)),
                    })
            }
            MetricLimit::ErrorCount(limit) => Some(Observed {
                text: format_count(counts.errors()),
                met: self.relation.holds(&counts.errors(), &limit),
            }),
            MetricLimit::ErrorPercent(limit) => (counts.due > 0).then(|| {
                let percent = counts.errors() as f64 / counts.due as f64 * 100.0;
                Observed {
                    text: format!("{percent:.4} %"),
                    met: self.relation.holds(&percent, &limit),
                }
            }),
            MetricLimit::Rate(limit) => Some(Observed {
                text: format!("{}/s", format_rate(outcome.rate())),
                met: self.relation.holds(&outcome.rate(), &limit),
            }),
        };
        let (observed, supported) = (observed.as_ref(), observed.is_some());
        SloResult {
            objective: self.to_string(),
            observed: observed.map_or_else(|| why_unknown.to_owned(), |seen| seen.text.clone()),
            met: observed.is_some_and(|seen| seen.met),
            supported,
        }
    }

    fn time(
        &self,
        statistic: Statistic,
        limit: Duration,
        times_ns: &Histogram,
        censored: u64,
    ) -> Option<Observed> {
        let samples = times_ns.len();
        if samples == 0 {
            return None;
        }
        let (observed_ns, is_lower_bound) = match statistic {
            Statistic::Percentile(percentile) => (
                percentile.of(times_ns)?,
                percentile.is_censored(samples, censored),
            ),
            Statistic::Max => (times_ns.max(), censored > 0),
            Statistic::Mean => (rounded(times_ns.mean()), censored > 0),
        };
        let holds = self
            .relation
            .holds(&u128::from(observed_ns), &limit.as_nanos());
        let bound = if is_lower_bound { "≥" } else { "" };
        Some(Observed {
            text: format!("{bound}{}", format_ns(observed_ns)),
            met: holds && (!is_lower_bound || self.relation.is_floor()),
        })
    }
}

struct Observed {
    text: String,
    met: bool,
}

impl Relation {
    /// Longer ones first, as the shorter ones are their prefixes.
    const ALL: [Self; 4] = [Self::AtMost, Self::AtLeast, Self::Less, Self::More];

    fn text(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::More => ">",
            Self::AtLeast => ">=",
        }
    }

    fn is_floor(self) -> bool {
        matches!(self, Self::More | Self::AtLeast)
    }

    fn holds<T: PartialOrd>(self, observed: &T, limit: &T) -> bool {
        match self {
            Self::Less => observed < limit,
            Self::AtMost => observed <= limit,
            Self::More => observed > limit,
            Self::AtLeast => observed >= limit,
        }
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let relation = self.relation.text();
        match self.metric {
            MetricLimit::Response(statistic, limit) => {
                write!(f, "{statistic}{relation}{}", format_duration(limit))
            }
            MetricLimit::Service(statistic, limit) => {
                let limit = format_duration(limit);
                write!(f, "service.{statistic}{relation}{limit}")
            }
            MetricLimit::Lag(statistic, limit) => {
                write!(f, "lag.{statistic}{relation}{}", format_duration(limit))
            }
            MetricLimit::Handshake(statistic, limit) => {
                let limit = format_duration(limit);
                write!(f, "handshake.{statistic}{relation}{limit}")
            }
            MetricLimit::Cpu(limit) => write!(f, "cpu{relation}{}", format_duration(limit)),
            MetricLimit::Rss(limit) => write!(f, "rss{relation}{limit}"),
            MetricLimit::ErrorCount(limit) => write!(f, "errors{relation}{limit}"),
            MetricLimit::ErrorPercent(limit) => write!(f, "errors{relation}{limit}%"),
            MetricLimit::Rate(limit) => write!(f, "rate{relation}{limit}"),
        }
    }
}

impl FromStr for Objective {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const ADVICE: &str = "write objectives as p99<2ms,errors<0.01%,rate>50k";
        if text.is_empty() {
            return Err(format!("an objective is missing; {ADVICE}"));
        }
        let (name, relation, limit) = split_relation(text)
            .ok_or_else(|| format!("{text:?} has none of < <= > >=; {ADVICE}"))?;
        let metric =
            parse_metric(name, limit, relation).map_err(|reason| format!("{text:?}: {reason}"))?;
        Ok(Self { metric, relation })
    }
}

fn split_relation(text: &str) -> Option<(&str, Relation, &str)> {
    let at = text.find(['<', '>'])?;
    let relation = Relation::ALL
        .into_iter()
        .find(|relation| text[at..].starts_with(relation.text()))?;
    let limit = &text[at + relation.text().len()..];
    Some((text[..at].trim(), relation, limit.trim()))
}

fn parse_metric(name: &str, limit: &str, relation: Relation) -> Result<MetricLimit, String> {
    match name {
        "errors" => parse_errors(limit),
        "rate" if relation.is_floor() => parse_rate(limit).map(MetricLimit::Rate),
        "rate" => Err("a rate is held against > or >=".to_owned()),
        "cpu" => parse_duration(limit).map(MetricLimit::Cpu),
        "rss" => parse_size(limit).map(MetricLimit::Rss),
        _ => {
            let (metric, statistic): (fn(_, _) -> _, _) = match name.split_once('.') {
                Some(("service", statistic)) => (MetricLimit::Service, statistic),
                Some(("lag", statistic)) => (MetricLimit::Lag, statistic),
                Some(("handshake", statistic)) => (MetricLimit::Handshake, statistic),
                _ => (MetricLimit::Response, name),
            };
            Ok(metric(statistic.parse()?, parse_duration(limit)?))
        }
    }
}

fn parse_errors(limit: &str) -> Result<MetricLimit, String> {
    const ADVICE: &str = "write errors as a share, 0.01%, or a whole number of messages";
    let Some(percent) = limit.strip_suffix('%') else {
        let count = parse_count(limit).map_err(|_| ADVICE.to_owned())?;
        return Ok(MetricLimit::ErrorCount(count));
    };
    // A number with digits only: `f64` also reads "inf", "nan" and "1e3".
    match parse_rate(percent.trim_end()) {
        Ok(share) if share <= 100.0 => Ok(MetricLimit::ErrorPercent(share)),
        _ => Err(ADVICE.to_owned()),
    }
}

impl fmt::Display for Statistic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percentile(percentile) => percentile.fmt(f),
            Self::Max => f.write_str("max"),
            Self::Mean => f.write_str("mean"),
        }
    }
}

impl FromStr for Statistic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "max" => Ok(Self::Max),
            "mean" => Ok(Self::Mean),
            _ => text.parse().map(Self::Percentile).map_err(|_| {
                format!(
                    "{text:?} is not a metric; there are p50, p99.9 (any percentile), max, mean, the \
                     same of service time, generator lag and handshakes (service.p99, lag.p99, \
                     handshake.p99), cpu, rss, errors and rate"
                )
            }),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a mean of values that fit is positive and fits"
)]
fn rounded(mean: f64) -> u64 {
    mean.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn results(slo: &str, outcome: &Outcome) -> Vec<(String, bool, bool)> {
        let slo: Slo = slo.parse().unwrap();
        slo.evaluate(outcome, RSS_SOCKETS_MIN)
            .into_iter()
            .map(|result| (result.observed, result.met, result.supported))
            .collect()
    }

    #[test]
    fn text_and_objectives_belong_together() {
        for text in [
            "p99<2ms,errors<0.01%,rate>50000",
            "p50<=1.5s,p90>1ns,p95>=100µs,p99.99<1s",
            "max<1s,mean<1ms",
            "handshake.p99<5ms,handshake.max<1s,handshake.mean<=1ms",
            "service.p99<1ms,service.max<1s,lag.p99<100µs,lag.mean<=1µs",
            "cpu<20µs,cpu>=1µs,rss<=51200",
            "errors<10,errors<=0%",
            "rate>=0.5",
        ] {
            let slo: Slo = text.parse().unwrap();
            assert_eq!(slo.to_string(), text);
            let json = serde_json::to_string(&slo).unwrap();
            assert_eq!(serde_json::from_str::<Slo>(&json).unwrap(), slo);
        }
        let spaced: Slo = " p99 < 2000us , rate > 50k ".parse().unwrap();
        assert_eq!(spaced.to_string(), "p99<2ms,rate>50000");
    }

    #[test]
    fn invalid_objectives_are_errors_of_one_sentence() {
        let advice = "write objectives as p99<2ms,errors<0.01%,rate>50k";
        let errors = "write errors as a share, 0.01%, or a whole number of messages";
        for (text, error) in [
            ("", format!("an objective is missing; {advice}")),
            ("p99<1ms,", format!("an objective is missing; {advice}")),
            ("p99", format!("\"p99\" has none of < <= > >=; {advice}")),
            (
                "p99=1ms",
                format!("\"p99=1ms\" has none of < <= > >=; {advice}"),
            ),
            (
                "p99<2",
                "\"p99<2\": write a duration as 500ms, 3s or 2m".to_owned(),
            ),
            (
                "rate<5",
                "\"rate<5\": a rate is held against > or >=".to_owned(),
            ),
            (
                "rate>x",
                "\"rate>x\": write a number as 100, 50k or 1m".to_owned(),
            ),
            ("errors<0.5", format!("\"errors<0.5\": {errors}")),
            ("errors<101%", format!("\"errors<101%\": {errors}")),
            ("errors<nan%", format!("\"errors<nan%\": {errors}")),
            (
                "p100<1s",
                "\"p100<1s\": \"p100\" is not a metric; there are p50, p99.9 (any percentile), max, \
                 mean, the same of service time, generator lag and handshakes (service.p99, \
                 lag.p99, handshake.p99), cpu, rss, errors and rate"
                    .to_owned(),
            ),
        ] {
            assert_eq!(text.parse::<Slo>(), Err(error), "{text}");
        }
        for wrong in [
            "handshake<1s",
            "handshake.<1s",
            "service<1s",
            "lag.cpu<1s",
            "cpu<5",
            "cpu.p99<5us",
            "rss<1s",
            "p99<<1s",
            "p99<=>1s",
            "<1s",
        ] {
            assert!(wrong.parse::<Slo>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_metric_is_compared_with_its_limit() {
        let outcome = fixture::outcome();
        for (slo, observed, met) in [
            ("p50<60us", "50.0 µs", true),
            ("p50<40us", "50.0 µs", false),
            ("p99>40us", "80.1 µs", true),
            ("max<=6ms", "5.00 ms", true),
            ("max<5ms", "5.00 ms", false),
            ("mean<52us", "51.8 µs", true),
            ("handshake.mean<1ms", "200 µs", true),
            ("handshake.max<100us", "200 µs", false),
            ("service.p99<79040ns", "79.0 µs", true),
            ("service.p99<79us", "79.0 µs", false),
            ("lag.max<=1us", "1.00 µs", true),
            ("lag.p99<1us", "1.00 µs", false),
            ("cpu<=5us", "5.00 µs", true),
            ("cpu<5us", "5.00 µs", false),
            ("rss<=204", "204 B", true),
            ("rss<204", "204 B", false),
            ("errors<1", "0", true),
            ("errors<0%", "0.0000 %", false),
            ("errors<=0%", "0.0000 %", true),
            ("rate>50k", "50,000/s", false),
            ("rate>=50k", "50,000/s", true),
        ] {
            let expected = (observed.to_owned(), met, true);
            assert_eq!(results(slo, &outcome), [expected], "{slo}");
        }
    }

    #[test]
    fn an_unsupported_percentile_is_not_met() {
        let outcome = fixture::outcome();
        let unknown = (UNKNOWN.to_owned(), false, false);
        assert_eq!(
            results("handshake.p99<1h,p99.9999<1h", &outcome),
            [unknown.clone(), unknown.clone()]
        );
        assert_eq!(
            results("max<1h,mean<1h,errors<1%", &fixture::silent_outcome()),
            [unknown.clone(), unknown.clone(), unknown]
        );
    }

    #[test]
    fn an_unmeasured_cost_is_not_met_and_has_a_reason() {
        let slo: Slo = "rss<1m".parse().unwrap();
        let few = &slo.evaluate(&fixture::outcome(), RSS_SOCKETS_MIN - 1)[0];
        assert!(!few.met && !few.supported, "{few:?}");
        assert!(few.observed.starts_with("fewer than 1,000"), "{few:?}");
        let mut outcome = fixture::outcome();
        outcome.server = None;
        for (observed, met, supported) in results("cpu<1s,rss<1m", &outcome) {
            assert!(!met && !supported, "{observed}");
            assert!(observed.contains("--server-pid"), "{observed}");
        }
    }

    #[test]
    fn unanswered_messages_are_errors_and_make_times_lower_bounds() {
        let mut outcome = fixture::outcome();
        outcome.counts.unanswered = 600;
        outcome.counts.timed_out = 1_000;
        let observed = |text: &str, met| (text.to_owned(), met, true);
        assert_eq!(
            results("p99<1s,p99.9<1s,p99.9>1us,max<1s,errors<0.3%", &outcome),
            [
                observed("80.1 µs", true),
                observed("≥1.00 ms", false),
                observed("≥1.00 ms", true),
                observed("≥5.00 ms", false),
                observed("0.2000 %", true),
            ]
        );
    }
}
