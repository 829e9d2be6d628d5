//! The interval log of HdrHistogram, version 1.2.

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;

use super::chosen;
use crate::args::ExportTime;
use crate::failure::Failure;
use crate::result::{ResultFile, decode_latencies, parse_utc};

/// The maximum beside a line's histogram is written in milliseconds.
const MAX_DIVISOR: f64 = 1e6;

pub(super) fn text(run: &ResultFile, time: ExportTime) -> Result<String, Failure> {
    let why = |error: String| Failure::File(error);
    let start = parse_utc(&run.started_at)
        .ok_or_else(|| why(format!("'{}' is not a time", run.started_at)))?;
    let mut bytes = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.2]")
        .add_comment("[times in nanoseconds]")
        .with_start_time(start)
        .with_base_time(start)
        .with_max_value_divisor(MAX_DIVISOR)
        .begin_log_with(&mut bytes, &mut serializer)
        .map_err(|error| why(error.to_string()))?;
    for interval in &run.intervals {
        let latencies =
            decode_latencies(&interval.latencies).map_err(|error| why(error.to_string()))?;
        let times_ns = chosen(latencies, time);
        log.write_histogram(&times_ns, interval.start, interval.length, None)
            .map_err(|error| why(error.to_string()))?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::outcome::histogram;
    use crate::result::decode;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn what_is_written_adds_up_to_the_run() {
        let run = fixture::result();
        let log = text(&run, ExportTime::Response).unwrap();
        assert!(log.starts_with("#[Histogram log format version 1.2]\n"));
        let mut sum = histogram();
        let mut starts = Vec::new();
        for entry in IntervalLogIterator::new(log.as_bytes()) {
            if let LogEntry::Interval(interval) = entry.expect("it can be read") {
                sum.add(decode(interval.encoded_histogram()).unwrap())
                    .unwrap();
                starts.push(interval.start_timestamp().as_secs());
            }
        }
        assert_eq!(sum, run.latencies().unwrap().response_ns);
        assert_eq!(starts, (0..10).collect::<Vec<_>>());
    }
}
