//! A node's control machine in virtual time: ticks, gateways that echo, and all that the machine has said.

use std::{collections::BTreeMap, time::Duration};

use outlast_model::{BEAT_INTERVAL, Epoch, Generation, RoomName, Time};
use outlast_tenure::{Admission, Goal, Input, Output, Refusal, Tenure, TenureConfig};
use outlast_wire::{Beat, Echo, RoomFrame, Steer};

/// The gateways' own start.
pub(crate) const GATEWAY_EPOCH: Epoch = Epoch(70);

/// The node, and the gateways that it is configured with.
pub(crate) struct World {
    pub(crate) tenure: Tenure,
    pub(crate) now: Time,
    /// Each gateway's way there and back; `None` while nothing comes back.
    pub(crate) gateways: BTreeMap<&'static str, Option<Duration>>,
    /// What the shards report.
    pub(crate) cpu_permille: u16,
    pub(crate) participants: u32,
    /// Whether the shards tick.
    pub(crate) ticks: bool,
    next_tick: Time,
    echoes: BTreeMap<(Time, u64), (&'static str, Echo)>,
    said: Vec<(Time, Output)>,
    asks: u64,
}

impl World {
    pub(crate) fn new(gateways: &[&'static str]) -> World {
        World::with(gateways, |_| {})
    }

    pub(crate) fn with(gateways: &[&'static str], change: impl FnOnce(&mut TenureConfig)) -> World {
        let ids = gateways.iter().map(|id| (*id).into()).collect();
        let mut config = TenureConfig::new("eu-1".into(), Epoch(5), ids, 1);
        change(&mut config);
        let now = Time::from_millis(10_000);
        let way = Some(Duration::from_millis(30));
        World {
            tenure: Tenure::new(config, now),
            now,
            gateways: gateways.iter().map(|id| (*id, way)).collect(),
            cpu_permille: 0,
            participants: 0,
            ticks: true,
            next_tick: now,
            echoes: BTreeMap::new(),
            said: Vec::new(),
            asks: 0,
        }
    }

    pub(crate) fn handle(&mut self, input: Input) {
        let mut out = Vec::new();
        self.tenure.handle(self.now, input, &mut out);
        for output in &out {
            let Output::Beat { gateway, epoch, sequence, .. } = output else { continue };
            let (id, way) = self.gateways.get_key_value(gateway.as_str()).unwrap();
            let Some(way) = *way else { continue };
            let echo = Echo { heard_epoch: *epoch, heard_sequence: *sequence, stamp: 42 };
            self.echoes.insert((self.now + way, *sequence), (id, echo));
        }
        if let Some(wake_at) = self.tenure.wake_at() {
            assert!(wake_at > self.now, "what was due has been done");
        }
        self.said.extend(out.into_iter().map(|output| (self.now, output)));
    }

    /// Lets `millis` pass.
    pub(crate) fn run(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        loop {
            let tick = self.ticks.then_some(self.next_tick);
            let echo = self.echoes.keys().next().map(|(at, _)| *at);
            let wake = self.tenure.wake_at();
            let due = tick.into_iter().chain(echo).chain(wake).min();
            let Some(due) = due.filter(|due| *due <= end) else { break };
            self.now = self.now.max(due);
            if Some(due) == echo {
                let (_, (gateway, echo)) = self.echoes.pop_first().unwrap();
                self.echo(gateway, echo);
            } else if Some(due) == tick {
                self.next_tick = self.next_tick + BEAT_INTERVAL;
                self.tick();
            } else {
                self.handle(Input::Wake);
            }
        }
        self.now = end;
        self.next_tick = self.next_tick.max(end);
    }

    pub(crate) fn tick(&mut self) {
        self.handle(Input::Ticked {
            load_permille: self.cpu_permille,
            cpu_permille: self.cpu_permille,
            rooms: self.tenure.rooms().count() as u32,
            participants: self.participants,
            joins_admitted: 3,
            joins_connected: 2,
        });
    }

    pub(crate) fn echo(&mut self, gateway: &str, echo: Echo) {
        self.handle(Input::Echo { gateway: gateway.into(), epoch: GATEWAY_EPOCH, echo });
    }

    /// From now on nothing comes back from anybody, what is on its way included.
    pub(crate) fn deafen(&mut self) {
        self.echoes.clear();
        self.gateways.values_mut().for_each(|way| *way = None);
    }

    pub(crate) fn ask(
        &mut self,
        room: &str,
        generation: u64,
        goal: Goal,
    ) -> Result<Generation, Refusal> {
        self.asks += 1;
        let (ask, before) = (self.asks, self.said.len());
        let (room, generation) = (room.into(), Generation(generation));
        self.handle(Input::Ask { ask, room, generation, goal });
        let mut answers = self.said[before..].iter().filter_map(|(_, output)| match output {
            Output::Answer { ask: of, answer } => Some((*of, *answer)),
            _ => None,
        });
        let (of, answer) = answers.next().unwrap();
        assert!(of == ask && answers.next().is_none(), "one answer to one question");
        match answer {
            Admission::Admit { generation } => Ok(generation),
            Admission::Refuse(refusal) => Err(refusal),
        }
    }

    /// Somebody joins and a shard holds the room.
    pub(crate) fn host(&mut self, room: &str, generation: u64) {
        assert_eq!(self.ask(room, generation, Goal::Join), Ok(Generation(generation)));
        self.opened(room, generation);
    }

    pub(crate) fn opened(&mut self, room: &str, generation: u64) {
        let generation = Generation(generation);
        self.handle(Input::Opened { room: room.into(), generation, settings: None });
    }

    pub(crate) fn closed(&mut self, room: &str, generation: u64) {
        self.handle(Input::Closed { room: room.into(), generation: Generation(generation) });
    }

    pub(crate) fn steer(&mut self, room: &str, generation: u64, node: &str) {
        let generation = Generation(generation);
        self.handle(Input::Steer(Steer { room: room.into(), generation, node: node.into() }));
    }

    pub(crate) fn held(&self, room: &str) -> Option<u64> {
        self.tenure.generation(&RoomName::from(room)).map(|generation| generation.0)
    }

    /// What was said since the last call, without beats and answers.
    pub(crate) fn said(&mut self) -> Vec<Output> {
        let said = self.said.drain(..).map(|(_, output)| output);
        said.filter(|output| !matches!(output, Output::Beat { .. } | Output::Answer { .. }))
            .collect()
    }

    /// The same without what moves the lease.
    pub(crate) fn done(&mut self) -> Vec<Output> {
        let mut said = self.said();
        said.retain(|output| !matches!(output, Output::Lease { .. }));
        said
    }

    /// What was said since the last call of a kind, each with when.
    pub(crate) fn when<T>(&mut self, mut of: impl FnMut(Output) -> Option<T>) -> Vec<(Time, T)> {
        self.said.drain(..).filter_map(|(at, output)| Some((at, of(output)?))).collect()
    }

    /// The last beat to each gateway.
    pub(crate) fn beats(&self) -> BTreeMap<String, Beat> {
        let beats = self.said.iter().filter_map(|(_, output)| match output {
            Output::Beat { gateway, beat, .. } => Some((gateway.to_string(), *beat)),
            _ => None,
        });
        beats.collect()
    }
}

pub(crate) fn started(follower: u64, epoch: u64) -> Output {
    Output::Frame { follower, frame: RoomFrame::Started { epoch: Epoch(epoch) } }
}

/// `room` is hosted, as `follower` hears it.
pub(crate) fn hosted(follower: u64, room: &str, generation: u64) -> Output {
    let (room, generation) = (room.into(), Generation(generation));
    Output::Frame { follower, frame: RoomFrame::Hosted { room, generation, settings: None } }
}

/// `room` has ended, as `follower` hears it.
pub(crate) fn ended(follower: u64, room: &str, generation: u64) -> Output {
    let (room, generation) = (room.into(), Generation(generation));
    Output::Frame { follower, frame: RoomFrame::Closed { room, generation, lost: false } }
}

/// `room` has been given up, as `follower` hears it.
pub(crate) fn lost(follower: u64, room: &str, generation: u64) -> Output {
    let (room, generation) = (room.into(), Generation(generation));
    Output::Frame { follower, frame: RoomFrame::Closed { room, generation, lost: true } }
}

/// A room's shard is to stop.
pub(crate) fn fence(room: &str, generation: u64, winner: Option<&str>) -> Output {
    let (room, generation) = (room.into(), Generation(generation));
    Output::FenceRoom { room, generation, winner: winner.map(Into::into) }
}
