//! What one room does when it is asked, by asking the table itself: nothing of its rules is said again here.

use std::collections::HashMap;

use outlast_directory::{
    Changes, Event, InstanceId, Record, Reply, Request, Revision, RoomKey, Table,
};
use outlast_model::{Generation, Time};

/// What a room is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum State {
    Unknown,
    Held(Record),
    Ended(Generation),
}

/// A state's number in its [`Room`].
pub(super) type StateId = u32;

/// One room's states and the requests that lead from one to another, each worked out once.
pub(super) struct Room {
    key: RoomKey,
    states: Vec<State>,
    ids: HashMap<State, StateId>,
    steps: HashMap<(StateId, u32), (StateId, Reply)>,
}

impl Room {
    /// In state 0: unknown.
    pub(super) const UNKNOWN: StateId = 0;

    pub(super) fn new(key: RoomKey) -> Room {
        let (states, ids) = (vec![State::Unknown], HashMap::from([(State::Unknown, 0)]));
        Room { key, states, ids, steps: HashMap::new() }
    }

    pub(super) fn state(&self, id: StateId) -> &State {
        &self.states[id as usize]
    }

    pub(super) fn id(&mut self, state: State) -> StateId {
        let next = u32::try_from(self.states.len()).expect("a room has fewer states than requests");
        let id = *self.ids.entry(state.clone()).or_insert(next);
        if id == next {
            self.states.push(state);
        }
        id
    }

    /// What `request`, which is the one numbered `number`, does to a room in state `from`, and its answer.
    pub(super) fn step(
        &mut self,
        from: StateId,
        number: u32,
        request: &Request,
    ) -> (StateId, &Reply) {
        if !self.steps.contains_key(&(from, number)) {
            let (state, reply) = self.work_out(from, request);
            let to = self.id(state);
            self.steps.insert((from, number), (to, reply));
        }
        let (to, reply) = &self.steps[&(from, number)];
        (*to, reply)
    }

    fn work_out(&self, from: StateId, request: &Request) -> (State, Reply) {
        let mut table = Table::new(InstanceId(0));
        let room = self.key;
        match self.state(from).clone() {
            State::Unknown => {}
            State::Held(want) => drop(table.apply(Time::ZERO, &Request::Place { room, want })),
            State::Ended(generation) => {
                drop(table.apply(Time::ZERO, &Request::End { room, generation }));
            }
        }
        let reply = table.apply(Time::ZERO, request);
        let watch = Request::Watch { after: Revision::START };
        let Reply::Changes(Changes { mut events, .. }) = table.apply(Time::ZERO, &watch) else {
            unreachable!("a watch is answered by changes");
        };
        let state = match events.pop() {
            None => State::Unknown,
            Some(Event::Held { record, .. }) => State::Held(record),
            Some(Event::Ended { generation, .. }) => State::Ended(generation),
        };
        (state, reply)
    }
}
