//! Who holds how much, to find those who have to go when all hold too much.

use super::Holdings;

/// What one connection holds, and which one that is. The order is that in which
/// they go, the last ones first: of those who do not read, the ones who make no
/// progress at all before those who still read or send a little, and all of them
/// before those who have yet to send the rest of a frame; of each, those who hold
/// most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Burden<K> {
    is_stalled: bool,
    is_slow_reader: bool,
    is_unread: bool,
    bytes: usize,
    key: K,
}

impl<K> Burden<K> {
    /// `None` if the connection holds nothing.
    pub(crate) fn of(key: K, holdings: Holdings) -> Option<Self> {
        (holdings.bytes > 0).then_some(Self {
            is_stalled: holdings.stalled > 0,
            is_slow_reader: holdings.slow_readers > 0,
            is_unread: holdings.unread > 0,
            bytes: holdings.bytes,
            key,
        })
    }

    /// Whether it makes no progress, and which it is, where its socket takes nothing.
    pub(crate) fn unread(self) -> Option<(bool, K)> {
        self.is_unread.then_some((self.is_stalled, self.key))
    }

    /// The same connection among others.
    pub(crate) fn rename<L>(self, name: impl FnOnce(K) -> L) -> Burden<L> {
        Burden {
            is_stalled: self.is_stalled,
            is_slow_reader: self.is_slow_reader,
            is_unread: self.is_unread,
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
    fn who_makes_no_progress_goes_first_and_no_more_than_necessary() {
        let burden = |key, bytes, slow_readers, stalled| {
            Burden::of(
                key,
                Holdings {
                    bytes,
                    slow_readers,
                    stalled,
                    unread: 0,
                    paused: 0,
                },
            )
        };
        let burdens: Vec<_> = [
            burden(0, 500, 0, 0),
            burden(1, 10, 1, 0),
            burden(2, 0, 0, 0),
            burden(3, 30, 1, 0),
            burden(4, 400, 0, 0),
            burden(5, 20, 1, 1),
        ]
        .into_iter()
        .flatten()
        .collect();
        let gone = |bytes| heaviest(burdens.clone(), bytes).collect::<Vec<_>>();
        assert!(gone(0).is_empty());
        assert_eq!(gone(1), [5]);
        assert_eq!(gone(20), [5]);
        assert_eq!(gone(21), [5, 3]);
        assert_eq!(gone(51), [5, 3, 1]);
        assert_eq!(gone(561), [5, 3, 1, 0, 4]);
        assert_eq!(gone(usize::MAX), [5, 3, 1, 0, 4]);
    }
}
