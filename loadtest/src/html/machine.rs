//! The environments of the runs: their differences, and the whole of one.

use maud::{Markup, html};
use serde_json::Value;

use crate::machine::Environment;
use crate::terminal::sanitized;
use crate::units::format_bytes;

use super::table::HtmlTable;

/// The most machines side by side.
const COLUMNS_MAX: usize = 8;

/// Fields that differ from run to run on one machine.
const VOLATILE: &str = "load_average_1min";

/// An environment and the name of its document.
#[derive(Debug)]
pub(super) struct NamedEnvironment {
    pub(super) name: String,
    pub(super) environment: Environment,
}

/// Environments that are alike, by the names of those that have them.
struct EnvironmentGroup<'a> {
    names: Vec<&'a str>,
    fields: Vec<(String, String)>,
}

/// A section about all of them.
pub(super) fn section(places: &[NamedEnvironment]) -> Markup {
    let groups = groups(places);
    let Some(first) = groups.first() else {
        return html! {};
    };
    let shown = &groups[..groups.len().min(COLUMNS_MAX)];
    html! {
        section id="environment" aria-labelledby="environment-title" {
            h2 id="environment-title" { "Environment" }
            p { (headline(&places[0].environment)) }
            @if groups.len() == 1 {
                p class="note" { "It is the same for everything in this report." }
            } @else {
                p { "There are " (groups.len()) " environments. " strong { "They differ in:" } }
                (differences(shown).draw())
            }
            @if groups.len() > COLUMNS_MAX {
                p class="note" { "The first " (COLUMNS_MAX) " are shown." }
            }
            details class="environment" {
                summary { "The whole environment of " (first.names[0]) }
                (whole(first).draw())
            }
        }
    }
}

/// The machine in a line.
fn headline(environment: &Environment) -> String {
    let unknown = || "unknown".to_owned();
    let cores = environment
        .cores_online
        .map_or_else(unknown, |count| count.to_string());
    let memory = environment
        .memory_total_bytes
        .map_or_else(unknown, |bytes| {
            format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
        });
    let kernel = environment.kernel.as_deref().unwrap_or("unknown");
    let release = kernel.split(' ').next().unwrap_or(kernel);
    let cpu = environment.cpu_model.as_deref().unwrap_or("unknown CPU");
    let loopback = if environment.loopback {
        "over loopback"
    } else {
        "over a network"
    };
    sanitized(&format!(
        "{cpu}, cores online: {cores}, memory: {memory}, kernel {release}, {}, loadtest {}, {loopback}.",
        environment.architecture, environment.version
    ))
}

fn groups<'a>(places: &'a [NamedEnvironment]) -> Vec<EnvironmentGroup<'a>> {
    let mut groups: Vec<EnvironmentGroup<'a>> = Vec::new();
    let lasting = |fields: &[(String, String)]| -> Vec<(String, String)> {
        let fields = fields.iter().filter(|(name, _)| name != VOLATILE);
        fields.cloned().collect()
    };
    for place in places {
        let fields = fields(&place.environment);
        let own = lasting(&fields);
        match groups.iter_mut().find(|kind| lasting(&kind.fields) == own) {
            Some(kind) => kind.names.push(&place.name),
            None => groups.push(EnvironmentGroup {
                names: vec![&place.name],
                fields,
            }),
        }
    }
    groups
}

fn differences(groups: &[EnvironmentGroup<'_>]) -> HtmlTable {
    let heads = groups.iter().map(|kind| match kind.names[..] {
        [name] => name.to_owned(),
        [name, ..] => format!("{name} and {} more", kind.names.len() - 1),
        [] => String::new(),
    });
    let titles = ["what".to_owned()].into_iter().chain(heads);
    let mut table = HtmlTable::new("What differs between the environments", titles);
    table.text_columns = groups.len() + 1;
    let mut names: Vec<_> = groups
        .iter()
        .flat_map(|kind| &kind.fields)
        .map(|it| &it.0)
        .collect();
    names.sort();
    names.dedup();
    for name in names {
        let values = groups.iter().map(|kind| {
            let field = kind.fields.iter().find(|(known, _)| known == name);
            field.map_or("–", |(_, value)| value.as_str())
        });
        let values: Vec<_> = values.collect();
        if values.iter().any(|value| *value != values[0]) {
            table.add([name.as_str()].into_iter().chain(values));
        }
    }
    table
}

fn whole(kind: &EnvironmentGroup<'_>) -> HtmlTable {
    let name = format!("The whole environment of {}", kind.names[0]);
    let mut table = HtmlTable::new(&name, ["what", "value"]);
    table.text_columns = 2;
    for (name, value) in &kind.fields {
        table.add([name, value]);
    }
    table
}

/// All fields by name, those of maps after a dot.
fn fields(environment: &Environment) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    if let Ok(Value::Object(object)) = serde_json::to_value(environment) {
        for (name, value) in object {
            match value {
                Value::Object(map) => {
                    let named = |(key, value)| {
                        let key: &String = key;
                        (sanitized(&format!("{name}.{key}")), text(key, value))
                    };
                    fields.extend(map.iter().map(named));
                }
                value => fields.push((sanitized(&name), text(&name, &value))),
            }
        }
    }
    fields
}

fn text(name: &str, value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => sanitized(text),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(text_of_item).collect();
            items.join(", ")
        }
        Value::Number(number) if name.ends_with("_bytes") => {
            format!(
                "{number} ({})",
                format_bytes(number.as_f64().unwrap_or(0.0))
            )
        }
        value => value.to_string(),
    }
}

fn text_of_item(item: &Value) -> String {
    item.as_str().map_or_else(|| item.to_string(), sanitized)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(kernel: &str, load: f64) -> Environment {
        Environment {
            kernel: Some(kernel.to_owned()),
            load_average_1min: Some(load),
            memory_total_bytes: Some(1 << 30),
            ..Environment::default()
        }
    }

    #[test]
    fn volatile_fields_do_not_make_another_environment() {
        let all = [
            environment("6.1", 0.1),
            environment("6.1", 2.0),
            environment("6.2", 0.1),
        ];
        let places: Vec<_> = all
            .iter()
            .enumerate()
            .map(|(index, environment)| NamedEnvironment {
                name: format!("run {index}"),
                environment: environment.clone(),
            })
            .collect();
        let groups = groups(&places);
        assert_eq!(groups.len(), 2);
        assert_eq!(groups[0].names, ["run 0", "run 1"]);
        let table = differences(&groups).draw().into_string();
        assert!(table.contains("kernel") && table.contains("6.2"), "{table}");
        assert!(!table.contains("architecture"), "{table}");
        let alike = section(&places[..2]).into_string();
        assert!(alike.contains("the same for everything"), "{alike}");
        assert!(alike.contains("1073741824 (1024.0 MiB)"), "{alike}");
    }
}
