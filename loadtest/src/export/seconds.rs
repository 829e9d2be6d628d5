//! The seconds of a run as CSV.

use crate::failure::Failure;
use crate::outcome::{Interval, per_second};
use crate::report::{csv_line, csv_time_names};
use crate::result::{LATER_STATISTICS, ResultFile, STATISTICS, Spread, decode_latencies};

const COUNTS: [&str; 6] = [
    "start_s",
    "length_s",
    "due",
    "echoed",
    "timed_out",
    "echoed_per_s",
];

const TIMES: [&str; 3] = ["response", "service", "lag"];

pub(super) fn csv(run: &ResultFile) -> Result<String, Failure> {
    let mut names: Vec<_> = COUNTS.map(str::to_owned).to_vec();
    for statistics in [&STATISTICS[..], &LATER_STATISTICS] {
        names.extend(csv_time_names(&TIMES, statistics));
    }
    let mut csv = csv_line(&names);
    for interval in &run.intervals {
        csv += &csv_line(&fields(interval)?);
    }
    Ok(csv)
}

fn fields(interval: &Interval) -> Result<Vec<String>, Failure> {
    let latencies =
        decode_latencies(&interval.latencies).map_err(|error| Failure::File(error.to_string()))?;
    let mut fields = vec![
        interval.start.as_secs_f64().to_string(),
        interval.length.as_secs_f64().to_string(),
        interval.due.to_string(),
        interval.echoed.to_string(),
        interval.timed_out.to_string(),
        per_second(interval.echoed, interval.length).to_string(),
    ];
    let spreads = [
        &latencies.response_ns,
        &latencies.service_ns,
        &latencies.lag_ns,
    ]
    .map(Spread::of);
    for statistics in [&STATISTICS[..], &LATER_STATISTICS] {
        for spread in &spreads {
            fields.extend(statistics.iter().map(|name| spread.field(name)));
        }
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn every_second_is_a_line() {
        let csv = csv(&fixture::result()).unwrap();
        let lines: Vec<_> = csv.lines().collect();
        assert_eq!(lines.len(), 11);
        assert!(
            lines[0]
                .starts_with("start_s,length_s,due,echoed,timed_out,echoed_per_s,response_p50_ns,")
        );
        assert!(
            lines[3]
                .starts_with("2,1,50000,50000,0,50000,50015,50015,80063,1000447,1000447,5001215,"),
            "{}",
            lines[3]
        );
        for line in &lines {
            assert_eq!(line.matches(',').count(), lines[0].matches(',').count());
        }
    }
}
