//! Seeded chance: one seed is split into named streams, so that a new draw in one does not shift the others.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// A stream of draws; equal for equal seeds and names within one version of this program.
#[derive(Debug)]
pub struct Chance(StdRng);

impl Chance {
    /// The stream called `name` of `seed`.
    pub fn named(seed: u64, name: &str) -> Chance {
        // Without keys of its own, unlike the hasher of a table: equal in every run.
        let mut hasher = DefaultHasher::new();
        (seed, name).hash(&mut hasher);
        Chance(StdRng::seed_from_u64(hasher.finish()))
    }

    /// A number below `end`, which is above 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0.random_range(0..end)
    }

    /// An index below `end`, which is above 0.
    pub fn index(&mut self, end: usize) -> usize {
        self.0.random_range(0..end)
    }

    /// True `percent` times in a hundred.
    pub fn hits(&mut self, percent: u32) -> bool {
        self.0.random_ratio(percent, 100)
    }

    /// 128 random bits.
    pub fn bits(&mut self) -> u128 {
        self.0.random()
    }

    /// One of `choices`, of which there is one at least.
    pub fn one<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }

    /// One of `choices`, by weight; the weights' sum is above 0.
    pub fn weighted<T: Copy>(&mut self, choices: &[(u64, T)]) -> T {
        let mut at = self.below(choices.iter().map(|(weight, _)| weight).sum());
        for (weight, choice) in choices {
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => return *choice,
            }
        }
        unreachable!("a draw below the sum of the weights falls on one of them")
    }
}
