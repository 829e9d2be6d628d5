//! The affinity of threads.

use std::io;

use host::cores::{bind, usable};
use rustix::io::Errno;

/// The cores that the calling thread may run on, saved to restore them after pinning.
#[derive(Debug, Clone)]
pub struct AllowedCores {
    allowed: Vec<usize>,
}

impl AllowedCores {
    /// Reads the calling thread's affinity mask.
    ///
    /// # Errors
    /// The kernel's.
    pub fn of_this_thread() -> io::Result<Self> {
        let allowed = usable()?;
        Ok(Self { allowed })
    }

    /// Pins the calling thread, and what it will spawn, to some cores.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` also when it grants only some of the cores.
    pub fn pin_to(cores: &[usize]) -> io::Result<()> {
        let before = Self::of_this_thread()?;
        bind(cores)?;
        // The kernel drops cores that are offline or outside of the cpuset.
        let granted = usable()?;
        if cores.iter().all(|core| granted.contains(core)) {
            return Ok(());
        }
        before.restore()?;
        Err(Errno::INVAL.into())
    }

    /// Lets the calling thread run on all its cores again.
    ///
    /// # Errors
    /// The kernel's.
    pub fn restore(&self) -> io::Result<()> {
        bind(&self.allowed)
    }

    /// Cores for a server and for the generator's threads: the requested ones, and for a side
    /// without a request some that the other does not have. Empty where there are no others.
    pub fn apart(
        &self,
        server: &[usize],
        generator: &[usize],
        threads: usize,
    ) -> (Vec<usize>, Vec<usize>) {
        let without = |taken: &[usize]| {
            let mut cores = self.allowed.clone();
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
        let server = self.allowed.first().copied().unwrap_or(0);
        (server, self.allowed.get(1).copied().unwrap_or(server))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cores: &[usize]) -> AllowedCores {
        let allowed = cores.to_vec();
        AllowedCores { allowed }
    }

    #[test]
    fn the_generator_takes_the_second_core_where_there_is_one() {
        assert_eq!(of(&[3]).server_and_generator(), (3, 3));
        assert_eq!(of(&[3, 5, 9]).server_and_generator(), (3, 5));
    }

    #[test]
    fn server_and_generator_share_no_core_where_there_are_two() {
        let (one, four) = (of(&[3]), of(&[3, 5, 6, 9]));
        for (cores, requested, threads, given) in [
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
            let (server, generator) = cores.apart(requested.0, requested.1, threads);
            assert_eq!((&server[..], &generator[..]), given, "{requested:?}");
        }
    }
}
