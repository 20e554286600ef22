//! From a schedule that fails to a smaller one that fails in the same way.

use crate::{run::run, schedule::Schedule, world::Knobs};

/// Takes faults away, halves first and single ones in the end, as long as the same rule is broken; then lets people come
/// once and stay, if it is broken all the same.
///
/// # Errors
/// When the schedule does not fail.
pub(crate) fn shrink(schedule: Schedule, knobs: Knobs) -> anyhow::Result<Schedule> {
    let first = run(schedule.clone(), knobs);
    let Some(violation) = first.violation else { anyhow::bail!("this schedule does not fail") };
    let rule = violation.rule;
    let fails = |candidate: &Schedule| {
        run(candidate.clone(), knobs).violation.is_some_and(|found| found.rule == rule)
    };
    let mut best = schedule;
    let mut size = best.faults.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < best.faults.len() {
            let mut candidate = best.clone();
            candidate.faults.drain(at..(at + size).min(candidate.faults.len()));
            if fails(&candidate) {
                best = candidate;
            } else {
                at += size;
            }
        }
        if size == 1 {
            break;
        }
        size = size.div_ceil(2);
    }
    let calm = Schedule {
        world: crate::schedule::Shape { restless: false, ..best.world.clone() },
        ..best.clone()
    };
    if fails(&calm) {
        best = calm;
    }
    best.story = format!("Breaks the rule {rule}; found by seed {}.", best.seed);
    Ok(best)
}
