//! How many connections each address has.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard};

use super::source::Source;

/// Parts with a lock of their own, so that workers seldom meet.
const SHARDS: usize = 16;

/// The connections of all workers by address. It is exact, and as large as
/// there are connections at most: who has none is not in it. Clients cannot
/// choose where they stand in it, since the hash has a random key.
///
/// Touched when a connection opens or closes, never in between.
#[derive(Debug)]
pub(super) struct AddressCounts {
    max: NonZeroUsize,
    hasher: RandomState,
    shards: [Mutex<HashMap<Source, usize>>; SHARDS],
}

impl AddressCounts {
    /// For at most `max` connections of an address.
    pub(super) fn new(max: NonZeroUsize) -> Self {
        Self {
            max,
            hasher: RandomState::new(),
            shards: Default::default(),
        }
    }

    /// Counts another connection, unless that is one too many.
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

    /// Takes a connection back that was counted.
    pub(super) fn leave(&self, source: Source) {
        let mut shard = self.shard(source);
        if let Entry::Occupied(mut counted) = shard.entry(source) {
            *counted.get_mut() -= 1;
            if *counted.get() == 0 {
                counted.remove();
            }
        }
        // Room for a crowd that has left is given back.
        if shard.len() < shard.capacity() / 8 {
            let twice = 2 * shard.len();
            shard.shrink_to(twice);
        }
    }

    fn shard(&self, source: Source) -> MutexGuard<'_, HashMap<Source, usize>> {
        let hash = usize::try_from(self.hasher.hash_one(source) % SHARDS as u64);
        let shard = &self.shards[hash.expect("a small number")];
        shard.lock().expect("nothing panics that holds it")
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
    fn who_has_left_takes_no_memory() {
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
