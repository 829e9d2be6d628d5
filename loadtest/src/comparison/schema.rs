//! The JSON schema of a comparison.

use super::{Comparison, fixture};
use crate::result::schema;
use serde_json::{Value, json};

const CHECKED_IN: &str = include_str!("../../schema/comparison-v1.schema.json");

/// Whether the example passes the checked-in schema after a change.
fn is_valid_after(change: impl FnOnce(&mut Value)) -> bool {
    let schema: Value = serde_json::from_str(CHECKED_IN).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut document = serde_json::to_value(fixture::two()).unwrap();
    change(&mut document);
    validator.is_valid(&document)
}

#[test]
fn the_checked_in_schema_is_that_of_the_code() {
    assert!(
        schema::<Comparison>() == CHECKED_IN,
        "the format has changed; run `loadtest schema comparison > \
             loadtest/schema/comparison-v1.schema.json`, and if old files are no longer read, \
             raise the version"
    );
}

#[test]
fn a_comparison_passes_the_schema_until_a_field_is_broken() {
    assert!(is_valid_after(|_| {}));
    assert!(is_valid_after(|document| document["noise"] = Value::Null));
    for (pointer, value) in [
        ("/format", json!("wrk")),
        ("/version", json!(2)),
        ("/design", json!("crossed")),
        ("/settings/metrics/0", json!("p98")),
        ("/settings/min_effect", json!("2%")),
        ("/sides/0/runs", json!(-1)),
        ("/sides/0/values", Value::Null),
        ("/contrasts/0/verdict", json!("fine")),
        ("/contrasts/0/findings/0/interval", json!({})),
        ("/contrasts/0/findings/0/outlook", json!("soon")),
    ] {
        assert!(
            !is_valid_after(|document| *document.pointer_mut(pointer).unwrap() = value),
            "{pointer}"
        );
    }
    for field in ["settings", "sides", "contrasts"] {
        assert!(
            !is_valid_after(|document| {
                document.as_object_mut().unwrap().remove(field);
            }),
            "{field}"
        );
    }
    assert!(is_valid_after(|document| document["more"] = json!(1)));
}
