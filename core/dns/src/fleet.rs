//! The gateways as their own words tell of them, and which of their addresses are handed out.

use std::{collections::BTreeMap, net::IpAddr};

use outlast_control::{
    GatewayFacts as Named, OUTLOOK_FRESH, Outlooks, RegionChange, RegionHealth, Regions, Seen,
};
use outlast_model::{GatewayId, RegionName, Time};
use outlast_wire::Outlook;

/// Most addresses of one answer: browsers go from a dead one to the next in a third of a second, and past no second one.
pub(crate) const ADDRESSES_MAX: usize = 2;

/// What the configuration says of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayFacts {
    /// Its name.
    pub id: GatewayId,
    /// Where it is.
    pub region: RegionName,
    /// Where clients reach it; of each family the first is handed out.
    pub addresses: Vec<IpAddr>,
}

/// Which of the two nearest regions comes first in an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The nearest.
    #[default]
    Nearest,
    /// The second nearest: signalling and media of a client are in different regions then, and no single loss takes both.
    Crossed,
}

/// Whether clients are sent to a gateway; the first is best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Standing {
    /// It is heard and takes clients; or it is only this name server that does not hear its region.
    Serves,
    /// The same, in a region that was down lately.
    Returns,
    /// It is heard, and takes nobody: it starts, stops, or knows no node that lives.
    Refuses,
    /// It is not heard, though others of its region are, or its region is down.
    Silent,
}

impl Standing {
    fn serves(self) -> bool {
        self <= Standing::Returns
    }
}

/// Who is asked for: addresses of this family, near this region.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) v6: bool,
    pub(crate) near: &'a RegionName,
    /// No other region, as long as this one serves.
    pub(crate) only: bool,
}

#[derive(Clone, Debug)]
struct Gateway {
    facts: GatewayFacts,
    heard_at: Option<Time>,
    /// As of the last word; before it, it is taken to.
    takes: bool,
    standing: Standing,
}

impl Gateway {
    fn address(&self, v6: bool) -> Option<IpAddr> {
        self.facts.addresses.iter().find(|address| address.is_ipv6() == v6).copied()
    }
}

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Region(RegionChange),
    Gateway { id: GatewayId, from: Standing, to: Standing },
}

/// All gateways.
#[derive(Clone, Debug)]
pub(crate) struct Fleet {
    gateways: BTreeMap<GatewayId, Gateway>,
    /// Sorted; their bits in outlooks.
    names: Vec<RegionName>,
    regions: Regions,
    outlooks: Outlooks,
    /// What the gateways of each region find nearest to it, nearest first.
    neighbours: BTreeMap<RegionName, Vec<RegionName>>,
    order: Order,
    /// Gateways of one region take turns.
    turn: usize,
}

impl Fleet {
    /// `names`: every region in which nodes or gateways are configured.
    pub(crate) fn new(
        names: &[RegionName],
        gateways: impl IntoIterator<Item = GatewayFacts>,
        order: Order,
    ) -> Fleet {
        let gateway = |facts: GatewayFacts| {
            let standing = Standing::Serves;
            (facts.id.clone(), Gateway { facts, heard_at: None, takes: true, standing })
        };
        let gateways: BTreeMap<_, _> = gateways.into_iter().map(gateway).collect();
        let regions = Regions::from_outside(names.iter().cloned());
        let named = gateways.values().map(|gateway| Named {
            id: gateway.facts.id.clone(),
            region: gateway.facts.region.clone(),
        });
        let outlooks = Outlooks::new(&regions, named);
        let mut names = names.to_vec();
        names.sort();
        names.dedup();
        Fleet { gateways, names, regions, outlooks, neighbours: BTreeMap::new(), order, turn: 0 }
    }

    /// `gateway` has said what it sees.
    pub(crate) fn hear(&mut self, now: Time, gateway: &GatewayId, outlook: &Outlook) {
        let Some(known) = self.gateways.get_mut(gateway) else { return };
        known.heard_at = Some(now);
        known.takes = !outlook.closed && (outlook.alive > 0 || outlook.known == 0);
        if outlook.regions_digest == self.regions.digest() {
            let near = outlook.nearest.iter().filter_map(|at| usize::from(*at).checked_sub(1));
            let near: Vec<_> = near.filter_map(|at| self.names.get(at).cloned()).collect();
            if !near.is_empty() {
                self.neighbours.insert(known.facts.region.clone(), near);
            }
        }
        // What counts here is whether others hear gateways of a region; nodes alone let nobody in.
        let hears = if outlook.doors == 0 { outlook.hears } else { outlook.doors };
        let seen = Seen {
            regions_digest: outlook.regions_digest,
            hears,
            alive: outlook.alive,
            flapping: outlook.flapping,
            known: outlook.known,
            shrunk: outlook.shrunk,
        };
        self.outlooks.hear(now, gateway, seen);
    }

    /// Judges all anew.
    pub(crate) fn wake(&mut self, now: Time, out: &mut Vec<Turn>) {
        let mut changes = Vec::new();
        self.regions.wake(now, &self.outlooks, &mut changes);
        out.extend(changes.into_iter().map(Turn::Region));
        for (id, gateway) in &mut self.gateways {
            let to = standing(&self.regions, now, gateway);
            let from = std::mem::replace(&mut gateway.standing, to);
            if from != to {
                out.push(Turn::Gateway { id: id.clone(), from, to });
            }
        }
    }

    /// How many gateways have each standing, best first.
    pub(crate) fn standings(&self) -> [usize; 4] {
        let mut standings = [0; 4];
        for gateway in self.gateways.values() {
            standings[gateway.standing as usize] += 1;
        }
        standings
    }

    /// At most [`ADDRESSES_MAX`] addresses, the one to try first first. None only where no gateway has an address of the
    /// family, or where those that have do not serve, and others do.
    pub(crate) fn pick(&mut self, wanted: Wanted<'_>) -> Vec<IpAddr> {
        self.turn = self.turn.wrapping_add(1);
        let turn = self.turn;
        let mut order = self.nearness(wanted.near);
        let in_near = |gateway: &&Gateway| gateway.facts.region == *wanted.near;
        if wanted.only && self.gateways.values().filter(in_near).any(|it| it.standing.serves()) {
            order.truncate(1);
        }
        let mut regions: Vec<(Standing, usize, Vec<IpAddr>)> = Vec::new();
        for (far, region) in order.iter().enumerate() {
            let there = self.gateways.values().filter(|gateway| gateway.facts.region == *region);
            let there = there.filter_map(|it| Some((it.standing, it.address(wanted.v6)?)));
            let there: Vec<_> = there.collect();
            let Some(best) = there.iter().map(|(standing, _)| *standing).min() else { continue };
            let mut of_best: Vec<_> = there
                .into_iter()
                .filter_map(|(standing, address)| (standing == best).then_some(address))
                .collect();
            let first = turn % of_best.len();
            of_best.rotate_left(first);
            regions.push((best, far, of_best));
        }
        if regions.is_empty() {
            return Vec::new();
        }
        regions.sort_by_key(|(standing, far, _)| (*standing, *far));
        let serving = regions[0].0.serves();
        if !serving && self.gateways.values().any(|gateway| gateway.standing.serves()) {
            return Vec::new();
        }
        let second = regions.get(1).filter(|(standing, ..)| standing.serves() == serving);
        let Some((_, _, second)) = second else {
            return regions.swap_remove(0).2.into_iter().take(ADDRESSES_MAX).collect();
        };
        let mut two = vec![regions[0].2[0], second[0]];
        if self.order == Order::Crossed && serving {
            two.reverse();
        }
        two
    }

    /// All regions, those nearest to `near` first.
    fn nearness(&self, near: &RegionName) -> Vec<RegionName> {
        let told = self.neighbours.get(near).map_or(&[][..], Vec::as_slice);
        // Nobody has said: the same order at every name server.
        let at = self.names.iter().position(|name| name == near).unwrap_or_default();
        let rest = self.names.iter().cycle().skip(at).take(self.names.len());
        let mut order: Vec<RegionName> = Vec::new();
        for name in [near].into_iter().chain(told).chain(rest) {
            if !order.contains(name) {
                order.push(name.clone());
            }
        }
        order
    }
}

fn standing(regions: &Regions, now: Time, gateway: &Gateway) -> Standing {
    let region = &gateway.facts.region;
    let fresh = gateway.heard_at.is_some_and(|at| now.since(at) < OUTLOOK_FRESH);
    let doubted = regions.health(region) == RegionHealth::Doubted;
    match (fresh || doubted, gateway.takes) {
        (false, _) => Standing::Silent,
        (true, false) => Standing::Refuses,
        (true, true) if regions.is_on_probation(region) => Standing::Returns,
        (true, true) => Standing::Serves,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 3] = ["ap", "eu", "us"];

    /// Two gateways in each region, as one name server hears them.
    struct Story {
        fleet: Fleet,
        now: Time,
    }

    fn address(region: usize, gateway: usize, v6: bool) -> IpAddr {
        let [region, gateway] = [region, gateway].map(|it| u8::try_from(it).unwrap());
        match v6 {
            false => IpAddr::from([192, 0, region, gateway]),
            true => IpAddr::from([0x2001, 0xdb8, region.into(), 0, 0, 0, 0, gateway.into()]),
        }
    }

    fn region(address: IpAddr) -> &'static str {
        let at = match address {
            IpAddr::V4(address) => address.octets()[2],
            IpAddr::V6(address) => address.octets()[5],
        };
        NAMES[usize::from(at)]
    }

    impl Story {
        fn new(order: Order) -> Story {
            let names = NAMES.map(RegionName::from);
            let gateways = (0..3).flat_map(|at| (0..2).map(move |n| (at, n))).map(|(at, n)| {
                let (id, region) = (format!("{}-{n}", NAMES[at]), NAMES[at].into());
                let addresses = vec![address(at, n, false), address(at, n, true)];
                GatewayFacts { id: id.into(), region, addresses }
            });
            let fleet = Fleet::new(&names, gateways, order);
            Story { fleet, now: Time::from_millis(1_000) }
        }

        /// Gateways of `speak` are heard for a while, and hear those of `hear`.
        fn pass(&mut self, seconds: u64, speak: &[&str], hear: &[&str]) {
            let outlook = self.outlook(hear);
            for _ in 0..seconds * 10 {
                self.now = self.now + Duration::from_millis(100);
                for name in speak {
                    (0..2).for_each(|n| self.says(&format!("{name}-{n}"), &outlook));
                }
                self.fleet.wake(self.now, &mut Vec::new());
            }
        }

        fn outlook(&self, hear: &[&str]) -> Outlook {
            let bits = NAMES.iter().enumerate().filter(|(_, name)| hear.contains(name));
            let hears = bits.fold(0, |bits, (at, _)| bits | 1 << at);
            let regions_digest = self.fleet.regions.digest();
            let doors = hears;
            Outlook { regions_digest, hears, doors, alive: 3, known: 3, ..Outlook::default() }
        }

        fn says(&mut self, gateway: &str, outlook: &Outlook) {
            self.fleet.hear(self.now, &gateway.into(), outlook);
        }

        fn pick(&mut self, near: &str) -> Vec<&'static str> {
            let near = &near.into();
            let picked = self.fleet.pick(Wanted { v6: false, near, only: false });
            picked.into_iter().map(region).collect()
        }

        fn only(&mut self, near: &str) -> Vec<&'static str> {
            let near = &near.into();
            let picked = self.fleet.pick(Wanted { v6: false, near, only: true });
            picked.into_iter().map(region).collect()
        }
    }

    #[test]
    fn the_nearest_comes_first_and_the_next_second() {
        let mut story = Story::new(Order::Nearest);
        assert_eq!(story.pick("eu"), ["eu", "us"], "before anybody is heard");
        story.pass(3, &NAMES, &NAMES);
        assert_eq!(story.pick("eu"), ["eu", "us"], "nobody says what is near");
        let mut outlook = story.outlook(&NAMES);
        outlook.nearest[..2].copy_from_slice(&[1, 3]);
        story.says("eu-0", &outlook);
        assert_eq!(story.pick("eu"), ["eu", "ap"]);
        assert_eq!(story.pick("us"), ["us", "ap"]);
        assert_eq!(story.only("eu"), ["eu", "eu"]);
        let mut crossed = Story::new(Order::Crossed);
        crossed.pass(3, &NAMES, &NAMES);
        assert_eq!(crossed.pick("eu"), ["us", "eu"]);
        assert_eq!(crossed.only("eu"), ["eu", "eu"]);
    }

    #[test]
    fn gateways_of_a_region_take_turns() {
        let mut story = Story::new(Order::Nearest);
        story.pass(3, &NAMES, &NAMES);
        let near = &"eu".into();
        let mut first = || story.fleet.pick(Wanted { v6: true, near, only: false })[0];
        let (one, other) = (first(), first());
        assert!(one != other && one.is_ipv6() && region(one) == "eu" && region(other) == "eu");
        assert_eq!((first(), first()), (one, other));
    }

    #[test]
    fn a_region_that_others_do_not_hear_either_is_gone_in_three_seconds() {
        let mut story = Story::new(Order::Nearest);
        story.pass(5, &NAMES, &NAMES);
        story.pass(3, &["ap", "us"], &["ap", "us"]);
        assert_eq!(story.pick("eu"), ["us", "ap"]);
        assert_eq!(story.only("eu"), ["us", "ap"]);
        assert_eq!(story.fleet.standings(), [4, 0, 0, 2]);
        // It comes back: last for as long as it has to keep calm.
        story.pass(3, &NAMES, &NAMES);
        assert_eq!(story.pick("eu"), ["us", "ap"]);
        assert_eq!(story.only("eu"), ["eu", "eu"], "who wants it has it");
        story.pass(30, &NAMES, &NAMES);
        assert_eq!(story.pick("eu"), ["eu", "us"]);
    }

    #[test]
    fn a_region_that_others_hear_stays() {
        let mut story = Story::new(Order::Nearest);
        story.pass(5, &NAMES, &NAMES);
        story.pass(60, &["ap", "us"], &NAMES);
        assert_eq!(story.pick("eu"), ["eu", "us"], "only this server does not hear it");
    }

    #[test]
    fn a_region_of_which_others_hear_nodes_alone_is_gone() {
        let mut story = Story::new(Order::Nearest);
        story.pass(5, &NAMES, &NAMES);
        let outlook = Outlook { hears: 0b111, ..story.outlook(&["ap", "us"]) };
        for _ in 0..30 {
            story.now = story.now + Duration::from_millis(100);
            for gateway in ["ap-0", "ap-1", "us-0", "us-1"] {
                story.says(gateway, &outlook);
            }
            story.fleet.wake(story.now, &mut Vec::new());
        }
        assert_eq!(story.pick("eu"), ["us", "ap"]);
    }

    #[test]
    fn who_hears_nobody_goes_on_as_before() {
        let mut story = Story::new(Order::Nearest);
        story.pass(5, &NAMES, &NAMES);
        let refuses = Outlook { closed: true, ..story.outlook(&NAMES) };
        (0..2).for_each(|n| story.says(&format!("us-{n}"), &refuses));
        story.pass(60, &[], &[]);
        assert_eq!(story.pick("eu"), ["eu", "ap"]);
    }

    #[test]
    fn a_gateway_alone_is_passed_over_when_it_is_silent_or_takes_nobody() {
        let mut story = Story::new(Order::Nearest);
        story.pass(5, &NAMES, &NAMES);
        let near = &"eu".into();
        let firsts = |story: &mut Story| {
            let mut first = || story.fleet.pick(Wanted { v6: false, near, only: false })[0];
            [first(), first()]
        };
        let all = story.outlook(&NAMES);
        for (outlook, standings) in [
            (Some(Outlook { closed: true, ..all }), [5, 0, 1, 0]),
            (Some(Outlook { alive: 0, ..all }), [5, 0, 1, 0]),
            (None, [5, 0, 0, 1]),
        ] {
            for _ in 0..30 {
                story.pass(0, &[], &[]);
                story.now = story.now + Duration::from_millis(100);
                for gateway in ["ap-0", "ap-1", "us-0", "us-1", "eu-1"] {
                    story.says(gateway, &all);
                }
                if let Some(outlook) = &outlook {
                    story.says("eu-0", outlook);
                }
                story.fleet.wake(story.now, &mut Vec::new());
            }
            assert_eq!(story.fleet.standings(), standings);
            assert_eq!(firsts(&mut story), [address(1, 1, false); 2]);
        }
    }

    #[test]
    fn when_nobody_serves_somebody_is_named_all_the_same() {
        let mut story = Story::new(Order::Crossed);
        story.pass(5, &NAMES, &NAMES);
        let refuses = Outlook { closed: true, ..story.outlook(&NAMES) };
        for gateway in ["ap-0", "ap-1", "us-0", "us-1", "eu-0", "eu-1"] {
            story.says(gateway, &refuses);
        }
        story.fleet.wake(story.now, &mut Vec::new());
        assert_eq!(story.pick("eu"), ["eu", "us"]);
    }

    #[test]
    fn a_family_whose_gateways_are_silent_is_left_to_the_other() {
        let names = ["eu", "us"].map(RegionName::from);
        let facts = |id: &str, addresses: &[&str]| GatewayFacts {
            id: id.into(),
            region: id[..2].into(),
            addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
        };
        let gateways =
            [facts("eu-0", &["192.0.2.1", "2001:db8::1"]), facts("us-0", &["192.0.2.2"])];
        let mut fleet = Fleet::new(&names, gateways, Order::Nearest);
        let near = &"eu".into();
        let pick = |fleet: &mut Fleet, v6| fleet.pick(Wanted { v6, near, only: false }).len();
        assert_eq!([pick(&mut fleet, false), pick(&mut fleet, true)], [2, 1]);
        let mut now = Time::from_millis(1_000);
        let outlook = Outlook {
            regions_digest: fleet.regions.digest(),
            hears: 0b10,
            alive: 1,
            known: 1,
            ..Outlook::default()
        };
        for _ in 0..30 {
            now = now + Duration::from_millis(100);
            fleet.hear(now, &"us-0".into(), &outlook);
            fleet.wake(now, &mut Vec::new());
        }
        assert_eq!([pick(&mut fleet, false), pick(&mut fleet, true)], [1, 0]);
    }

    proptest! {
        #[test]
        fn an_answer_is_never_empty_and_never_names_the_dead_before_the_living(
            words in prop::collection::vec((0..6_usize, any::<[bool; 2]>(), 0..8_u64), 0..60),
            near in 0..3_usize,
            crossed in any::<bool>(),
        ) {
            let order = if crossed { Order::Crossed } else { Order::Nearest };
            let mut story = Story::new(order);
            for (gateway, [closed, lonely], hears) in words {
                story.now = story.now + Duration::from_millis(200);
                let alive = u16::from(!lonely);
                let outlook = Outlook { doors: hears, closed, alive, ..story.outlook(&[]) };
                story.says(&format!("{}-{}", NAMES[gateway % 3], gateway / 3), &outlook);
                story.fleet.wake(story.now, &mut Vec::new());
                let near = &NAMES[near].into();
                let picked = story.fleet.pick(Wanted { v6: false, near, only: false });
                prop_assert!(!picked.is_empty() && picked.len() <= ADDRESSES_MAX);
                let standing = |address: &IpAddr| {
                    let all = story.fleet.gateways.values();
                    let found = all.clone().find(|it| it.address(false) == Some(*address));
                    found.unwrap().standing
                };
                let serves = story.fleet.gateways.values().any(|it| it.standing.serves());
                for address in &picked {
                    prop_assert_eq!(standing(address).serves(), serves);
                }
            }
        }
    }
}
