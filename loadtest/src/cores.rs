//! Which cores threads run on.

use rustix::io;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores the calling thread may run on, remembered so that they can be
/// given back after it was pinned.
#[derive(Debug, Clone)]
pub struct Cores {
    allowed: CpuSet,
}

impl Cores {
    /// Reads the calling thread's affinity mask.
    ///
    /// # Errors
    /// The kernel's.
    pub fn of_this_thread() -> io::Result<Self> {
        let allowed = sched_getaffinity(None)?;
        Ok(Self { allowed })
    }

    /// Pins the calling thread, and what it will spawn, to one core.
    ///
    /// # Errors
    /// The kernel's, for example when the core went offline.
    pub fn pin(core: usize) -> io::Result<()> {
        let mut only = CpuSet::new();
        only.set(core);
        sched_setaffinity(None, &only)
    }

    /// Pins the calling thread, and what it will spawn, to some cores.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` also when it grants only some of the cores.
    pub fn pin_to(cores: &[usize]) -> io::Result<()> {
        if cores.iter().any(|&core| core >= CpuSet::MAX_CPU) {
            return Err(io::Errno::INVAL);
        }
        let mut only = CpuSet::new();
        for &core in cores {
            only.set(core);
        }
        let before = Self::of_this_thread()?;
        sched_setaffinity(None, &only)?;
        // The kernel drops cores that are offline or outside of the cpuset.
        if sched_getaffinity(None)? != only {
            before.restore()?;
            return Err(io::Errno::INVAL);
        }
        Ok(())
    }

    /// Lets the calling thread run on all its cores again.
    ///
    /// # Errors
    /// The kernel's.
    pub fn restore(&self) -> io::Result<()> {
        sched_setaffinity(None, &self.allowed)
    }

    /// Cores for a server and for the generator's threads: those that were asked
    /// for, and for who asked for none some that the other does not have. Empty
    /// where there are no others.
    pub fn apart(
        &self,
        server: &[usize],
        generator: &[usize],
        threads: usize,
    ) -> (Vec<usize>, Vec<usize>) {
        let without = |taken: &[usize]| {
            let mut cores: Vec<_> = self.usable().collect();
            cores.retain(|core| !taken.contains(core));
            cores
        };
        let mut server = server.to_vec();
        if server.is_empty() {
            let mut left = without(generator);
            // The only core is not to be the server's alone.
            left.truncate(usize::from(left.len() > 1 || !generator.is_empty()));
            server = left;
        }
        let mut generator = generator.to_vec();
        if generator.is_empty() && !server.is_empty() {
            generator = without(&server);
            generator.truncate(threads);
        }
        (server, generator)
    }

    /// The first two cores, for the server and the generator; the same one
    /// twice where there is only one.
    pub fn server_and_generator(&self) -> (usize, usize) {
        let mut usable = self.usable();
        let server = usable.next().unwrap_or(0);
        (server, usable.next().unwrap_or(server))
    }

    fn usable(&self) -> impl Iterator<Item = usize> {
        (0..CpuSet::MAX_CPU).filter(|&core| self.allowed.is_set(core))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_takes_the_second_core_where_there_is_one() {
        let mut allowed = CpuSet::new();
        allowed.set(3);
        let one = Cores { allowed };
        assert_eq!(one.server_and_generator(), (3, 3));
        allowed.set(5);
        allowed.set(9);
        assert_eq!(Cores { allowed }.server_and_generator(), (3, 5));
    }
    #[test]
    fn server_and_generator_share_no_core_where_there_are_two() {
        let of = |cores: &[usize]| {
            let mut allowed = CpuSet::new();
            for &core in cores {
                allowed.set(core);
            }
            Cores { allowed }
        };
        let (one, four) = (of(&[3]), of(&[3, 5, 6, 9]));
        for (cores, asked, threads, given) in [
            (&four, (&[][..], &[][..]), 1, (&[3][..], &[5][..])),
            (&four, (&[], &[]), 2, (&[3], &[5, 6])),
            (&four, (&[], &[]), 9, (&[3], &[5, 6, 9])),
            (&four, (&[5], &[]), 1, (&[5], &[3])),
            (&four, (&[], &[3, 5]), 2, (&[6], &[3, 5])),
            (&four, (&[3], &[3]), 1, (&[3], &[3])),
            (&one, (&[], &[]), 1, (&[], &[])),
            (&one, (&[3], &[]), 1, (&[3], &[])),
            (&one, (&[], &[3]), 1, (&[], &[3])),
            (&one, (&[], &[4]), 1, (&[3], &[4])),
        ] {
            let (server, generator) = cores.apart(asked.0, asked.1, threads);
            assert_eq!((&server[..], &generator[..]), given, "{asked:?}");
        }
    }
}
