//! The table against an obvious twin, with limits so small that they are met; and watchers that must not miss anything.

use outlast_model::{Epoch, NodeId};
use proptest::prelude::*;

use super::*;
use crate::{NodeSummary, PlacementId};

const SMALL: Limits = Limits { rooms: 3, tombstones: 2, events: 2 };

/// The same semantics, said again in the plainest way: a list of rooms, the one that changed last at its end.
struct Twin {
    instance: InstanceId,
    rooms: Vec<(RoomKey, Life)>,
    summaries: Vec<(Summary, Time)>,
}

#[derive(Clone, PartialEq)]
enum Life {
    Held(Record),
    Ended(Generation, Time),
}

impl Twin {
    fn apply(&mut self, now: Time, request: &Request) -> Option<Reply> {
        self.rooms.retain(|(_, life)| match life {
            Life::Held(_) => true,
            Life::Ended(_, at) => now < *at + TOMBSTONE_KEPT,
        });
        Some(match request {
            Request::Place { room, want } => self.claim(*room, Generation(0), want),
            Request::Replace { expected, want, .. } if want.generation <= *expected => {
                bad("generation not above the expected one")
            }
            Request::Replace { room, expected, want } => self.claim(*room, *expected, want),
            Request::End { room, generation } => {
                let before = match self.life(*room) {
                    None => Generation(0),
                    Some(Life::Held(held)) if held.generation > *generation => {
                        return Some(Reply::Done);
                    }
                    Some(Life::Held(_)) => Generation(0),
                    Some(Life::Ended(highest, _)) => highest,
                };
                if *generation > before {
                    self.set(*room, Life::Ended(*generation, now));
                }
                Reply::Done
            }
            Request::Lookup { room } => Reply::Found(self.held(*room)),
            Request::Instance => Reply::Instance(self.instance),
            Request::Heartbeat { summary, ttl } => {
                self.summaries.retain(|(before, _)| before.region != summary.region);
                self.summaries.push((summary.clone(), now + *ttl));
                Reply::Done
            }
            Request::Summaries => {
                let live = self.summaries.iter().filter(|(_, until)| now < *until);
                let mut live: Vec<_> = live.map(|(summary, _)| summary.clone()).collect();
                live.sort_by(|a, b| a.region.cmp(&b.region));
                Reply::Summaries(live)
            }
            Request::Watch { .. } => return None,
        })
    }

    fn claim(&mut self, room: RoomKey, expected: Generation, want: &Record) -> Reply {
        let won = Reply::Placed(Placed::Won(want.clone()));
        match self.life(room) {
            Some(Life::Held(held)) if held.id == want.id => {
                return Reply::Placed(Placed::Won(held));
            }
            Some(Life::Held(held)) if held.generation != expected => {
                return Reply::Placed(Placed::Held(held));
            }
            Some(Life::Ended(highest, _)) if want.generation <= highest => {
                return Reply::Failed(Failure::Fenced(highest));
            }
            Some(Life::Held(_)) => {}
            Some(Life::Ended(..)) | None => {
                let held = self.rooms.iter().filter(|(_, life)| matches!(life, Life::Held(_)));
                if held.count() == SMALL.rooms {
                    return bad("one room too many");
                }
            }
        }
        self.set(room, Life::Held(want.clone()));
        won
    }

    fn set(&mut self, room: RoomKey, life: Life) {
        self.rooms.retain(|(other, _)| *other != room);
        self.rooms.push((room, life));
        let ended = |(_, life): &(RoomKey, Life)| matches!(life, Life::Ended(..));
        if self.rooms.iter().filter(|room| ended(room)).count() > SMALL.tombstones {
            let oldest = self.rooms.iter().position(ended).unwrap();
            self.rooms.remove(oldest);
        }
    }

    fn life(&self, room: RoomKey) -> Option<Life> {
        self.rooms.iter().find(|(key, _)| *key == room).map(|(_, life)| life.clone())
    }

    fn held(&self, room: RoomKey) -> Option<Record> {
        match self.life(room)? {
            Life::Held(record) => Some(record),
            Life::Ended(..) => None,
        }
    }

    fn all_held(&self) -> BTreeMap<RoomKey, Record> {
        let held = self.rooms.iter().filter_map(|(room, _)| Some((*room, self.held(*room)?)));
        held.collect()
    }
}

/// Somebody who watches, now and then.
struct Watcher {
    after: Revision,
    held: BTreeMap<RoomKey, Record>,
}

impl Watcher {
    fn new() -> Watcher {
        Watcher { after: Revision::START, held: BTreeMap::new() }
    }

    /// Asks once. Returns whether there was something.
    fn ask(&mut self, table: &mut Table, now: Time) -> bool {
        let Reply::Changes(changes) = table.apply(now, &Request::Watch { after: self.after })
        else {
            panic!("a watch is answered by changes");
        };
        assert_eq!(changes.instance, table.instance());
        assert!(changes.events.len() <= table.limits.events);
        if changes.resync {
            self.held.clear();
        }
        self.after = changes.revision;
        let is_news = !changes.events.is_empty();
        for event in changes.events {
            match event {
                Event::Held { room, record } => {
                    self.held.insert(room, record);
                }
                Event::Ended { room, .. } => {
                    self.held.remove(&room);
                }
            }
        }
        is_news
    }

    /// Asks on to the end. A listing of all rooms takes a page more than there are pages.
    fn catch_up(&mut self, table: &mut Table, now: Time) {
        let pages = table.rooms.len().div_ceil(table.limits.events) + 1;
        let asked = (0..=pages).find(|_| !self.ask(table, now));
        assert!(asked.is_some(), "a watcher comes to the end");
    }
}

#[derive(Clone, Debug)]
enum Op {
    Ask(Request),
    Watch(usize),
    Pass(u64),
    Wipe,
}

fn generation() -> impl Strategy<Value = Generation> {
    (1..6_u64).prop_map(Generation)
}

fn op() -> impl Strategy<Value = Op> {
    let room = || (0..5_u128).prop_map(RoomKey);
    let want = || {
        (1..9_u128, generation(), 0..2_u8).prop_map(|(id, generation, node)| Record {
            node: NodeId::from(format!("node-{node}")),
            epoch: Epoch(u64::from(node)),
            generation,
            id: PlacementId(id),
            provisional: node == 1,
        })
    };
    let heartbeat = ("[ab]", 1..3_u64, 0..9_u32).prop_map(|(region, ttl, rooms)| {
        let nodes = vec![NodeSummary {
            node: "n".into(),
            epoch: Epoch(1),
            draining: false,
            load_permille: 0,
            rooms,
        }];
        let summary = Summary { region: region.into(), nodes };
        Request::Heartbeat { summary, ttl: Duration::from_secs(ttl) }
    });
    let ask = prop_oneof![
        8 => (room(), want()).prop_map(|(room, want)| Request::Place { room, want }),
        6 => (room(), generation(), want())
            .prop_map(|(room, expected, want)| Request::Replace { room, expected, want }),
        6 => (room(), generation()).prop_map(|(room, generation)| Request::End { room, generation }),
        2 => room().prop_map(|room| Request::Lookup { room }),
        1 => heartbeat,
        1 => Just(Request::Summaries),
        1 => Just(Request::Instance),
    ];
    prop_oneof![
        20 => ask.prop_map(Op::Ask),
        4 => (0..2_usize).prop_map(Op::Watch),
        3 => prop_oneof![Just(1), Just(200), Just(600)].prop_map(Op::Pass),
        1 => Just(Op::Wipe),
    ]
}

fn small(instance: u128) -> (Table, Twin) {
    let instance = InstanceId(instance);
    let twin = Twin { instance, rooms: Vec::new(), summaries: Vec::new() };
    (Table::with_limits(instance, SMALL), twin)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_table_answers_as_its_twin_and_watchers_miss_nothing(
        ops in prop::collection::vec(op(), 1..80)
    ) {
        let (mut table, mut twin) = small(1);
        let mut watchers = [Watcher::new(), Watcher::new(), Watcher::new()];
        let (mut now, mut instance) = (Time::ZERO, 1);
        for op in ops {
            match op {
                Op::Ask(request) => {
                    let reply = twin.apply(now, &request).unwrap();
                    prop_assert_eq!(table.apply(now, &request), reply.clone(), "{:?}", request);
                    let again = table.apply(now, &request);
                    let twice = twin.apply(now, &request).unwrap();
                    prop_assert_eq!(again, twice.clone());
                    prop_assert_eq!(twice, reply, "asking twice is asking once: {:?}", request);
                }
                Op::Watch(n) => {
                    watchers[n].ask(&mut table, now);
                }
                Op::Pass(seconds) => now = now + Duration::from_secs(seconds),
                Op::Wipe => {
                    instance += 1;
                    (table, twin) = small(instance);
                }
            }
            prop_assert_eq!(table.order.len(), table.rooms.len());
            prop_assert_eq!(table.held + table.ended.len(), table.rooms.len());
            prop_assert!(table.held <= SMALL.rooms && table.ended.len() <= SMALL.tombstones);
        }
        twin.apply(now, &Request::Instance);
        for watcher in &mut watchers {
            watcher.catch_up(&mut table, now);
            prop_assert_eq!(&watcher.held, &twin.all_held());
        }
    }
}

#[test]
fn the_oldest_tombstone_goes_first_when_there_are_too_many() {
    let (mut table, _) = small(1);
    let end = |table: &mut Table, room: u128, generation: u64| {
        let (room, generation) = (RoomKey(room), Generation(generation));
        table.apply(Time::ZERO, &Request::End { room, generation });
    };
    let fence = |table: &Table, room: u128| match table.rooms.get(&RoomKey(room))?.state {
        State::Ended(Generation(generation)) => Some(generation),
        State::Held(_) => None,
    };
    end(&mut table, 1, 5);
    end(&mut table, 2, 5);
    end(&mut table, 1, 6);
    end(&mut table, 2, 5);
    end(&mut table, 3, 1);
    assert_eq!([1, 2, 3].map(|room| fence(&table, room)), [Some(6), None, Some(1)]);
    assert_eq!(table.tombstones(), 2);
}
