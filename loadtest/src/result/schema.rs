//! The description of documents for other programs.

use schemars::{JsonSchema, schema_for};

use super::{Document, to_pretty_json};

/// The JSON Schema of a document, with a line break at its end.
pub fn schema<D: Document + JsonSchema>() -> String {
    to_pretty_json(&schema_for!(D))
}

#[cfg(test)]
mod tests {
    use super::super::ResultFile;
    use super::super::tests::example;
    use super::*;
    use serde_json::{Value, json};

    const CHECKED_IN: &str = include_str!("../../schema/result-v1.schema.json");

    /// Whether the example passes the checked-in schema after a change.
    fn is_valid_after(change: impl FnOnce(&mut Value)) -> bool {
        let schema: Value = serde_json::from_str(CHECKED_IN).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let mut document = serde_json::to_value(example()).unwrap();
        change(&mut document);
        validator.is_valid(&document)
    }

    #[test]
    fn the_checked_in_schema_is_that_of_the_code() {
        assert!(
            schema::<ResultFile>() == CHECKED_IN,
            "the format has changed; run `loadtest schema > \
             loadtest/schema/result-v1.schema.json`, and if old files are no longer read, raise \
             the version"
        );
    }

    #[test]
    fn a_result_passes_the_schema_until_a_field_is_broken() {
        assert!(is_valid_after(|_| {}));
        assert!(is_valid_after(|document| document["server"] = Value::Null));
        for (pointer, value) in [
            ("/format", json!("wrk")),
            ("/version", json!(2)),
            ("/status", json!("done")),
            ("/elapsed_ns", json!(-1)),
            ("/counts/due", json!("many")),
            ("/plan/load/loop", json!("half-open")),
            ("/plan/extent", json!({})),
            ("/judgement/verdict", json!("fine")),
            ("/summary/response_ns/percentiles/p99", json!(1.5)),
            ("/intervals/0/latencies", Value::Null),
        ] {
            assert!(
                !is_valid_after(|document| *document.pointer_mut(pointer).unwrap() = value),
                "{pointer}"
            );
        }
        for field in ["plan", "counts", "histograms"] {
            assert!(
                !is_valid_after(|document| {
                    document.as_object_mut().unwrap().remove(field);
                }),
                "{field}"
            );
        }
        assert!(is_valid_after(|document| document["more"] = json!(1)));
    }
}
