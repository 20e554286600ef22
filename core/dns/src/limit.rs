//! How many answers a network gets over UDP: whoever asks in somebody else's name makes the answers rain on that one.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use outlast_model::Time;

/// Most networks that are counted at a time; those beyond are not limited, which spreads whatever is to rain.
pub const SOURCES_MAX: usize = 65_536;

const SPAN: Duration = Duration::from_secs(1);

/// What becomes of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    Yes,
    /// An answer that says no more than "ask by TCP": whoever is real can.
    Truncated,
    No,
}

/// Answers by network and second. Networks are what one host may have: /24 and /56.
#[derive(Clone, Debug)]
pub(crate) struct Limiter {
    /// 0: no limit.
    per_second: u32,
    since: Time,
    counts: BTreeMap<(bool, u64), u32>,
}

impl Limiter {
    pub(crate) fn new(per_second: u32) -> Limiter {
        Limiter { per_second, since: Time::ZERO, counts: BTreeMap::new() }
    }

    /// Counts one answer. Every second one over the limit is truncated, the others are not sent.
    pub(crate) fn take(&mut self, now: Time, from: IpAddr) -> Allowed {
        if self.per_second == 0 {
            return Allowed::Yes;
        }
        if now.since(self.since) >= SPAN {
            self.since = now;
            self.counts.clear();
        }
        let network = network(from);
        if self.counts.len() >= SOURCES_MAX && !self.counts.contains_key(&network) {
            return Allowed::Yes;
        }
        let count = self.counts.entry(network).or_default();
        *count = count.saturating_add(1);
        match count.checked_sub(self.per_second) {
            None | Some(0) => Allowed::Yes,
            Some(over) if over % 2 == 0 => Allowed::Truncated,
            Some(_) => Allowed::No,
        }
    }
}

fn network(address: IpAddr) -> (bool, u64) {
    match address.to_canonical() {
        IpAddr::V4(address) => (false, u64::from(address.to_bits() >> 8)),
        IpAddr::V6(address) => {
            let upper = u64::try_from(address.to_bits() >> 64).unwrap_or_default();
            (true, upper >> 8)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_its_share_of_each_second() {
        let mut limiter = Limiter::new(3);
        let at = Time::from_millis;
        let mut take = |millis, from: &str| limiter.take(at(millis), from.parse().unwrap());
        for host in ["192.0.2.1", "192.0.2.2", "::ffff:192.0.2.3"] {
            assert_eq!(take(5_000, host), Allowed::Yes);
        }
        assert_eq!(take(5_100, "192.0.2.1"), Allowed::No);
        assert_eq!(take(5_200, "192.0.2.99"), Allowed::Truncated);
        assert_eq!(take(5_300, "192.0.2.1"), Allowed::No);
        assert_eq!(take(5_300, "192.0.3.1"), Allowed::Yes);
        for host in ["2001:db8::1", "2001:db8:0:ff::1", "2001:db8:0:1::1"] {
            assert_eq!(take(5_400, host), Allowed::Yes);
        }
        assert_eq!(take(5_400, "2001:db8:0:2::1"), Allowed::No);
        assert_eq!(take(5_400, "2001:db8:0:100::1"), Allowed::Yes);
        assert_eq!(take(6_000, "192.0.2.1"), Allowed::Yes);
    }

    #[test]
    fn memory_is_bounded_and_zero_is_no_limit() {
        let mut limiter = Limiter::new(1);
        for n in 0..2 * SOURCES_MAX {
            let from = IpAddr::from((u32::try_from(n).unwrap() << 8).to_be_bytes());
            assert_eq!(limiter.take(Time::from_millis(5_000), from), Allowed::Yes);
        }
        assert_eq!(limiter.counts.len(), SOURCES_MAX);
        let mut unlimited = Limiter::new(0);
        for _ in 0..10 {
            let from = IpAddr::from([192, 0, 2, 1]);
            assert_eq!(unlimited.take(Time::ZERO, from), Allowed::Yes);
        }
    }
}
