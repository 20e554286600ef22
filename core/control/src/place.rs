//! Which node a room goes to: its home, or else the best of a ranking that every gateway computes alike from the names of
//! room and nodes and from static capacity (weighted rendezvous hashing). Live load enters only where the directory settles
//! who wins.

use std::cmp::Ordering;

use outlast_model::{Generation, NodeId, RegionName, RoomName};

use crate::{Health, Home, NodeView, View, node::Standing};

/// From how many of the best nodes the least loaded is taken. More even out load better; fewer keep a room where the
/// other gateways look for it first.
const CHOICES: usize = 3;

/// Where a session goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The node to ask.
    pub node: NodeId,
    /// The generation that the room has there, or gets.
    pub generation: Generation,
    /// The room lives there already: whoever refuses, no other node may take it.
    pub home: bool,
}

/// Which nodes come first for a room without a home.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Spread {
    /// All of them, by their ranking alone.
    #[default]
    Everywhere,
    /// Those of the first region in this order that has one to offer; regions that it does not name come last.
    Nearest(Vec<RegionName>),
}

impl Spread {
    fn distance(&self, region: &RegionName) -> usize {
        match self {
            Spread::Everywhere => 0,
            Spread::Nearest(order) => {
                order.iter().position(|name| name == region).unwrap_or(order.len())
            }
        }
    }
}

/// How rooms without a home are placed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Which nodes come first.
    pub spread: Spread,
    /// The directory settles who wins, so gateways need not agree beforehand: of the top three the least loaded is taken.
    pub arbitrated: bool,
}

/// Why there is no node for a room now. All of it passes, so to a client it is a 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceError {
    /// No node lives that takes rooms.
    NoNode,
    /// Every node that could take the room has been asked already.
    AllTried,
}

/// The place for `room`. A home that is alive or under suspicion keeps it; one that is down, drains or is ejected loses it
/// to the best node that takes rooms, with the next generation. A home that this gateway has claimed comes before an older
/// one that is hosted. Nodes in `tried` have refused this session, and count unless they are the room's home.
///
/// # Errors
/// See [`PlaceError`].
pub fn place(
    view: &View,
    policy: &Policy,
    room: &RoomName,
    tried: &[NodeId],
) -> Result<Placement, PlaceError> {
    let (home, planned) = view.home_and_plan(room);
    let living = |home: &Home| view.node(&home.node).filter(|node| node.health != Health::Down);
    let planned = planned.filter(|plan| !tried.contains(&plan.node));
    let planned = planned.and_then(|plan| Some((plan, living(plan)?)));
    let home = home.and_then(|home| Some((home, living(home)?)));
    let stay = |(at, _): (&Home, &NodeView), home: bool| {
        let node = at.node.clone();
        Ok(Placement { node, generation: at.generation, home })
    };
    if let Some(plan) = planned.filter(|(_, node)| node.keeps(room)) {
        return stay(plan, false);
    }
    if let Some(home) = home.filter(|(_, node)| node.keeps(room)) {
        return stay(home, true);
    }
    if let Some(host) = other_host(view, room, tried) {
        let (node, generation) = (host.node.clone(), view.next_generation(room));
        return Ok(Placement { node, generation, home: false });
    }
    let mut any = false;
    let open = candidates(view, policy).filter(|Candidate { node, .. }| {
        let mut left = home.iter().chain(&planned);
        let open = left.all(|(_, from)| may_follow(node, Some(from)));
        any |= open;
        open && !tried.contains(&node.facts.id)
    });
    if let Some(best) = best(policy, room, open) {
        let (node, generation) = (best.node.facts.id.clone(), view.next_generation(room));
        return Ok(Placement { node, generation, home: false });
    }
    // Nowhere else to go: a draining node serves to its end, and an ejected one may yet deliver.
    match (planned, home) {
        (Some(plan), _) => stay(plan, false),
        (None, Some(home)) => stay(home, true),
        (None, None) if any => Err(PlaceError::AllTried),
        (None, None) => Err(PlaceError::NoNode),
    }
}

/// A node beside the home that says it hosts `room`, of an older life or since a split, and may keep it: its people stay
/// where they are.
pub(crate) fn other_host<'v>(
    view: &'v View,
    room: &RoomName,
    tried: &[NodeId],
) -> Option<&'v Home> {
    let keeps = |host: &&Home| view.node(&host.node).is_some_and(|node| node.keeps(room));
    view.hosts(room).iter().skip(1).filter(keeps).find(|host| !tried.contains(&host.node))
}

/// Whether a room that leaves the node `home` may go to `node`: to another one, and from an ejected one to a better one.
pub(crate) fn may_follow(node: &NodeView, home: Option<&NodeView>) -> bool {
    home.is_none_or(|home| node.facts.id != home.facts.id && !(home.ejected && node.ejected))
}

/// The nodes that take rooms and are not full, best first for `room`, whatever their load.
pub fn rank<'v>(
    view: &'v View,
    policy: &Policy,
    room: &RoomName,
) -> impl Iterator<Item = &'v NodeView> + use<'v> {
    let hash = hash_room(room);
    let scored = candidates(view, policy).map(|candidate| (score(hash, candidate.node), candidate));
    let mut ranking: Vec<_> = scored.collect();
    ranking.sort_by(|a, b| a.1.class.cmp(&b.1.class).then_with(|| order(a, b)));
    ranking.into_iter().map(|(_, candidate)| candidate.node)
}

/// A node that takes rooms and is not full.
#[derive(Clone, Copy)]
pub(crate) struct Candidate<'v> {
    pub(crate) node: &'v NodeView,
    /// Its place among the candidates.
    pub(crate) at: usize,
    /// Standing and distance: a lower class comes first, whatever the ranking.
    class: (Standing, usize),
    /// The load that is expected, in thousandths.
    pub(crate) load: u32,
}

/// All candidates, by id.
pub(crate) fn candidates<'v>(
    view: &'v View,
    policy: &Policy,
) -> impl Iterator<Item = Candidate<'v>> {
    let takers = view.nodes().filter_map(|node| Some((node, node.standing()?)));
    takers.enumerate().map(|(at, (node, standing))| {
        let class = (standing, policy.spread.distance(&node.facts.region));
        Candidate { node, at, class, load: node.predicted_permille() }
    })
}

/// The first of the ranking; when arbitrated the least loaded of the first three, as long as they are alike in standing
/// and region.
pub(crate) fn best<'v>(
    policy: &Policy,
    room: &RoomName,
    candidates: impl Iterator<Item = Candidate<'v>>,
) -> Option<Candidate<'v>> {
    let hash = hash_room(room);
    let mut best: Option<(Standing, usize)> = None;
    let mut top: [Option<(f64, Candidate<'v>)>; CHOICES] = [None; CHOICES];
    let choices = if policy.arbitrated { CHOICES } else { 1 };
    for candidate in candidates {
        match best.map_or(Ordering::Less, |best| candidate.class.cmp(&best)) {
            Ordering::Greater => continue,
            Ordering::Equal => {}
            Ordering::Less => (best, top) = (Some(candidate.class), [None; CHOICES]),
        }
        let mut better = Some((score(hash, candidate.node), candidate));
        for place in &mut top[..choices] {
            let Some(ahead) = better else { break };
            if place.is_none_or(|behind| order(&ahead, &behind) == Ordering::Less) {
                std::mem::swap(&mut better, place);
            }
        }
    }
    let top = top.into_iter().flatten().map(|(_, candidate)| candidate);
    // Of equal loads the one of the lower id.
    top.min_by_key(|candidate| (candidate.load, candidate.at))
}

/// Best first. Equal scores cannot be told from rounding; the id settles them the same way everywhere.
fn order((a, x): &(f64, Candidate<'_>), (b, y): &(f64, Candidate<'_>)) -> Ordering {
    b.total_cmp(a).then_with(|| x.at.cmp(&y.at))
}

/// Weighted rendezvous score (Wang, Ravishankar 1998; weights by -w / ln u): the share of rooms for which a node scores
/// highest is its share of the capacity.
fn score(room: u64, node: &NodeView) -> f64 {
    let hash = mix(room, node.facts.id.as_str());
    // 53 bits, moved off zero: 0 < u < 1, so the logarithm is finite and not zero.
    let unit = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -f64::from(node.facts.capacity.max(1)) / unit.ln()
}

/// The part of [`mix`] that is the same for all nodes.
fn hash_room(room: &RoomName) -> u64 {
    let bytes = room.as_str().bytes().chain([0xff]);
    bytes.fold(0xcbf2_9ce4_8422_2325, fnv)
}

/// 64 well-mixed bits of both names: FNV-1a over the bytes with a separator, then SplitMix64's finalizer. Part of the
/// protocol between gateways: a change moves every room that is placed without a known home.
fn mix(room: u64, node: &str) -> u64 {
    let mut hash = node.bytes().fold(room, fnv);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

fn fnv(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::NodeFacts;

    fn view(nodes: &[(String, u32)]) -> View {
        let facts = nodes.iter().map(|(id, capacity)| NodeFacts {
            id: id.as_str().into(),
            region: "eu".into(),
            capacity: *capacity,
        });
        let mut view = View::new(facts);
        for (id, _) in nodes {
            view.node_mut(&id.as_str().into()).unwrap().health = Health::Alive;
        }
        view
    }

    fn named(ids: &[&str]) -> View {
        view(&ids.iter().map(|id| ((*id).to_owned(), 1)).collect::<Vec<_>>())
    }

    fn first(view: &View, room: &str) -> NodeId {
        place(view, &Policy::default(), &room.into(), &[]).unwrap().node
    }

    #[test]
    fn a_known_home_keeps_its_room_until_it_is_down_or_drains() {
        let (mut view, room) = (named(&["a", "b", "c"]), RoomName::from("r"));
        let home = NodeId::from("b");
        view.opened(&home, &room, Generation(4));
        let at_home = Placement { node: home.clone(), generation: Generation(4), home: true };
        assert_eq!(
            place(&view, &Policy::default(), &room, std::slice::from_ref(&home)),
            Ok(at_home.clone()),
            "refused or not"
        );
        view.node_mut(&home).unwrap().health = Health::Suspect;
        assert_eq!(place(&view, &Policy::default(), &room, &[]), Ok(at_home.clone()));
        view.node_mut(&home).unwrap().health = Health::Down;
        let moved = place(&view, &Policy::default(), &room, &[]).unwrap();
        assert_eq!((moved.generation, moved.home), (Generation(5), false));
        assert_ne!(moved.node, home);
        let node = view.node_mut(&home).unwrap();
        (node.health, node.draining) = (Health::Alive, true);
        assert_eq!(place(&view, &Policy::default(), &room, &[]), Ok(moved));
        for other in ["a", "c"] {
            view.node_mut(&other.into()).unwrap().health = Health::Down;
        }
        assert_eq!(place(&view, &Policy::default(), &room, &[]), Ok(at_home), "nowhere else to go");
    }

    #[test]
    fn refusals_go_down_the_ranking_to_its_end() {
        let (mut view, room) = (named(&["a", "b", "c"]), RoomName::from("r"));
        let ranking: Vec<_> =
            rank(&view, &Policy::default(), &room).map(|node| node.facts.id.clone()).collect();
        for tried in 0..3 {
            assert_eq!(
                place(&view, &Policy::default(), &room, &ranking[..tried]).unwrap().node,
                ranking[tried]
            );
        }
        assert_eq!(place(&view, &Policy::default(), &room, &ranking), Err(PlaceError::AllTried));
        for id in &ranking {
            view.node_mut(id).unwrap().health = Health::Suspect;
        }
        assert_eq!(place(&view, &Policy::default(), &room, &[]), Err(PlaceError::NoNode));
    }

    #[test]
    fn the_ranking_is_the_same_in_every_version() {
        let view = named(&["eu-1", "eu-2", "us-1", "us-2"]);
        let homes: Vec<_> =
            (0..6).map(|n| first(&view, &format!("room-{n}")).to_string()).collect();
        assert_eq!(homes.join(" "), "us-1 us-2 us-1 eu-2 us-1 us-2");
    }

    #[test]
    fn capacity_is_a_share_of_rooms() {
        let view = view(&[("a".into(), 100), ("b".into(), 300), ("c".into(), 600)]);
        let mut count = std::collections::BTreeMap::<String, u32>::new();
        for n in 0..10_000 {
            *count.entry(first(&view, &format!("room {n}")).to_string()).or_default() += 1;
        }
        for (id, share) in [("a", 1_000_u32), ("b", 3_000), ("c", 6_000)] {
            assert!(count[id].abs_diff(share) < 250, "{id}: {} of 10000", count[id]);
        }
    }

    fn nodes() -> impl Strategy<Value = Vec<(String, u32)>> {
        prop::collection::btree_map("[a-z]{1,4}", 0..1_000_u32, 2..12)
            .prop_map(|nodes| nodes.into_iter().collect())
    }

    proptest! {
        #[test]
        fn two_gateways_with_the_same_nodes_agree(nodes in nodes(), room in ".{1,20}", seed: u64) {
            let mut shuffled = nodes.clone();
            shuffled.rotate_left(usize::try_from(seed % nodes.len() as u64).unwrap());
            let ranking = |view: &View| {
                rank(view, &Policy::default(), &room.as_str().into()).map(|node| node.facts.id.clone()).collect::<Vec<_>>()
            };
            prop_assert_eq!(ranking(&view(&nodes)), ranking(&view(&shuffled)));
        }

        #[test]
        fn a_lost_node_moves_only_its_own_rooms(nodes in nodes(), lost: prop::sample::Index) {
            let before = view(&nodes);
            let mut after = before.clone();
            let lost = NodeId::from(nodes[lost.index(nodes.len())].0.as_str());
            after.node_mut(&lost).unwrap().health = Health::Down;
            for n in 0..50 {
                let room = format!("room {n}");
                let (old, new) = (first(&before, &room), first(&after, &room));
                prop_assert!(old == new || old == lost, "{room} moved from {old} to {new}");
                prop_assert_ne!(new, lost.clone());
            }
        }
    }

    #[test]
    fn a_claimed_home_is_where_everybody_goes_until_it_refuses() {
        let (mut view, room) = (named(&["a", "b", "c"]), RoomName::from("r"));
        let now = outlast_model::Time::ZERO;
        let find = |view: &View, tried: &[NodeId]| {
            place(view, &Policy::default(), &room, tried)
                .map(|at| (at.node, at.generation.0, at.home))
        };
        view.opened(&"a".into(), &room, Generation(1));
        view.node_mut(&"a".into()).unwrap().health = Health::Down;
        let plan = Home { node: "c".into(), generation: Generation(2) };
        view.plan(now, &room, plan);
        assert_eq!(find(&view, &[]), Ok(("c".into(), 2, false)));
        assert_eq!(find(&view, &["c".into()]), Ok(("b".into(), 3, false)));
        // The old home is back before the new one has named the room: the claim counts, and failing that the home.
        view.node_mut(&"a".into()).unwrap().health = Health::Alive;
        assert_eq!(find(&view, &[]), Ok(("c".into(), 2, false)));
        assert_eq!(find(&view, &["c".into()]), Ok(("a".into(), 1, true)));
        view.node_mut(&"c".into()).unwrap().draining = true;
        assert_eq!(find(&view, &[]), Ok(("a".into(), 1, true)));
        view.node_mut(&"c".into()).unwrap().draining = false;
        view.opened(&"c".into(), &room, Generation(2));
        assert_eq!(find(&view, &[]), Ok(("c".into(), 2, true)));
    }

    #[test]
    fn nodes_on_probation_and_ejected_ones_are_for_want_of_better() {
        let (mut view, room) = (named(&["a", "b", "c", "d"]), RoomName::from("r"));
        view.node_mut(&"a".into()).unwrap().ejected = true;
        view.node_mut(&"b".into()).unwrap().probation = true;
        view.node_mut(&"c".into()).unwrap().full = true;
        let ranked = rank(&view, &Policy::default(), &room).map(|node| node.facts.id.to_string());
        assert_eq!(ranked.collect::<Vec<_>>(), ["d", "b", "a"]);
        view.set_region_probation(&"eu".into(), true);
        let best = first(&view, "r");
        assert!(best == "b".into() || best == "d".into(), "both are on probation now");
        view.set_region_probation(&"eu".into(), false);
        // An ejected home gives its rooms away, if anybody takes them; one on probation and a full one keep theirs.
        for (node, expected) in [("a", "d"), ("b", "b"), ("c", "c")] {
            view.opened(&node.into(), &node.into(), Generation(1));
            assert_eq!(first(&view, node), expected.into());
        }
        for node in ["b", "d"] {
            view.node_mut(&node.into()).unwrap().health = Health::Down;
        }
        let at_home = Placement { node: "a".into(), generation: Generation(1), home: true };
        assert_eq!(place(&view, &Policy::default(), &"a".into(), &[]), Ok(at_home));
        assert_eq!(first(&view, "r"), "a".into());
    }

    #[test]
    fn the_nearest_region_comes_first_and_the_ranking_holds_inside() {
        let regions = [("e1", "eu"), ("e2", "eu"), ("u1", "us"), ("u2", "us"), ("x", "other")];
        let facts = regions.map(|(id, region)| NodeFacts {
            id: id.into(),
            region: region.into(),
            capacity: 1,
        });
        let mut view = View::new(facts);
        for (id, _) in regions {
            view.node_mut(&id.into()).unwrap().health = Health::Alive;
        }
        let spread = Spread::Nearest(vec!["us".into(), "eu".into()]);
        let policy = Policy { spread, arbitrated: false };
        let order: Vec<_> = rank(&view, &policy, &"room".into())
            .map(|node| node.facts.region.to_string())
            .collect();
        assert_eq!(order, ["us", "us", "eu", "eu", "other"]);
        let near = |view: &View, tried: &[NodeId]| {
            place(view, &policy, &"room".into(), tried).unwrap().node.to_string()
        };
        assert!(near(&view, &[]).starts_with('u'));
        assert!(near(&view, &["u1".into(), "u2".into()]).starts_with('e'));
        // Probation anywhere is worse than distance.
        view.set_region_probation(&"us".into(), true);
        assert!(near(&view, &[]).starts_with('e'));
    }

    #[test]
    fn an_arbitrated_choice_takes_the_least_loaded_of_the_top_three() {
        let ids = ["a", "b", "c", "d", "e"];
        let (mut view, room) = (named(&ids), RoomName::from("r"));
        let policy = Policy { arbitrated: true, ..Policy::default() };
        let ranking: Vec<_> =
            rank(&view, &policy, &room).map(|node| node.facts.id.clone()).collect();
        let top = ranking[..3].iter().min().unwrap();
        assert_eq!(place(&view, &policy, &room, &[]).unwrap().node, *top, "ties by id");
        for (id, load) in ranking.iter().zip([50, 40, 41, 0, 0]) {
            view.node_mut(id).unwrap().report(load);
        }
        assert_eq!(place(&view, &policy, &room, &[]).unwrap().node, ranking[1]);
        view.node_mut(&ranking[1]).unwrap().grant();
        assert_eq!(place(&view, &policy, &room, &[]).unwrap().node, ranking[2], "predicted");
        assert_eq!(
            place(&view, &policy, &room, &ranking[1..3]).unwrap().node,
            ranking[3].clone().min(ranking[4].clone())
        );
        let blind = Policy::default();
        assert_eq!(place(&view, &blind, &room, &[]).unwrap().node, ranking[0], "load never enters");
    }

    proptest! {
        #[test]
        fn the_best_is_the_first_of_the_ranking(
            nodes in prop::collection::btree_map("[a-z]{1,3}", any::<(u8, u8, u16)>(), 1..30),
            nearest: bool,
            refused in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let regions = ["ap", "eu", "us", "sa"];
            let mut view = View::new(nodes.iter().map(|(id, (region, ..))| NodeFacts {
                id: id.as_str().into(),
                region: regions[usize::from(region % 4)].into(),
                capacity: 1 + u32::from(region / 4),
            }));
            for (id, (_, state, load)) in &nodes {
                let node = view.node_mut(&id.as_str().into()).unwrap();
                let state = |bit: u8| state & (1 << bit) != 0;
                node.health = if state(0) && state(1) { Health::Suspect } else { Health::Alive };
                node.draining = state(2) && state(3);
                node.full = state(4) && state(5);
                node.probation = state(6);
                node.ejected = state(7);
                node.report(*load % 4);
            }
            let near = Spread::Nearest(vec!["us".into(), "ap".into(), "eu".into()]);
            let spread = if nearest { near } else { Spread::Everywhere };
            let policy = Policy { spread, arbitrated: false };
            let ids: Vec<_> = nodes.keys().map(|id| NodeId::from(id.as_str())).collect();
            let tried: Vec<_> =
                refused.iter().map(|index| ids[index.index(ids.len())].clone()).collect();
            for n in 0..20 {
                let room = RoomName::from(format!("room {n}"));
                let open: Vec<_> = rank(&view, &policy, &room)
                    .filter(|node| !tried.contains(&node.facts.id))
                    .collect();
                let found = place(&view, &policy, &room, &tried).map(|found| found.node);
                prop_assert_eq!(found.ok(), open.first().map(|node| node.facts.id.clone()));
                let arbitrated = Policy { arbitrated: true, ..policy.clone() };
                let class = |node: &NodeView| {
                    (node.standing(), policy.spread.distance(&node.facts.region))
                };
                let alike = open.iter().filter(|node| class(node) == class(open[0])).take(3);
                let least = alike.min_by_key(|node| (node.load_permille, &node.facts.id));
                let found = place(&view, &arbitrated, &room, &tried).map(|found| found.node);
                prop_assert_eq!(found.ok(), least.map(|node| node.facts.id.clone()));
            }
        }
    }
}
