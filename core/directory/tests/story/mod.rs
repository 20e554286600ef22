//! A caller, the way to an engine, and the engine, in virtual time.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{collections::BTreeMap, time::Duration};

use outlast_directory::{
    CallId, Caller, CallerOutput, Failure, InstanceId, Partition, PlacementId, Record, Reply,
    Request, RoomKey, Shed, Table,
};
use outlast_model::{Epoch, Generation, Time};

/// What the way to the engine does to requests that are sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// There and back in so many milliseconds.
    Up(u64),
    /// Requests vanish.
    Black,
    /// Connections are refused, at once.
    Refuses,
    /// Requests are applied, answers vanish.
    Mute,
    /// Requests about this room vanish.
    Without(RoomKey),
}

enum Wire {
    There(CallId, Request, Option<Duration>),
    Back(CallId, Reply),
}

/// The story so far.
pub(crate) struct Story {
    pub(crate) caller: Caller,
    pub(crate) table: Table,
    pub(crate) way: Way,
    pub(crate) now: Time,
    wire: BTreeMap<(Time, u64), Wire>,
    sequence: u64,
    /// All that was sent to the engine.
    pub(crate) sent: Vec<(Time, CallId, Request)>,
    /// All that was said besides.
    pub(crate) said: Vec<(Time, CallerOutput)>,
    /// Most calls that were in flight.
    pub(crate) most: usize,
}

/// Latency of a good engine.
pub(crate) const GOOD: Way = Way::Up(20);

impl Story {
    pub(crate) fn new(seed: u64) -> Story {
        Story {
            caller: Caller::new(Partition(0), seed),
            table: Table::new(InstanceId(1)),
            way: GOOD,
            now: Time::from_millis(10_000),
            wire: BTreeMap::new(),
            sequence: 0,
            sent: Vec::new(),
            said: Vec::new(),
            most: 0,
        }
    }

    /// Milliseconds since the story began.
    pub(crate) fn ms(&self) -> u64 {
        self.now.as_millis() - 10_000
    }

    pub(crate) fn ask(&mut self, request: Request) -> Result<CallId, Shed> {
        let mut out = Vec::new();
        let call = self.caller.ask(self.now, request, &mut out);
        self.take(out);
        call
    }

    pub(crate) fn place(&mut self, want: &Record) -> Result<CallId, Shed> {
        self.ask(Request::Place { room: room(want), want: want.clone() })
    }

    /// Asks who holds a room, until the caller sheds it or the engine fails it, or `count` times.
    pub(crate) fn knock(&mut self, count: u32) {
        for _ in 0..count {
            let _ = self.ask(Request::Lookup { room: RoomKey(0) });
        }
    }

    /// What the engine answers to `call`, delivered now.
    pub(crate) fn reply(&mut self, call: CallId, reply: Reply) {
        let mut out = Vec::new();
        self.caller.reply(self.now, call, reply, &mut out);
        self.take(out);
    }

    /// Lets `millis` pass: requests and answers arrive, the caller wakes when it asked to.
    pub(crate) fn run(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        loop {
            let arrival = self.wire.first_key_value().map(|((at, _), _)| *at);
            let wake = self.caller.wake_at().map(|at| at.max(self.now));
            let Some(next) = arrival.into_iter().chain(wake).min().filter(|at| *at <= end) else {
                break;
            };
            self.now = next;
            match self.wire.first_entry() {
                Some(entry) if entry.key().0 == next => {
                    let arrived = entry.remove();
                    self.arrive(arrived);
                }
                _ => self.wake(),
            }
        }
        self.now = end;
    }

    fn wake(&mut self) {
        let mut out = Vec::new();
        self.caller.wake(self.now, &mut out);
        self.take(out);
        let next = self.caller.wake_at();
        assert!(next.is_none_or(|at| at > self.now), "wakes on the spot for ever");
    }

    fn arrive(&mut self, arrived: Wire) {
        match arrived {
            Wire::There(call, request, back) => {
                let reply = self.table.apply(self.now, &request);
                if let Some(back) = back {
                    self.put(back, Wire::Back(call, reply));
                }
            }
            Wire::Back(call, reply) => self.reply(call, reply),
        }
    }

    fn put(&mut self, after: Duration, wire: Wire) {
        self.sequence += 1;
        self.wire.insert((self.now + after, self.sequence), wire);
    }

    fn take(&mut self, out: Vec<CallerOutput>) {
        self.most = self.most.max(self.caller.calls());
        for output in out {
            match output {
                CallerOutput::Send { call, request } => self.send(call, request),
                said => self.said.push((self.now, said)),
            }
        }
    }

    fn send(&mut self, call: CallId, request: Request) {
        self.sent.push((self.now, call, request.clone()));
        let half = |ms: u64| Duration::from_micros(ms * 500);
        match self.way {
            Way::Up(ms) => self.put(half(ms), Wire::There(call, request, Some(half(ms)))),
            Way::Black => {}
            Way::Refuses => {
                let reply = Reply::Failed(Failure::Unavailable);
                self.put(Duration::from_millis(1), Wire::Back(call, reply));
            }
            Way::Mute => self.put(half(20), Wire::There(call, request, None)),
            Way::Without(lost) => {
                if room_of(&request) != Some(lost) {
                    self.put(half(20), Wire::There(call, request, Some(half(20))));
                }
            }
        }
    }

    /// The engine is away until the caller has noticed.
    pub(crate) fn lose(&mut self, way: Way) {
        self.way = way;
        while !self.caller.is_open() {
            self.knock(1);
            self.run(410);
        }
    }

    /// The answer to `call` and when it came, in milliseconds since the story began.
    pub(crate) fn answer(&self, call: CallId) -> Option<(u64, &Reply)> {
        self.said.iter().find_map(|(at, said)| match said {
            CallerOutput::Answer { call: of, reply } if *of == call => {
                Some((at.as_millis() - 10_000, reply))
            }
            _ => None,
        })
    }

    /// What came of `call` in the end, likewise.
    pub(crate) fn resolved(&self, call: CallId) -> Option<(u64, &Reply)> {
        self.said.iter().find_map(|(at, said)| match said {
            CallerOutput::Resolved { call: of, reply } if *of == call => {
                Some((at.as_millis() - 10_000, reply))
            }
            _ => None,
        })
    }

    /// How often the directory was said to have been wiped.
    pub(crate) fn wipes(&self) -> usize {
        self.said
            .iter()
            .filter(|(_, said)| *said == CallerOutput::Wiped { at: Partition(0) })
            .count()
    }
}

/// A placement of a room of the same number.
pub(crate) fn record(node: &str, generation: u64, id: u128) -> Record {
    Record {
        node: node.into(),
        epoch: Epoch(1),
        generation: Generation(generation),
        id: PlacementId(id),
        provisional: false,
    }
}

/// The room of [`record`]: of the id's hundreds.
pub(crate) fn room(record: &Record) -> RoomKey {
    RoomKey(record.id.0 / 100)
}

pub(crate) fn room_of(request: &Request) -> Option<RoomKey> {
    match request {
        Request::Place { room, .. }
        | Request::Replace { room, .. }
        | Request::End { room, .. }
        | Request::Lookup { room } => Some(*room),
        Request::Heartbeat { .. }
        | Request::Summaries
        | Request::Instance
        | Request::Watch { .. } => None,
    }
}
