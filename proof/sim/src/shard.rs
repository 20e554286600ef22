//! A node's media, at the grain of flows: which participants it serves in which rooms. What `core/node` does with packets
//! is left out; what it does with sessions, rooms and time is as it is there.

use std::time::Duration;

use outlast_model::{Generation, Identity, RoomSettings, Ruling, Stays, Time};

use crate::{event::ConnId, rights::Token};

/// Silence of a client's ICE checks after which it is sent nothing more.
pub(crate) const CONSENT: Duration = Duration::from_secs(10);
/// How long it may then take to resume.
pub(crate) const RESUME_SPAN: Duration = Duration::from_secs(5);
/// How long a join may take to come to media.
pub(crate) const JOIN_SPAN: Duration = Duration::from_secs(60);
/// How long a session may wait for its client's first word.
const WORD_SPAN: Duration = Duration::from_secs(10);
/// And how long it may be silent until then.
pub(crate) const SILENT_SPAN: Duration = Duration::from_secs(15);
/// How long a room without participants is kept, in these worlds.
pub(crate) const DEPARTURE_SPAN: Duration = Duration::from_secs(20);

/// A participant.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Unique in the world.
    pub(crate) number: u32,
    pub(crate) client: usize,
    /// Its signalling, while that is whole.
    pub(crate) conn: Option<ConnId>,
    /// What it may do, and its client's token says from now on.
    pub(crate) token: Token,
    pub(crate) connected: bool,
    pub(crate) joined_at: Time,
    pub(crate) heard_at: Time,
    pub(crate) lost_at: Option<Time>,
}

/// A room that is open on the shard.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    pub(crate) room: usize,
    pub(crate) generation: Generation,
    pub(crate) settings: Option<RoomSettings>,
    pub(crate) stays: Stays,
    /// When one of its rulings changed last.
    pub(crate) ruled_at: Time,
    pub(crate) members: Vec<Member>,
    /// Newer sessions of members, which wait until their clients have said something.
    pub(crate) successors: Vec<Member>,
    pub(crate) opened_at: Time,
    pub(crate) idle_since: Option<Time>,
}

/// What came of a join at the shard.
pub(crate) enum Entered {
    /// It is in; another session of the identity had waited until now.
    In { opened: bool, dropped: Option<Member>, ruled: Option<Ruling> },
    /// The room is here under a newer generation.
    Stale,
    /// The room has as many participants as it may have.
    Full,
}

/// The shard's table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shard {
    pub(crate) rooms: Vec<Room>,
}

impl Room {
    /// All sessions: of members, and those that wait.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().chain(&self.successors)
    }
}

impl Shard {
    pub(crate) fn room(&self, room: usize) -> Option<&Room> {
        self.rooms.iter().find(|open| open.room == room)
    }

    pub(crate) fn room_mut(&mut self, room: usize) -> Option<&mut Room> {
        self.rooms.iter_mut().find(|open| open.room == room)
    }

    /// A fresh join. A room that is not here is opened with `settings`, and one that has none gets them.
    pub(crate) fn enter(
        &mut self,
        now: Time,
        (room, generation): (usize, Generation),
        settings: Option<RoomSettings>,
        (mut member, identity, sent): (Member, &Identity, Option<Ruling>),
    ) -> Entered {
        let mut opened = false;
        if self.room(room).is_none() {
            let idle_since = Some(now);
            self.rooms.push(Room {
                room,
                generation,
                settings: settings.clone(),
                stays: Stays::default(),
                ruled_at: now,
                members: Vec::new(),
                successors: Vec::new(),
                opened_at: now,
                idle_since,
            });
            // Walked in the order of names, as the real table is.
            self.rooms.sort_by_key(|open| open.room);
            opened = true;
        }
        let open = self.room_mut(room).expect("it is open now");
        if generation < open.generation {
            return Entered::Stale;
        }
        if generation > open.generation {
            open.generation = generation;
            open.stays.wait_anew();
            opened = true;
        }
        opened |= open.settings.is_none() && settings.is_some();
        open.settings = open.settings.take().or(settings);
        let newest = open.stays.inherit(identity, member.token.ruling(), sent);
        let mut ruled = None;
        if let Some((ruling, news)) = newest {
            member.token = Token::of(&ruling);
            if news {
                (ruled, open.ruled_at) = (Some(ruling), now);
            }
        }
        let same = |other: &Member| other.client == member.client;
        let dropped = open.successors.extract_if(.., |other| same(other)).next();
        if open.members.iter().any(|other| same(other) && other.conn.is_some()) {
            open.successors.push(member);
            return Entered::In { opened, dropped, ruled };
        }
        open.members.retain(|other| !same(other));
        let limit = open.settings.as_ref().map_or(0, |it| it.max_participants) as usize;
        if limit > 0 && open.members.len() >= limit {
            return Entered::Full;
        }
        open.idle_since = None;
        open.members.push(member);
        Entered::In { opened, dropped, ruled }
    }

    /// The client of this session has said something: if it waits, it takes its place, and who had that is returned.
    pub(crate) fn spoke(&mut self, number: u32) -> Option<Member> {
        for room in &mut self.rooms {
            let Some(at) = room.successors.iter().position(|m| m.number == number) else {
                continue;
            };
            let member = room.successors.remove(at);
            let old = room.members.extract_if(.., |other| other.client == member.client).next();
            room.idle_since = None;
            room.members.push(member);
            return old;
        }
        None
    }

    /// Takes away those that have waited in vain.
    pub(crate) fn tire(&mut self, now: Time) -> Vec<Member> {
        let waited = |member: &mut Member| now.since(member.joined_at) >= WORD_SPAN;
        let rooms = self.rooms.iter_mut();
        rooms.flat_map(|room| room.successors.extract_if(.., waited)).collect()
    }

    /// The participant of `client` in `room`, which may be resumed.
    pub(crate) fn member_of(&mut self, room: usize, client: usize) -> Option<&mut Member> {
        self.room_mut(room)?.members.iter_mut().find(|member| member.client == client)
    }

    /// The participant of this number.
    pub(crate) fn member(&mut self, number: u32) -> Option<&mut Member> {
        self.rooms.iter_mut().flat_map(|room| &mut room.members).find(|m| m.number == number)
    }

    /// Whether it is here, or waits.
    pub(crate) fn has_member(&self, number: u32) -> bool {
        self.rooms.iter().flat_map(Room::sessions).any(|member| member.number == number)
    }

    /// The participant whose signalling this is.
    pub(crate) fn member_at(&mut self, conn: ConnId) -> Option<&mut Member> {
        let rooms = self.rooms.iter_mut();
        let mut all = rooms.flat_map(|room| room.members.iter_mut().chain(&mut room.successors));
        all.find(|member| member.conn == Some(conn))
    }

    /// Takes participants away for whom `gone` holds; they are returned.
    pub(crate) fn remove(
        &mut self,
        now: Time,
        mut gone: impl FnMut(usize, &Member) -> bool,
    ) -> Vec<Member> {
        let mut removed = Vec::new();
        for room in &mut self.rooms {
            let number = room.room;
            let before = removed.len();
            removed.extend(room.members.extract_if(.., |member| gone(number, member)));
            if removed.len() > before && room.members.is_empty() {
                room.idle_since = Some(now);
            }
            removed.extend(room.successors.extract_if(.., |member| gone(number, member)));
        }
        removed
    }

    /// Takes rooms away for which `gone` holds; they are returned.
    pub(crate) fn close(&mut self, mut gone: impl FnMut(&Room) -> bool) -> Vec<Room> {
        self.rooms.extract_if(.., |room| gone(room)).collect()
    }

    pub(crate) fn participants(&self) -> usize {
        self.rooms.iter().flat_map(Room::sessions).count()
    }
}
