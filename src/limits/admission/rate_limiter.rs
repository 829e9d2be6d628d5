//! Limits the rate of connections of each address.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::Duration;

use super::source::Source;
use crate::config::rate::Rate;

/// Each shard has its own lock, to keep contention between workers low.
const SHARDS: usize = 1 << SHARD_BITS;
const SHARD_BITS: u32 = 4;

/// Rows of a shard; an address has one bucket in each.
const ROWS: usize = 4;

/// Buckets of a row, in one shard.
const WIDTH: usize = 1 << WIDTH_BITS;
const WIDTH_BITS: u32 = 12;

// One hash selects the shard, and the bucket of each row.
const _: () = assert!(SHARD_BITS as usize + ROWS * WIDTH_BITS as usize <= 64);

/// A token bucket for each address, over all workers, in memory of a fixed
/// size: [`SHARDS`] × [`ROWS`] × [`WIDTH`] × 8 bytes are 2 MiB.
///
/// There is no table of addresses, which a client with many of them could fill until
/// one is evicted: an address has the buckets that its hash selects, one in each row,
/// and shares them with others (a count-min sketch). It is over the rate only if all of
/// them are empty. So no address exceeds the rate, however many there are. False
/// positives are possible, if others empty all four buckets; but only accepted
/// handshakes empty a bucket. To keep the share `f` of a row empty takes `f` × 65,536 ×
/// the rate, and rejects one in `1 / f⁴` of the other addresses: at 10/s, 65,000
/// handshakes a second for one in 10,000. The hash has a random key, so that clients
/// cannot choose whose buckets they share.
///
/// A bucket is one number, the time at which it will be full again (the
/// theoretical arrival time of GCRA, ITU-T I.371): a handshake moves it on by
/// the rate's interval, from now on if it has passed.
#[derive(Debug)]
pub(super) struct RateLimiter {
    interval_ns: u64,
    /// How far ahead of now a bucket may be to accept one more.
    slack_ns: u64,
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
}

/// [`ROWS`] × [`WIDTH`] buckets. Only pages that are written take memory.
type Shard = Vec<u64>;

impl RateLimiter {
    /// `burst` is the size of the buckets.
    pub(super) fn new(rate: Rate, burst: NonZeroU32) -> Self {
        let interval_ns = nanos(rate.interval()).max(1);
        Self {
            interval_ns,
            slack_ns: interval_ns.saturating_mul(u64::from(burst.get() - 1)),
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| vec![0; ROWS * WIDTH].into()).collect(),
        }
    }

    /// Takes one of the tokens that `source` has at `now`, a time since any fixed moment.
    ///
    /// # Errors
    /// The time until the next token.
    pub(super) fn take(&self, source: Source, now: Duration) -> Result<(), Duration> {
        let now = nanos(now);
        let (shard, buckets) = place(self.hasher.hash_one(source));
        let mut shard = self.shards[shard].lock().expect("not poisoned");
        let fullest = buckets.map(|bucket| shard[bucket]).into_iter().min();
        let full_at = fullest.unwrap_or(0).max(now);
        let ahead = full_at - now;
        if ahead > self.slack_ns {
            return Err(Duration::from_nanos(ahead - self.slack_ns));
        }
        let full_at = full_at.saturating_add(self.interval_ns);
        for bucket in buckets {
            shard[bucket] = shard[bucket].max(full_at);
        }
        Ok(())
    }
}

/// The shard that a hash selects, and its bucket of each row.
fn place(hash: u64) -> (usize, [usize; ROWS]) {
    let mut rest = hash;
    let mut bits = |count: u32| {
        let taken = rest & ((1 << count) - 1);
        rest >>= count;
        usize::try_from(taken).expect("a few bits")
    };
    let shard = bits(SHARD_BITS);
    let mut row = 0;
    let buckets = [(); ROWS].map(|()| {
        row += 1;
        (row - 1) * WIDTH + bits(WIDTH_BITS)
    });
    (shard, buckets)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Source = Source::V4(1);

    fn rate_limiter(rate: &str, burst: u32) -> RateLimiter {
        let burst = NonZeroU32::new(burst).expect("not zero");
        RateLimiter::new(rate.parse().expect("a rate"), burst)
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let rate_limiter = rate_limiter("10/s", 3);
        for _ in 0..3 {
            assert_eq!(rate_limiter.take(ONE, at(5000)), Ok(()));
        }
        assert_eq!(rate_limiter.take(ONE, at(5000)), Err(at(100)));
        assert_eq!(rate_limiter.take(ONE, at(5060)), Err(at(40)));
        assert_eq!(rate_limiter.take(Source::V4(2), at(5060)), Ok(()));
        assert_eq!(rate_limiter.take(ONE, at(5100)), Ok(()));
        assert_eq!(rate_limiter.take(ONE, at(5100)), Err(at(100)));
        // A long pause saves no more than a burst.
        let passed = (0..9).filter(|_| rate_limiter.take(ONE, at(99_000)).is_ok());
        assert_eq!(passed.count(), 3);
    }

    #[test]
    fn a_long_run_passes_as_often_as_the_rate_says() {
        let rate_limiter = rate_limiter("10/s", 5);
        let passed = (0..10_000).filter(|&ms| rate_limiter.take(ONE, at(ms)).is_ok());
        assert_eq!(passed.count(), 5 + 99);
    }

    #[test]
    fn other_addresses_do_not_reset_an_address() {
        let rate_limiter = rate_limiter("1/h", 1);
        assert!(rate_limiter.take(ONE, at(1)).is_ok());
        for address in 2..1_000_000 {
            let _ = rate_limiter.take(Source::V4(address), at(2));
        }
        assert!(rate_limiter.take(ONE, at(3)).is_err());
    }

    #[test]
    fn most_addresses_pass_while_thousands_are_over_the_rate() {
        let rate_limiter = rate_limiter("1/m", 1);
        for address in 0..10_000 {
            let _ = rate_limiter.take(Source::V4(address), at(1));
        }
        let others = (0..10_000).map(Source::V6);
        let waiting = others.filter(|&source| rate_limiter.take(source, at(2)).is_err());
        // A quarter of each row is empty at the end: one in 200 then, and fewer
        // before.
        assert!(waiting.count() < 10_000 / 50);
    }

    #[test]
    fn largest_numbers_do_not_overflow() {
        let rate_limiter = rate_limiter("1/h", u32::MAX);
        assert!(rate_limiter.take(ONE, Duration::MAX).is_ok());
        assert!(rate_limiter.take(ONE, Duration::MAX).is_ok());
    }
}
