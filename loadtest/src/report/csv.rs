//! Reports for spreadsheets and scripts.
//!
//! Fields are quoted by RFC 4180; lines end in a line feed alone, as all tools of this platform
//! expect. Numbers are plain: nanoseconds, bytes, and `.` as the decimal point. An unknown
//! value is an empty field.

use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::result::{Cost, LATER_STATISTICS, Numbers, STATISTICS};
use crate::verdict::Judgement;

/// The data of one line.
pub(super) struct RunFields<'a> {
    pub(super) server: &'a str,
    pub(super) plan: &'a Plan,
    pub(super) outcome: &'a Outcome,
    pub(super) judgement: &'a Judgement,
}

/// The columns before the times and costs. New ones are appended to the line, so that scripts
/// that count columns still work.
const HEAD: [&str; 14] = [
    "server",
    "verdict",
    "reason",
    "target_rate_per_s",
    "connections",
    "elapsed_s",
    "rate_per_s",
    "payload_bytes_per_s",
    "due",
    "sent",
    "answered",
    "unanswered",
    "timed_out",
    "echoed",
];

const TIMES: [&str; 4] = ["response", "service", "lag", "handshake"];

const PROCESSES: [&str; 2] = ["server", "generator"];

const COSTS: [&str; 6] = [
    "cpu_ns_per_message",
    "user_ns_per_message",
    "system_ns_per_message",
    "switches_per_message",
    "rss_bytes_per_connection",
    "cores",
];

const TAIL: [&str; 5] = [
    "generator_spin_ns_per_message",
    "generator_busy_max",
    "server_busy_max",
    "server_run_queue_wait_share",
    "generator_run_queue_wait_share",
];

/// The names of the columns.
pub(super) fn header() -> String {
    let mut names: Vec<String> = HEAD.map(str::to_owned).to_vec();
    names.extend(time_names(&TIMES, &STATISTICS));
    for process in PROCESSES {
        names.extend(COSTS.map(|name| format!("{process}_{name}")));
    }
    names.extend(TAIL.map(str::to_owned));
    names.extend(time_names(&TIMES, &LATER_STATISTICS));
    line(&names)
}

/// The names of the columns that have these statistics of these times.
pub(crate) fn time_names(times: &[&str], statistics: &[&str]) -> Vec<String> {
    let of_time = |time: &&str| {
        // Some readers of CSV reject a dot in a name.
        let name = |name: &&str| format!("{time}_{}_ns", name.replace('.', "_"));
        statistics.iter().map(name).collect::<Vec<_>>()
    };
    times.iter().flat_map(of_time).collect()
}

/// The line of a server that was driven.
pub(super) fn run(run: &RunFields<'_>) -> String {
    let (counts, outcome) = (&run.outcome.counts, run.outcome);
    let numbers = Numbers::of(outcome, run.plan.sockets());
    let reasons = run.judgement.reasons.iter();
    let reasons: Vec<_> = reasons.map(|reason| reason.what.as_str()).collect();
    let mut fields = vec![
        run.server.to_owned(),
        run.judgement.verdict.to_string(),
        reasons.join("; "),
        or_empty(run.plan.rate()),
        run.plan.connections.to_string(),
        outcome.elapsed.as_secs_f64().to_string(),
        numbers.rate_per_s.to_string(),
        numbers.payload_bytes_per_s.to_string(),
    ];
    fields.extend(
        [
            counts.due,
            counts.sent,
            counts.answered,
            counts.unanswered,
            counts.timed_out,
            counts.echoed,
        ]
        .map(|count| count.to_string()),
    );
    let spreads = [
        &numbers.response_ns,
        &numbers.service_ns,
        &numbers.lag_ns,
        &numbers.handshake_ns,
    ];
    for spread in spreads {
        fields.extend(STATISTICS.map(|name| spread.field(name)));
    }
    fields.extend(costs(numbers.server.as_ref()));
    fields.extend(costs(Some(&numbers.generator)));
    fields.push(or_empty(outcome.per_message(outcome.generator.spin_ns)));
    fields.push(outcome.generator.busy_max.to_string());
    fields.push(or_empty(outcome.server_busy_max));
    let server = numbers.server.as_ref();
    fields.push(or_empty(server.and_then(|cost| cost.run_queue_wait_share)));
    fields.push(or_empty(numbers.generator.run_queue_wait_share));
    for spread in spreads {
        fields.extend(LATER_STATISTICS.map(|name| spread.field(name)));
    }
    line(&fields)
}

/// The line of a server that cannot run here.
pub(super) fn unavailable(server: &str, reason: &str) -> String {
    let statistics = STATISTICS.len() + LATER_STATISTICS.len();
    let width = HEAD.len() + TIMES.len() * statistics + PROCESSES.len() * COSTS.len();
    let mut fields = vec![
        server.to_owned(),
        "UNAVAILABLE".to_owned(),
        reason.to_owned(),
    ];
    fields.resize(width + TAIL.len(), String::new());
    line(&fields)
}

fn costs(cost: Option<&Cost>) -> [String; COSTS.len()] {
    let Some(cost) = cost else {
        return COSTS.map(|_| String::new());
    };
    [
        or_empty(cost.cpu_ns_per_message),
        or_empty(cost.user_ns_per_message),
        or_empty(cost.system_ns_per_message),
        or_empty(cost.switches_per_message),
        or_empty(cost.rss_bytes_per_connection),
        cost.cores.to_string(),
    ]
}

fn or_empty<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// A line of fields, quoted where they have to be.
pub(crate) fn line(fields: &[String]) -> String {
    let fields: Vec<_> = fields.iter().map(|field| quoted(field)).collect();
    fields.join(",") + "\n"
}

/// RFC 4180, section 2, rules 5 to 7.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::ServerTable;
    use super::super::tests::{rendered, three_servers};
    use super::*;
    use crate::report::OutputFormat;

    #[test]
    fn fields_are_quoted_where_they_must() {
        for (field, expected) in [
            ("", ""),
            ("a b", "a b"),
            ("a,b", "\"a,b\""),
            ("a\"b", "\"a\"\"b\""),
            ("a\nb", "\"a\nb\""),
            ("a\rb", "\"a\rb\""),
        ] {
            assert_eq!(quoted(field), expected);
        }
    }

    #[test]
    fn a_run_is_a_header_and_a_line() {
        assert_eq!(
            rendered(|_, _| {}, "", OutputFormat::Csv, false),
            "\
server,verdict,reason,target_rate_per_s,connections,elapsed_s,rate_per_s,payload_bytes_per_s,due,sent,answered,unanswered,timed_out,echoed,response_p50_ns,response_p90_ns,response_p99_ns,response_p99_9_ns,response_p99_99_ns,response_max_ns,response_mean_ns,service_p50_ns,service_p90_ns,service_p99_ns,service_p99_9_ns,service_p99_99_ns,service_max_ns,service_mean_ns,lag_p50_ns,lag_p90_ns,lag_p99_ns,lag_p99_9_ns,lag_p99_99_ns,lag_max_ns,lag_mean_ns,handshake_p50_ns,handshake_p90_ns,handshake_p99_ns,handshake_p99_9_ns,handshake_p99_99_ns,handshake_max_ns,handshake_mean_ns,server_cpu_ns_per_message,server_user_ns_per_message,server_system_ns_per_message,server_switches_per_message,server_rss_bytes_per_connection,server_cores,generator_cpu_ns_per_message,generator_user_ns_per_message,generator_system_ns_per_message,generator_switches_per_message,generator_rss_bytes_per_connection,generator_cores,generator_spin_ns_per_message,generator_busy_max,server_busy_max,server_run_queue_wait_share,generator_run_queue_wait_share,response_p95_ns,response_min_ns,response_stdev_ns,service_p95_ns,service_min_ns,service_stdev_ns,lag_p95_ns,lag_min_ns,lag_stdev_ns,handshake_p95_ns,handshake_min_ns,handshake_stdev_ns
ws://127.0.0.1:9001/,VALID,,50000,100,10,50000,1600000,500000,500000,500000,0,0,500000,50015,50015,80063,1000447,1000447,5001215,51784.81152,49023,49023,79039,999423,999423,5001215,50792.191999999995,1000,1000,1000,1000,1000,1000,1000,200063,200063,,,,200063,200000,5000,1000,4000,0.5,,0.25,10000,6000,4000,0.0101,,0.5,2000,0.4,0.24,0.038461538461538464,0.001996007984031936,50015,49984,39611.06346001424,49023,48992,39612.20884559628,1000,1000,0,200063,199936,0
"
        );
    }

    #[test]
    fn a_table_has_a_line_per_server_and_as_many_fields_on_each() {
        let (plan, rows) = three_servers();
        let table = ServerTable {
            plan: &plan,
            rows: &rows,
        };
        let csv = table.csv();
        let lines: Vec<_> = csv.lines().collect();
        assert_eq!(lines.len(), 4);
        for line in &lines {
            let commas = line.matches(',').count();
            assert_eq!(commas, lines[0].matches(',').count(), "{line}");
        }
        assert!(lines[2].starts_with("tokio-uring,UNAVAILABLE,unavailable: no io_uring,,"));
        assert!(lines[3].starts_with("idle,INVALID,no message was answered,,2,10,0,0,0,"));
    }
}
