//! Checks a history room by room.

use std::{collections::BTreeMap, fmt};

use outlast_directory::{Failure, Placed, Reply, Request, RoomKey};
use outlast_model::Time;

use super::{
    History, Operation,
    room::Room,
    search::{Asked, Event, Verdict, What, search},
    told,
};
use crate::words;

/// Most lines shown of one room's history.
const LINES_MAX: usize = 30;

/// What an engine promises about acknowledged writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// None is ever lost.
    Linearizable,
    /// Replication is asynchronous: a room may go back to an earlier state so many times. What is lost is counted. Lookups
    /// may tell of what is never acknowledged, and are not looked at.
    MayLose(usize),
}

/// A kind of anomaly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// No order of the requests explains the answers.
    NoOrder,
    /// A later answer told of a lower generation.
    WentBack,
    /// Two answers told of different holders under one generation.
    TwoWinners,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::NoOrder => "no order explains the answers",
            Kind::WentBack => "a generation went back",
            Kind::TwoWinners => "two winners under one generation",
        })
    }
}

/// Something that the table cannot have answered.
#[derive(Clone, Debug)]
pub struct Anomaly {
    /// Of which kind.
    pub kind: Kind,
    /// Where.
    pub room: RoomKey,
    /// What was asked and told, for people.
    pub lines: Vec<String>,
}

/// A write that was acknowledged and then lost.
#[derive(Clone, Debug)]
pub struct LostWrite {
    /// Which room.
    pub room: RoomKey,
    /// When it was acknowledged.
    pub acknowledged: Time,
    /// What it was.
    pub request: Request,
}

/// What became of a history.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Rooms looked at.
    pub rooms: usize,
    /// Operations looked at.
    pub operations: usize,
    /// What must not be. An engine that may lose writes has none for rooms that its losses explain.
    pub anomalies: Vec<Anomaly>,
    /// Rooms for which the search gave up.
    pub gave_up: usize,
    /// Acknowledged writes that are lost, where the engine may lose some.
    pub lost: Vec<LostWrite>,
    /// Rooms of which two holders were told under one generation, for the same reason.
    pub doubled: usize,
}

/// Checks `history`: claims and ends are linearizable for each room, lookups tell some earlier state of it.
pub fn check(history: &History, consistency: Consistency) -> Findings {
    let mut rooms: BTreeMap<RoomKey, Vec<&Operation>> = BTreeMap::new();
    for operation in &history.operations {
        let (Request::Place { room, .. }
        | Request::Replace { room, .. }
        | Request::End { room, .. }
        | Request::Lookup { room }) = &operation.request
        else {
            continue;
        };
        rooms.entry(*room).or_default().push(operation);
    }
    let mut findings = Findings { rooms: rooms.len(), ..Findings::default() };
    for (room, mut operations) in rooms {
        findings.operations += operations.len();
        operations.sort_by_key(|operation| operation.start);
        check_room(history, consistency, room, &operations, &mut findings);
    }
    findings
}

fn check_room(
    history: &History,
    consistency: Consistency,
    room: RoomKey,
    operations: &[&Operation],
    findings: &mut Findings,
) {
    let (told, events) = events(history, operations, consistency);
    let losses_max = match consistency {
        Consistency::Linearizable => 0,
        Consistency::MayLose(most) => most,
    };
    let back = told::went_back(history, operations).map(|pair| (Kind::WentBack, pair));
    let told_by = |operation: &&&Operation| {
        consistency == Consistency::Linearizable
            || !matches!(operation.request, Request::Lookup { .. })
    };
    let decisive: Vec<_> = operations.iter().filter(told_by).copied().collect();
    let winners = told::two_winners(history, &decisive).map(|pair| (Kind::TwoWinners, pair));
    match search(&mut Room::new(room), &events, losses_max) {
        Verdict::Explained { losses: 0, .. } => {}
        Verdict::Explained { undone, .. } => {
            findings.doubled += usize::from(winners.is_some());
            let lost = undone.into_iter().filter_map(|event| {
                let operation = told[event]?;
                let (acknowledged, request) = (operation.end, operation.request.clone());
                Some(LostWrite { room, acknowledged, request })
            });
            findings.lost.extend(lost);
        }
        Verdict::GaveUp => findings.gave_up += 1,
        Verdict::Not { stuck, state } => {
            let mut lines = around(&told, &events, stuck);
            lines.push(format!(
                "=> nothing explains the answer of {}; state: {state:?}",
                told[stuck].map_or("a wipe".to_owned(), line)
            ));
            findings.anomalies.push(Anomaly { kind: Kind::NoOrder, room, lines });
        }
    }
    if consistency == Consistency::Linearizable {
        for (kind, (first, second)) in back.into_iter().chain(winners) {
            findings.anomalies.push(Anomaly { kind, room, lines: vec![line(first), line(second)] });
        }
    }
}

/// What happened to a room, by its start, and beside it which operation each was.
fn events<'a>(
    history: &History,
    operations: &[&'a Operation],
    consistency: Consistency,
) -> (Vec<Option<&'a Operation>>, Vec<Event>) {
    let wiped = |(start, end): &(Time, Time)| {
        (None, Event { start: *start, end: Some(*end), what: What::Wiped })
    };
    let mut both: Vec<_> = history.wipes.iter().map(wiped).collect();
    for operation in operations {
        let is_lookup = matches!(operation.request, Request::Lookup { .. });
        let (end, reply) = match &operation.reply {
            Reply::Failed(Failure::Unavailable) => continue,
            Reply::Failed(Failure::Unknown) if is_lookup => continue,
            // A server that is about to lose a write tells of it to whoever looks.
            _ if is_lookup && consistency != Consistency::Linearizable => continue,
            Reply::Failed(Failure::Unknown) => (None, None),
            reply => (Some(operation.end), Some(reply.clone())),
        };
        if history.asks_twice && is_superseded(operation) {
            let asked = Asked { request: operation.request.clone(), reply: None };
            let what = What::Asked(Box::new(asked));
            both.push((Some(*operation), Event { start: operation.start, end: None, what }));
        }
        let start = if is_lookup { Time::ZERO } else { operation.start };
        let asked = Asked { request: operation.request.clone(), reply };
        let what = What::Asked(Box::new(asked));
        both.push((Some(*operation), Event { start, end, what }));
    }
    both.sort_by_key(|(_, event)| event.start);
    both.into_iter().unzip()
}

/// Whether a claim was told that the room is a later one than it wanted.
fn is_superseded(operation: &Operation) -> bool {
    let (Request::Place { want, .. } | Request::Replace { want, .. }) = &operation.request else {
        return false;
    };
    match &operation.reply {
        Reply::Placed(Placed::Held(held)) => held.generation > want.generation,
        Reply::Failed(Failure::Fenced(ended)) => *ended >= want.generation,
        _ => false,
    }
}

/// The last that had begun when event `stuck` ended.
fn around(told: &[Option<&Operation>], events: &[Event], stuck: usize) -> Vec<String> {
    let until = events[stuck].end.unwrap_or(events[stuck].start);
    let mut lines: Vec<_> = told
        .iter()
        .zip(events)
        .filter(|(told, event)| told.map_or(event.start, |told| told.start) <= until)
        .map(|(told, event)| {
            let start = told.map_or(event.start, |told| told.start);
            let wiped = || format!("{}  wiped", seconds(event.start));
            (start, told.map_or_else(wiped, line))
        })
        .collect();
    lines.sort();
    let cut = lines.len().saturating_sub(LINES_MAX);
    let mut shown: Vec<_> = lines.split_off(cut).into_iter().map(|(_, line)| line).collect();
    if cut > 0 {
        shown.insert(0, format!(".. {cut} earlier ones"));
    }
    shown
}

/// One operation in one line.
fn line(operation: &Operation) -> String {
    let Operation { client, start, end, request, reply } = operation;
    format!(
        "{}..{}  client {client:<3} {}  ->  {}",
        seconds(*start),
        seconds(*end),
        words::request(request),
        words::reply(reply)
    )
}

fn seconds(time: Time) -> String {
    format!("{:.6}", time.since(Time::ZERO).as_secs_f64())
}
