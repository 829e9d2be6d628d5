//! Who holds how much, to find those who have to go when all hold too much.

use super::Buffered;

/// What one connection holds, and which one that is. The order is that in which
/// they go, the last ones first: of those who do not read, the ones who make no
/// progress at all before those who still read or send a little, and all of them
/// before those who have yet to send the rest of a frame; of each, those who hold
/// most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EvictionCandidate<K> {
    is_stalled: bool,
    is_slow_reader: bool,
    is_unread: bool,
    bytes: usize,
    key: K,
}

impl<K> EvictionCandidate<K> {
    /// `None` if the connection holds nothing.
    pub(crate) fn of(key: K, buffered: Buffered) -> Option<Self> {
        (buffered.bytes > 0).then_some(Self {
            is_stalled: buffered.stalled > 0,
            is_slow_reader: buffered.slow_readers > 0,
            is_unread: buffered.unread > 0,
            bytes: buffered.bytes,
            key,
        })
    }

    /// Whether it makes no progress, and which it is, where its socket takes nothing.
    pub(crate) fn unread(self) -> Option<(bool, K)> {
        self.is_unread.then_some((self.is_stalled, self.key))
    }

    /// The same connection among others.
    pub(crate) fn rename<L>(self, name: impl FnOnce(K) -> L) -> EvictionCandidate<L> {
        EvictionCandidate {
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
pub(crate) fn largest_first<K: Ord>(
    mut eviction_candidates: Vec<EvictionCandidate<K>>,
    bytes: usize,
) -> impl Iterator<Item = K> {
    eviction_candidates.sort_unstable();
    let mut gone = 0;
    eviction_candidates
        .into_iter()
        .rev()
        .map_while(move |candidate| {
            let is_needed = gone < bytes;
            gone += candidate.bytes;
            is_needed.then_some(candidate.key)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_makes_no_progress_goes_first_and_no_more_than_necessary() {
        let candidate = |key, bytes, slow_readers, stalled| {
            EvictionCandidate::of(
                key,
                Buffered {
                    bytes,
                    slow_readers,
                    stalled,
                    unread: 0,
                    paused: 0,
                },
            )
        };
        let eviction_candidates: Vec<_> = [
            candidate(0, 500, 0, 0),
            candidate(1, 10, 1, 0),
            candidate(2, 0, 0, 0),
            candidate(3, 30, 1, 0),
            candidate(4, 400, 0, 0),
            candidate(5, 20, 1, 1),
        ]
        .into_iter()
        .flatten()
        .collect();
        let gone = |bytes| largest_first(eviction_candidates.clone(), bytes).collect::<Vec<_>>();
        assert!(gone(0).is_empty());
        assert_eq!(gone(1), [5]);
        assert_eq!(gone(20), [5]);
        assert_eq!(gone(21), [5, 3]);
        assert_eq!(gone(51), [5, 3, 1]);
        assert_eq!(gone(561), [5, 3, 1, 0, 4]);
        assert_eq!(gone(usize::MAX), [5, 3, 1, 0, 4]);
    }
}
