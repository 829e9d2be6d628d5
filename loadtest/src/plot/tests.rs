//! Whole plots.

use super::*;

fn chart(points: &[(f64, f64)]) -> Chart<'static> {
    Chart {
        x: Axis {
            title: "messages/s",
            scale: Scale::Log,
            label: &short_count,
        },
        y: Axis {
            title: "",
            scale: Scale::Log,
            label: &short_ns,
        },
        series: vec![Series {
            name: "p99",
            mark: 'x',
            points: points.to_vec(),
        }],
        columns: 48,
        rows: 7,
    }
}

/// The column and row of each mark, from the bottom left of the area.
fn marks(text: &str, mark: char) -> Vec<(usize, usize)> {
    let lines: Vec<_> = text
        .lines()
        .filter(|line| line.contains(['│', '┤']))
        .collect();
    let mut found = Vec::new();
    for (row, line) in lines.iter().rev().enumerate() {
        let area = line.chars().skip_while(|c| !"│┤".contains(*c)).skip(1);
        let columns = area.enumerate().filter(|(_, c)| *c == mark);
        found.extend(columns.map(|(column, _)| (column, row)));
    }
    found.sort_unstable();
    found
}

#[test]
fn a_line_on_logarithmic_axes_is_a_power() {
    let text = chart(&[(10e3, 10e3), (100e3, 100e3), (1e6, 1e6)]).text(false);
    assert_eq!(
        text,
        "  1 ms ┤                                    ···x
       │                              ······
       │                        ······
100 µs ┤                 ···x···
       │           ······
       │    ·······
 10 µs ┤x···
       └┬─────┬───────┬─────┬────┬───────┬─────┬
       10k   20k     50k  100k 200k    500k   1m
        x p99   against messages/s
"
    );
}

#[test]
fn points_lie_where_their_values_are() {
    let mut random = fastrand::Rng::with_seed(5);
    for _ in 0..200 {
        let count = random.usize(1..10);
        let points: Vec<_> = (0..count)
            .map(|_| {
                (
                    10f64.powf(random.f64() * 6.0),
                    10f64.powf(random.f64() * 9.0),
                )
            })
            .collect();
        let text = chart(&points).text(false);
        let marks = marks(&text, 'x');
        assert!(!marks.is_empty() && marks.len() <= count, "{text}");
        let highest = points.iter().map(|point| point.1).fold(0.0, f64::max);
        let last = points
            .iter()
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .expect("one");
        let top = marks.iter().map(|mark| mark.1).max();
        let last_is_highest = last.1 >= highest;
        if last_is_highest {
            assert_eq!(marks.last().map(|mark| mark.1), top, "{text}");
        }
        for line in text.lines() {
            assert!(width(line) <= 52, "{text}");
        }
    }
}

#[test]
fn a_later_series_lies_over_those_before() {
    let mut chart = chart(&[(10.0, 10.0), (1e3, 10.0)]);
    chart.series.push(Series {
        name: "p50",
        mark: 'o',
        points: vec![(10.0, 10.0)],
    });
    let text = chart.text(false);
    assert_eq!((marks(&text, 'x').len(), marks(&text, 'o').len()), (1, 1));
    assert!(
        text.contains("x p99  o p50   against messages/s\n"),
        "{text}"
    );
}

#[test]
fn colors_are_around_marks_and_dots_only() {
    let chart = chart(&[(10.0, 10.0), (1e3, 1e4)]);
    let (plain, colored) = (chart.text(false), chart.text(true));
    assert!(!plain.contains('\x1b'));
    let stripped = colored.replace("\x1b[36m", "").replace("\x1b[0m", "");
    assert_eq!(stripped, plain);
    assert_ne!(colored, plain);
}

#[test]
fn points_off_the_scale_are_left_out() {
    let points = [
        (0.0, 1.0),
        (1.0, -1.0),
        (f64::NAN, 1.0),
        (1.0, f64::INFINITY),
    ];
    assert_eq!(chart(&points).text(false), "");
    assert_eq!(chart(&[]).text(false), "");
    let text = chart(&[&points[..], &[(5.0, 5.0)]].concat()).text(false);
    assert_eq!(marks(&text, 'x').len(), 1, "{text}");
}

#[test]
fn linear_axes_show_zero() {
    let mut chart = chart(&[(0.0, 0.0), (10.0, 50.0), (20.0, 100.0)]);
    chart.x.scale = Scale::Linear;
    chart.y.scale = Scale::Linear;
    chart.y.label = &short_count;
    let text = chart.text(false);
    let marks = marks(&text, 'x');
    assert_eq!(marks.len(), 3, "{text}");
    assert_eq!((marks[0], marks[1].1, marks[2].1), ((0, 0), 3, 6), "{text}");
}

#[test]
fn there_is_no_plot_too_small_to_draw() {
    let mut chart = chart(&[(10.0, 10.0), (1e3, 1e4)]);
    (chart.columns, chart.rows) = (0, 0);
    assert!(chart.text(false).contains('x'));
}
