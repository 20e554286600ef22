//! Chance, from a seed: what happens to many at once must not bring them all back at once.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood 2014): enough to spread clients and probes, no good for secrets.
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// The same seed gives the same chance.
    pub fn new(seed: u64) -> Jitter {
        Jitter(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Between nothing and `span`, to the millisecond, both included.
    pub fn within(&mut self, span: Duration) -> Duration {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX - 1);
        Duration::from_millis(self.bits() % (millis + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_numbers_are_those_of_the_reference() {
        let mut jitter = Jitter::new(1_234_567);
        let first = [jitter.bits(), jitter.bits(), jitter.bits()];
        assert_eq!(
            first,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn a_span_is_kept() {
        let mut jitter = Jitter::new(7);
        let spans: Vec<_> = (0..1_000).map(|_| jitter.within(Duration::from_millis(10))).collect();
        assert!(spans.iter().all(|span| *span <= Duration::from_millis(10)));
        assert!((0..=10).all(|ms| spans.contains(&Duration::from_millis(ms))));
        assert_eq!(jitter.within(Duration::ZERO), Duration::ZERO);
    }
}
