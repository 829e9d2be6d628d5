//! Who comes when.

use fastrand::Rng;

/// Draws the order in which servers are measured anew each time, so that what
/// changes on a machine meanwhile falls on none of them more than on others. The
/// same seed draws the same orders.
#[derive(Debug, Clone)]
pub struct Orders(Rng);

impl Orders {
    /// Orders that follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Rng::with_seed(seed))
    }

    /// The numbers below `count`, each once.
    pub fn draw(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<_> = (0..count).collect();
        self.0.shuffle(&mut order);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_comes_once() {
        let mut orders = Orders::new(1);
        for count in 0..10 {
            let mut order = orders.draw(count);
            order.sort_unstable();
            assert_eq!(order, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn nobody_always_comes_first() {
        let mut orders = Orders::new(1);
        let firsts: std::collections::BTreeSet<_> = (0..100).map(|_| orders.draw(8)[0]).collect();
        assert_eq!(firsts.len(), 8);
    }

    #[test]
    fn the_seed_decides() {
        let draw = |seed| {
            let mut orders = Orders::new(seed);
            [orders.draw(8), orders.draw(8)]
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let [first, second] = draw(7);
        assert_ne!(first, second);
    }
}
