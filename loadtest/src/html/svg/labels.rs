//! Placement of labels so that they do not overlap.

use super::axis::{Axis, Tick};

/// The height of a line of letters.
pub(super) const LINE: f64 = 15.0;

/// The width of a letter, on average and a little more.
pub(super) const LETTER: f64 = 6.8;

/// The same of bold letters, as names are written.
pub(super) const BOLD_LETTER: f64 = 8.2;

/// Shortens a name in its middle, as URLs and files differ at their ends.
pub(in super::super) fn shorten(name: &str, letters_max: usize) -> String {
    let letters: Vec<_> = name.chars().collect();
    if letters.len() <= letters_max {
        return name.to_owned();
    }
    let kept = letters_max.saturating_sub(1);
    let (head, tail) = (kept.div_ceil(2), kept / 2);
    let head: String = letters[..head].iter().collect();
    let tail: String = letters[letters.len() - tail..].iter().collect();
    format!("{head}…{tail}")
}

/// Moves labels apart so that they do not overlap, keeping their order, between a top and a
/// bottom if they fit.
pub(super) fn spread(heights: &[f64], top: f64, bottom: f64) -> Vec<f64> {
    let mut order: Vec<_> = (0..heights.len()).collect();
    order.sort_by(|&a, &b| heights[a].total_cmp(&heights[b]));
    let mut spread = heights.to_vec();
    let mut lowest = top;
    for &index in &order {
        spread[index] = spread[index].max(lowest);
        lowest = spread[index] + LINE;
    }
    let mut highest = bottom;
    for &index in order.iter().rev() {
        spread[index] = spread[index].min(highest);
        highest = spread[index] - LINE;
    }
    spread
}

/// The ticks of a horizontal axis whose labels fit beside each other.
pub(super) fn beside(axis: &Axis, length: f64) -> Vec<&Tick> {
    fitting(axis, length, |tick| {
        (tick.label.chars().count() + 1) as f64 * LETTER
    })
}

/// The ticks of a vertical axis whose labels fit above each other.
pub(super) fn above(axis: &Axis, length: f64) -> Vec<&Tick> {
    fitting(axis, length, |_| LINE + 2.0)
}

/// Major ticks first, each if those placed before leave room.
fn fitting(axis: &Axis, length: f64, room: impl Fn(&Tick) -> f64) -> Vec<&Tick> {
    let (majors, minors): (Vec<_>, Vec<_>) = axis.ticks.iter().partition(|tick| tick.is_major);
    let mut placed: Vec<(f64, f64, &Tick)> = Vec::new();
    for tick in majors.into_iter().chain(minors) {
        let (middle, half) = (axis.place(tick.value) * length, room(tick) / 2.0);
        if placed
            .iter()
            .all(|(other, reach, _)| (middle - other).abs() >= half + reach)
        {
            placed.push((middle, half, tick));
        }
    }
    placed.into_iter().map(|(_, _, tick)| tick).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_lose_their_middle() {
        assert_eq!(shorten("epoll", 5), "epoll");
        assert_eq!(shorten("ws://127.0.0.1:9001/", 11), "ws://…9001/");
        assert_eq!(shorten("Grüße-aus-Köln", 7), "Grü…öln");
    }

    #[test]
    fn overlapping_labels_are_moved_apart() {
        let moved = spread(&[100.0, 20.0, 101.0], 0.0, 110.0);
        assert_eq!(moved[1].total_cmp(&20.0), std::cmp::Ordering::Equal);
        assert!(moved[2] <= 110.0);
        assert!(moved[2] - moved[0] >= LINE, "{moved:?}");
        assert!(moved[0] - moved[1] >= LINE, "{moved:?}");
    }

    #[test]
    fn ticks_whose_labels_overlap_are_left_out() {
        let axis = Axis::percentiles("percentile", 10_000_000);
        let labels = |length| -> Vec<_> {
            let ticks = beside(&axis, length).into_iter();
            ticks.map(|tick| tick.label.as_str()).collect()
        };
        assert_eq!(labels(2_000.0).len(), axis.ticks.len());
        let few = labels(260.0);
        assert!(few.len() < axis.ticks.len(), "{few:?}");
        assert_eq!(few[0], "min");
    }
}
