//! Plans of failover, and the look that is taken at them before anybody acts.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};

use outlast_control::{
    Flaw, GRANT_PERMILLE, Health, Home, MOVES_PER_TICK_MAX, Move, NodeFacts, PLANNED_KEPT, Plan,
    Policy, Spread, View, check, place, plan,
};
use outlast_model::{Generation, NodeId, RoomName, Time};
use proptest::prelude::*;

const NODES: [(&str, &str); 5] =
    [("e1", "eu"), ("e2", "eu"), ("e3", "eu"), ("u1", "us"), ("u2", "us")];
const ARBITRATED: Policy = Policy { spread: Spread::Everywhere, arbitrated: true };

fn fleet() -> View {
    let mut view = View::new(NODES.map(|(id, region)| NodeFacts {
        id: id.into(),
        region: region.into(),
        capacity: 1,
    }));
    for (id, _) in NODES {
        view.node_mut(&id.into()).unwrap().health = Health::Alive;
    }
    view
}

fn room(n: usize) -> RoomName {
    format!("room {n:04}").into()
}

/// `rooms` rooms at `e1`, which is down.
fn lost(rooms: usize) -> View {
    let mut view = fleet();
    for n in 0..rooms {
        view.opened(&"e1".into(), &room(n), Generation(1));
    }
    view.node_mut(&"e1".into()).unwrap().health = Health::Down;
    view
}

fn targets(plan: &Plan) -> BTreeMap<&NodeId, usize> {
    let mut targets = BTreeMap::new();
    for step in &plan.moves {
        *targets.entry(&step.to).or_default() += 1;
    }
    targets
}

#[test]
fn a_dead_node_s_rooms_go_where_joins_would_take_them_in_room_order() {
    let mut view = lost(1_200);
    view.opened(&"e2".into(), &"at home".into(), Generation(1));
    let now = Time::ZERO;
    let mut moved = Vec::new();
    for expected in [500, 500, 202, 0] {
        let mut rooms: Vec<_> = (0..1_200).map(room).collect();
        rooms.extend(["at home".into(), "unknown".into(), room(7)]);
        rooms.push("another unknown".into());
        rooms.reverse();
        let plan = plan(&view, &Policy::default(), &rooms);
        assert_eq!(plan.moves.len(), expected);
        assert_eq!(check(&plan, &view), Ok(()));
        assert!(plan.moves.iter().map(|step| &step.room).is_sorted());
        for step in plan.moves {
            let place = place(&view, &Policy::default(), &step.room, &[]).unwrap();
            assert_eq!((&place.node, place.generation), (&step.to, step.generation));
            assert_eq!(step.from.is_none(), step.room.as_str().ends_with("unknown"));
            view.plan(now, &step.room, Home { node: step.to, generation: step.generation });
            moved.push(step.room);
        }
    }
    assert!(moved.is_sorted());
    assert!(place(&view, &Policy::default(), &"at home".into(), &[]).unwrap().home);
}

#[test]
fn when_load_counts_each_move_is_load_for_the_next() {
    let mut view = lost(500);
    for (id, load) in [("e2", 0), ("e3", 900), ("u1", 500), ("u2", 0)] {
        view.node_mut(&id.into()).unwrap().report(load);
    }
    let rooms: Vec<_> = (0..500).map(room).collect();
    let plan = plan(&view, &ARBITRATED, &rooms);
    assert_eq!(plan.moves.len(), 500);
    assert_eq!(check(&plan, &view), Ok(()));
    let targets = targets(&plan);
    let count = |id: &str| targets.get(&NodeId::from(id)).copied().unwrap_or_default();
    assert_eq!(count("e3"), 0, "nearly full: {targets:?}");
    assert!(count("e2").abs_diff(count("u2")) < 50 && count("u1") < 20, "{targets:?}");
}

#[test]
fn rooms_for_which_there_is_no_load_left_wait() {
    let mut view = lost(500);
    for id in ["e2", "e3", "u1", "u2"] {
        view.node_mut(&id.into()).unwrap().report(800);
    }
    let rooms: Vec<_> = (0..500).map(room).collect();
    let taken = plan(&view, &ARBITRATED, &rooms);
    let each = usize::try_from(200 / GRANT_PERMILLE).unwrap();
    assert!(targets(&taken).values().all(|count| *count == each), "{:?}", targets(&taken));
    assert_eq!((taken.moves.len(), check(&taken, &view)), (4 * each, Ok(())));
    // Where nobody settles who wins, everybody has to come to the same end, whatever the load.
    assert_eq!(plan(&view, &Policy::default(), &rooms).moves.len(), 500);
    for id in ["e2", "e3", "u1", "u2"] {
        view.node_mut(&id.into()).unwrap().full = true;
    }
    assert_eq!(plan(&view, &Policy::default(), &rooms).moves, []);
}

/// A plan with one move of room 0, which is then changed.
fn flaw(view: &View, change: impl FnOnce(&mut Plan)) -> Result<(), Flaw> {
    let mut plan = plan(view, &ARBITRATED, &[room(0), room(1)]);
    assert_eq!(check(&plan, view), Ok(()));
    change(&mut plan);
    check(&plan, view)
}

#[test]
fn a_second_home_is_refused() {
    let mut view = lost(2);
    let used = |generation, free| {
        let (generation, free) = (Generation(generation), Generation(free));
        Err(Flaw::Used { room: room(0), generation, free })
    };
    let at = |generation| move |plan: &mut Plan| plan.moves[0].generation = Generation(generation);
    assert_eq!(flaw(&view, at(1)), used(1, 2));
    assert_eq!(flaw(&view, at(7)), Ok(()), "higher is as good");
    view.fence(Time::ZERO, &room(0), Generation(4));
    assert_eq!(flaw(&view, at(4)), used(4, 5), "it has ended under that");
    // What another gateway has done in the meantime.
    let stale = plan(&view, &ARBITRATED, &[room(0)]);
    view.opened(&"u2".into(), &room(0), Generation(5));
    assert_eq!(check(&stale, &view), Err(Flaw::HomeIsFine(room(0))));
    let twice = flaw(&lost(2), |plan| plan.moves[1].room = room(0));
    assert_eq!(twice, Err(Flaw::Twice(room(0))));
}

#[test]
fn a_home_that_is_fine_stays() {
    let mut view = lost(2);
    let plan = plan(&view, &ARBITRATED, &[room(0)]);
    for health in [Health::Suspect, Health::Alive] {
        view.node_mut(&"e1".into()).unwrap().health = health;
        assert_eq!(check(&plan, &view), Err(Flaw::HomeIsFine(room(0))));
    }
    view.node_mut(&"e1".into()).unwrap().draining = true;
    assert_eq!(check(&plan, &view), Ok(()));
    let claimed = Home { node: "u1".into(), generation: Generation(2) };
    view.plan(Time::ZERO, &room(0), claimed);
    assert_eq!(check(&plan, &view), Err(Flaw::HomeIsFine(room(0))), "so does one just claimed");
}

#[test]
fn nothing_moves_back() {
    let mut view = lost(2);
    let back = |plan: &mut Plan| plan.moves[0].to = "e1".into();
    assert_eq!(flaw(&view, back), Err(Flaw::MovesBack(room(0))));
    // Neither to where the plan says that it comes from.
    let back = |plan: &mut Plan| {
        plan.moves[0].from = Some(Home { node: "u1".into(), generation: Generation(1) });
        plan.moves[0].to = "u1".into();
    };
    assert_eq!(flaw(&view, back), Err(Flaw::MovesBack(room(0))));
    // An ejected home takes rooms in need, but not its own.
    view.node_mut(&"e1".into()).unwrap().health = Health::Alive;
    view.node_mut(&"e1".into()).unwrap().ejected = true;
    let back = |plan: &mut Plan| plan.moves[0].to = "e1".into();
    assert_eq!(flaw(&view, back), Err(Flaw::MovesBack(room(0))));
}

#[test]
fn targets_take_rooms_and_are_not_overfull() {
    let view = lost(2);
    let change = |to: &str, change: fn(&mut outlast_control::NodeView)| {
        let mut view = view.clone();
        let to = NodeId::from(to);
        let mut plan = plan(&view, &ARBITRATED, &[room(0)]);
        plan.moves[0].to = to.clone();
        if let Some(node) = view.node_mut(&to) {
            change(node);
        }
        check(&plan, &view)
    };
    assert_eq!(change("u1", |_| {}), Ok(()));
    let takes_none = Err(Flaw::TakesNoRooms("u1".into()));
    assert_eq!(change("u1", |node| node.health = Health::Suspect), takes_none);
    assert_eq!(change("u1", |node| node.draining = true), takes_none);
    assert_eq!(change("nowhere", |_| {}), Err(Flaw::TakesNoRooms("nowhere".into())));
    let overfull = Err(Flaw::Overfull("u1".into()));
    assert_eq!(change("u1", |node| node.full = true), overfull);
    assert_eq!(change("u1", |node| node.report(998)), Ok(()));
    assert_eq!(change("u1", |node| node.report(999)), overfull);
}

#[test]
fn too_much_at_once_is_refused() {
    let view = lost(0);
    let step = |n| Move { room: room(n), from: None, to: "u1".into(), generation: Generation(1) };
    let mut plan = Plan { moves: (0..MOVES_PER_TICK_MAX).map(step).collect(), arbitrated: false };
    assert_eq!(check(&plan, &view), Ok(()));
    plan.moves.push(step(MOVES_PER_TICK_MAX));
    assert_eq!(check(&plan, &view), Err(Flaw::TooMany(MOVES_PER_TICK_MAX + 1)));
}

/// Nodes in any state, with rooms that several of them may hold.
fn any_view() -> impl Strategy<Value = View> {
    let states = prop::collection::vec((0..3_u8, any::<[bool; 5]>(), 0..1_100_u16), NODES.len());
    let homes = prop::collection::vec((0..40_usize, 0..NODES.len(), 1..4_u64), 0..60);
    let plans = prop::collection::vec((0..40_usize, 0..NODES.len(), 1..6_u64), 0..20);
    (states, homes, plans).prop_map(|(states, homes, plans)| {
        let mut view = fleet();
        for ((id, _), (health, flags, load)) in NODES.iter().zip(states) {
            let node = view.node_mut(&(*id).into()).unwrap();
            node.health = [Health::Alive, Health::Suspect, Health::Down][usize::from(health)];
            [node.draining, node.full, node.probation, node.region_probation, node.ejected] = flags;
            node.report(load);
        }
        for (n, node, generation) in homes {
            view.opened(&NODES[node].0.into(), &room(n), Generation(generation));
        }
        for (n, node, generation) in plans {
            let home = Home { node: NODES[node].0.into(), generation: Generation(generation) };
            view.plan(Time::ZERO, &room(n), home);
        }
        view
    })
}

proptest! {
    #[test]
    fn every_plan_passes_the_check_and_two_gateways_with_one_view_agree(
        view in any_view(), arbitrated: bool, nearest: bool, order: u64
    ) {
        let near = Spread::Nearest(vec!["us".into(), "eu".into()]);
        let spread = if nearest { near } else { Spread::Everywhere };
        let policy = Policy { spread, arbitrated };
        let rooms: Vec<_> = (0..40).map(room).collect();
        let mut turned = rooms.clone();
        turned.rotate_left(usize::try_from(order % 40).unwrap());
        turned.extend(rooms.iter().take(3).cloned());
        let plan_here = plan(&view, &policy, &rooms);
        prop_assert_eq!(&plan_here, &plan(&view.clone(), &policy, &turned));
        prop_assert_eq!(check(&plan_here, &view), Ok(()));
        // Carried out, it leaves nothing to do, but for what nobody could take.
        let mut after = view.clone();
        for step in &plan_here.moves {
            let home = Home { node: step.to.clone(), generation: step.generation };
            prop_assert!(after.plan(Time::ZERO, &step.room, home));
        }
        let again = plan(&after, &policy, &rooms);
        let moved: BTreeSet<_> = plan_here.moves.iter().map(|step| &step.room).collect();
        prop_assert!(again.moves.iter().all(|step| !moved.contains(&step.room)));
        prop_assert!(arbitrated || again.moves.is_empty());
    }

    #[test]
    fn a_join_goes_where_the_last_one_went(view in any_view(), arbitrated: bool) {
        let policy = Policy { arbitrated, ..Policy::default() };
        let mut after = view;
        after.expire(Time::ZERO + PLANNED_KEPT);
        for n in 0..40 {
            let Ok(first) = place(&after, &policy, &room(n), &[]) else { continue };
            let home = Home { node: first.node.clone(), generation: first.generation };
            if !first.home {
                after.plan(Time::ZERO, &room(n), home.clone());
            }
            let second = place(&after, &policy, &room(n), &[]).unwrap();
            prop_assert_eq!((&second.node, second.generation), (&first.node, first.generation));
            after.opened(&home.node, &room(n), home.generation);
            let third = place(&after, &policy, &room(n), &[]).unwrap();
            prop_assert_eq!((third.node, third.generation), (first.node, first.generation));
        }
    }
}
