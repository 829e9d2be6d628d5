//! Who holds how much, to find those who have to go when all hold too much.

use super::Holdings;

/// What one connection holds, and which one that is. The order is that in which
/// they go, the last ones first: those who do not read before those who have yet
/// to send the rest of a frame, and of each those who hold most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Burden<K> {
    is_slow_reader: bool,
    bytes: usize,
    key: K,
}

impl<K> Burden<K> {
    /// `None` if the connection holds nothing.
    pub(crate) fn of(key: K, holdings: Holdings) -> Option<Self> {
        (holdings.bytes > 0).then_some(Self {
            is_slow_reader: holdings.slow_readers > 0,
            bytes: holdings.bytes,
            key,
        })
    }

    /// The same connection among others.
    pub(crate) fn rename<L>(self, name: impl FnOnce(K) -> L) -> Burden<L> {
        Burden {
            is_slow_reader: self.is_slow_reader,
            bytes: self.bytes,
            key: name(self.key),
        }
    }
}

/// The keys of those who have to go so that `bytes` are let go of: no more of
/// them than necessary.
pub(crate) fn heaviest<K: Ord>(
    mut burdens: Vec<Burden<K>>,
    bytes: usize,
) -> impl Iterator<Item = K> {
    burdens.sort_unstable();
    let mut gone = 0;
    burdens.into_iter().rev().map_while(move |burden| {
        let is_needed = gone < bytes;
        gone += burden.bytes;
        is_needed.then_some(burden.key)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_readers_go_first_and_no_more_than_necessary() {
        let burden = |key, bytes, slow_readers| {
            Burden::of(
                key,
                Holdings {
                    bytes,
                    slow_readers,
                },
            )
        };
        let burdens: Vec<_> = [
            burden(0, 500, 0),
            burden(1, 10, 1),
            burden(2, 0, 0),
            burden(3, 30, 1),
            burden(4, 400, 0),
        ]
        .into_iter()
        .flatten()
        .collect();
        let gone = |bytes| heaviest(burdens.clone(), bytes).collect::<Vec<_>>();
        assert!(gone(0).is_empty());
        assert_eq!(gone(1), [3]);
        assert_eq!(gone(30), [3]);
        assert_eq!(gone(31), [3, 1]);
        assert_eq!(gone(541), [3, 1, 0, 4]);
        assert_eq!(gone(usize::MAX), [3, 1, 0, 4]);
    }
}
