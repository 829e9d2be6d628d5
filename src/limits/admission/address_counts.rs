//! Counts the connections of each address.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard};

use super::source::Source;

/// Each shard has its own lock, to keep contention between workers low.
const SHARDS: usize = 16;

/// The connections of all workers by address. Counts are exact; an address without
/// connections has no entry. The hash has a random key, so that clients cannot cause
/// collisions.
///
/// Accessed only when a connection opens or closes.
#[derive(Debug)]
pub(super) struct AddressCounts {
    max: NonZeroUsize,
    hasher: RandomState,
    shards: [Mutex<HashMap<Source, usize>>; SHARDS],
}

impl AddressCounts {
    pub(super) fn new(max: NonZeroUsize) -> Self {
        Self {
            max,
            hasher: RandomState::new(),
            shards: Default::default(),
        }
    }

    /// Counts another connection; `false` if the address has `max` already.
    pub(super) fn enter(&self, source: Source) -> bool {
        match self.shard(source).entry(source) {
            Entry::Occupied(mut counted) if *counted.get() < self.max.get() => {
                *counted.get_mut() += 1;
                true
            }
            Entry::Occupied(_) => false,
            Entry::Vacant(vacant) => {
                vacant.insert(1);
                true
            }
        }
    }

    /// Uncounts a connection.
    pub(super) fn leave(&self, source: Source) {
        let mut shard = self.shard(source);
        if let Entry::Occupied(mut counted) = shard.entry(source) {
            *counted.get_mut() -= 1;
            if *counted.get() == 0 {
                counted.remove();
            }
        }
        // Frees the memory of a past peak.
        if shard.len() < shard.capacity() / 8 {
            let twice = 2 * shard.len();
            shard.shrink_to(twice);
        }
    }

    fn shard(&self, source: Source) -> MutexGuard<'_, HashMap<Source, usize>> {
        let hash = usize::try_from(self.hasher.hash_one(source) % SHARDS as u64);
        let shard = &self.shards[hash.expect("a small number")];
        shard.lock().expect("not poisoned")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_count() {
        let address_counts = AddressCounts::new(NonZeroUsize::new(2).expect("not zero"));
        let (one, other) = (Source::V4(1), Source::V6(1));
        assert!(
            address_counts.enter(one) && address_counts.enter(one) && !address_counts.enter(one)
        );
        assert!(address_counts.enter(other));
        address_counts.leave(one);
        assert!(address_counts.enter(one) && !address_counts.enter(one));
    }

    #[test]
    fn addresses_without_connections_take_no_memory() {
        let address_counts = AddressCounts::new(NonZeroUsize::MIN);
        for address in 0..100_000 {
            assert!(address_counts.enter(Source::V4(address)));
        }
        for address in 0..100_000 {
            address_counts.leave(Source::V4(address));
        }
        for shard in &address_counts.shards {
            let shard = shard.lock().expect("not poisoned");
            assert_eq!(shard.len(), 0);
            assert!(shard.capacity() < 16, "room for {}", shard.capacity());
        }
    }
}
