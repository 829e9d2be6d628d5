//! Differences between the environments of runs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::machine::Environment;
use crate::result::ResultFile;

use super::group::ResultGroup;

/// Values that vary from minute to minute on any machine.
const VOLATILE: [&str; 1] = ["load_average_1min"];

/// The text for an unknown value.
const UNKNOWN: &str = "unknown";

/// The longest value that is shown whole, in characters.
const SHOWN_MAX: usize = 40;

/// A line for each thing in which the runs' machines and generators differ.
pub(super) fn differences(groups: &[ResultGroup]) -> Vec<String> {
    let runs = groups.iter().flat_map(|group| {
        group
            .runs
            .iter()
            .map(|run| (group.label.as_str(), facts(run)))
    });
    let runs: Vec<_> = runs.collect();
    let keys: BTreeSet<_> = runs.iter().flat_map(|(_, facts)| facts.keys()).collect();
    let lines = keys.into_iter().filter_map(|key| {
        let mut holders: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (label, facts) in &runs {
            let value = facts.get(key).map_or(UNKNOWN, String::as_str);
            holders.entry(value).or_default().insert(label);
        }
        (holders.len() > 1).then(|| line(key, &holders))
    });
    lines.collect()
}

fn line(key: &str, holders: &BTreeMap<&str, BTreeSet<&str>>) -> String {
    let values = holders.iter().map(|(value, labels)| {
        let labels: Vec<_> = labels.iter().copied().collect();
        format!("{} ({})", shortened(value), labels.join(", "))
    });
    let values: Vec<_> = values.collect();
    format!("the runs differ in {key}: {}", values.join(", "))
}

/// Every field of a run's environment, by its name in the file.
fn facts(run: &ResultFile) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let environment: &Environment = &run.environment;
    let value = serde_json::to_value(environment).expect("it is written into files");
    flatten("", &value, &mut facts);
    facts.retain(|key, _| !VOLATILE.contains(&key.as_str()));
    let pin = serde_json::to_value(&run.plan.pin).expect("they are numbers");
    facts.insert("the generator's cores".to_owned(), pin.to_string());
    facts
}

fn flatten(prefix: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    if let Value::Object(keys) = value {
        for (key, value) in keys {
            let name = if prefix.is_empty() {
                key.clone()
            } else {
                format!("{prefix}.{key}")
            };
            flatten(&name, value, into);
        }
        return;
    }
    let text = match value {
        Value::Null => return,
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    into.insert(prefix.to_owned(), text);
}

fn shortened(value: &str) -> String {
    if value.chars().count() <= SHOWN_MAX {
        return value.to_owned();
    }
    value.chars().take(SHOWN_MAX).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn group(label: &str, change: impl FnOnce(&mut ResultFile)) -> ResultGroup {
        let mut run = fixture::result();
        change(&mut run);
        ResultGroup {
            label: label.to_owned(),
            paths: Vec::new(),
            runs: vec![run, fixture::result()],
        }
    }

    #[test]
    fn differences_are_listed_with_their_groups() {
        let groups = [
            group("A", |run| {
                run.environment.kernel = Some("6.1".to_owned());
                run.environment.load_average_1min = Some(9.0);
                run.plan.pin = vec![1];
            }),
            group("B", |run| {
                let sysctls = &mut run.environment.sysctls;
                sysctls.insert("net.core.somaxconn".to_owned(), "x".repeat(50));
            }),
        ];
        let shown = format!("{}…", "x".repeat(40));
        assert_eq!(
            differences(&groups),
            [
                "the runs differ in kernel: 6.1 (A), unknown (A, B)".to_owned(),
                format!(
                    "the runs differ in sysctls.net.core.somaxconn: unknown (A, B), {shown} (B)"
                ),
                "the runs differ in the generator's cores: [1] (A), [] (A, B)".to_owned(),
            ]
        );
    }
}
