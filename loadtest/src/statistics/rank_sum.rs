//! The rank-sum test of Mann and Whitney (1947, Annals of Mathematical Statistics
//! 18:50), exact.
//!
//! If the group of a run makes no difference, every way to pick the runs of one group from all
//! is equally likely. The p-value is the share of those whose sum of ranks is as far from its
//! mean as the observed one. They are counted, not approximated, so ties are exact as well.

use super::ranks::ranks;

/// The two-sided p-value of two groups.
pub(super) fn p_value(a: &[f64], b: &[f64]) -> f64 {
    let (few, many) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let mut ranks = ranks(&[few, many].concat());
    let (count, total) = (ranks.len(), ranks.iter().sum::<usize>());
    let observed: usize = ranks[..few.len()].iter().sum();
    // Sums are compared multiplied by the number of runs, as the mean is no whole
    // number otherwise.
    let mean = total * few.len();
    let distance = mean.abs_diff(observed * count);
    if distance == 0 {
        return 1.0;
    }
    ranks.sort_unstable();
    let below = mean
        .checked_sub(distance)
        .map_or(0.0, |limit| picks_up_to(limit / count, few.len(), &ranks));
    let top = ranks[count - 1];
    let mirrored: Vec<_> = ranks.iter().rev().map(|rank| top - rank).collect();
    let above = (few.len() * top)
        .checked_sub((mean + distance).div_ceil(count))
        .map_or(0.0, |limit| picks_up_to(limit, few.len(), &mirrored));
    ((below + above) / picks(few.len(), count)).min(1.0)
}

/// The number of ways to pick `picked` of the ascending ranks that add up to no more than the
/// limit.
///
/// The table is indexed by how far a pick's sum is above the least possible, so that it is no
/// longer than the number of different sums.
fn picks_up_to(limit: usize, picked: usize, ranks: &[usize]) -> f64 {
    let least: usize = ranks[..picked].iter().sum();
    let Some(excess_max) = limit.checked_sub(least) else {
        return 0.0;
    };
    let mut ways = vec![vec![0.0; excess_max + 1]; picked + 1];
    ways[0][0] = 1.0;
    for (index, rank) in ranks.iter().enumerate() {
        let left = ranks.len() - 1 - index;
        let fewest = picked.saturating_sub(left).max(1);
        for nth in (fewest..=picked.min(index + 1)).rev() {
            let excess = rank - ranks[nth - 1];
            if excess > excess_max {
                continue;
            }
            let (fewer, with_it) = ways.split_at_mut(nth);
            let without_it = &fewer[nth - 1][..=excess_max - excess];
            for (sum, ways) in with_it[0][excess..].iter_mut().zip(without_it) {
                *sum += ways;
            }
        }
    }
    ways[picked].iter().sum()
}

/// The binomial coefficient.
fn picks(picked: usize, of: usize) -> f64 {
    (1..=picked).fold(1.0, |ways, nth| {
        ways * (of - picked + nth) as f64 / nth as f64
    })
}
