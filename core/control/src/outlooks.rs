//! What the other gateways see, as they say in their outlooks: a second opinion on regions and on a view that shrinks.

use std::{collections::BTreeMap, time::Duration};

use outlast_model::{GatewayId, RegionName, Time};

use crate::Regions;

/// Age up to which an outlook counts: as long as a silent node is taken for alive.
pub const OUTLOOK_FRESH: Duration = Duration::from_secs(2);
/// Most other gateways that are listened to; the configuration's further ones have no say.
pub const GATEWAYS_MAX: usize = 1_000;

/// What the configuration says of another gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayFacts {
    /// Its name.
    pub id: GatewayId,
    /// Where it is.
    pub region: RegionName,
}

/// What a gateway sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// [`Regions::digest`] there: bits mean the same only where it is the same.
    pub regions_digest: u32,
    /// [`Regions::hears`] there.
    pub hears: u64,
    /// [`Shrink::alive`](crate::Shrink::alive) there.
    pub alive: u16,
    /// [`Regions::flapping`] there.
    pub flapping: u64,
    /// Nodes that it is configured with.
    pub known: u16,
    /// [`Shrink::is_shrunk`](crate::Shrink::is_shrunk) there.
    pub shrunk: bool,
}

#[derive(Clone, Debug)]
struct Other {
    name: RegionName,
    region: Option<usize>,
    heard_at: Option<Time>,
    seen: Seen,
}

impl Other {
    fn is_fresh(&self, now: Time) -> bool {
        self.heard_at.is_some_and(|at| now.since(at) < OUTLOOK_FRESH)
    }
}

/// The last outlook of every other gateway.
#[derive(Clone, Debug, Default)]
pub struct Outlooks {
    others: BTreeMap<GatewayId, Other>,
    /// Of the own regions.
    digest: u32,
    /// Counts what may change a verdict on a region.
    revision: u64,
}

/// What the gateways outside a region say of it, this one not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Votes {
    /// Configured, heard or not.
    pub(crate) configured: usize,
    /// Heard, and with an opinion.
    pub(crate) heard: usize,
    /// Those of them who do not hear the region.
    pub(crate) deaf: usize,
}

impl Outlooks {
    /// Nothing heard yet of `others`: every gateway but this one.
    pub fn new(regions: &Regions, others: impl IntoIterator<Item = GatewayFacts>) -> Outlooks {
        let others = others.into_iter().take(GATEWAYS_MAX).map(|facts| {
            let region = regions.index(&facts.region);
            let name = facts.region;
            (facts.id, Other { name, region, heard_at: None, seen: Seen::default() })
        });
        Outlooks { others: others.collect(), digest: regions.digest(), revision: 0 }
    }

    /// `gateway` said what it sees, over a link that is mutual. Words of one that is not configured are dropped.
    pub fn hear(&mut self, now: Time, gateway: &GatewayId, seen: Seen) {
        let Some(other) = self.others.get_mut(gateway) else { return };
        if !other.is_fresh(now) || other.seen.hears != seen.hears {
            self.revision += 1;
        }
        (other.heard_at, other.seen) = (Some(now), seen);
    }

    /// Whether there is no other gateway at all, heard or not.
    pub fn is_empty(&self) -> bool {
        self.others.is_empty()
    }

    /// Gateways heard lately.
    pub fn heard(&self, now: Time) -> usize {
        self.others.values().filter(|other| other.is_fresh(now)).count()
    }

    /// The gateways heard lately, of one region or of all, by id.
    pub fn fresh_in<'a>(
        &'a self,
        now: Time,
        region: Option<&'a RegionName>,
    ) -> impl Iterator<Item = &'a GatewayId> {
        let chosen = move |other: &Other| {
            other.is_fresh(now) && region.is_none_or(|region| other.name == *region)
        };
        self.others.iter().filter(move |(_, other)| chosen(other)).map(|(id, _)| id)
    }

    /// Every other gateway and its region, heard or not, by id.
    pub fn all(&self) -> impl Iterator<Item = (&GatewayId, &RegionName)> {
        self.others.iter().map(|(id, other)| (id, &other.name))
    }

    /// Whether another gateway has lately lost more than half of its nodes, too.
    pub fn says_shrunk(&self, now: Time) -> bool {
        self.others.values().any(|other| other.seen.shrunk && other.is_fresh(now))
    }

    /// Whether a gateway in one of two regions has said lately that it does not hear the other one, or somebody finds that
    /// one of them comes and goes.
    pub fn are_parted(&self, now: Time, regions: &Regions, a: &RegionName, b: &RegionName) -> bool {
        let (Some(a), Some(b)) = (regions.index(a), regions.index(b)) else { return false };
        let either = 1 << a | 1 << b;
        if regions.flapping(now) & either != 0 {
            return true;
        }
        self.others.values().any(|other| {
            let missed = match other.region {
                Some(region) if region == a => 1 << b,
                Some(region) if region == b => 1 << a,
                _ => 0,
            };
            (missed & !other.seen.hears != 0 || other.seen.flapping & either != 0)
                && other.is_fresh(now)
                && other.seen.regions_digest == self.digest
        })
    }

    /// Whether every gateway in these regions that is heard has at least so many nodes alive.
    pub fn see_as_much(&self, now: Time, regions: [&RegionName; 2], alive: usize) -> bool {
        let mut there = self.others.values();
        there.all(|other| {
            !regions.contains(&&other.name)
                || !other.is_fresh(now)
                || usize::from(other.seen.alive) >= alive
        })
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// The regions of the gateways heard lately, by bit.
    pub(crate) fn regions_heard(&self, now: Time) -> u64 {
        let fresh = self.others.values().filter(|other| other.is_fresh(now));
        fresh.filter_map(|other| other.region).fold(0, |bits, region| bits | 1 << region)
    }

    pub(crate) fn votes(&self, now: Time, region: usize) -> Votes {
        let mut votes = Votes::default();
        for other in self.others.values().filter(|other| other.region != Some(region)) {
            votes.configured += 1;
            if other.is_fresh(now) && other.seen.regions_digest == self.digest {
                votes.heard += 1;
                votes.deaf += usize::from(other.seen.hears & (1 << region) == 0);
            }
        }
        votes
    }

    /// When the first outlook that is fresh now becomes stale, unless it is renewed.
    pub(crate) fn stale_at(&self, now: Time) -> Option<Time> {
        let fresh = self.others.values().filter(|other| other.is_fresh(now));
        Some(fresh.filter_map(|other| other.heard_at).min()? + OUTLOOK_FRESH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_s_loss_is_a_witness_while_it_is_fresh() {
        let regions = Regions::new(&"eu".into(), []);
        let other = GatewayFacts { id: "g".into(), region: "us".into() };
        let mut outlooks = Outlooks::new(&regions, [other]);
        assert!(!outlooks.is_empty());
        let now = Time::from_millis(5_000);
        let seen = |shrunk| Seen { shrunk, ..Seen::default() };
        outlooks.hear(now, &"stranger".into(), seen(true));
        assert!(!outlooks.says_shrunk(now));
        outlooks.hear(now, &"g".into(), seen(true));
        assert!(outlooks.says_shrunk(now));
        assert!(!outlooks.says_shrunk(now + OUTLOOK_FRESH));
        assert_eq!((outlooks.heard(now), outlooks.heard(now + OUTLOOK_FRESH)), (1, 0));
        outlooks.hear(now, &"g".into(), seen(false));
        assert!(!outlooks.says_shrunk(now));
    }

    #[test]
    fn only_what_may_change_a_verdict_is_a_revision() {
        let regions = Regions::new(&"eu".into(), []);
        let other = GatewayFacts { id: "g".into(), region: "us".into() };
        let mut outlooks = Outlooks::new(&regions, [other]);
        let mut hear = |second: u64, hears: u64| {
            let seen = Seen { hears, ..Seen::default() };
            outlooks.hear(Time::from_millis(second * 1_000), &"g".into(), seen);
            outlooks.revision()
        };
        assert_eq!([hear(1, 1), hear(2, 1), hear(3, 2), hear(5, 2)], [1, 1, 2, 3]);
    }
}
