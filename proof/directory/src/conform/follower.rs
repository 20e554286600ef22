//! Somebody who watches, and what it believes.

use std::collections::BTreeMap;

use outlast_directory::{
    Changes, EVENTS_PER_REPLY_MAX, Event, InstanceId, Record, Request, Revision, RoomKey,
};

use super::trace::Restart;

/// A follower of one partition.
#[derive(Clone, Debug)]
pub(crate) struct Follower {
    after: Revision,
    /// The last that was said of each room.
    pub(crate) rooms: BTreeMap<RoomKey, Event>,
    /// Its revision is not one that this directory gave it: the next answer must begin anew.
    astray: bool,
}

impl Follower {
    pub(crate) fn new() -> Follower {
        Follower { after: Revision::START, rooms: BTreeMap::new(), astray: false }
    }

    pub(crate) fn request(&self) -> Request {
        Request::Watch { after: self.after }
    }

    /// Goes on from elsewhere, believing that `ghost` is held, which it never was. `instance` is the directory's.
    pub(crate) fn restart(&mut self, at: Restart, instance: InstanceId, ghost: (RoomKey, Record)) {
        if at == Restart::Start {
            *self = Follower::new();
            return;
        }
        let (room, record) = ghost;
        self.rooms.insert(room, Event::Held { room, record });
        self.astray = true;
        self.after = match at {
            Restart::Foreign => Revision { instance: InstanceId(instance.0 ^ 1), ..self.after },
            _ => Revision { instance, number: u64::MAX, ..self.after },
        };
    }

    /// Takes an answer. Returns whether there was something in it.
    ///
    /// # Errors
    /// What is wrong with the answer, in words.
    pub(crate) fn take(&mut self, changes: Changes, instance: InstanceId) -> Result<bool, String> {
        if changes.events.len() > EVENTS_PER_REPLY_MAX {
            return Err(format!("{} events in one answer", changes.events.len()));
        }
        if changes.instance != instance {
            return Err(format!("changes of instance {}, not {instance}", changes.instance));
        }
        if self.astray && !changes.resync {
            return Err("no resync after a revision that is not this directory's".to_owned());
        }
        self.astray = false;
        if changes.resync {
            self.rooms.clear();
        }
        self.after = changes.revision;
        let is_news = !changes.events.is_empty();
        for event in changes.events {
            let (Event::Held { room, .. } | Event::Ended { room, .. }) = event;
            self.rooms.insert(room, event);
        }
        Ok(is_news)
    }
}
