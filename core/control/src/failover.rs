//! Which rooms move where when their homes are gone: a proposal, made without touching anything. The same view and policy
//! give the same plan; where views differ, the generation decides who gets a room.

use outlast_model::{Generation, NodeId, RoomName};

use crate::{
    GRANT_PERMILLE, Health, Home, NodeView, Policy, View,
    place::{best, candidates, may_follow, other_host},
};

/// Most moves in one plan. More: a herd arrives at the survivors before they have said how loaded they are; fewer: the last
/// rooms of a lost region wait longer.
pub const MOVES_PER_TICK_MAX: usize = 500;
/// Load up to which a node is given rooms when load counts, in thousandths.
pub(crate) const TARGET_PERMILLE_MAX: u32 = 1_000;

/// One room's way to a new home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which room.
    pub room: RoomName,
    /// The home that it loses; `None` when none is known.
    pub from: Option<Home>,
    /// The node that gets it.
    pub to: NodeId,
    /// The generation that it gets there; the claim must be refused when a higher one is known.
    pub generation: Generation,
}

/// What is to be done in one tick.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// By room name; at most [`MOVES_PER_TICK_MAX`].
    pub moves: Vec<Move>,
    /// Load has been looked at, because the directory settles who wins: no target may get more than it can carry.
    pub arbitrated: bool,
}

/// New homes for those of the `wanted` rooms whose home is down, drains, is ejected or is unknown, and that are not planned
/// elsewhere already. When arbitrated each move counts as load for those after it, and a room for which every node would be
/// overfull waits for a later tick.
pub fn plan<'r>(
    view: &View,
    policy: &Policy,
    wanted: impl IntoIterator<Item = &'r RoomName>,
) -> Plan {
    let mut rooms: Vec<_> = wanted.into_iter().filter(|room| needs_home(view, room)).collect();
    rooms.sort_unstable();
    rooms.dedup();
    let mut nodes: Vec<_> = candidates(view, policy).collect();
    let mut plan = Plan { moves: Vec::new(), arbitrated: policy.arbitrated };
    for room in rooms {
        if plan.moves.len() >= MOVES_PER_TICK_MAX {
            break;
        }
        let home = view.home(room);
        let living = |home: &Home| view.node(&home.node).filter(|node| node.health != Health::Down);
        let home_node = home.and_then(living);
        let open = nodes.iter().filter(|candidate| {
            let overfull = policy.arbitrated
                && candidate.load.saturating_add(GRANT_PERMILLE) > TARGET_PERMILLE_MAX;
            !overfull && may_follow(candidate.node, home_node)
        });
        let to = if let Some(host) = other_host(view, room, &[]) {
            host.node.clone()
        } else if let Some(target) = best(policy, room, open.copied()) {
            nodes[target.at].load += GRANT_PERMILLE;
            target.node.facts.id.clone()
        } else {
            continue;
        };
        plan.moves.push(Move {
            room: room.clone(),
            from: home.cloned(),
            to,
            generation: view.next_generation(room),
        });
    }
    plan
}

/// Whether nobody who could keep `room` has it, or has been given it.
pub(crate) fn needs_home(view: &View, room: &RoomName) -> bool {
    let (home, planned) = view.home_and_plan(room);
    let node = |home: &Home| view.node(&home.node);
    !home.and_then(node).is_some_and(|node| node.keeps(room))
        && !planned.and_then(node).is_some_and(NodeView::keeps_plans)
}
