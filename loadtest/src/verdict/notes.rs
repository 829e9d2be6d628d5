//! Notes on a run that do not affect its verdict.

use super::Facts;
use super::rules::{few_samples_for, is_starved};
use crate::percentile::Percentile;
use crate::units::format_count;

pub(super) fn of(facts: &Facts) -> Vec<String> {
    let mut notes = Vec::new();
    if facts.interrupted {
        notes.push("interrupted: these are the numbers until then".to_owned());
    }
    if facts.unanswered > 0 || facts.timed_out > 0 {
        notes.push(format!(
            "{} messages timed out, {} were never answered: those count with their age when given \
             up, the least their latency can be",
            format_count(facts.timed_out),
            format_count(facts.unanswered)
        ));
    }
    if facts.added_sources > 0 {
        notes.push(format!(
            "connections were made from 127.0.0.1 and {} more addresses of 127.0.0.0/8, as ports \
             ran out (--source chooses others)",
            facts.added_sources
        ));
    }
    if facts.unclosed > 0 {
        let first = facts.first_unclosed.as_ref();
        notes.push(format!(
            "{} connections did not answer Close 1000 with Close 1000, after the last message{}",
            format_count(facts.unclosed),
            first.map_or_else(String::new, |first| format!("; {first}"))
        ));
    }
    let has_p99 = Percentile::P99.is_supported(facts.samples);
    if has_p99 && !Percentile::P99_9.is_supported(facts.samples) {
        notes.push(few_samples_for(Percentile::P99_9, facts.samples));
    }
    if !facts.is_open_loop {
        notes.push(
            "a closed loop slows down with its server and under-reports stalls; use --rate for \
             latency"
                .to_owned(),
        );
        if facts.is_busy() {
            notes.push(format!(
                "a generator thread worked {:.0} % of the time: the throughput may be its limit \
                 and not the server's; try more threads (-t)",
                facts.busy_max * 100.0
            ));
        }
        if facts.neither_is_busy()
            && let Some(server_busy_max) = facts.server_busy_max
        {
            let waits = [facts.server_wait_share, facts.generator_wait_share];
            let advice = if waits.into_iter().any(is_starved) {
                "they waited for a core, see above"
            } else {
                "try more in flight (-c, -w)"
            };
            notes.push(format!(
                "neither is the limit: the server's busiest thread ran {:.0} % of the time, the \
                 generator's {:.0} %; {advice}",
                server_busy_max * 100.0,
                facts.busy_max * 100.0
            ));
        }
    }
    notes
}
