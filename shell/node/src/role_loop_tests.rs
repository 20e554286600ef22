//! The role with doors that nobody stands behind: what it carries out, and in which order.

use std::sync::mpsc::sync_channel;

use outlast_runtime::Wake;
use outlast_tenure::Why;

use super::*;
use crate::{metrics::NodeMetrics, shards::ShardDoor};

/// Longer than any test, however crowded the machine.
const LONG: Duration = Duration::from_secs(3_600);

fn role(shards: usize) -> Arc<RoleLoop> {
    let door = |_| ShardDoor { inputs: sync_channel(1).0, wake: Wake::new().unwrap() };
    let doors = Arc::new(Shards::new((0..shards).map(door).collect()));
    let shared = Arc::new(Shared::new(shards, Epoch(5), NodeMetrics::default()));
    let config = TenureConfig::new("n".into(), Epoch(5), vec!["gw".into(), "gx".into()], 3);
    let config = TenureConfig { lease: LONG, joins_per_second: 1, joins_burst: 8, ..config };
    Arc::new(RoleLoop::new(config, Clock::start(), LONG, doors, shared))
}

fn open(role: &RoleLoop, room: &str, generation: u64) {
    role.ask(&room.into(), Generation(generation), Goal::Join).unwrap();
    role.opened(room.into(), Generation(generation), None);
}

fn started() -> RoomFrame {
    RoomFrame::Started { epoch: Epoch(5) }
}

fn hosted(room: &str, generation: u64) -> RoomFrame {
    RoomFrame::Hosted { room: room.into(), generation: Generation(generation), settings: None }
}

fn closed(room: &str, generation: u64) -> RoomFrame {
    RoomFrame::Closed { room: room.into(), generation: Generation(generation), lost: false }
}

fn lost(room: &str, generation: u64) -> RoomFrame {
    RoomFrame::Closed { room: room.into(), generation: Generation(generation), lost: true }
}

fn changes(follower: &mut Follower) -> Vec<RoomFrame> {
    let bytes = std::iter::from_fn(|| follower.changes.try_recv().ok());
    bytes.map(|bytes| RoomFrame::decode(&bytes).unwrap()).collect()
}

#[test]
fn a_follower_gets_what_is_there_and_then_every_change_in_order() {
    let role = role(2);
    open(&role, "a", 1);
    open(&role, "b", 1);
    let mut first = role.follow().unwrap();
    assert_eq!(first.snapshot, [started(), hosted("a", 1), hosted("b", 1), RoomFrame::Synced]);
    open(&role, "a", 2);
    role.closed("b".into(), Generation(1));
    let mut second = role.follow().unwrap();
    assert_eq!(second.snapshot, [started(), hosted("a", 2), RoomFrame::Synced]);
    role.steer(Steer { room: "a".into(), generation: Generation(3), node: "other".into() });
    assert_eq!(changes(&mut first), [hosted("a", 2), closed("b", 1), lost("a", 2)]);
    assert_eq!(changes(&mut second), [lost("a", 2)]);
    let shard = role.shards.of(&"a".into());
    let orders = role.shared.orders.lost(shard);
    assert_eq!(orders.into_iter().collect::<Vec<_>>(), [("a".into(), Generation(3))]);
    drop(first);
    assert_eq!(role.lock().followers.len(), 1);
}

#[test]
fn who_lags_too_far_behind_is_let_go_and_the_others_hear_on() {
    let role = role(1);
    let mut slow = role.follow().unwrap();
    let mut quick = role.follow().unwrap();
    for generation in 1..=CHANGES_MAX as u64 + 2 {
        role.opened("a".into(), Generation(generation), None);
        assert_eq!(changes(&mut quick), [hosted("a", generation)]);
    }
    assert_eq!(changes(&mut slow).len(), CHANGES_MAX);
    assert_eq!(slow.changes.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
    assert_eq!(role.lock().followers.len(), 1);
    let late = role.follow().unwrap();
    assert_eq!(late.snapshot.len(), 3, "nothing of what was for the slow one");
}

#[test]
fn a_shard_s_loss_is_told_of_its_rooms_alone() {
    let role = role(2);
    let names = ["a", "b", "c", "d"];
    names.iter().for_each(|room| open(&role, room, 1));
    let mut follower = role.follow().unwrap();
    role.lost(0);
    let of_shard = |shard| {
        let on = move |room: &&&str| role.shards.of(&(***room).into()) == shard;
        names.iter().filter(on).map(|room| closed(room, 1)).collect::<Vec<_>>()
    };
    let gone = of_shard(0);
    assert!(!gone.is_empty() && gone.len() < names.len());
    assert_eq!(changes(&mut follower), gone);
}

#[test]
fn a_fence_forbids_all_sending_until_the_new_start_is_heard() {
    let role = role(1);
    open(&role, "a", 1);
    let now = role.clock.now();
    assert!(role.shared.may_send(now));
    role.paused(2 * LONG);
    assert_eq!((role.shared.epoch(), role.shared.may_send(now)), (Epoch(6), false));
    assert!(!role.is_open());
    let refusal = role.ask(&"b".into(), Generation(1), Goal::Join).unwrap_err();
    assert_eq!(refusal.why, Why::Fenced);
    let owed = role.ticked(0, 0);
    assert!(owed.iter().all(|owed| owed.epoch == Epoch(6) && owed.beat.ticked));
    assert_eq!(owed.len(), 2);
    let echo = Echo { heard_epoch: Epoch(6), heard_sequence: owed[1].sequence, stamp: 4 };
    role.echo("gx".into(), Epoch(2), echo);
    assert!(role.shared.may_send(role.clock.now()) && role.is_open());
    assert_eq!(role.ask(&"b".into(), Generation(1), Goal::Join), Ok(()));
    let owed = role.ticked(0, 0);
    assert_eq!(owed[1].beat.echoed.map(|echoed| echoed.stamp), Some(4));
    assert!(owed[1].beat.lease_ms > 3_000_000);
}

#[test]
fn a_node_without_gateways_may_send_again_after_a_pause() {
    let role = role(1);
    let alone = TenureConfig::new("n".into(), Epoch(5), Vec::new(), 3);
    let (shards, shared) = (Arc::clone(&role.shards), Arc::clone(&role.shared));
    let role = RoleLoop::new(alone, role.clock, LONG, shards, shared);
    role.opened("a".into(), Generation(1), None);
    role.paused(2 * LONG);
    assert_eq!(role.shared.epoch(), Epoch(6));
    assert!(role.shared.may_send(role.clock.now()));
}

#[test]
fn the_role_s_own_pause_comes_before_whatever_it_is_told_next() {
    let role = role(1);
    open(&role, "a", 1);
    role.lock().vigil.make_up(2 * LONG);
    let refusal = role.ask(&"a".into(), Generation(1), Goal::Join).unwrap_err();
    assert_eq!((refusal.why, role.shared.epoch()), (Why::Fenced, Epoch(6)));
}

#[test]
fn too_many_at_once_are_told_to_wait() {
    let role = role(1);
    let ask = |room: &str| role.ask(&room.into(), Generation(1), Goal::Join);
    let refusals: Vec<_> = (0..10).filter_map(|n| ask(&format!("{n}")).err()).collect();
    assert!(!refusals.is_empty());
    assert!(refusals.iter().all(|r| r.why == Why::Busy && r.retry_after.is_some()));
}
