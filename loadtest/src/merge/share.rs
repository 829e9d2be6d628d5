//! The plan of which several plans are shares.

use crate::plan::{Extent, Load, Plan};
use crate::result::ResultFile;

/// The sum of the results' plans, which have to be equal except for seed, cores and source
/// addresses.
///
/// # Errors
/// A sentence for the user if they differ, or exceed a limit together.
pub(super) fn total_plan(parts: &[&ResultFile]) -> Result<Plan, String> {
    let [first, others @ ..] = parts else {
        return Err("there is nothing to merge".to_owned());
    };
    let count = u32::try_from(parts.len()).map_err(|_| "there are too many results")?;
    let share = shared_part(&first.plan);
    for (index, other) in others.iter().enumerate() {
        let other = shared_part(&other.plan);
        if other != share {
            return Err(format!(
                "result {} is of another plan than the first one: {other} instead of {share}",
                index + 2
            ));
        }
    }
    let total = multiply(&share, first.plan.seed, count)
        .ok_or("the results are of too many connections together")?;
    total.validate()?;
    Ok(total)
}

/// The part of a plan that generators with a shared load have in common.
fn shared_part(plan: &Plan) -> Plan {
    Plan {
        pin: Vec::new(),
        sources: None,
        seed: 0,
        ..plan.clone()
    }
}

fn multiply(share: &Plan, seed: u64, count: u32) -> Option<Plan> {
    let factor = f64::from(count);
    Some(Plan {
        load: match share.load {
            Load::Open { rate, arrival } => Load::Open {
                rate: rate * factor,
                arrival,
            },
            closed @ Load::Closed { .. } => closed,
        },
        extent: match share.extent {
            Extent::Messages(messages) => Extent::Messages(messages.checked_mul(u64::from(count))?),
            time @ Extent::Duration(_) => time,
        },
        connections: share.connections.checked_mul(count)?,
        connect_rate: share.connect_rate.map(|rate| rate * factor),
        churn_rate: share.churn_rate.map(|rate| rate * factor),
        idle_connections: share.idle_connections.checked_mul(count)?,
        slow_readers: share.slow_readers.checked_mul(count)?,
        threads: share.threads.checked_mul(count)?,
        seed,
        ..share.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn shares_add_up() {
        let share = Plan {
            idle_connections: 7,
            churn_rate: Some(2.5),
            ..fixture::plan()
        };
        let total = multiply(&share, 9, 4).expect("within bounds");
        assert_eq!((total.connections, total.idle_connections), (400, 28));
        assert_eq!(total.rate(), Some(200_000.0));
        assert_eq!((total.churn_rate, total.threads), (Some(10.0), 4));
        assert_eq!((total.extent, total.seed), (share.extent, 9));
        let counted = Plan {
            extent: Extent::Messages(10),
            ..share.clone()
        };
        let total = multiply(&counted, 1, 3).expect("within bounds");
        assert_eq!(total.extent, Extent::Messages(30));
        assert_eq!(multiply(&share, 1, u32::MAX), None);
    }

    #[test]
    fn seeds_and_cores_are_the_generators_own() {
        let plan = fixture::plan();
        let other = Plan {
            seed: 77,
            pin: vec![1],
            ..plan.clone()
        };
        assert_eq!(shared_part(&plan), shared_part(&other));
        let another = Plan {
            connections: 5,
            ..plan.clone()
        };
        assert_ne!(shared_part(&plan), shared_part(&another));
    }
}
