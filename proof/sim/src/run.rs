//! One run from beginning to end, and what came of it.

use outlast_model::Time;

use crate::{
    observer::Violation,
    schedule::{Schedule, What},
    world::{Knobs, World},
};

/// What came of a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) hash: u64,
    pub(crate) violation: Option<Violation>,
    pub(crate) events: u64,
    pub(crate) faults: [u32; What::KINDS.len()],
    pub(crate) asks: u64,
    pub(crate) told: u64,
    pub(crate) moves: u64,
    pub(crate) excused_losses: u64,
    /// Sessions looked at while a ruling was to be obeyed, and those that could not know of it.
    pub(crate) rights: [u64; 2],
    /// Sorted, in milliseconds.
    pub(crate) gaps: Vec<u32>,
}

/// Runs `schedule`.
pub(crate) fn run(schedule: Schedule, knobs: Knobs) -> Outcome {
    let mut world = World::new(schedule, knobs, false);
    world.run();
    outcome(&mut world)
}

/// The same, with its timeline.
pub(crate) fn replay(schedule: Schedule, knobs: Knobs) -> (Outcome, Vec<(Time, String)>) {
    let mut world = World::new(schedule, knobs, true);
    world.run();
    let lines = world.trace.take();
    (outcome(&mut world), lines)
}

fn outcome(world: &mut World) -> Outcome {
    let observer = &mut world.observer;
    let mut gaps = std::mem::take(&mut observer.gaps);
    gaps.sort_unstable();
    Outcome {
        hash: world.trace.hash(),
        violation: observer.violation.take(),
        events: observer.events,
        faults: observer.fired,
        asks: observer.asks,
        told: observer.told,
        moves: observer.moves,
        excused_losses: observer.excused_losses,
        rights: [world.operators.looked, world.operators.excused],
        gaps,
    }
}

impl Outcome {
    /// A few lines for people.
    pub(crate) fn summary(&self) -> String {
        let end = match &self.violation {
            Some(violation) => format!(
                "FAILED at {:.3} s: {}: {}",
                violation.at.as_nanos() as f64 / 1e9,
                violation.rule,
                violation.what
            ),
            None => "ok".to_owned(),
        };
        format!(
            "{end}\nevents {}, faults {}, asks {}, told {}, moves {}, losses excused {}, rights looked at {} and excused {}, trace {:016x}",
            self.events,
            self.faults.iter().sum::<u32>(),
            self.asks,
            self.told,
            self.moves,
            self.excused_losses,
            self.rights[0],
            self.rights[1],
            self.hash
        )
    }
}
