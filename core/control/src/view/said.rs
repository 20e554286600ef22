//! What homes have said of their rooms, and others are to be told: settings and rulings.

use std::sync::Arc;

use outlast_model::{Generation, Identity, NodeId, RoomName, RoomSettings, Ruling, Time};

use super::View;
use crate::{Health, Home, Placement};

impl View {
    /// What `room` is set to, while it has a home, and for [`ENDED_KEPT`](crate::ENDED_KEPT) after that was lost or given
    /// away ([`CLOSED_KEPT`](crate::CLOSED_KEPT) after a healthy home has closed it).
    pub fn settings(&self, room: &RoomName) -> Option<&Arc<RoomSettings>> {
        self.kept.settings(room)
    }

    /// What whoever sends somebody to `placement` is to tell its node of the room's settings: nothing to a home that has
    /// named its own. A home that has named none was opened by somebody who did not know of them.
    pub fn settings_for(
        &self,
        room: &RoomName,
        placement: &Placement,
    ) -> Option<&Arc<RoomSettings>> {
        let knows = placement.home && self.kept.is_by(room, &placement.node);
        self.kept.settings(room).filter(|_| !knows)
    }

    /// `room` is set to this, as its home `by` says. `None`: the home knows of no settings, and is to be told those that are
    /// kept. Returns whether some are kept: not these when a later generation has spoken, nor beyond [`KEPT_ROOMS_MAX`](crate::KEPT_ROOMS_MAX) and
    /// [`KEPT_BYTES_MAX`](crate::KEPT_BYTES_MAX).
    pub fn set_settings(
        &mut self,
        now: Time,
        room: &RoomName,
        by: &Home,
        settings: Option<Arc<RoomSettings>>,
    ) -> bool {
        let homed = self.home(room).is_some();
        let Some(settings) = settings else { return self.kept.disclaim(room, &by.node) };
        self.kept.set(now, room, by, settings, homed)
    }

    /// What the server API has last said of `identity` in `room`: for whoever joins there, wherever the room is by then. Kept
    /// as long as the room's settings.
    pub fn ruling(&self, room: &RoomName, identity: &Identity) -> Option<&Ruling> {
        self.kept.ruling(room, identity)
    }

    /// All rulings that count in `room`, each with the generation under which `home` has said so: 0 when only others have.
    pub fn rulings(
        &self,
        room: &RoomName,
        home: &NodeId,
    ) -> impl Iterator<Item = (&Identity, &Ruling, Generation)> {
        self.kept.rulings(room, home)
    }

    /// `home` says which ruling counts for `identity` in `room`; `None` when its stay is over, which is not believed while the
    /// room has another home that lives, or had one a moment ago: they may be there, or on the way, and this one alone has not
    /// seen them for a while. Returns
    /// whether there was space: see [`KEPT_ROOMS_MAX`](crate::KEPT_ROOMS_MAX).
    pub fn rule(
        &mut self,
        now: Time,
        room: &RoomName,
        home: &Home,
        (identity, ruling): (&Identity, Option<Ruling>),
    ) -> bool {
        if ruling.is_none() && self.may_be_elsewhere(now, room, &home.node) {
            return false;
        }
        // Each home speaks for those who are there: another one may have ended their stays.
        if ruling.is_some() && self.homes.at(room, &home.node).is_some() {
            self.kept.forget_end(room, identity);
        }
        let homed = self.home(room).is_some();
        self.kept.rule(now, room, home, (identity, ruling), homed)
    }

    /// `node` has named every ruling of `room`, `named`: what it alone has said of others is over.
    pub fn retain_rulings(
        &mut self,
        now: Time,
        node: &NodeId,
        room: &RoomName,
        named: impl Fn(&Identity) -> bool,
    ) {
        let Some(generation) = self.homes.at(room, node) else { return };
        if self.may_be_elsewhere(now, room, node) {
            return;
        }
        let home = Home { node: node.clone(), generation };
        self.kept.retain_rulings(room, &home, named);
    }

    /// Whether people of `room` may be at another home than that at `node`, or on the way from one that was.
    fn may_be_elsewhere(&self, now: Time, room: &RoomName, node: &NodeId) -> bool {
        if self.kept.is_merging(now, room) {
            return true;
        }
        let lives = |id| self.nodes.get(id).is_some_and(|node| node.health != Health::Down);
        self.hosts(room).iter().any(|home| home.node != *node && lives(&home.node))
    }

    /// The next room of this name starts with no settings and no rulings: somebody has deleted this one.
    pub fn forget_kept(&mut self, room: &RoomName) {
        self.kept.forget(room);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        CLOSED_KEPT, ENDED_KEPT,
        view::tests::{NOW, view},
    };

    #[test]
    fn settings_survive_the_home_and_not_the_room() {
        let settings = |max_participants| {
            Some(Arc::new(RoomSettings { max_participants, ..RoomSettings::default() }))
        };
        let max = |view: &View| view.settings(&"r".into()).map(|s| s.max_participants);
        let (mut view, room) = (view(), RoomName::from("r"));
        let (a, b) = (NodeId::from("a"), NodeId::from("b"));
        let by = |generation| Home { node: b.clone(), generation: Generation(generation) };
        view.opened(&a, &room, Generation(1));
        assert!(view.set_settings(NOW, &room, &by(1), settings(7)));
        // The home restarts: the room has none, and is still what it was.
        view.retain(NOW, &a, &BTreeSet::new());
        assert_eq!((max(&view), view.wake_at()), (Some(7), Some(NOW + ENDED_KEPT)));
        view.opened(&b, &room, Generation(2));
        assert_eq!(view.wake_at(), None);
        assert!(!view.set_settings(NOW, &room, &by(0), settings(8)), "an older life's");
        assert!(view.set_settings(NOW, &room, &by(2), settings(9)));
        // A node that drains gives its rooms away; one that is fine closes them for good.
        let node = view.node_mut(&b).unwrap();
        (node.health, node.draining) = (Health::Alive, true);
        view.closed(NOW, &b, &room, Generation(2), false);
        assert_eq!(view.wake_at(), Some(NOW + ENDED_KEPT));
        view.opened(&b, &room, Generation(3));
        view.node_mut(&b).unwrap().draining = false;
        view.closed(NOW, &b, &room, Generation(3), false);
        assert_eq!((max(&view), view.wake_at()), (Some(9), Some(NOW + CLOSED_KEPT)));
        view.expire(NOW + CLOSED_KEPT);
        assert_eq!((max(&view), view.wake_at()), (None, None));
        assert!(view.set_settings(NOW, &room, &by(4), settings(1)));
        view.forget_kept(&room);
        assert_eq!(max(&view), None);
    }

    #[test]
    fn a_room_that_begins_anew_under_a_lower_number_sets_itself() {
        let settings =
            |max| Some(Arc::new(RoomSettings { max_participants: max, ..Default::default() }));
        let max = |view: &View| view.settings(&"r".into()).map(|s| s.max_participants);
        let (a, b, room) = (NodeId::from("a"), NodeId::from("b"), RoomName::from("r"));
        let by = |node: &NodeId, generation| Home {
            node: node.clone(),
            generation: Generation(generation),
        };
        // The later one dies; or it is gone before the room begins anew.
        for overlap in [true, false] {
            let mut view = view();
            view.opened(&b, &room, Generation(4));
            view.set_settings(NOW, &room, &by(&b, 4), settings(7));
            if overlap {
                view.opened(&a, &room, Generation(1));
                assert!(!view.set_settings(NOW, &room, &by(&a, 1), settings(8)));
            }
            view.retain(NOW, &b, &BTreeSet::new());
            view.opened(&a, &room, Generation(1));
            assert!(view.set_settings(NOW, &room, &by(&a, 1), settings(9)));
            assert_eq!(max(&view), Some(9));
        }
    }

    #[test]
    fn a_stay_does_not_end_while_the_room_lives_at_another_home_as_well() {
        let (a, b, room, ann) = ("a".into(), "b".into(), "r".into(), "ann".into());
        let home = |node: &NodeId, generation| Home {
            node: node.clone(),
            generation: Generation(generation),
        };
        let version = outlast_model::RulingVersion { generation: Generation(1), count: 1 };
        let ruling = Ruling { version, permission: [1].into() };
        for apart in [true, false] {
            let mut view = view();
            for node in [&a, &b] {
                view.node_mut(node).unwrap().health = Health::Alive;
            }
            view.opened(&a, &room, Generation(1));
            view.opened(&b, &room, Generation(2));
            for (node, generation) in [(&a, 1), (&b, 2)] {
                view.rule(NOW, &room, &home(node, generation), (&ann, Some(ruling.clone())));
            }
            if !apart {
                view.node_mut(&a).unwrap().health = Health::Down;
            }
            view.rule(NOW, &room, &home(&b, 2), (&ann, None));
            assert_eq!(view.ruling(&room, &ann).is_some(), apart);
            view.retain_rulings(NOW, &b, &room, |_| false);
            assert_eq!(view.ruling(&room, &ann).is_some(), apart);
        }
        // They met again when it had ended where they were not.
        let mut view = view();
        for node in [&a, &b] {
            view.node_mut(node).unwrap().health = Health::Alive;
        }
        view.opened(&b, &room, Generation(2));
        view.rule(NOW, &room, &home(&b, 2), (&ann, Some(ruling.clone())));
        view.rule(NOW, &room, &home(&b, 2), (&ann, None));
        view.opened(&a, &room, Generation(1));
        view.rule(NOW, &room, &home(&a, 1), (&ann, Some(ruling.clone())));
        assert_eq!(view.ruling(&room, &ann), Some(&ruling));
    }
}
