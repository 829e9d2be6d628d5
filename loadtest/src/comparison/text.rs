//! Comparisons for a terminal.

use super::finding::ComparisonVerdict;
use super::tables::{self, ComparisonTable};
use super::{Comparison, cells, sentences};
use crate::paint::paint;
use crate::report::Grid;
use crate::terminal::sanitized;
use crate::verdict;

pub(super) fn comparison(comparison: &Comparison, color: bool) -> String {
    let tables = tables::all(comparison, &comparison.decisive());
    let mut text = header(comparison);
    for table in &tables {
        text.push('\n');
        text += &self::table(table, color);
    }
    text.push('\n');
    text += &sentences(comparison, color);
    for warning in &comparison.warnings {
        let key = paint("warning", verdict::Verdict::Suspect, color);
        text.extend([&key, "  ", &sanitized(warning), "\n"]);
    }
    text
}

/// The load, the design and the sides.
fn header(comparison: &Comparison) -> String {
    let mut sides = Grid::default();
    for side in &comparison.sides {
        let command = side.command.as_deref().unwrap_or_default();
        sides.add(&side.label, Vec::new(), command);
    }
    format!(
        "{}\n{}\n{}",
        sanitized(&comparison.workload),
        sanitized(&cells::design(comparison)),
        sides.text()
    )
}

fn table(table: &ComparisonTable, color: bool) -> String {
    let mut grid = Grid::default();
    let mut titles = table.titles.clone();
    titles.push(table.scale.title());
    grid.add(&table.title, titles, "");
    for row in &table.rows {
        let mut cells = row.cells.clone();
        cells.push(row.forest.clone());
        let like = row.verdict.and_then(like).filter(|_| color);
        grid.add_colored(&row.name, cells, &row.remark, like);
    }
    grid.text()
}

fn sentences(comparison: &Comparison, color: bool) -> String {
    let mut text = String::new();
    if let Some(noise) = &comparison.noise {
        text += &sanitized(&sentences::sentence(comparison, noise));
        text.push('\n');
        if comparison.contrasts.is_empty() {
            text += &sentences::resolution(comparison, noise);
            text.push('\n');
        }
    }
    for contrast in &comparison.contrasts {
        let sentence = sanitized(&sentences::sentence(comparison, contrast));
        text += &painted(&sentence, contrast.verdict, color);
        text.push('\n');
    }
    text
}

fn painted(text: &str, verdict: ComparisonVerdict, color: bool) -> String {
    match like(verdict) {
        Some(like) => paint(text, like, color),
        None => text.to_owned(),
    }
}

/// The verdict on a run that has the color of one on a comparison.
fn like(verdict: ComparisonVerdict) -> Option<verdict::Verdict> {
    match verdict {
        ComparisonVerdict::Better => Some(verdict::Verdict::Valid),
        ComparisonVerdict::Worse => Some(verdict::Verdict::Invalid),
        ComparisonVerdict::Mixed | ComparisonVerdict::Inconclusive => {
            Some(verdict::Verdict::Suspect)
        }
        ComparisonVerdict::NoDifference => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;

    #[test]
    fn two_sides_are_a_table_and_a_sentence() {
        assert_eq!(
            fixture::two().text(false),
            "\
closed loop, 50 connections × 16 in flight
10 pairs of runs in random order; ratios are medians of pairs, with 95 % intervals
A  server --engine A
B  server --engine B

                       A            B    B/A   95 % interval   noise       p
messages/s   2,000,000/s  1,980,000/s  0.990  0.980 to 1.010       –   0.400
CPU/message      1000 ns      1052 ns  1.052  1.041 to 1.064  ±1.1 %   0.003
p50              50.0 µs      52.0 µs  1.040  0.800 to 1.300       –   0.400
p99              80.0 µs       240 µs  3.000  1.800 to 4.100       –  <0.001

             0.909       1         1.1
messages/s   ·········├─●┼┤···········  no difference
CPU/message  ············│····├●─┤····  worse
p50          ◀───────────┼────●──────▶  inconclusive, about 14 more pairs needed
p99          ············│···········▶  worse

no difference between A and A again: CPU/message within ±1.1 %
B is worse than A: CPU/message +5.2 % (+4.1 % to +6.4 %), p99 ×3.00 (+80.0 % to ×4.10)
"
        );
    }

    #[test]
    fn no_difference_is_reported_with_its_bounds() {
        let text = fixture::alike().text(false);
        let last = text.lines().last().unwrap();
        assert_eq!(
            last,
            "no difference between A and B: messages/s within ±2.0 %, CPU/message within ±2.0 %"
        );
    }

    #[test]
    fn the_noise_alone_shows_the_resolution() {
        assert_eq!(
            fixture::one().text(false),
            "\
closed loop, 50 connections × 16 in flight
10 pairs of runs in random order; ratios are medians of pairs, with 95 % intervals
A  server --engine A

                   A  A again  A again/A   95 % interval      p
CPU/message  1000 ns  1002 ns      1.002  0.990 to 1.011  0.800

             0.952       1        1.05
CPU/message  ··········├─●──┤·········  no difference

no difference between A and A again: CPU/message within ±1.1 %
with 10 pairs, this machine can show differences of more than: CPU/message 1.1 %
"
        );
    }

    #[test]
    fn more_sides_are_ranked() {
        assert_eq!(
            fixture::four().text(false),
            "\
closed loop, 50 connections × 16 in flight
10 rounds of runs in random order; ratios are medians of rounds, with 95 % intervals
A  server --engine A
B  server --engine B
C  server --engine C
D  server --engine D

CPU/message  rank   median       95 % interval   to A   95 % interval      p
C               1   800 ns    792 ns to 808 ns  0.800  0.790 to 0.820  0.003
A               2  1000 ns   990 ns to 1010 ns      –               –      –
D               2  1001 ns   991 ns to 1011 ns  1.001  0.850 to 1.150  1.000
B               4  1200 ns  1188 ns to 1212 ns  1.200  1.180 to 1.210  0.003

CPU/message  0.667       1         1.5
C            ·····●┤·····│············  better
A                                       baseline
D            ·······├────●───┤········  inconclusive, too noisy for any number
                                        of rounds
B            ············│····●┤······  worse

messages/s  rank       median               95 % interval   to A   95 % interval
C              1  2,200,000/s  2,178,000/s to 2,222,000/s  1.100  1.050 to 1.120
A              2  2,000,000/s  1,980,000/s to 2,020,000/s      –               –
B              3  1,800,000/s  1,782,000/s to 1,818,000/s  0.900  0.890 to 0.920
D              –            –                           –      –               –

messages/s      p  0.8         1        1.25
C           0.003  ············│··├─●┤······  better
A               –                             baseline
B           0.003  ······●─┤···│············  worse
D               –                             not measured

B is worse than A: messages/s -10.0 % (-11.0 % to -8.0 %), CPU/message +20.0 % (+18.0 % to +21.0 %)
C is better than A: messages/s +10.0 % (+5.0 % to +12.0 %), CPU/message -20.0 % (-21.0 % to -18.0 %)
inconclusive, D against A: CPU/message +0.1 % (-15.0 % to +15.0 %), too noisy for any number of rounds
warning  2 of 10 runs of B are SUSPECT
"
        );
    }

    #[test]
    fn colors_do_not_change_the_layout() {
        let (plain, colored) = (fixture::two().text(false), fixture::two().text(true));
        assert!(colored.contains("  \x1b[1;31mworse\x1b[0m\n"), "{colored}");
        assert!(
            colored.contains("\n\x1b[1;31mB is worse than A"),
            "{colored}"
        );
        let codes = ["\x1b[1;31m", "\x1b[33m", "\x1b[32m", "\x1b[0m"];
        let bare = codes
            .iter()
            .fold(colored, |text, code| text.replace(code, ""));
        assert_eq!(bare, plain);
    }

    #[test]
    fn control_characters_of_files_are_removed() {
        let mut two = fixture::two();
        two.sides[1].command = Some("s\x1b[2J".to_owned());
        two.warnings.push("w\x1b[2J".to_owned());
        assert!(!two.text(false).contains('\x1b'));
    }
}
