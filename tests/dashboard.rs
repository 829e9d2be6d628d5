//! The documentation, the dashboard and the alerts against the metrics that a server
//! exports.

#[path = "common/mod.rs"]
mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::prometheus::Page;
use common::server::Server;
use serde_json::Value;

const DOCS: &str = include_str!("../docs/metrics.md");
const DASHBOARD: &str = include_str!("../deploy/grafana-dashboard.json");

const ALERTS: &str = include_str!("../deploy/prometheus-alerts.yaml");

/// A metric that Prometheus adds to every scrape.
const SCRAPED_METRIC: &str = "up";

/// Labels that Prometheus adds to every scrape.
const SCRAPED_LABELS: [&str; 2] = ["job", "instance"];

fn page() -> Page {
    let flags = ["--threads=2", "--max-tcp-memory=1g"];
    let (_server, admin) = Server::start_with_admin("epoll", &flags);
    admin.metrics()
}

/// The rows of the documentation's table: name, type, labels.
fn documented() -> BTreeMap<&'static str, (&'static str, BTreeSet<&'static str>)> {
    let rows = DOCS.lines().filter_map(|line| {
        let name = line.strip_prefix("| `")?;
        let mut cells = name.split('|').map(str::trim);
        let name = cells.next()?.strip_suffix('`')?;
        let kind = cells.next()?;
        let labels = cells.next()?.split(", ").filter(|label| !label.is_empty());
        Some((name, (kind, labels.collect())))
    });
    // The others are paths and alerts.
    let is_metric = |name: &str| name.starts_with(|first: char| first.is_ascii_lowercase());
    rows.filter(|(name, _)| is_metric(name)).collect()
}

#[test]
fn documentation_lists_exactly_the_exported_metrics() {
    let page = page();
    let documented = documented();
    let exported: BTreeMap<_, _> = page
        .families
        .iter()
        .map(|family| {
            let labels = page.labels_of(&family.name);
            (&*family.name, (&*family.kind, labels))
        })
        .collect();
    assert_eq!(documented, exported);
    let rows = DOCS.matches("\n| `ringback_").count() + DOCS.matches("\n| `process_").count();
    assert_eq!(rows, documented.len(), "each is listed once");
}

#[test]
fn every_label_value_is_documented() {
    let page = page();
    for (name, label) in [
        ("ringback_connections_refused_total", "reason"),
        ("ringback_handshakes_total", "outcome"),
        ("ringback_tls_handshakes_total", "outcome"),
        ("ringback_tls_reloads_total", "outcome"),
        ("ringback_closes_total", "reason"),
    ] {
        for value in page.values_of(name, label) {
            let quoted = format!("`{value}`");
            assert!(DOCS.contains(&quoted), "{name}: {label}={value}");
        }
    }
}

/// The name and expression of each rule.
fn alerts() -> Vec<(&'static str, String)> {
    let rules = ALERTS.split("- alert: ").skip(1);
    let parsed = rules.map(|rule| {
        let (name, rest) = rule.split_once('\n').expect("a name");
        let (_, rest) = rest.split_once("expr: ").expect("an expression");
        // On the same line, or in a block of indented lines.
        let (first, rest) = rest.split_once('\n').expect("more fields");
        let block = rest
            .lines()
            .take_while(|line| line.starts_with("          "));
        let block = block.map(str::trim).collect::<Vec<_>>().join(" ");
        let expression = if first == "|" {
            block
        } else {
            first.to_owned()
        };
        (name, expression)
    });
    parsed.collect()
}

#[test]
fn alerts_use_exported_metrics_and_are_documented() {
    let page = page();
    let alerts = alerts();
    let mut used = BTreeSet::new();
    for (name, expression) in &alerts {
        used.extend(check(&page, expression));
        let row = format!("\n| `{name}` |");
        assert_eq!(DOCS.matches(&row).count(), 1, "{name}");
    }
    assert_eq!(DOCS.matches("\n| `Ringback").count(), alerts.len());
    for metric in [
        SCRAPED_METRIC,
        "ringback_worker_up",
        "ringback_connections_max",
        "ringback_connections_refused_total",
        "ringback_accept_pauses_total",
        "ringback_held_bytes_max",
        "ringback_worker_cpu_seconds_total",
        "ringback_log_lines_lost_total",
        "ringback_tls_certificate_not_after_seconds",
        "ringback_tls_reloads_total",
    ] {
        assert!(used.contains(metric), "no alert uses {metric}");
    }
    // The label values in the expressions exist.
    for (name, label, values) in [
        (
            "ringback_connections_refused_total",
            "reason",
            &["full", "overrun"][..],
        ),
        ("ringback_tls_reloads_total", "outcome", &["failed"]),
    ] {
        for value in values {
            assert!(
                page.values_of(name, label).contains(value),
                "{name} {value}"
            );
            assert!(ALERTS.contains(value));
        }
    }
}

#[test]
fn alerts_have_severity_summary_and_description() {
    for rule in ALERTS.split("- alert: ").skip(1) {
        for field in [
            "\n          severity: ",
            "\n          summary: ",
            "\n          description: ",
        ] {
            assert_eq!(rule.matches(field).count(), 1, "{field} in {rule}");
        }
    }
}

#[test]
fn dashboard_uses_exported_metrics_and_labels() {
    let page = page();
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let mut expressions = Vec::new();
    collect(&dashboard, &["expr"], &mut expressions);
    assert!(expressions.len() > 30, "{} expressions", expressions.len());
    let mut used = BTreeSet::new();
    for expression in &expressions {
        used.extend(check(&page, expression));
    }
    let exported = page.series_names();
    for part in [
        "ringback_messages_received_total",
        "ringback_received_bytes_total",
        "ringback_connections_open",
        "ringback_connections_refused_total",
        "ringback_handshake_duration_seconds_bucket",
        "ringback_frames_per_read_bucket",
        "ringback_closes_total",
        "ringback_violations_total",
        "ringback_worker_cpu_seconds_total",
        "ringback_slow_readers",
        "ringback_held_bytes",
        "ringback_connections_rejecting",
        "ringback_tls_handshakes_total",
        "ringback_tls_reloads_total",
        "ringback_tls_certificate_not_after_seconds",
        "process_open_fds",
        "ringback_build_info",
    ] {
        assert!(used.contains(part) && exported.contains(part), "{part}");
    }
    // The variables ask for label values.
    let mut queries = Vec::new();
    collect(&dashboard, &["definition"], &mut queries);
    assert_eq!(queries.len(), 2);
    for query in queries {
        let inside = query.strip_prefix("label_values(").expect("label values");
        let (selector, label) = inside.rsplit_once(", ").expect("a label");
        check(&page, selector);
        let label = label.trim_end_matches(')');
        assert!(SCRAPED_LABELS.contains(&label), "{label}");
    }
}

#[test]
fn dashboard_panels_have_descriptions_and_do_not_overlap() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    let mut cells = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64()), "{title}: its id is taken");
        let number = |name: &str| panel["gridPos"][name].as_u64().expect("a place");
        for x in number("x")..number("x") + number("w") {
            assert!(x < 24, "{title} is too wide");
            for y in number("y")..number("y") + number("h") {
                assert!(cells.insert((x, y)), "{title} overlaps");
            }
        }
        if panel["type"] != "row" {
            assert!(
                panel["description"]
                    .as_str()
                    .is_some_and(|text| !text.is_empty())
            );
        }
    }
}

/// All strings under one of these keys.
fn collect(value: &Value, keys: &[&str], into: &mut Vec<String>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                match value {
                    Value::String(text) if keys.contains(&&**key) => into.push(text.clone()),
                    value => collect(value, keys, into),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, keys, into)),
        _ => {}
    }
}

/// Checks every metric and label of a `PromQL` expression; returns the metrics.
#[track_caller]
fn check(page: &Page, expression: &str) -> BTreeSet<String> {
    let names = Names::of(expression);
    assert!(!names.metrics.is_empty(), "no metric in {expression}");
    let exported = page.series_names();
    let mut labels = BTreeSet::from(SCRAPED_LABELS);
    for metric in &names.metrics {
        let is_known = exported.contains(&**metric) || metric == SCRAPED_METRIC;
        assert!(is_known, "{metric} in {expression}");
        labels.extend(page.labels_of(metric));
    }
    for label in &names.labels {
        assert!(labels.contains(&**label), "{label} in {expression}");
    }
    names.metrics
}

/// The names in a `PromQL` expression; the parser knows what the files use.
#[derive(Debug, Default, PartialEq, Eq)]
struct Names {
    metrics: BTreeSet<String>,
    labels: BTreeSet<String>,
}

impl Names {
    fn of(expression: &str) -> Self {
        const LISTS_LABELS: [&str; 6] = [
            "by",
            "without",
            "on",
            "ignoring",
            "group_left",
            "group_right",
        ];
        const OPERATORS: [&str; 6] = ["and", "or", "unless", "bool", "offset", "inf"];
        let mut names = Self::default();
        let mut rest = expression;
        let mut closing = None;
        while let Some(first) = rest.chars().next() {
            let len = rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || "_:".contains(c)))
                .unwrap_or(rest.len());
            let (word, after) = rest.split_at(len.max(first.len_utf8()));
            rest = after;
            if first == '"' {
                rest = after.split_once('"').expect("a closing quote").1;
            } else if first == '[' {
                rest = after.split_once(']').expect("a closing bracket").1;
            } else if first == '{' {
                closing = Some('}');
            } else if Some(first) == closing {
                closing = None;
            } else if first.is_ascii_alphabetic() || first == '_' {
                let is_list = LISTS_LABELS.contains(&word);
                if is_list {
                    rest = after.trim_start().strip_prefix('(').expect("a list");
                    closing = Some(')');
                } else if closing.is_some() {
                    names.labels.insert(word.into());
                } else if !after.starts_with('(') && !OPERATORS.contains(&word) {
                    let is_aggregation = ["sum", "max", "min", "avg", "count"].contains(&word);
                    if !is_aggregation {
                        names.metrics.insert(word.into());
                    }
                }
            }
        }
        names
    }
}

#[test]
fn promql_names_are_parsed() {
    let names = Names::of(
        r#"histogram_quantile(0.99, sum by (le, b) (rate(x_bucket{job=~"$job", code!="y"}[5m]))) > 60 * m or z"#,
    );
    let set = |names: &[&str]| names.iter().copied().map(String::from).collect();
    assert_eq!(names.metrics, set(&["m", "x_bucket", "z"]));
    assert_eq!(names.labels, set(&["b", "code", "job", "le"]));
}
