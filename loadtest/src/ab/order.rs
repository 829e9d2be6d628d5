//! The order in which the servers of a round are measured.

use fastrand::Rng;

/// The order of every round, as indices of the sides.
///
/// Over as many rounds as there are sides, each side has each position once, so drift and effects
/// of the position cancel out. The assignment of orders to rounds is random.
pub(super) fn rounds(sides: usize, count: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut random = Rng::with_seed(seed);
    let mut orders = Vec::new();
    while orders.len() < count {
        let mut base: Vec<_> = (0..sides).collect();
        random.shuffle(&mut base);
        let mut shifts: Vec<_> = (0..sides).collect();
        random.shuffle(&mut shifts);
        for shift in shifts {
            let mut order = base.clone();
            order.rotate_left(shift);
            orders.push(order);
        }
    }
    orders.truncate(count);
    orders
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of times each side is at each position.
    fn places(sides: usize, orders: &[Vec<usize>]) -> Vec<Vec<usize>> {
        let mut counts = vec![vec![0; sides]; sides];
        for order in orders {
            for (place, &side) in order.iter().enumerate() {
                counts[side][place] += 1;
            }
        }
        counts
    }

    #[test]
    fn every_round_has_every_side_once() {
        for sides in 1..6 {
            let orders = rounds(sides, 7, 3);
            assert_eq!(orders.len(), 7);
            for mut order in orders {
                order.sort_unstable();
                assert_eq!(order, (0..sides).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn every_side_has_every_position_equally_often() {
        for seed in 0..50 {
            for count in [10, 11] {
                let places = places(2, &rounds(2, count, seed));
                assert!(places[0][0].abs_diff(places[1][0]) <= 1, "{places:?}");
            }
            for sides in 2..6 {
                let places = places(sides, &rounds(sides, 4 * sides, seed));
                assert!(places.iter().flatten().all(|&count| count == 4));
            }
        }
    }

    #[test]
    fn the_order_is_a_function_of_the_seed() {
        assert_eq!(rounds(2, 20, 7), rounds(2, 20, 7));
        let firsts = |seed| -> Vec<_> {
            let orders = rounds(2, 20, seed).into_iter();
            orders.map(|order| order[0]).collect()
        };
        let alternating = [[0, 1].repeat(10), [1, 0].repeat(10)];
        assert!((0..20).any(|seed| firsts(seed) != firsts(seed + 1)));
        assert!((0..20).all(|seed| !alternating.contains(&firsts(seed))));
    }
}
