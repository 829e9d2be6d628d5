//! Which vector instructions the core uses: what every machine of the target
//! has, or wider ones where this one has them.
//!
//! The core is written once, in plain Rust that the compiler turns into vector
//! instructions of the width it is allowed. A `Work` is compiled once for
//! each [`Isa`], everything that is inlined into it included, so the choice
//! costs one jump per work and not one per frame.

use std::sync::LazyLock;

/// A set of instructions that this machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Level);

/// Private, so that an [`Isa`] comes only from where the machine was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Isa {
    /// What every machine of the target has.
    pub const BASELINE: Self = Self(Level::Baseline);

    /// The fastest of this machine, found out once in the life of the process.
    #[inline]
    pub fn best() -> Self {
        static BEST: LazyLock<Isa> =
            LazyLock::new(|| Isa::available().last().unwrap_or(Isa::BASELINE));
        *BEST
    }

    /// All that this machine has, the fastest last.
    pub fn available() -> impl Iterator<Item = Self> {
        [
            Some(Self::BASELINE),
            #[cfg(target_arch = "x86_64")]
            is_x86_feature_detected!("avx2").then_some(Self(Level::Avx2)),
        ]
        .into_iter()
        .flatten()
    }

    /// Its name, for those who measure.
    pub const fn name(self) -> &'static str {
        match self.0 {
            Level::Baseline => "baseline",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
        }
    }

    #[inline]
    pub(super) fn run<W: Work>(self, work: W) -> W::Output {
        match self.0 {
            Level::Baseline => work.run(),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: only `available` makes an `Isa` of this level, and it
            // does so only where the machine says that it has AVX2.
            Level::Avx2 => unsafe { run_avx2(work) },
        }
    }
}

/// Something worth its own copy for each [`Isa`].
pub(super) trait Work {
    type Output;

    /// Must be `#[inline(always)]`, as must be whatever in it is to be compiled
    /// with the wider instructions.
    fn run(self) -> Self::Output;
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn run_avx2<W: Work>(work: W) -> W::Output {
    work.run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_available_and_the_baseline_always_is() {
        let available: Vec<_> = Isa::available().collect();
        assert_eq!(available[0], Isa::BASELINE);
        assert_eq!(available.last(), Some(&Isa::best()));
    }
}
