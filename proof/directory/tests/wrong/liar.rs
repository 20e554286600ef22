//! An engine that is right but for one lie.

use std::{num::NonZeroU16, sync::Mutex};

use outlast_directory::{
    Changes, Event, Failure, InstanceId, Placed, Reply, Request, RoomKey, TOMBSTONE_KEPT, Table,
};
use outlast_engines::{Answer, Engine, PartState, Partition};
use outlast_model::{Generation, Time};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    ForgetsTombstones,
    LeavesNoTombstoneWhereNothingWas,
    LosesAcknowledgedWrites,
    TellsTwoWinners,
    AppliesWhatItRefused,
    GoesBack,
    ComparesAsDoubles,
    ComparesSigned,
    AnswersAsAsked,
    EndsWhatIsNewer,
    RefusesReplaceOfNothing,
    TakesIdZero,
    WatchSkipsEnds,
    WatchForgetsResync,
    WatchDropsTheLast,
    WatchTellsOfOthers,
    CutsNamesAtNul,
    LooksBack,
    MixesRegions,
    FailsOver,
    FailsOverSilently,
}

use Lie::*;

/// All lies.
pub(crate) const LIES: &[Lie] = &[
    ForgetsTombstones,
    LeavesNoTombstoneWhereNothingWas,
    LosesAcknowledgedWrites,
    TellsTwoWinners,
    AppliesWhatItRefused,
    GoesBack,
    ComparesAsDoubles,
    ComparesSigned,
    AnswersAsAsked,
    EndsWhatIsNewer,
    RefusesReplaceOfNothing,
    TakesIdZero,
    WatchSkipsEnds,
    WatchForgetsResync,
    WatchDropsTheLast,
    WatchTellsOfOthers,
    CutsNamesAtNul,
    LooksBack,
    MixesRegions,
    FailsOver,
    FailsOverSilently,
];

const PARTITIONS: u16 = 3;
/// One in so many requests is lied about, where a lie is told now and then.
const NOW_AND_THEN: u64 = 6;

/// After so many requests a replica takes over, which lacks the last ones.
const FAILOVER_EVERY: u64 = 400;
const LAG: u64 = 30;

/// The engine.
pub(crate) struct Liar {
    lie: Option<Lie>,
    parts: Mutex<Parts>,
}

struct Parts {
    tables: Vec<Table>,
    asked: u64,
    /// Requests answered with `Unavailable`, to be applied when so many have been asked.
    late: Vec<(u64, usize, Request)>,
    before: Vec<Table>,
    replica: Vec<Table>,
}

impl Liar {
    /// With one lie, or none.
    pub(crate) fn new(lie: Option<Lie>) -> Liar {
        let tables: Vec<_> =
            (0..PARTITIONS).map(|n| Table::new(InstanceId(u128::from(n) + 1))).collect();
        let (before, replica) = (tables.clone(), tables.clone());
        let parts = Parts { before, replica, tables, asked: 0, late: Vec::new() };
        Liar { lie, parts: Mutex::new(parts) }
    }
}

impl Engine for Liar {
    fn partitions(&self) -> NonZeroU16 {
        NonZeroU16::new(PARTITIONS).unwrap()
    }

    fn ask(&self, at: Partition, request: Request) -> Answer {
        let reply = self.parts.lock().unwrap().answer(self.lie, usize::from(at.0), request);
        Box::pin(std::future::ready(reply))
    }

    fn state(&self, _at: Partition) -> PartState {
        PartState::default()
    }
}

impl Parts {
    fn answer(&mut self, lie: Option<Lie>, at: usize, mut request: Request) -> Reply {
        self.asked += 1;
        let asked = self.asked;
        for (_, at, late) in self.late.extract_if(.., |(due, ..)| *due <= asked) {
            self.tables[at].apply(Time::ZERO, &late);
        }
        if asked % FAILOVER_EVERY == FAILOVER_EVERY - LAG {
            self.replica = self.tables.clone();
        }
        match lie {
            Some(FailsOver) if asked.is_multiple_of(FAILOVER_EVERY) => {
                let now = |table: &Table| copy(table, InstanceId(table.instance().0 + 10), None);
                self.tables = self.replica.iter().map(now).collect();
            }
            Some(FailsOverSilently) if asked.is_multiple_of(FAILOVER_EVERY) => {
                self.tables = self.replica.clone();
            }
            _ => {}
        }
        let is_time = asked.is_multiple_of(NOW_AND_THEN);
        if let Some(reply) = self.twist(lie, at, &mut request, is_time) {
            return reply;
        }
        if matches!(lie, Some(LooksBack)) && matches!(request, Request::Lookup { .. }) && is_time {
            return self.before[at].apply(Time::ZERO, &request);
        }
        self.before[at] = self.tables[at].clone();
        let now = match (lie, &request) {
            (Some(ForgetsTombstones), Request::Heartbeat { .. } | Request::Summaries) => Time::ZERO,
            (Some(ForgetsTombstones), _) => Time::ZERO + TOMBSTONE_KEPT * asked as u32,
            _ => Time::ZERO,
        };
        let mut reply = self.tables[at].apply(now, &request);
        match (lie, &mut reply, &request) {
            (Some(TellsTwoWinners), Reply::Placed(placed), Request::Place { want, .. })
                if is_time =>
            {
                *placed = Placed::Won(want.clone());
            }
            (
                Some(AnswersAsAsked),
                Reply::Placed(Placed::Won(held)),
                Request::Place { want, .. },
            ) => {
                *held = want.clone();
            }
            (Some(lie), Reply::Changes(changes), Request::Watch { .. }) => {
                self.changes(lie, at, changes);
            }
            _ => {}
        }
        reply
    }

    /// Changes the request, or answers it wrongly at once.
    fn twist(
        &mut self,
        lie: Option<Lie>,
        at: usize,
        request: &mut Request,
        is_time: bool,
    ) -> Option<Reply> {
        let room = match &*request {
            Request::Place { room, .. }
            | Request::Replace { room, .. }
            | Request::End { room, .. }
            | Request::Lookup { room } => *room,
            _ => RoomKey(0),
        };
        let held = self.held(at, room);
        match (lie, &mut *request) {
            (Some(LosesAcknowledgedWrites), Request::Place { .. }) if is_time => {
                return Some(self.tables[at].clone().apply(Time::ZERO, request));
            }
            (Some(AppliesWhatItRefused), Request::Place { .. } | Request::Replace { .. })
                if is_time =>
            {
                self.late.push((self.asked + 3, at, request.clone()));
                return Some(Reply::Failed(Failure::Unavailable));
            }
            (Some(LeavesNoTombstoneWhereNothingWas), Request::End { generation, .. })
                if held.is_none() && (1..u64::MAX).contains(&generation.0) =>
            {
                return Some(Reply::Done);
            }
            (Some(GoesBack), Request::Replace { expected, want, .. }) => {
                let is_old = held.as_ref().is_some_and(|held| held.generation > *expected);
                if is_old && want.generation > *expected {
                    self.tables[at] = without(&self.tables[at], room);
                }
            }
            (Some(ComparesAsDoubles), Request::Replace { expected, .. }) => {
                expected.0 = (expected.0 as f64) as u64;
            }
            (Some(ComparesSigned), Request::End { generation, .. })
                if (1 << 63..u64::MAX).contains(&generation.0) =>
            {
                return Some(Reply::Done);
            }
            (Some(EndsWhatIsNewer), Request::End { generation, .. }) if generation.0 > 0 => {
                if let Some(held) = &held {
                    *generation = held.generation.max(*generation);
                }
            }
            (Some(RefusesReplaceOfNothing), Request::Replace { expected, .. })
                if held.is_none() && expected.0 > 0 =>
            {
                return Some(Reply::Failed(Failure::Fenced(*expected)));
            }
            (Some(TakesIdZero), Request::Place { want, .. }) => want.id.0 = want.id.0.max(1),
            (Some(CutsNamesAtNul), Request::Place { want, .. }) => {
                let node = want.node.as_str().split('\0').next().unwrap().to_owned();
                want.node = node.into();
            }
            (Some(MixesRegions), Request::Heartbeat { summary, .. }) => {
                summary.region = summary.region.as_str().replace("region 1", "region 0").into();
            }
            _ => {}
        }
        None
    }

    fn changes(&mut self, lie: Lie, at: usize, changes: &mut Changes) {
        match lie {
            WatchSkipsEnds => {
                changes.events.retain(|event| matches!(event, Event::Held { .. }));
            }
            WatchForgetsResync => changes.resync = false,
            WatchDropsTheLast if changes.events.len() > 1 => {
                changes.events.pop();
            }
            WatchTellsOfOthers => {
                let other = (at + 1) % self.tables.len();
                let after = outlast_directory::Revision::START;
                let watch = Request::Watch { after };
                if let Reply::Changes(others) = self.tables[other].apply(Time::ZERO, &watch)
                    && !changes.events.is_empty()
                {
                    changes.events.extend(others.events);
                    changes.events.truncate(1_000);
                }
            }
            _ => {}
        }
    }

    fn held(&self, at: usize, room: RoomKey) -> Option<outlast_directory::Record> {
        match self.tables[at].clone().apply(Time::ZERO, &Request::Lookup { room }) {
            Reply::Found(held) => held,
            _ => None,
        }
    }
}

/// What `table` has, as another instance, as if `room` had never been known.
fn copy(table: &Table, instance: InstanceId, room: Option<RoomKey>) -> Table {
    let mut all = table.clone();
    let mut rest = Table::new(instance);
    let mut after = outlast_directory::Revision::START;
    while let Reply::Changes(changes) = all.apply(Time::ZERO, &Request::Watch { after }) {
        if changes.events.is_empty() {
            break;
        }
        after = changes.revision;
        for event in changes.events {
            let (Event::Held { room: known, .. } | Event::Ended { room: known, .. }) = event;
            let request = match event {
                _ if room == Some(known) => continue,
                Event::Held { room, record } => Request::Place { room, want: record },
                Event::Ended { room, generation } => Request::End { room, generation },
            };
            rest.apply(Time::ZERO, &request);
        }
    }
    if let Reply::Summaries(all) = all.apply(Time::ZERO, &Request::Summaries) {
        for summary in all {
            let ttl = outlast_directory::SUMMARY_TTL_MAX;
            rest.apply(Time::ZERO, &Request::Heartbeat { summary, ttl });
        }
    }
    rest
}

/// The table as if `room` had never been known.
fn without(table: &Table, room: RoomKey) -> Table {
    let mut rest = copy(table, table.instance(), Some(room));
    // Revisions go on where they were, or followers would notice that alone.
    for n in 0..changes_of(table) {
        let generation = Generation(n + 1);
        rest.apply(Time::ZERO, &Request::End { room: RoomKey(u128::MAX), generation });
    }
    rest
}

/// Changes so far.
fn changes_of(table: &Table) -> u64 {
    let watch = Request::Watch { after: outlast_directory::Revision::START };
    match table.clone().apply(Time::ZERO, &watch) {
        Reply::Changes(changes) => changes.revision.number,
        _ => 0,
    }
}
