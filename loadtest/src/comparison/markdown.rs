//! Comparisons as tables of GitHub-flavored Markdown.

use super::tables::{self, ComparisonTable};
use super::{Comparison, cells, sentences};
use crate::report::{Grid, escape};

pub(super) fn comparison(comparison: &Comparison) -> String {
    let noise = comparison.noise.as_ref();
    let tables = tables::all(comparison, &comparison.settings.metrics);
    let mut parts = vec![header(comparison)];
    parts.extend(tables.iter().map(|table| self::table(table) + "\n"));
    let contrasts = noise.into_iter().chain(&comparison.contrasts);
    let mut sentences: Vec<_> = contrasts
        .map(|contrast| sentences::sentence(comparison, contrast))
        .collect();
    if let (Some(noise), []) = (noise, comparison.contrasts.as_slice()) {
        sentences.push(sentences::resolution(comparison, noise));
    }
    let warnings = comparison.warnings.iter();
    sentences.extend(warnings.map(|warning| format!("warning: {warning}")));
    let items = sentences.iter().map(|it| format!("- {}\n", escape(it)));
    parts.extend(items);
    parts.concat()
}

fn header(comparison: &Comparison) -> String {
    let sides = comparison.sides.iter().map(|side| {
        let command = side.command.as_deref().unwrap_or_default();
        let line = format!("- **{}** {}", escape(&side.label), escape(command));
        format!("{}\n", line.trim_end())
    });
    format!(
        "{}\n\n{}\n\n{}\n",
        escape(&comparison.workload),
        escape(&cells::design(comparison)),
        sides.collect::<String>()
    )
}

fn table(table: &ComparisonTable) -> String {
    let mut grid = Grid::default();
    let mut titles = table.titles.clone();
    titles.push("verdict".to_owned());
    grid.add(&table.title, titles, "");
    for row in &table.rows {
        let mut cells = row.cells.clone();
        cells.push(row.remark.clone());
        grid.add(&row.name, cells, "");
    }
    grid.markdown()
}

#[cfg(test)]
mod tests {
    use super::super::fixture;

    #[test]
    fn two_sides_are_a_table() {
        assert_eq!(
            fixture::two().markdown(),
            "\
closed loop, 50 connections × 16 in flight

10 pairs of runs in random order; ratios are medians of pairs, with 95 % intervals

- **A** server --engine A
- **B** server --engine B

|  | A | B | B/A | 95 % interval | noise | p | verdict |
|:---|---:|---:|---:|---:|---:|---:|---:|
| messages/s | 2,000,000/s | 1,980,000/s | 0.990 | 0.980 to 1.010 | – | 0.400 | no difference |
| CPU/message | 1000 ns | 1052 ns | 1.052 | 1.041 to 1.064 | ±1.1 % | 0.003 | worse |
| p50 | 50.0 µs | 52.0 µs | 1.040 | 0.800 to 1.300 | – | 0.400 | inconclusive, about 14 more pairs needed |
| p99 | 80.0 µs | 240 µs | 3.000 | 1.800 to 4.100 | – | \\<0.001 | worse |

- no difference between A and A again: CPU/message within ±1.1 %
- B is worse than A: CPU/message +5.2 % (+4.1 % to +6.4 %), p99 ×3.00 (+80.0 % to ×4.10)
"
        );
    }

    #[test]
    fn more_sides_are_ranked_in_every_metric() {
        assert_eq!(
            fixture::four().markdown(),
            "\
closed loop, 50 connections × 16 in flight

10 rounds of runs in random order; ratios are medians of rounds, with 95 % intervals

- **A** server --engine A
- **B** server --engine B
- **C** server --engine C
- **D** server --engine D

| messages/s | rank | median | 95 % interval | to A | 95 % interval | p | verdict |
|:---|---:|---:|---:|---:|---:|---:|---:|
| C | 1 | 2,200,000/s | 2,178,000/s to 2,222,000/s | 1.100 | 1.050 to 1.120 | 0.003 | better |
| A | 2 | 2,000,000/s | 1,980,000/s to 2,020,000/s | – | – | – | baseline |
| B | 3 | 1,800,000/s | 1,782,000/s to 1,818,000/s | 0.900 | 0.890 to 0.920 | 0.003 | worse |
| D | – | – | – | – | – | – | not measured |

| CPU/message | rank | median | 95 % interval | to A | 95 % interval | p | verdict |
|:---|---:|---:|---:|---:|---:|---:|---:|
| C | 1 | 800 ns | 792 ns to 808 ns | 0.800 | 0.790 to 0.820 | 0.003 | better |
| A | 2 | 1000 ns | 990 ns to 1010 ns | – | – | – | baseline |
| D | 2 | 1001 ns | 991 ns to 1011 ns | 1.001 | 0.850 to 1.150 | 1.000 | inconclusive, too noisy for any number of rounds |
| B | 4 | 1200 ns | 1188 ns to 1212 ns | 1.200 | 1.180 to 1.210 | 0.003 | worse |

- B is worse than A: messages/s -10.0 % (-11.0 % to -8.0 %), CPU/message +20.0 % (+18.0 % to +21.0 %)
- C is better than A: messages/s +10.0 % (+5.0 % to +12.0 %), CPU/message -20.0 % (-21.0 % to -18.0 %)
- inconclusive, D against A: CPU/message +0.1 % (-15.0 % to +15.0 %), too noisy for any number of rounds
- warning: 2 of 10 runs of B are SUSPECT
"
        );
    }
}
