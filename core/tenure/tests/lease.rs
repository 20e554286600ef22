//! The lease under any order of ticks, echoes, rooms and silence, against what was sent and what was echoed.

use std::{collections::BTreeMap, time::Duration};

use outlast_model::{Epoch, GatewayId, Generation, Time};
use outlast_tenure::{Input, LEASE, Output, Tenure, TenureConfig};
use outlast_wire::Echo;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Tick,
    /// An echo of the n-th last beat, of whatever epoch; it may come again.
    Echo(usize),
    Open,
    /// So many milliseconds pass, without regard to what is due.
    Pass(u64),
    /// The machine is woken when it asked to be.
    Wake,
    Pause(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Tick),
        6 => (0..60_usize).prop_map(Step::Echo),
        2 => Just(Step::Open),
        6 => (0..900_u64).prop_map(Step::Pass),
        1 => (0..9_000_u64).prop_map(Step::Pass),
        2 => Just(Step::Wake),
        1 => (0..4_000_u64).prop_map(Step::Pause),
    ]
}

/// A beat on its way.
struct Sent {
    at: Time,
    gateway: GatewayId,
    epoch: Epoch,
    sequence: u64,
}

/// The node and what an all-seeing eye knows of it.
struct Watched {
    tenure: Tenure,
    now: Time,
    sent: Vec<Sent>,
    /// The end of every lease that an echo of this epoch has proved, or a young node's first room.
    proved: Vec<Time>,
    echoed_ever: bool,
    opened_ever: bool,
    /// What the shards were told last.
    told: Option<Time>,
    rooms: u64,
}

impl Watched {
    fn new() -> Watched {
        let gateways = ["a", "b", "c"].map(GatewayId::from).to_vec();
        let now = Time::from_millis(7);
        Watched {
            tenure: Tenure::new(TenureConfig::new("n".into(), Epoch(1), gateways, 3), now),
            now,
            sent: Vec::new(),
            proved: Vec::new(),
            echoed_ever: false,
            opened_ever: false,
            told: None,
            rooms: 0,
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Tick => self.handle(Input::Ticked {
                load_permille: 0,
                cpu_permille: 0,
                rooms: 0,
                participants: 0,
                joins_admitted: 0,
                joins_connected: 0,
            }),
            Step::Echo(back) => {
                let Some(sent) = self.sent.iter().rev().nth(back) else { return Ok(()) };
                let echo = Echo {
                    heard_epoch: sent.epoch,
                    heard_sequence: sent.sequence,
                    stamp: self.now.as_nanos(),
                };
                let (gateway, at, epoch) = (sent.gateway.clone(), sent.at, sent.epoch);
                // The end of the old lease comes first, and with it perhaps another epoch.
                self.handle(Input::Wake)?;
                if epoch == self.tenure.epoch() && at + LEASE > self.now {
                    self.proved.push(at + LEASE);
                    self.echoed_ever = true;
                }
                self.handle(Input::Echo { gateway, epoch: Epoch(9), echo })
            }
            Step::Open => {
                self.handle(Input::Wake)?;
                // Young: neither echoed nor fenced, and this is the first.
                if self.tenure.may_serve(self.now) && !self.echoed_ever && !self.opened_ever {
                    self.proved.push(self.now + LEASE);
                    self.opened_ever = true;
                }
                self.rooms += 1;
                let (room, generation) = (self.rooms.to_string().into(), Generation(1));
                self.handle(Input::Opened { room, generation, settings: None })
            }
            Step::Pass(millis) => {
                self.now = self.now + Duration::from_millis(millis);
                Ok(())
            }
            Step::Wake => {
                self.now = self.tenure.wake_at().unwrap_or(self.now).max(self.now);
                self.handle(Input::Wake)
            }
            Step::Pause(millis) => {
                let pause = Duration::from_millis(millis);
                self.now = self.now + pause;
                self.handle(Input::Paused { pause })
            }
        }
    }

    fn handle(&mut self, input: Input) -> Result<(), TestCaseError> {
        let paused = matches!(input, Input::Paused { .. });
        let had_rooms = self.tenure.rooms().count() > 0;
        let proved = self.proved.iter().max().copied();
        let mut out = Vec::new();
        self.tenure.handle(self.now, input, &mut out);
        for output in out {
            match output {
                Output::Beat { gateway, epoch, sequence, beat } => {
                    let left = self
                        .tenure
                        .lease_until()
                        .map_or(0, |until| until.since(self.now).as_millis());
                    prop_assert_eq!(u128::from(beat.lease_ms), left);
                    prop_assert!(self.sent.last().is_none_or(|last| last.sequence < sequence));
                    self.sent.push(Sent { at: self.now, gateway, epoch, sequence });
                }
                Output::Lease { until } => {
                    prop_assert!(
                        self.proved.contains(&until),
                        "from an own sending that was echoed"
                    );
                    prop_assert!(until > self.now && self.told.is_none_or(|before| before < until));
                    self.told = Some(until);
                }
                Output::FenceAll { epoch } => {
                    prop_assert!(
                        paused || had_rooms && proved.is_some_and(|until| until <= self.now)
                    );
                    prop_assert_eq!(epoch, self.tenure.epoch());
                    self.proved.clear();
                    self.opened_ever = true;
                }
                _ => {}
            }
        }
        if self.tenure.rooms().count() > 0 {
            // What is held is held under a lease that the shards know of, and it has not run out.
            prop_assert!(self.tenure.may_serve(self.now));
            prop_assert!(self.told.is_some_and(|until| self.now < until));
            prop_assert_eq!(self.told, self.proved.iter().max().copied());
        }
        prop_assert!(self.tenure.wake_at().is_none_or(|at| at > self.now));
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn nothing_is_held_but_under_what_the_nodes_own_sending_proves(
        steps in prop::collection::vec(any_step(), 1..200),
    ) {
        let mut watched = Watched::new();
        for step in &steps {
            watched.step(step)?;
        }
    }

    #[test]
    fn a_node_that_is_heard_is_never_fenced(
        ways in prop::collection::vec(prop::option::weighted(0.3, 1..900_u64), 200),
    ) {
        // At most so many of the echoes in a row are lost, to all gateways.
        let mut watched = Watched::new();
        watched.step(&Step::Open)?;
        let mut lost = 0;
        let mut pending: BTreeMap<Time, usize> = BTreeMap::new();
        for (n, way) in ways.into_iter().enumerate() {
            watched.step(&Step::Tick)?;
            lost = if way.is_some() { 0 } else { lost + 1 };
            let way = if lost > 11 { Some(100) } else { way };
            if let Some(way) = way {
                lost = 0;
                pending.insert(watched.now + Duration::from_millis(way), watched.sent.len() - 1);
            }
            let end = Time::from_millis(7 + 400 * (n as u64 + 1));
            while let Some(entry) = pending.first_entry().filter(|entry| *entry.key() <= end) {
                let (at, index) = entry.remove_entry();
                watched.now = at;
                watched.step(&Step::Echo(watched.sent.len() - 1 - index))?;
            }
            watched.now = end;
        }
        prop_assert_eq!(watched.tenure.epoch(), Epoch(1));
        prop_assert_eq!(watched.tenure.rooms().count(), 1);
    }
}
