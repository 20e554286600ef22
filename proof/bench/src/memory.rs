//! Heap that a shard keeps for an idle subscriber: right after the join, and once the handshake has settled.

use std::time::Duration;

use crate::{
    allocations,
    findings::{Bound, Finding},
    scene::{ROOM_SIZE, Scene},
};

const SUBSCRIBERS: usize = 300;
/// Virtual time after which no retransmission timer of the handshake is left.
const SETTLED: Duration = Duration::from_secs(60);
/// From the prototype, in bytes.
const EXPECTED: f64 = 100_000.0;

/// Prints the figures.
pub(crate) fn run() -> Vec<Finding> {
    println!("memory: {SUBSCRIBERS} subscribers in rooms of {ROOM_SIZE}, kB of heap for each");
    // What the process makes once and keeps is made here.
    Scene::new(1).join(1);
    let before = allocations::live();
    let mut scene = Scene::new(SUBSCRIBERS);
    let kept = |since: usize| allocations::live().saturating_sub(since) as f64 / SUBSCRIBERS as f64;
    let empty = kept(before);
    scene.join(SUBSCRIBERS);
    let joined = kept(before);
    let busy = scene.spent();
    scene.idle(SETTLED);
    let settled = kept(before);
    let idle =
        (scene.spent() - busy).as_micros() as f64 / SUBSCRIBERS as f64 / SETTLED.as_secs_f64();
    let shard = scene.into_shard();
    let full = allocations::in_use();
    drop(shard);
    let process = full.saturating_sub(allocations::in_use()) as f64 / SUBSCRIBERS as f64;
    for (what, bytes) in [
        ("the empty shard's share", empty),
        ("joined, its share included", joined),
        ("settled, 60 s later", settled),
        ("the same as malloc sees it (crypto in C, rounding)", process),
    ] {
        println!("{:>9.1}  {what}", bytes / 1e3);
    }
    println!("{idle:>9.1}  us of CPU time per second of each, idle");
    vec![Finding {
        what: "bytes per idle subscriber".to_owned(),
        measured: process.max(settled),
        expected: Bound::AtMost(EXPECTED),
        floor: format!("{joined:.0} right after the join"),
    }]
}
