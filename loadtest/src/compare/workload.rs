//! Whether runs are of one workload.

use serde_json::Value;

use crate::failure::Failure;
use crate::plan::Plan;

use super::group::ResultGroup;

/// The keys of a plan that may differ between compared runs: the server, and values that are
/// reported as differences of the environment.
const FREE: [&str; 6] = ["targets", "seed", "pin", "sources", "insecure", "ca_file"];

/// Checks that all runs have the same workload, and returns it.
pub(super) fn ensure_one(groups: &[ResultGroup]) -> Result<&Plan, Failure> {
    let first = &groups[0];
    let (plan, path) = (&first.runs[0].plan, first.paths[0].display());
    let own = fixed(plan);
    for group in groups {
        for (run, other) in group.runs.iter().zip(&group.paths) {
            let others = fixed(&run.plan);
            if let Some((key, a, b)) = difference(&own, &others) {
                let why = format!(
                    "the workloads differ, and so nothing can be compared: {key} is {a} in \
                     {path} and {b} in {}",
                    other.display()
                );
                return Err(Failure::File(why));
            }
        }
    }
    Ok(plan)
}

/// Whether two plans have the same workload, regardless of servers, seeds and cores.
pub fn is_one_workload(a: &Plan, b: &Plan) -> bool {
    difference(&fixed(a), &fixed(b)).is_none()
}

/// The part of a plan that has to be the same.
fn fixed(plan: &Plan) -> Value {
    let mut value = serde_json::to_value(plan).expect("a plan is written into files");
    if let Value::Object(keys) = &mut value {
        keys.retain(|key, _| !FREE.contains(&key.as_str()));
        // Other servers, but the same number of them.
        keys.insert("servers".to_owned(), plan.targets.len().into());
    }
    value
}

/// The first key in which two values differ, and both values.
fn difference<'a>(a: &'a Value, b: &'a Value) -> Option<(String, &'a Value, &'a Value)> {
    let (Value::Object(a_keys), Value::Object(b_keys)) = (a, b) else {
        return None;
    };
    let keys = a_keys.keys().chain(b_keys.keys());
    keys.map(|key| (key, &a[key.as_str()], &b[key.as_str()]))
        .find(|(_, a, b)| a != b)
        .map(|(key, a, b)| match difference(a, b) {
            Some((inner, a, b)) => (format!("{key}.{inner}"), a, b),
            None => (key.clone(), a, b),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::plan::Load;
    use crate::target::Target;

    fn difference_after(change: impl FnOnce(&mut Plan)) -> Option<String> {
        let plan = fixture::plan();
        let mut other = plan.clone();
        change(&mut other);
        let (a, b) = (fixed(&plan), fixed(&other));
        difference(&a, &b).map(|(key, a, b)| format!("{key}: {a}, {b}"))
    }

    #[test]
    fn another_server_seed_or_core_is_the_same_workload() {
        let same = difference_after(|plan| {
            plan.targets = vec!["ws://[::1]:9002/x".parse::<Target>().unwrap()];
            plan.seed = 9;
            plan.pin = vec![3];
        });
        assert_eq!(same, None);
    }

    #[test]
    fn any_other_difference_is_another_workload() {
        assert_eq!(
            difference_after(|plan| plan.connections = 5).as_deref(),
            Some("connections: 100, 5")
        );
        assert_eq!(
            difference_after(|plan| plan.load = Load::Closed { window: 3 }).as_deref(),
            Some("load.arrival: \"fixed\", null")
        );
        assert_eq!(
            difference_after(|plan| plan.targets.push(plan.targets[0].clone())).as_deref(),
            Some("servers: 1, 2")
        );
    }
}
