//! Two sessions of one identity: the newer one wins, once its client has shown that it is there. A request alone is no
//! proof. One that hung in TCP arrives when the path heals, long after its client has joined through another gateway, and
//! that live session would be told to leave for good. So the newer session is let in and answered at once, but waits for its
//! place until its client says what only somebody with our answer can say: a signalling message, or an ICE check under the
//! password of the answer (an offer is none, it may have come with the request). Whatever comes first is one round trip away.

use std::{collections::BTreeMap, time::Duration};

use outlast_livekit::{self as proto, DisconnectReason, leave_request::Action};
use outlast_model::Time;
use proto::signal_response::Message;

use crate::{announce::Reach, door::Out, participant::ParticipantKey, shard::Shard};

/// How long a session may wait for its client's first word: longer than SDKs wait for a join.
const WORD_SPAN: Duration = Duration::from_secs(10);

/// What a session that waits for its place has been told of the others: the versions of participants, by sid.
pub(crate) type Waiting = BTreeMap<String, u32>;

impl Shard {
    /// Gives a new session the place of its identity, or lets it wait. It does not wait for one that has lost its socket: that
    /// can be told nothing that ends a call, a resume of it becomes a join, and clients that start anew, whose old sockets are
    /// mostly closed, are seen by the others a round trip earlier.
    pub(crate) fn line_up(&mut self, key: ParticipantKey, out: &mut Out) {
        let Some(participant) = self.participants.get(key) else { return };
        let (room, identity) = (participant.room, participant.identity.clone());
        let (members, successors) = (&self.rooms[room].members, &self.rooms[room].successors);
        let holder = members.get(&identity).and_then(|holder| self.participants.get(*holder));
        let waits = holder.is_some_and(|holder| holder.session.is_some());
        if let Some(before) = successors.get(&identity).copied() {
            // Not told to leave for good: nothing shows which of the two has a client.
            self.remove(before, DisconnectReason::DuplicateIdentity, out);
        }
        if !waits {
            return self.take_place(key, out);
        }
        let told = self.others(key).into_iter().map(|info| (info.sid, info.version)).collect();
        self.participants[key].waiting = Some(told);
        self.rooms[room].successors.insert(identity, key);
    }

    /// The participant's client is there for certain: if its session waits, it takes its place now, and is told what has
    /// happened since it was answered.
    pub(crate) fn spoke(&mut self, key: ParticipantKey, out: &mut Out) {
        let Some(participant) = self.participants.get_mut(key) else { return };
        let Some(told) = participant.waiting.take() else { return };
        let room = participant.room;
        self.rooms[room].successors.remove(&participant.identity);
        self.take_place(key, out);
        self.subscribe_to_all(key);
        self.unsettled.push(key);
        if self.is_hushed(key) {
            return;
        }
        let mut participants = self.departures(key);
        participants.retain(|info| told.contains_key(&info.sid));
        let news = |info: &proto::ParticipantInfo| told.get(&info.sid) != Some(&info.version);
        participants.extend(self.others(key).into_iter().filter(news));
        if !participants.is_empty() {
            self.tell(key, Message::Update(proto::ParticipantUpdate { participants }), out);
        }
        let update = proto::RoomUpdate { room: Some(self.room_info(room)) };
        self.tell(key, Message::RoomUpdate(update), out);
    }

    /// Puts a session in the place of its identity, whose older session is told to leave for good.
    fn take_place(&mut self, key: ParticipantKey, out: &mut Out) {
        let Some(participant) = self.participants.get(key) else { return };
        let (room, identity) = (participant.room, participant.identity.clone());
        let dependent = participant.is_dependent();
        if let Some(old) = self.rooms[room].members.get(&identity).copied() {
            let reason = DisconnectReason::DuplicateIdentity;
            self.tell_leave(old, Action::Disconnect, reason, out);
            self.remove(old, reason, out);
        }
        let room = &mut self.rooms[room];
        room.members.insert(identity, key);
        room.changed = true;
        if !dependent {
            (room.used, room.idle_since) = (true, None);
        }
        self.announce(key, Reach::Others, out);
    }

    /// Whether the participant's session waits for its place; one that has waited in vain is dropped.
    pub(crate) fn waits(&mut self, now: Time, key: ParticipantKey, out: &mut Out) -> bool {
        let Some(participant) = self.participants.get(key) else { return false };
        let waits = participant.waiting.is_some();
        if waits && now.since(participant.joined_at) >= WORD_SPAN {
            self.remove(key, DisconnectReason::JoinFailure, out);
        }
        waits
    }
}
