//! The model's decisions against the production code's: the same inputs, in every order up to a depth, the same answers.

use std::time::Duration;

use outlast_control::{Home, NodeFacts, View};
use outlast_directory::{InstanceId, PlacementId, Request, RoomKey, Table};
use outlast_model::{Epoch, GatewayId, Generation, NodeId, RoomName, Time};
use outlast_proof_model::{Held, OUT, Record, Room, Rules, counts_before};
use outlast_tenure::{Admission, Goal, Input, LEASE, Output, Tenure, TenureConfig};
use outlast_wire::{Echo, Steer};

const GENERATIONS: std::ops::RangeInclusive<u8> = 1..=3;
const NODES: [&str; 3] = ["a", "b", "c"];

fn generation(number: u8) -> Generation {
    Generation(number.into())
}

fn node(number: u8) -> NodeId {
    NODES[usize::from(number)].into()
}

#[derive(Clone, Copy, Debug)]
enum Ask {
    Place(u8, u8),
    Replace(u8, u8, u8),
    End(u8),
}

fn asks() -> Vec<Ask> {
    let mut asks: Vec<Ask> = GENERATIONS.map(Ask::End).collect();
    for node in 0..3 {
        asks.extend(GENERATIONS.map(|generation| Ask::Place(node, generation)));
        for expected in GENERATIONS {
            let higher = expected + 1..=*GENERATIONS.end();
            asks.extend(higher.map(|generation| Ask::Replace(expected, node, generation)));
        }
    }
    asks
}

fn want(number: u8, number_of_life: u8) -> outlast_directory::Record {
    outlast_directory::Record {
        node: node(number),
        epoch: Epoch(1),
        generation: generation(number_of_life),
        id: PlacementId(u128::from(number_of_life) * 10 + u128::from(number)),
        provisional: false,
    }
}

fn ask_both(table: &mut Table, record: &mut Record, ask: Ask) {
    let room = RoomKey(1);
    let request = match ask {
        Ask::Place(node, life) => {
            record.place(Rules::ALL, node, life);
            Request::Place { room, want: want(node, life) }
        }
        Ask::Replace(expected, node, life) => {
            record.replace(Rules::ALL, expected, node, life);
            Request::Replace { room, expected: generation(expected), want: want(node, life) }
        }
        Ask::End(life) => {
            record.end(Rules::ALL, life);
            Request::End { room, generation: generation(life) }
        }
    };
    table.apply(Time::from_millis(1_000), &request);
}

fn walk_directory(table: &Table, record: Record, asks: &[Ask], depth: u8) {
    let held = table.record(RoomKey(1)).map(|held| (held.node.clone(), held.generation));
    let expected = record.holder().map(|holder| (node(holder), generation(record.generation)));
    assert_eq!(held, expected, "{record:?}");
    assert_eq!(table.tombstones(), usize::from(record.node == OUT), "{record:?}");
    if depth == 0 {
        return;
    }
    for ask in asks {
        let (mut table, mut record) = (table.clone(), record);
        ask_both(&mut table, &mut record, *ask);
        walk_directory(&table, record, asks, depth - 1);
    }
}

#[test]
fn the_directory_decides_as_the_table_does() {
    walk_directory(&Table::new(InstanceId(1)), Record::default(), &asks(), 4);
}

/// A node of the model, and the machine.
#[derive(Clone)]
struct Twins {
    room: Room,
    over: bool,
    tenure: Tenure,
    now: Time,
}

#[derive(Clone, Copy, Debug)]
enum Move {
    Join(u8),
    Arrive(u8),
    Close,
    Steer(u8),
    Adopt(u8),
    StandStill,
    Lapse,
    Renew,
}

impl Twins {
    fn new() -> Twins {
        let config = TenureConfig::new("a".into(), Epoch(1), vec!["g".into()], 1);
        let now = Time::from_millis(1_000);
        let tenure = Tenure::new(config, now);
        let mut twins = Twins { room: Room::new(), over: false, tenure, now };
        twins.renew();
        twins
    }

    fn held(&mut self) -> &mut Held {
        &mut self.room.held[0]
    }

    fn put(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.tenure.handle(self.now, input, &mut out);
        out
    }

    fn renew(&mut self) {
        let (load_permille, cpu_permille, rooms, participants) = (0, 0, 1, 1);
        let (joins_admitted, joins_connected) = (0, 0);
        let beats = self.put(Input::Ticked {
            load_permille,
            cpu_permille,
            rooms,
            participants,
            joins_admitted,
            joins_connected,
        });
        let beat = beats.iter().find_map(|output| match output {
            Output::Beat { epoch, sequence, .. } => Some((*epoch, *sequence)),
            _ => None,
        });
        let (heard_epoch, heard_sequence) = beat.expect("it beats");
        let echo = Echo { heard_epoch, heard_sequence, stamp: 1 };
        self.put(Input::Echo { gateway: GatewayId::from("g"), epoch: Epoch(1), echo });
        self.over = false;
    }

    fn opened(&mut self, life: u8) {
        let (room, generation) = (RoomName::from("r"), generation(life));
        self.put(Input::Opened { room, generation, settings: None });
    }

    fn take(&mut self, step: Move) {
        let (held, name) = (*self.held(), RoomName::from("r"));
        match step {
            Move::Join(life) => {
                let admits = !self.over && held.admits(Rules::ALL, life);
                let (room, generation) = (name, generation(life));
                let answers = self.put(Input::Ask { ask: 1, room, generation, goal: Goal::Join });
                let admitted = answers.iter().any(|output| {
                    matches!(output, Output::Answer { answer: Admission::Admit { .. }, .. })
                });
                assert_eq!(admitted, admits, "{step:?} with {held:?}");
                if admits {
                    self.opened(life);
                    self.held().open(life);
                }
            }
            Move::Arrive(life) if held.serving == 0 && !self.over => {
                self.opened(life);
                if held.lets_arrive(Rules::ALL, life) {
                    self.held().open(life);
                }
            }
            Move::Close if held.serving > 0 => {
                self.put(Input::Closed { room: name, generation: generation(held.serving) });
                self.room.close(0, false);
            }
            Move::Steer(life) if held.serving > 0 => {
                let (generation, node) = (generation(life), node(1));
                self.put(Input::Steer(Steer { room: name, generation, node }));
                self.room.steer(Rules::ALL, 0, life);
            }
            Move::Adopt(life) if held.serving > 0 => {
                let (generation, node) = (generation(life), node(0));
                self.put(Input::Steer(Steer { room: name, generation, node }));
                if life > held.serving {
                    self.held().open(life);
                }
            }
            Move::StandStill => {
                let pause = Duration::from_secs(2);
                self.now = self.now + pause;
                self.put(Input::Paused { pause });
                self.run_out();
            }
            Move::Lapse => {
                self.now = self.now + LEASE;
                self.put(Input::Wake);
                self.run_out();
            }
            Move::Renew if self.over => self.renew(),
            Move::Arrive(_) | Move::Close | Move::Steer(_) | Move::Adopt(_) | Move::Renew => {}
        }
        if !self.over {
            self.renew();
        }
    }

    fn run_out(&mut self) {
        self.over = true;
        self.room.close(0, true);
    }

    fn walk(&self, steps: &[Move], depth: u8) {
        for step in steps {
            let mut after = self.clone();
            after.take(*step);
            let held = *after.held();
            let serving = after.tenure.generation(&"r".into());
            assert_eq!(serving.map_or(0, |g| g.0), u64::from(held.serving), "{step:?}: {held:?}");
            assert_eq!(after.tenure.may_serve(after.now), !after.over, "{step:?}: {held:?}");
            if depth > 1 {
                after.walk(steps, depth - 1);
            }
        }
    }
}

#[test]
fn the_node_decides_as_tenure_does() {
    let mut steps = vec![Move::Close, Move::StandStill, Move::Lapse, Move::Renew];
    for life in GENERATIONS {
        let moves = [Move::Join, Move::Arrive, Move::Steer, Move::Adopt];
        steps.extend(moves.map(|step| step(life)));
    }
    Twins::new().walk(&steps, 5);
}

fn view(lives: [u8; 3]) -> View {
    let facts = NODES.map(|id| NodeFacts { id: id.into(), region: "eu".into(), capacity: 1 });
    let mut view = View::new(facts);
    for (number, life) in (0..).zip(lives).filter(|(_, life)| *life > 0) {
        view.opened(&node(number), &"r".into(), generation(life));
    }
    view
}

fn home(rules: Rules, lives: [u8; 3]) -> Option<Home> {
    let homes = (0..).zip(lives).filter(|(_, life)| *life > 0);
    let best = homes.reduce(
        |best, other| {
            if counts_before(rules, other, best, None) { other } else { best }
        },
    );
    best.map(|(number, life)| Home { node: node(number), generation: generation(life) })
}

#[test]
fn gateways_choose_between_homes_as_the_view_does() {
    let room = RoomName::from("r");
    let lives = (0..4).flat_map(|a| (0..4).flat_map(move |b| (0..4).map(move |c| [a, b, c])));
    for lives in lives {
        assert_eq!(view(lives).home(&room).cloned(), home(Rules::ALL, lives), "{lives:?}");
        let highest = lives.into_iter().max().unwrap_or_default();
        assert!(view(lives).next_generation(&room) > generation(highest), "{lives:?}");
    }
}
