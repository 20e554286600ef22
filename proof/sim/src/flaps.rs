//! Regions that come and go: rooms that have homes there and elsewhere are left at both until all is calm. What may be taken
//! for such a region is judged here from all that the gateways have found, and from the faults themselves.

use std::time::Duration;

use outlast_control::{CALM_MIN, FLAP_SPAN, RegionHealth};
use outlast_model::Time;

use crate::{observer::NEWS_MAX, schedule::What, world::World};

/// What has been found of the regions.
#[derive(Clone, Debug)]
pub(crate) struct Flaps {
    regions: Vec<Falls>,
    /// By gateway and region: the last verdict.
    verdicts: Vec<Vec<(RegionHealth, Time)>>,
}

/// The falls of a region, whoever found them.
#[derive(Clone, Copy, Debug, Default)]
struct Falls {
    /// When the first gateway found it down, and the last that did so at about that time: that is one fall.
    last: Option<(Time, Time)>,
    /// When it had last fallen twice within [`FLAP_SPAN`].
    twice: Option<Time>,
}

impl Flaps {
    pub(crate) fn new(gateways: usize, regions: usize) -> Flaps {
        let verdicts = vec![vec![(RegionHealth::Doubted, Time::ZERO); regions]; gateways];
        Flaps { regions: vec![Falls::default(); regions], verdicts }
    }
}

impl World {
    /// A gateway has changed its mind about a region.
    pub(crate) fn region_judged(&mut self, gateway: usize, region: usize, health: RegionHealth) {
        let now = self.now;
        self.flaps.verdicts[gateway][region] = (health, now);
        if health == RegionHealth::Down {
            let falls = &mut self.flaps.regions[region];
            let before = falls.last.filter(|(first, _)| now.since(*first) > NEWS_MAX * 2);
            if before.is_some_and(|(_, last)| now.since(last) < FLAP_SPAN + NEWS_MAX) {
                falls.twice = Some(now);
            }
            let same = falls.last.filter(|_| before.is_none());
            falls.last = Some((same.map_or(now, |(first, _)| first), now));
        }
    }

    /// Whether anybody may find that a region comes and goes: it did, and some gateway has not found it calm since, be it
    /// that it was cut off from it all the time. Or its links do now, or did a moment ago.
    fn region_flaps(&self, region: usize) -> bool {
        let calm = CALM_MIN + NEWS_MAX;
        let found = self.flaps.regions[region].twice.is_some_and(|fell| {
            let calm_since = |gateway: &Vec<(RegionHealth, Time)>| {
                let (health, at) = gateway[region];
                health == RegionHealth::Up && at >= fell && self.now.since(at) >= calm
            };
            // Who has not noticed the last fall did not notice the others either, or has nothing to say of it.
            let noticed = |gateway: &&Vec<(RegionHealth, Time)>| gateway[region].1 >= fell;
            self.now.since(fell) < calm
                || !self.flaps.verdicts.iter().filter(noticed).all(calm_since)
        });
        found || self.links_flap(region, calm)
    }

    /// Whether a room has a home in such a region, though it be empty there.
    pub(crate) fn has_home_that_flaps(&self, room: usize) -> bool {
        let mut nodes = 0..self.nodes.len();
        nodes.any(|node| {
            self.nodes[node].shard.room(room).is_some() && self.region_flaps(self.node(node).region)
        })
    }

    /// Whether a fault makes the links of a region, or of a process there, come and go, or has until so long ago.
    fn links_flap(&self, region: usize, after: Duration) -> bool {
        self.schedule.faults.iter().any(|fault| {
            let there = match &fault.what {
                What::RegionFlaps { region: name, .. } => self.names.zone(name) == Some(region),
                What::Flaps { who, .. } => {
                    self.processes[self.process_called(who)].region == region
                }
                _ => false,
            };
            let until = World::world_time(fault.at + fault.lasts) + after;
            there && World::world_time(fault.at) <= self.now && self.now < until
        })
    }
}
