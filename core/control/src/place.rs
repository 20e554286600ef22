//! Which node a room goes to: its home, or else the first of a ranking that every gateway computes alike from the names of
//! room and nodes and from static capacity (weighted rendezvous hashing). Live load never enters.

use outlast_model::{Generation, NodeId, RoomName};

use crate::{Health, NodeView, View};

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

/// Why there is no node for a room now. All of it passes, so to a client it is a 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceError {
    /// No node lives that takes rooms.
    NoNode,
    /// Every node that could take the room has been asked already.
    AllTried,
}

/// The place for `room`. A home that is alive or under suspicion keeps it; one that is down or drains loses it to the best
/// node that takes rooms, with the next generation. Nodes in `tried` have refused this session, and count unless they are
/// the room's home.
///
/// # Errors
/// See [`PlaceError`].
pub fn place(view: &View, room: &RoomName, tried: &[NodeId]) -> Result<Placement, PlaceError> {
    let home = view.home(room);
    let home_node = home.as_ref().and_then(|home| view.node(&home.node));
    if let (Some(home), Some(node)) = (&home, home_node)
        && node.health != Health::Down
        && !node.draining
    {
        return Ok(Placement { node: home.node.clone(), generation: home.generation, home: true });
    }
    let candidates: Vec<&NodeView> = rank(view, room).collect();
    let best = candidates.iter().find(|node| !tried.contains(&node.facts.id));
    match (best, &home) {
        (Some(best), _) => {
            let generation = view.next_generation(room);
            Ok(Placement { node: best.facts.id.clone(), generation, home: false })
        }
        // Nowhere else to go: a draining node serves to its end.
        (None, Some(home)) if home_node.is_some_and(|node| node.health != Health::Down) => {
            Ok(Placement { node: home.node.clone(), generation: home.generation, home: true })
        }
        (None, _) if candidates.is_empty() => Err(PlaceError::NoNode),
        (None, _) => Err(PlaceError::AllTried),
    }
}

/// The nodes that take rooms, best first for `room`.
pub fn rank<'v>(view: &'v View, room: &RoomName) -> impl Iterator<Item = &'v NodeView> + use<'v> {
    let mut ranking: Vec<(f64, &NodeView)> = view
        .nodes()
        .filter(|node| node.takes_rooms())
        .map(|node| (score(room, node), node))
        .collect();
    // Equal scores cannot be told from rounding; the id settles them the same way everywhere.
    ranking.sort_by(|(a, x), (b, y)| b.total_cmp(a).then_with(|| x.facts.id.cmp(&y.facts.id)));
    ranking.into_iter().map(|(_, node)| node)
}

/// Weighted rendezvous score (Wang, Ravishankar 1998; weights by -w / ln u): the share of rooms for which a node scores
/// highest is its share of the capacity.
fn score(room: &RoomName, node: &NodeView) -> f64 {
    let hash = mix(room.as_str(), node.facts.id.as_str());
    // 53 bits, moved off zero: 0 < u < 1, so the logarithm is finite and not zero.
    let unit = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -f64::from(node.facts.capacity.max(1)) / unit.ln()
}

/// 64 well-mixed bits of both names: FNV-1a over the bytes with a separator, then SplitMix64's finalizer. Part of the
/// protocol between gateways: a change moves every room that is placed without a known home.
fn mix(room: &str, node: &str) -> u64 {
    let bytes = room.bytes().chain([0xff]).chain(node.bytes());
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
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
        place(view, &room.into(), &[]).unwrap().node
    }

    #[test]
    fn a_known_home_keeps_its_room_until_it_is_down_or_drains() {
        let (mut view, room) = (named(&["a", "b", "c"]), RoomName::from("r"));
        let home = NodeId::from("b");
        view.opened(&home, &room, Generation(4));
        let at_home = Placement { node: home.clone(), generation: Generation(4), home: true };
        assert_eq!(
            place(&view, &room, std::slice::from_ref(&home)),
            Ok(at_home.clone()),
            "refused or not"
        );
        view.node_mut(&home).unwrap().health = Health::Suspect;
        assert_eq!(place(&view, &room, &[]), Ok(at_home.clone()));
        view.node_mut(&home).unwrap().health = Health::Down;
        let moved = place(&view, &room, &[]).unwrap();
        assert_eq!((moved.generation, moved.home), (Generation(5), false));
        assert_ne!(moved.node, home);
        let node = view.node_mut(&home).unwrap();
        (node.health, node.draining) = (Health::Alive, true);
        assert_eq!(place(&view, &room, &[]), Ok(moved));
        for other in ["a", "c"] {
            view.node_mut(&other.into()).unwrap().health = Health::Down;
        }
        assert_eq!(place(&view, &room, &[]), Ok(at_home), "nowhere else to go");
    }

    #[test]
    fn refusals_go_down_the_ranking_to_its_end() {
        let (mut view, room) = (named(&["a", "b", "c"]), RoomName::from("r"));
        let ranking: Vec<_> = rank(&view, &room).map(|node| node.facts.id.clone()).collect();
        for tried in 0..3 {
            assert_eq!(place(&view, &room, &ranking[..tried]).unwrap().node, ranking[tried]);
        }
        assert_eq!(place(&view, &room, &ranking), Err(PlaceError::AllTried));
        for id in &ranking {
            view.node_mut(id).unwrap().health = Health::Suspect;
        }
        assert_eq!(place(&view, &room, &[]), Err(PlaceError::NoNode));
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
                rank(view, &room.as_str().into()).map(|node| node.facts.id.clone()).collect::<Vec<_>>()
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
}
