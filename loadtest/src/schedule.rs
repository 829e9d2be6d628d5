//! The intended send times of an open loop.
//!
//! The times are a function of the plan alone, in nanoseconds from the run's epoch. Nothing
//! that happens during the run moves them, and none is left out: a generator that falls behind
//! still sends every message, recorded with its intended time.

use fastrand::Rng;

use crate::plan::Arrival;

/// The most sends that are counted one by one.
const SINGLE_MAX: u32 = 1_000_000;

/// One thread's part of the intended sends, in their order.
#[derive(Debug)]
pub struct Schedule {
    arrivals: Arrivals,
    /// The next one, computed ahead.
    next: Send,
}

/// One intended send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Send {
    /// The time, from the epoch.
    pub intended_ns: u64,
    /// The index of the connection among the thread's, from 0.
    pub connection_index: u32,
}

/// The part of the connections that a thread has: every `threads`-th.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    /// The thread, from 0.
    pub thread: u32,
    /// Of how many.
    pub threads: u32,
    /// Connections of all threads together, at least one for each thread.
    pub connections: u32,
}

impl Share {
    /// The number of the thread's connections.
    pub fn own(&self) -> u32 {
        (self.connections - self.thread).div_ceil(self.threads)
    }

    /// The thread's part of a number of things, so that all parts add up.
    pub fn of(&self, total: u64) -> u64 {
        let up_to = |thread: u32| {
            let part = u128::from(total) * u128::from(thread) / u128::from(self.threads);
            u64::try_from(part).unwrap_or(u64::MAX)
        };
        up_to(self.thread + 1) - up_to(self.thread)
    }
}

#[derive(Debug)]
enum Arrivals {
    /// Message k of all is due at k / rate, on connection k mod connections. So
    /// the connections' phases are staggered evenly.
    Fixed {
        share: Share,
        period_ns: f64,
        round: u64,
        connection_index: u32,
    },
    /// The gaps are drawn from an exponential distribution, and each message's
    /// connection evenly from all: that makes every connection's messages, and
    /// those of all threads together, Poisson processes as well.
    Poisson {
        random: Rng,
        own_connections: u32,
        gap_ns_mean: f64,
        at_ns: f64,
    },
}

impl Schedule {
    /// The thread's part of `rate` messages per second over all connections.
    pub fn new(rate: f64, arrival: Arrival, share: Share, seed: u64) -> Self {
        let period_ns = 1e9 / rate;
        let mut arrivals = match arrival {
            Arrival::Fixed => Arrivals::Fixed {
                share,
                period_ns,
                round: 0,
                connection_index: 0,
            },
            Arrival::Poisson => {
                let key = u64::from(share.thread).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                Arrivals::Poisson {
                    random: Rng::with_seed(seed ^ key),
                    own_connections: share.own(),
                    gap_ns_mean: period_ns * f64::from(share.connections) / f64::from(share.own()),
                    at_ns: 0.0,
                }
            }
        };
        let next = arrivals.draw();
        Self { arrivals, next }
    }

    /// The next send, without removing it.
    #[inline]
    pub fn peek(&self) -> Send {
        self.next
    }

    /// Visits the sends that are due before `until_ns`, at most `most`, for counting: at an
    /// extreme rate in groups that are due within a thousandth of the remaining time.
    pub fn pop_all(&mut self, until_ns: u64, most: u64, mut each: impl FnMut(u64, u64)) {
        let mut left = most;
        let mut single = 0;
        while self.next.intended_ns < until_ns && left > 0 {
            let (at_ns, mut group) = (self.next.intended_ns, 1);
            if single < SINGLE_MAX {
                single += 1;
                self.next = self.arrivals.draw();
            } else {
                let step_ns = (until_ns - at_ns) / 1_000 + 1;
                group = self.arrivals.skip(at_ns + step_ns).max(1).min(left);
                self.next = self.arrivals.draw();
            }
            each(at_ns, group);
            left -= group;
        }
    }

    /// The next send, if it is due.
    #[inline]
    pub fn pop(&mut self, now_ns: u64) -> Option<Send> {
        if self.next.intended_ns > now_ns {
            return None;
        }
        let due = self.next;
        self.next = self.arrivals.draw();
        Some(due)
    }
}

impl Arrivals {
    /// Skips to the first send after `to_ns`, and returns the number of sends skipped (with
    /// random gaps: their expected number), the last one drawn included.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "times are positive, and a cast saturates"
    )]
    fn skip(&mut self, to_ns: u64) -> u64 {
        match self {
            Self::Fixed {
                share,
                period_ns,
                round,
                connection_index,
            } => {
                let done = |round: u64, connection_index: u32| {
                    round * u64::from(share.own()) + u64::from(connection_index)
                };
                let before = done(*round, *connection_index);
                let rounds = to_ns as f64 / (*period_ns * f64::from(share.connections));
                (*round, *connection_index) = (rounds as u64, 0).max((*round, *connection_index));
                done(*round, *connection_index) - before + 1
            }
            Self::Poisson {
                gap_ns_mean, at_ns, ..
            } => {
                let gap_ns = (to_ns as f64 - *at_ns).max(0.0);
                *at_ns += gap_ns;
                (gap_ns / *gap_ns_mean) as u64 + 1
            }
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "times are positive, and a cast saturates"
    )]
    fn draw(&mut self) -> Send {
        match self {
            Self::Fixed {
                share,
                period_ns,
                round,
                connection_index,
            } => {
                let connection = u64::from(*connection_index * share.threads + share.thread);
                let index = *round * u64::from(share.connections) + connection;
                // Below 2^53 messages and nanoseconds (104 days) the product is
                // off by less than a nanosecond, and errors do not add up.
                let intended_ns = (index as f64 * *period_ns) as u64;
                let send = Send {
                    intended_ns,
                    connection_index: *connection_index,
                };
                *connection_index += 1;
                if *connection_index == share.own() {
                    *connection_index = 0;
                    *round += 1;
                }
                send
            }
            Self::Poisson {
                random,
                own_connections,
                gap_ns_mean,
                at_ns,
            } => {
                // 1 - f64() is in (0, 1], which has a logarithm.
                *at_ns -= (1.0 - random.f64()).ln() * *gap_ns_mean;
                Send {
                    intended_ns: *at_ns as u64,
                    connection_index: random.u32(..*own_connections),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(thread: u32, threads: u32, connections: u32) -> Share {
        Share {
            thread,
            threads,
            connections,
        }
    }

    #[test]
    fn fixed_times_are_exact_however_late_they_are_asked_for() {
        let mut schedule = Schedule::new(3.0, Arrival::Fixed, share(0, 1, 2), 0);
        let late = 10_000_000_000_000;
        for index in 0..30_000u64 {
            let send = schedule.pop(late).unwrap();
            let expected_ns = index * 1_000_000_000 / 3;
            assert!(send.intended_ns.abs_diff(expected_ns) <= 1, "{index}");
            assert_eq!(u64::from(send.connection_index), index % 2);
        }
        assert_eq!(schedule.pop(0), None, "and never early");
    }

    #[test]
    fn threads_together_keep_the_one_schedule() {
        let mut times: Vec<u64> = (0..3)
            .flat_map(|thread| {
                let mut schedule = Schedule::new(1e6, Arrival::Fixed, share(thread, 3, 10), 0);
                std::iter::from_fn(move || schedule.pop(999_999)).map(|send| send.intended_ns)
            })
            .collect();
        times.sort_unstable();
        let expected: Vec<u64> = (0..1_000).map(|index| index * 1_000).collect();
        assert_eq!(times, expected);
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_the_spread_of_an_exponential() {
        let mut schedule = Schedule::new(1e6, Arrival::Poisson, share(1, 2, 7), 4);
        let count = 100_000;
        let mut last_ns = 0;
        let (mut sum, mut squares, mut own_connections) = (0.0, 0.0, [0; 3]);
        for _ in 0..count {
            let send = schedule.pop(u64::MAX).unwrap();
            let gap = (send.intended_ns - last_ns) as f64;
            last_ns = send.intended_ns;
            sum += gap;
            squares += gap * gap;
            own_connections[send.connection_index as usize] += 1;
        }
        // Three of seven connections: 3/7 of a million per second.
        let expected = 1e3 * 7.0 / 3.0;
        let mean = sum / f64::from(count);
        let deviation = (squares / f64::from(count) - mean * mean).sqrt();
        assert!((mean / expected - 1.0).abs() < 0.02, "{mean}");
        assert!((deviation / expected - 1.0).abs() < 0.03, "{deviation}");
        for carried in own_connections {
            assert!((32_300..34_400).contains(&carried), "{own_connections:?}");
        }
        let again = Schedule::new(1e6, Arrival::Poisson, share(1, 2, 7), 4);
        let other = Schedule::new(1e6, Arrival::Poisson, share(0, 2, 7), 4);
        let first = Schedule::new(1e6, Arrival::Poisson, share(1, 2, 7), 4).peek();
        assert_eq!(again.peek(), first);
        assert_ne!(other.peek(), first);
    }

    #[test]
    fn remaining_sends_are_counted_in_groups() {
        for arrival in [Arrival::Fixed, Arrival::Poisson] {
            let mut schedule = Schedule::new(1e9, arrival, share(0, 1, 100), 3);
            let (mut count, mut last_ns) = (0, 0);
            schedule.pop_all(10_000_000_000, u64::MAX, |at_ns, messages| {
                assert!(at_ns >= last_ns && at_ns < 10_000_000_000);
                last_ns = at_ns;
                count += messages;
            });
            assert!(
                (count as f64 / 1e10 - 1.0).abs() < 0.01,
                "{arrival:?} {count}"
            );
        }
        let mut schedule = Schedule::new(1e3, Arrival::Fixed, share(0, 1, 3), 3);
        let mut times = Vec::new();
        schedule.pop_all(10_000_000, u64::MAX, |at_ns, messages| {
            times.push((at_ns, messages));
        });
        let expected: Vec<_> = (0..10).map(|index| (index * 1_000_000, 1)).collect();
        assert_eq!(times, expected);
        let mut few = 0;
        schedule.pop_all(u64::MAX, 5, |_, messages| few += messages);
        assert_eq!(few, 5);
    }

    #[test]
    fn parts_add_up() {
        for (threads, total) in [(1, 7), (3, 10), (7, 3), (4, u64::MAX)] {
            let parts = (0..threads).map(|thread| share(thread, threads, threads).of(total));
            assert_eq!(parts.sum::<u64>(), total);
        }
        let own = (0..3).map(|thread| share(thread, 3, 10).own());
        assert_eq!(own.collect::<Vec<_>>(), [4, 3, 3]);
    }
}
