//! Any order of joins, openings, ends, steers and faults: what gateways hear is what is held, generations never fall, and
//! what was lost does not come back under the number that it had.

use std::{collections::BTreeMap, time::Duration};

use outlast_model::{Epoch, Generation, Identity, RoomName, Ruling, RulingVersion, Time};
use outlast_tenure::{Admission, Goal, Input, Output, Tenure, TenureConfig, Why};
use outlast_wire::{Echo, RoomFrame, Steer};
use proptest::prelude::*;

const ME: &str = "n";

fn any_input() -> impl Strategy<Value = Input> {
    let room = || (0..4_u8).prop_map(|n| RoomName::from(format!("room {n}")));
    let generation = || (0..8_u64).prop_map(Generation);
    let goal = prop_oneof![Just(Goal::Join), Just(Goal::JoinNowhereElse), Just(Goal::Resume)];
    let tick = (0..1_100_u16, 0..5_u32).prop_map(|(cpu_permille, participants)| Input::Ticked {
        load_permille: cpu_permille,
        cpu_permille,
        rooms: 1,
        participants,
        joins_admitted: 0,
        joins_connected: 0,
    });
    let echo = (0..60_u64, 1..4_u64).prop_map(|(heard_sequence, epoch)| Input::Echo {
        gateway: "gw".into(),
        epoch: Epoch(1),
        echo: Echo { heard_epoch: Epoch(epoch), heard_sequence, stamp: 1 },
    });
    let steer = (room(), generation(), prop_oneof![Just(ME), Just("a"), Just("z")])
        .prop_map(|(room, generation, node)| Steer { room, generation, node: node.into() });
    prop_oneof![
        3 => tick,
        4 => echo,
        8 => (room(), generation(), goal)
            .prop_map(|(room, generation, goal)| Input::Ask { ask: 0, room, generation, goal }),
        6 => (room(), generation()).prop_map(|(room, generation)| Input::Opened {
            room,
            generation,
            settings: None,
        }),
        4 => (room(), generation())
            .prop_map(|(room, generation)| Input::Closed { room, generation }),
        4 => (room(), any_ruling())
            .prop_map(|(room, ruling)| Input::Ruled { room, identity: "ann".into(), ruling }),
        3 => steer.prop_map(Input::Steer),
        1 => (0..3_000_u64).prop_map(|ms| Input::Paused { pause: Duration::from_millis(ms) }),
        1 => Just(Input::Drain { pace_per_second: 3, deadline: Duration::from_secs(2) }),
        1 => Just(Input::Undrain),
        2 => Just(Input::Wake),
    ]
}

fn any_ruling() -> impl Strategy<Value = Option<Ruling>> {
    prop::option::weighted(0.8, (0..4_u64, 1..4_u32)).prop_map(|version| {
        let (generation, count) = version?;
        let version = RulingVersion { generation: Generation(generation), count };
        Some(Ruling { version, permission: [1].into() })
    })
}

/// What one gateway believes, from its room stream alone.
#[derive(Default)]
struct Heard {
    rooms: BTreeMap<RoomName, Generation>,
    /// With the generation that the home has said each under last.
    rulings: BTreeMap<RoomName, BTreeMap<Identity, (Generation, Ruling)>>,
    /// The highest generation under which a room was taken from this node.
    lost: BTreeMap<RoomName, Generation>,
}

impl Heard {
    fn frame(&mut self, frame: RoomFrame) -> Result<(), TestCaseError> {
        match frame {
            RoomFrame::Hosted { room, generation, .. } => {
                let before = self.rooms.insert(room.clone(), generation);
                prop_assert!(before.is_none_or(|before| before <= generation), "it never falls");
                let lost = self.lost.get(&room);
                prop_assert!(lost.is_none_or(|lost| *lost < generation), "{} is lost", room);
            }
            RoomFrame::Closed { room, generation, .. } => {
                prop_assert_eq!(self.rooms.remove(&room), Some(generation));
                self.rulings.remove(&room);
            }
            RoomFrame::Ruled { room, generation, identity, ruling } => {
                prop_assert_eq!(self.rooms.get(&room), Some(&generation));
                let rulings = self.rulings.entry(room).or_default();
                match ruling {
                    Some(ruling) => drop(rulings.insert(identity, (generation, ruling))),
                    None => prop_assert!(rulings.remove(&identity).is_some(), "no news"),
                }
            }
            RoomFrame::Started { .. } => {
                prop_assert!(self.rooms.is_empty(), "what was before is over, or not known");
            }
            RoomFrame::Synced => {}
        }
        Ok(())
    }

    fn lose(&mut self, room: RoomName, generation: Generation) {
        let lost = self.lost.entry(room).or_default();
        *lost = generation.max(*lost);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn gateways_hear_what_is_held_and_what_was_lost_stays_lost(
        inputs in prop::collection::vec((any_input(), 0..500_u64), 1..200),
    ) {
        let mut now = Time::from_millis(5);
        let config = TenureConfig::new(ME.into(), Epoch(1), vec!["gw".into()], 3);
        let mut tenure = Tenure::new(TenureConfig { joins_burst: 20, ..config }, now);
        let (mut heard, mut out) = (Heard::default(), Vec::new());
        tenure.handle(now, Input::Follow { follower: 1 }, &mut out);
        for (input, pass) in inputs {
            now = now + Duration::from_millis(pass);
            let asked = match &input {
                Input::Ask { room, generation, .. } => Some((room.clone(), *generation)),
                _ => None,
            };
            tenure.handle(now, input, &mut out);
            let answers =
                out.iter().filter(|output| matches!(output, Output::Answer { .. })).count();
            prop_assert_eq!(answers, usize::from(asked.is_some()));
            for output in out.drain(..) {
                match output {
                    Output::Frame { frame, .. } => heard.frame(frame)?,
                    Output::FenceRoom { room, generation, winner } => {
                        prop_assert!(winner.is_none_or(|winner| winner.as_str() != ME));
                        prop_assert!(tenure.generation(&room).is_none_or(|held| held > generation));
                        heard.lose(room, generation);
                    }
                    Output::FenceAll { .. } => {
                        for (room, generation) in heard.rooms.clone() {
                            heard.lose(room, generation);
                        }
                    }
                    Output::Answer { answer: Admission::Admit { generation }, .. } => {
                        let (room, asked) = asked.as_ref().unwrap();
                        prop_assert_eq!(generation, *asked);
                        prop_assert!(heard.rooms.get(room).is_none_or(|held| *held == generation));
                        prop_assert!(heard.lost.get(room).is_none_or(|lost| *lost < generation));
                        prop_assert!(tenure.may_serve(now));
                    }
                    Output::Answer { answer: Admission::Refuse(refusal), .. } => {
                        prop_assert_eq!(refusal.why == Why::Fenced, !tenure.may_serve(now));
                        prop_assert_eq!(
                            refusal.retry_after.is_some(),
                            matches!(refusal.why, Why::Full | Why::Busy)
                        );
                    }
                    _ => {}
                }
            }
            let held: BTreeMap<_, _> =
                tenure.rooms().map(|(room, generation)| (room.clone(), generation)).collect();
            prop_assert_eq!(&held, &heard.rooms);
            prop_assert!(tenure.wake_at().is_none_or(|at| at > now));
            // Whoever begins to follow now is told the same.
            tenure.handle(now, Input::Follow { follower: 2 }, &mut out);
            let mut late = Heard::default();
            for output in out.drain(..) {
                let Output::Frame { follower, frame } = output else { continue };
                prop_assert_eq!(follower, 2);
                late.frame(frame)?;
            }
            heard.rulings.retain(|_, rulings| !rulings.is_empty());
            prop_assert_eq!((&late.rooms, &late.rulings), (&heard.rooms, &heard.rulings));
            tenure.handle(now, Input::Unfollow { follower: 2 }, &mut out);
        }
    }
}
