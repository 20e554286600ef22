//! Seeded chance. One seed is split into named streams, so that a new draw in one does not shift the others.

use std::time::Duration;

/// A stream of draws (SplitMix64: one word of state, and good enough to schedule failures with).
#[derive(Clone, Debug)]
pub(crate) struct Stream(u64);

impl Stream {
    /// The stream called `name` of `seed`.
    pub(crate) fn named(seed: u64, name: &str) -> Stream {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let mut stream = Stream(seed ^ hash);
        // Neighbouring seeds must not give neighbouring draws.
        stream.0 = stream.next() ^ hash.rotate_left(32);
        stream
    }

    /// 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 when `end` is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// An index below `end`.
    pub(crate) fn index(&mut self, end: usize) -> usize {
        self.below(end as u64) as usize
    }

    /// A number of `low..=high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True `permille` times in a thousand.
    pub(crate) fn hits(&mut self, permille: u64) -> bool {
        self.below(1_000) < permille
    }

    /// A span of `low..=high` milliseconds, with a grain of a microsecond.
    pub(crate) fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_micros(self.between(low * 1_000, high * 1_000))
    }

    /// One of `choices`, by weight.
    pub(crate) fn weighted<T: Copy>(&mut self, choices: &[(u64, T)]) -> T {
        let total = choices.iter().map(|(weight, _)| weight).sum();
        let mut at = self.below(total);
        for (weight, choice) in choices {
            if at < *weight {
                return *choice;
            }
            at -= weight;
        }
        unreachable!("the draw is below the sum of the weights")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_their_seed_s_and_name_s_alone() {
        let draws = |seed, name| {
            let mut stream = Stream::named(seed, name);
            [stream.next(), stream.next()]
        };
        assert_eq!(draws(7, "network"), draws(7, "network"));
        assert_ne!(draws(7, "network"), draws(7, "faults"));
        assert_ne!(draws(7, "network"), draws(8, "network"));
    }

    #[test]
    fn draws_fill_their_range() {
        let mut stream = Stream::named(1, "test");
        let mut seen = [0; 10];
        for _ in 0..10_000 {
            seen[stream.index(10)] += 1;
        }
        assert!(seen.iter().all(|count| (850..1_150).contains(count)), "{seen:?}");
        assert_eq!(stream.below(0), 0);
        let weights = [(0, 'a'), (3, 'b'), (1, 'c')];
        let drawn: Vec<char> = (0..4_000).map(|_| stream.weighted(&weights)).collect();
        let b = drawn.iter().filter(|c| **c == 'b').count();
        assert!((2_800..3_200).contains(&b) && !drawn.contains(&'a'));
    }
}
