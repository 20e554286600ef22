//! Whether a region lives. Nobody declares one dead on its own word: a region that this gateway does not hear is down only
//! when most other regions' gateways do not hear it either.

use std::time::Duration;

use outlast_model::{BEAT_INTERVAL, RegionName, Time};

use crate::{CALM_MIN, DOWN_AFTER, Outlooks, calm::Calm};

/// Most regions: one bit each in an outlook. Further ones are never judged, and count as up.
pub const REGIONS_MAX: usize = 64;

/// Two falls within this span are flapping: whoever follows each of them moves twice in it.
pub const FLAP_SPAN: Duration = Duration::from_secs(60);

/// Who was up for no longer has not stood: its silence is noticed only after some of this, so it was not heard for more than
/// a moment, perhaps by a process that had stood still and took what had waited for it.
const STOOD_MIN: Duration = DOWN_AFTER.saturating_add(BEAT_INTERVAL);

/// What a gateway believes of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RegionHealth {
    /// One of its nodes or gateways is heard.
    Up,
    /// It is not heard here; that may be our own doing. Also before anything was heard.
    Doubted,
    /// Most of the other regions' gateways do not hear it either.
    Down,
}

/// A change of mind about a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionChange {
    /// Which.
    pub region: RegionName,
    /// Before.
    pub from: RegionHealth,
    /// Now; the same as before when only its probation has ended.
    pub to: RegionHealth,
    /// Whether it is on probation now, having been down lately: new rooms go to other regions if they can.
    pub probation: bool,
}

#[derive(Clone, Debug)]
struct Region {
    name: RegionName,
    nodes_heard: u32,
    health: RegionHealth,
    calm: Calm,
    /// Since when it is up, or was before anybody doubted it; `None` since it fell last.
    stood_since: Option<Time>,
    fell_at: Option<Time>,
    /// Its last fall came shortly after the one before: it is to keep calm until then, from when it is back.
    flaps: bool,
    flaps_until: Time,
}

/// All regions.
#[derive(Clone, Debug)]
pub struct Regions {
    /// By name.
    regions: Vec<Region>,
    own: Option<usize>,
    digest: u32,
    /// Something has changed since the last judgement.
    stale: bool,
    /// Of the outlooks at the last judgement.
    revision: u64,
    due: Option<Time>,
}

impl Regions {
    /// The region of this gateway, and all that nodes or gateways are configured in, in any order.
    pub fn new(own: &RegionName, names: impl IntoIterator<Item = RegionName>) -> Regions {
        let mut regions = Regions::from_outside(names.into_iter().chain([own.clone()]));
        regions.own = regions.index(own);
        regions
    }

    /// The same as seen by somebody who is in none of them, or takes none for alive without hearing it.
    pub fn from_outside(names: impl IntoIterator<Item = RegionName>) -> Regions {
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort();
        names.dedup();
        let digest = names.iter().fold(0x811c_9dc5, |digest, name| {
            name.as_str().bytes().chain([0xff]).fold(digest, |digest: u32, byte| {
                (digest ^ u32::from(byte)).wrapping_mul(0x0100_0193)
            })
        });
        names.truncate(REGIONS_MAX);
        let region = |name| Region {
            name,
            nodes_heard: 0,
            health: RegionHealth::Doubted,
            calm: Calm::default(),
            stood_since: None,
            fell_at: None,
            flaps: false,
            flaps_until: Time::ZERO,
        };
        let regions = names.into_iter().map(region).collect();
        Regions { regions, own: None, digest, stale: true, revision: 0, due: None }
    }

    /// Digest of all names; gateways with different ones do not understand each other's bits.
    pub fn digest(&self) -> u32 {
        self.digest
    }

    /// What is believed of `region` as of the last [`Regions::wake`].
    pub fn health(&self, region: &RegionName) -> RegionHealth {
        let found = self.index(region).and_then(|at| self.regions.get(at));
        found.map_or(RegionHealth::Up, |region| region.health)
    }

    /// Whether `region` has been down lately.
    pub fn is_on_probation(&self, region: &RegionName) -> bool {
        let found = self.index(region).and_then(|at| self.regions.get(at));
        found.is_some_and(|region| region.calm.is_on_probation())
    }

    /// A node of `region` is heard now (it was down before), or is no longer.
    pub fn node_turned(&mut self, region: &RegionName, heard: bool) {
        let Some(at) = self.index(region) else { return };
        let Some(region) = self.regions.get_mut(at) else { return };
        region.nodes_heard = match heard {
            true => region.nodes_heard + 1,
            false => region.nodes_heard.saturating_sub(1),
        };
        self.stale = true;
    }

    /// The regions heard here, for this gateway's own outlook: bit i, counted from the least, is region i of the sorted
    /// names. A gateway always hears its own region.
    pub fn hears(&self, now: Time, outlooks: &Outlooks) -> u64 {
        let own = self.own.map_or(0, |own| 1 << own);
        let nodes = self.regions.iter().enumerate().filter(|(_, region)| region.nodes_heard > 0);
        nodes.fold(own | outlooks.regions_heard(now), |bits, (at, _)| bits | 1 << at)
    }

    /// The regions of which a gateway is heard, this one's own with them; bits as in [`Regions::hears`].
    pub fn doors(&self, now: Time, outlooks: &Outlooks) -> u64 {
        self.own.map_or(0, |own| 1 << own) | outlooks.regions_heard(now)
    }

    /// The number of a region's bit in [`Regions::hears`]; `None` beyond [`REGIONS_MAX`].
    pub fn bit(&self, region: &RegionName) -> Option<u8> {
        self.index(region).and_then(|at| u8::try_from(at).ok())
    }

    /// The regions that were down twice within [`FLAP_SPAN`], until they have been calm for [`CALM_MIN`]; bits as in
    /// [`Regions::hears`].
    pub fn flapping(&self, now: Time) -> u64 {
        let flapping = self.regions.iter().enumerate();
        let flapping = flapping.filter(|(_, region)| region.flaps || region.flaps_until > now);
        flapping.fold(0, |bits, (at, _)| bits | 1 << at)
    }

    /// When [`Regions::wake`] next has something to do, if nothing is heard until then.
    pub fn wake_at(&self) -> Option<Time> {
        self.due
    }

    /// Whether [`Regions::wake`] has something to do: a region or an opinion has changed, or a time has come.
    pub fn is_due(&self, now: Time, outlooks: &Outlooks) -> bool {
        let due = self.due.is_some_and(|due| due <= now);
        self.stale || due || self.revision != outlooks.revision()
    }

    /// Judges anew. Costs nothing when neither a region nor an opinion has changed.
    pub fn wake(&mut self, now: Time, outlooks: &Outlooks, out: &mut Vec<RegionChange>) {
        if !self.is_due(now, outlooks) {
            return;
        }
        (self.stale, self.revision) = (false, outlooks.revision());
        let hears = self.hears(now, outlooks);
        // Who hears few regions is cut off itself: it is not they who come and go.
        let most = hears.count_ones() as usize * 2 > self.regions.len();
        for (at, region) in self.regions.iter_mut().enumerate() {
            let health = if hears & (1 << at) != 0 {
                RegionHealth::Up
            } else if is_agreed_down(outlooks, now, at) {
                RegionHealth::Down
            } else {
                RegionHealth::Doubted
            };
            out.extend(region.turn(now, health, most));
        }
        // While nodes of every region are heard, nobody's opinion matters.
        let own = self.own;
        let mut regions = self.regions.iter().enumerate();
        let matters = regions.any(|(at, region)| region.nodes_heard == 0 && Some(at) != own);
        let stale_at = if matters { outlooks.stale_at(now) } else { None };
        let calm = self.regions.iter().filter_map(|region| region.calm.wake_at());
        self.due = calm.chain(stale_at).min();
    }

    pub(crate) fn index(&self, region: &RegionName) -> Option<usize> {
        self.regions.binary_search_by(|known| known.name.cmp(region)).ok()
    }
}

/// Whether more than half of those who have a say, this gateway with them, do not hear the region. One observer alone does
/// not do, unless there is no other.
fn is_agreed_down(outlooks: &Outlooks, now: Time, region: usize) -> bool {
    let votes = outlooks.votes(now, region);
    (votes.deaf + 1) * 2 > votes.heard + 1 && (votes.heard > 0 || votes.configured == 0)
}

impl Region {
    fn turn(&mut self, now: Time, to: RegionHealth, most: bool) -> Option<RegionChange> {
        let probation = self.calm.is_on_probation();
        let from = std::mem::replace(&mut self.health, to);
        match to {
            RegionHealth::Down if from != to => {
                self.calm.fall(now);
                let stood =
                    self.stood_since.take().is_some_and(|since| now.since(since) > STOOD_MIN);
                if stood && most {
                    let before = self.fell_at.replace(now);
                    self.flaps = before.is_some_and(|before| now.since(before) < FLAP_SPAN);
                }
            }
            RegionHealth::Up if from != to => {
                self.calm.rise(now, false);
                self.stood_since.get_or_insert(now);
                if std::mem::take(&mut self.flaps) {
                    self.flaps_until = now + CALM_MIN;
                }
            }
            RegionHealth::Up | RegionHealth::Doubted | RegionHealth::Down => {}
        }
        self.calm.wake(now);
        let change = RegionChange {
            region: self.name.clone(),
            from,
            to,
            probation: self.calm.is_on_probation(),
        };
        (from != to || probation != change.probation).then_some(change)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{GatewayFacts, OUTLOOK_FRESH, Seen};

    const NAMES: [&str; 3] = ["ap", "eu", "us"];

    /// A gateway in `eu`, others of given regions, one node in every region.
    struct Story {
        regions: Regions,
        outlooks: Outlooks,
        now: Time,
    }

    impl Story {
        fn new(others: &[&'static str]) -> Story {
            let regions = Regions::new(&"eu".into(), NAMES.map(RegionName::from));
            let facts = others.iter().enumerate().map(|(n, region)| GatewayFacts {
                id: format!("g{n}").into(),
                region: (*region).into(),
            });
            let outlooks = Outlooks::new(&regions, facts);
            let now = Time::from_millis(1_000);
            let mut story = Story { regions, outlooks, now };
            NAMES.iter().for_each(|region| story.regions.node_turned(&(*region).into(), true));
            assert_eq!(story.wake().len(), 3);
            story
        }

        /// Gateway `n` says which regions it hears.
        fn says(&mut self, n: usize, hears: &[&str]) {
            let bits = NAMES.iter().enumerate().filter(|(_, name)| hears.contains(name));
            let hears = bits.fold(0, |bits, (at, _)| bits | 1 << at);
            let regions_digest = self.regions.digest();
            let seen = Seen { regions_digest, hears, ..Seen::default() };
            self.outlooks.hear(self.now, &format!("g{n}").into(), seen);
        }

        fn wake(&mut self) -> Vec<RegionChange> {
            let mut out = Vec::new();
            self.regions.wake(self.now, &self.outlooks, &mut out);
            out
        }

        fn health(&mut self, region: &str) -> RegionHealth {
            self.wake();
            self.regions.health(&region.into())
        }

        fn lose(&mut self, region: &str) {
            self.regions.node_turned(&region.into(), false);
        }

        fn pass(&mut self, span: Duration) {
            self.now = self.now + span;
        }
    }

    #[test]
    fn a_region_is_down_when_most_gateways_of_the_others_agree() {
        let mut story = Story::new(&["eu", "us", "us"]);
        (0..3).for_each(|n| story.says(n, &NAMES));
        assert_eq!(story.regions.hears(story.now, &story.outlooks), 0b111);
        story.lose("ap");
        assert_eq!(story.health("ap"), RegionHealth::Doubted);
        story.says(0, &["eu", "us"]);
        assert_eq!(story.health("ap"), RegionHealth::Doubted, "two of four are not most");
        story.says(1, &["eu", "us"]);
        assert_eq!(story.health("ap"), RegionHealth::Down);
        assert_eq!(story.regions.hears(story.now, &story.outlooks), 0b110);
        story.says(0, &NAMES);
        story.says(1, &NAMES);
        assert_eq!(story.health("ap"), RegionHealth::Doubted);
        assert_eq!(story.health("us"), RegionHealth::Up);
    }

    #[test]
    fn a_region_whose_gateway_is_heard_is_up_without_its_nodes() {
        let mut story = Story::new(&["ap", "us"]);
        story.says(0, &["ap"]);
        story.says(1, &["eu", "us"]);
        story.lose("ap");
        assert_eq!(story.health("ap"), RegionHealth::Up);
        assert_eq!(story.regions.wake_at(), Some(story.now + OUTLOOK_FRESH));
        story.pass(OUTLOOK_FRESH);
        story.says(1, &["eu", "us"]);
        assert_eq!(story.health("ap"), RegionHealth::Down);
    }

    #[test]
    fn one_observer_does_not_do_unless_there_is_no_other() {
        let mut story = Story::new(&["eu", "us"]);
        ["ap", "us"].iter().for_each(|region| story.lose(region));
        assert_eq!(story.health("ap"), RegionHealth::Doubted, "nobody else is heard");
        story.says(0, &["eu"]);
        assert_eq!(story.health("ap"), RegionHealth::Down);
        assert_eq!(story.health("eu"), RegionHealth::Up, "one's own always is");
        let mut alone = Story::new(&[]);
        alone.lose("ap");
        assert_eq!(alone.health("ap"), RegionHealth::Down);
        assert!(alone.outlooks.is_empty());
    }

    #[test]
    fn who_counts_regions_otherwise_has_no_opinion() {
        let mut story = Story::new(&["us", "us"]);
        story.lose("ap");
        let seen = Seen { regions_digest: 7, hears: 0, ..Seen::default() };
        story.outlooks.hear(story.now, &"g0".into(), seen);
        assert_eq!(story.health("ap"), RegionHealth::Doubted);
        story.says(1, &["us"]);
        assert_eq!(story.health("ap"), RegionHealth::Down);
        // Nor has a stranger.
        let regions_digest = story.regions.digest();
        let seen = Seen { regions_digest, hears: 0b111, ..Seen::default() };
        story.outlooks.hear(story.now, &"g9".into(), seen);
        assert_eq!((story.health("ap"), story.outlooks.heard(story.now)), (RegionHealth::Down, 2));
    }

    #[test]
    fn a_region_that_was_down_is_on_probation_and_one_that_was_doubted_is_not() {
        let mut story = Story::new(&["us"]);
        let ap = RegionName::from("ap");
        story.says(0, &NAMES);
        story.lose("ap");
        story.wake();
        story.regions.node_turned(&ap, true);
        let change = story.wake().remove(0);
        assert_eq!((change.to, change.probation), (RegionHealth::Up, false));
        for probation in [CALM_MIN, CALM_MIN * 2] {
            story.says(0, &["eu", "us"]);
            story.lose("ap");
            assert_eq!(story.health("ap"), RegionHealth::Down);
            story.pass(Duration::from_secs(1));
            story.regions.node_turned(&ap, true);
            let change = story.wake().remove(0);
            assert_eq!((change.to, change.probation), (RegionHealth::Up, true));
            assert!(story.regions.is_on_probation(&ap));
            assert_eq!(story.regions.wake_at(), Some(story.now + probation));
            story.pass(probation);
            let change = story.wake().remove(0);
            assert_eq!(
                (change.from, change.to, change.probation),
                (RegionHealth::Up, RegionHealth::Up, false)
            );
        }
    }

    #[test]
    fn a_region_that_falls_twice_in_a_minute_flaps_until_it_is_calm() {
        let mut story = Story::new(&["us"]);
        let ap = RegionName::from("ap");
        let fall = |story: &mut Story, span: Duration| {
            story.says(0, &["eu", "us"]);
            story.lose("ap");
            assert_eq!(story.health("ap"), RegionHealth::Down);
            let down = story.regions.flapping(story.now);
            story.pass(Duration::from_secs(1));
            story.regions.node_turned(&ap, true);
            assert_eq!(story.health("ap"), RegionHealth::Up);
            let up = story.regions.flapping(story.now);
            story.pass(span - Duration::from_secs(1));
            (down, up)
        };
        assert_eq!(fall(&mut story, FLAP_SPAN), (0, 0));
        assert_eq!(fall(&mut story, Duration::from_secs(5)), (0, 0), "a minute after the first");
        assert_eq!(fall(&mut story, CALM_MIN), (1, 1));
        assert_eq!(story.regions.flapping(story.now), 1);
        story.pass(Duration::from_secs(1));
        assert_eq!(story.regions.flapping(story.now), 0);
    }

    #[test]
    fn who_hears_nobody_finds_nobody_flapping() {
        let mut story = Story::new(&["eu"]);
        for _ in 0..2 {
            story.says(0, &["eu"]);
            ["ap", "us"].iter().for_each(|region| story.lose(region));
            assert_eq!(story.health("ap"), RegionHealth::Down);
            story.pass(Duration::from_secs(1));
            ["ap", "us"].map(RegionName::from).iter().for_each(|region| {
                story.regions.node_turned(region, true);
            });
            assert_eq!(story.health("ap"), RegionHealth::Up);
        }
        assert_eq!(story.regions.flapping(story.now), 0);
    }

    #[test]
    fn more_regions_than_bits_are_not_judged() {
        let names = (0..70).map(|n| RegionName::from(format!("r{n:02}")));
        let regions = Regions::new(&"r69".into(), names);
        assert_eq!(regions.health(&"r63".into()), RegionHealth::Doubted);
        assert_eq!(regions.health(&"r64".into()), RegionHealth::Up);
        assert_eq!(regions.hears(Time::ZERO, &Outlooks::default()), 0);
    }

    proptest! {
        #[test]
        fn down_needs_a_majority(votes in prop::collection::vec((0..3_usize, any::<[bool; 2]>()), 0..12)) {
            // Gateways of eu and us, and some of ap that are not heard.
            let regions: Vec<_> = votes.iter().map(|(at, _)| ["eu", "us", "ap"][*at]).collect();
            let mut story = Story::new(&regions);
            story.lose("ap");
            let (mut heard, mut deaf, mut configured) = (1, 1, 0);
            for (n, (at, [fresh, hears])) in votes.iter().enumerate() {
                configured += usize::from(*at != 2);
                if *at == 2 || !fresh {
                    continue;
                }
                heard += 1;
                deaf += usize::from(!hears);
                story.says(n, if *hears { &NAMES } else { &NAMES[1..] });
            }
            let down = deaf * 2 > heard && (heard > 1 || configured == 0);
            let expected = if down { RegionHealth::Down } else { RegionHealth::Doubted };
            prop_assert_eq!(story.health("ap"), expected);
        }
    }
}
