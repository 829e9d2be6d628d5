//! The distribution of response times: a histogram.

use maud::Markup;

use crate::outcome::Histogram;
use crate::units::{format_count, format_ns};

use super::figure::Figure;
use super::group::RunGroups;
use super::run::ReportedRun;
use super::svg::{Axis, Bar, Chart, Series};
use super::table::HtmlTable;

/// Bins of a decade.
const BINS_PER_DECADE: f64 = 20.0;

/// A bin: from, to, and the share of the messages in it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bin {
    from_ns: f64,
    to_ns: f64,
    messages: u64,
    share: f64,
}

/// Bars for a single run, lines for several.
pub(super) fn figure(runs: &[ReportedRun]) -> Option<Markup> {
    let groups = RunGroups::of(runs);
    let histograms: Vec<_> = groups.all.iter().map(|group| &group.response_ns).collect();
    let bins: Vec<_> = histograms.iter().map(|times_ns| binned(times_ns)).collect();
    let all: Vec<Bin> = bins.iter().flatten().copied().collect();
    if all.is_empty() {
        return None;
    }
    let is_single = bins.len() == 1;
    let edges = all.iter().flat_map(|bin| [bin.from_ns, bin.to_ns]);
    let shares = all.iter().map(|bin| bin.share * 100.0);
    let mut chart = Chart::new(
        Axis::times("response time", edges),
        Axis::from_zero("messages per bin, of all", shares, |value| {
            format!("{value} %")
        }),
    );
    for (style, (group, bins)) in groups.all.iter().zip(&bins).enumerate() {
        if is_single {
            chart.bars = bins.iter().map(bar).collect();
        } else {
            chart.series.push(Series {
                name: group.name.clone(),
                style,
                points: bins.iter().flat_map(outline).map(Some).collect(),
                ..Series::default()
            });
        }
    }
    let figure = Figure {
        id: "distribution",
        title: "Distribution of the response time",
        finding: finding(&bins, &groups),
        notes: groups.notes.clone(),
        legend: Vec::new(),
        data: table(&bins, &groups),
    };
    Some(figure.draw_chart(&chart))
}

/// The bins from the first to the last that holds a message. Their edges are the
/// same for all histograms.
fn binned(times_ns: &Histogram) -> Vec<Bin> {
    let index = |ns: u64| ((ns.max(1) as f64).log10() * BINS_PER_DECADE).floor();
    let edge = |index: f64| 10f64.powf(index / BINS_PER_DECADE);
    let mut bins: Vec<Bin> = Vec::new();
    if times_ns.is_empty() {
        return bins;
    }
    let (first, last) = (index(times_ns.min()), index(times_ns.max()));
    let mut at = first;
    while at <= last {
        bins.push(Bin {
            from_ns: edge(at),
            to_ns: edge(at + 1.0),
            messages: 0,
            share: 0.0,
        });
        at += 1.0;
    }
    for value in times_ns.iter_recorded() {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a value lies between the least and the largest"
        )]
        let place = (index(value.value_iterated_to()) - first).max(0.0) as usize;
        let place = place.min(bins.len() - 1);
        bins[place].messages += value.count_at_value();
    }
    for bin in &mut bins {
        bin.share = bin.messages as f64 / times_ns.len() as f64;
    }
    bins
}

fn bar(bin: &Bin) -> Bar {
    Bar {
        from: bin.from_ns,
        to: bin.to_ns,
        value: bin.share * 100.0,
        tooltip: format!(
            "{}: {} messages, {:.2} %",
            between(bin),
            format_count(bin.messages),
            bin.share * 100.0
        ),
    }
}

/// The top of a bar.
fn outline(bin: &Bin) -> [(f64, f64); 2] {
    let percent = bin.share * 100.0;
    [(bin.from_ns, percent), (bin.to_ns, percent)]
}

fn between(bin: &Bin) -> String {
    format!("{} to {}", rounded(bin.from_ns), rounded(bin.to_ns))
}

fn rounded(ns: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "times are positive, and a cast saturates"
    )]
    format_ns(ns.round() as u64)
}

fn finding(bins: &[Vec<Bin>], groups: &RunGroups<'_>) -> String {
    let fullest = bins.iter().zip(&groups.all).filter_map(|(bins, group)| {
        let bin = bins.iter().max_by(|a, b| a.share.total_cmp(&b.share))?;
        let prefix = if groups.all.len() > 1 {
            format!("{}: ", group.name)
        } else {
            String::new()
        };
        Some(format!(
            "{prefix}{} ({:.0} % of the messages)",
            between(bin),
            bin.share * 100.0
        ))
    });
    let fullest: Vec<_> = fullest.collect();
    format!("Most frequent: {}.", fullest.join("; "))
}

fn table(bins: &[Vec<Bin>], groups: &RunGroups<'_>) -> HtmlTable {
    let names = groups.all.iter().map(|group| group.name.clone());
    let titles = ["response time".to_owned()].into_iter();
    let titles: Vec<_> = if groups.all.len() == 1 {
        titles
            .chain(["messages".to_owned(), "share".to_owned()])
            .collect()
    } else {
        titles.chain(names).collect()
    };
    let mut table = HtmlTable::new("Distribution of the response time", titles);
    let mut edges: Vec<&Bin> = bins
        .iter()
        .flatten()
        .filter(|bin| bin.messages > 0)
        .collect();
    edges.sort_by(|a, b| a.from_ns.total_cmp(&b.from_ns));
    edges.dedup_by(|a, b| a.from_ns.total_cmp(&b.from_ns).is_eq());
    for edge in edges {
        let mut cells = vec![between(edge)];
        for bins in bins {
            let own = bins
                .iter()
                .find(|bin| bin.from_ns.total_cmp(&edge.from_ns).is_eq());
            let messages = own.map_or(0, |bin| bin.messages);
            cells.push(format_count(messages));
            if groups.all.len() == 1 {
                cells.push(format!("{:.4} %", edge.share * 100.0));
            }
        }
        table.add(cells);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::histogram;

    #[test]
    fn every_message_is_in_one_bin() {
        let mut times_ns = histogram();
        for (ns, count) in [(0, 3), (1, 4), (50_000, 900), (51_000, 90), (9_999_999, 3)] {
            times_ns.record_n(ns, count).unwrap();
        }
        let bins = binned(&times_ns);
        assert_eq!(bins.iter().map(|bin| bin.messages).sum::<u64>(), 1_000);
        assert!(bins.len() <= 141, "{}", bins.len());
        let fullest = bins.iter().max_by_key(|bin| bin.messages).unwrap();
        assert_eq!(fullest.messages, 900);
        assert!(
            fullest.from_ns <= 50_000.0 && fullest.to_ns > 50_000.0,
            "{fullest:?}"
        );
        assert_eq!(bins[0].messages, 7);
        assert_eq!(binned(&histogram()), []);
    }
}
