//! One client's wish to come in, as the role goes through it. Each turn is the role's newest word, and older ones are void:
//! what comes of them is nobody's business any more.

use std::{sync::Arc, time::Duration};

use outlast_gateway_core::{AskId, Goal, Input, NodeRefusal, Placement, Session, Unplaced};
use outlast_model::{Identity, RegionName, RoomName, RoomSettings, Ruling};
use tokio::sync::watch;

use crate::{
    role_loop::RoleLoop,
    seat::{Seat, Told},
};

/// Who wants in, and where to.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) room: RoomName,
    pub(crate) client: Identity,
    pub(crate) goal: Goal,
    /// The region that the client is near, where that is known.
    pub(crate) near: Option<RegionName>,
}

/// The role's newest word.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    /// Counts from 1.
    pub(crate) number: u64,
    pub(crate) step: Step,
}

/// What to do.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Nothing has been said yet.
    Wait,
    /// Ask this node.
    Go(Go),
    /// Nobody is asked any more.
    Unplaced { why: Unplaced, retry_after: Duration },
}

/// Which node, and how it is asked.
#[derive(Clone, Debug)]
pub(crate) struct Go {
    pub(crate) placement: Placement,
    pub(crate) nowhere_else: bool,
    pub(crate) settings: Option<Arc<RoomSettings>>,
    pub(crate) ruling: Option<Ruling>,
}

/// Where turns are put.
pub(crate) type Turns = watch::Sender<Turn>;

/// The first turn, before the role has spoken.
pub(crate) fn turns() -> (Turns, watch::Receiver<Turn>) {
    watch::channel(Turn { number: 0, step: Step::Wait })
}

/// Says the next word; nobody waits for the one before.
pub(crate) fn say(turns: &Turns, step: Step) {
    turns.send_modify(|turn| *turn = Turn { number: turn.number + 1, step });
}

/// A wish on its way; dropping it withdraws it, unless it has come to a session.
pub(crate) struct Asking {
    id: AskId,
    turns: watch::Receiver<Turn>,
    role: Arc<RoleLoop>,
    opened: bool,
}

impl Asking {
    pub(crate) fn new(id: AskId, turns: watch::Receiver<Turn>, role: Arc<RoleLoop>) -> Asking {
        Asking { id, turns, role, opened: false }
    }

    /// The next turn. Waiting may be broken off.
    pub(crate) async fn turn(&mut self) -> Turn {
        // The role lets go of the other end after its last word, which is waited for no more than once.
        let _ = self.turns.changed().await;
        self.turns.borrow_and_update().clone()
    }

    /// The node that the turn `number` named has refused.
    pub(crate) fn refused(&self, number: u64, why: NodeRefusal) {
        self.role.report(self.id, number, Input::Refused { ask: self.id, why });
    }

    /// The node that the turn `number` named could not be reached.
    pub(crate) fn unreached(&self, number: u64, connection_refused: bool) {
        self.role.report(self.id, number, Input::Unreached { ask: self.id, connection_refused });
    }

    /// The node that the turn `number` named has taken the client. `false` when the role has said something newer: the
    /// client goes there.
    pub(crate) fn settle(&self, number: u64) -> bool {
        self.role.settle(self.id, number)
    }

    /// The client's session begins, at the node that took it.
    pub(crate) fn open(mut self, at: Session) -> (Seat, Told) {
        self.opened = true;
        self.role.open(self.id, at)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if !self.opened {
            self.role.withdraw(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use outlast_gateway_core::{NodeFacts, Role, RoleConfig, Spread, StreamEvent};
    use outlast_model::Epoch;
    use outlast_runtime::Clock;
    use outlast_wire::{Beat, RoomFrame};
    use prometheus_client::registry::Registry;
    use tokio::sync::mpsc;

    use super::*;
    use crate::{directory, metrics::Metrics, role_loop::Hands};

    /// A role whose nodes are alive and have no rooms, and the names of the nodes.
    fn role(nodes: usize) -> (Arc<RoleLoop>, Vec<String>) {
        let names: Vec<_> = (0..nodes).map(|n| format!("eu-{n}")).collect();
        let facts = names.iter().map(|name| NodeFacts {
            id: name.as_str().into(),
            region: "eu".into(),
            capacity: 1,
        });
        let config = RoleConfig {
            id: "gw".into(),
            region: "eu".into(),
            epoch: Epoch(1),
            nodes: facts.collect(),
            gateways: Vec::new(),
            name_servers: false,
            tell_per_second: Some(100),
            spread: Spread::Everywhere,
            directory: None,
            seed: 1,
        };
        let clock = Clock::start();
        let hands = Hands {
            clock,
            metrics: Metrics::register(&mut Registry::default()),
            datagrams: mpsc::channel(1).0,
            name_servers: Vec::new(),
            steers: BTreeMap::new(),
            calls: directory::calls().0,
        };
        let role = Arc::new(RoleLoop::new(Role::new(config, clock.now()), hands));
        for name in &names {
            let stream = |event| Input::Stream { node: name.as_str().into(), event };
            let beat = Beat { ticked: true, ..Beat::default() };
            let (node, epoch) = (name.as_str().into(), Epoch(1));
            role.input(Input::Beat { node, epoch, sequence: 1, beat });
            role.input(stream(StreamEvent::Connected));
            role.input(stream(StreamEvent::Frame(RoomFrame::Started { epoch })));
            role.input(stream(StreamEvent::Frame(RoomFrame::Synced)));
        }
        (role, names)
    }

    fn ask(role: &Arc<RoleLoop>) -> Asking {
        role.ask(Wish { room: "r".into(), client: "ann".into(), goal: Goal::Join, near: None })
    }

    /// The next turn if there is one already: its number and the node that it names.
    fn next(asking: &mut Asking) -> Option<(u64, String)> {
        if !asking.turns.has_changed().is_ok_and(|changed| changed) {
            return None;
        }
        let turn = asking.turns.borrow_and_update().clone();
        let Step::Go(go) = turn.step else { panic!("no node: {:?}", turn.step) };
        Some((turn.number, go.placement.node.to_string()))
    }

    #[test]
    fn only_the_newest_turn_is_answered() {
        let (role, names) = role(3);
        let mut asking = ask(&role);
        let (number, first) = next(&mut asking).unwrap();
        assert_eq!(number, 1);
        asking.refused(0, NodeRefusal::Full);
        assert_eq!(next(&mut asking), None, "of a turn that never was");
        asking.refused(1, NodeRefusal::Full);
        let (number, second) = next(&mut asking).unwrap();
        assert!(number == 2 && second != first && names.contains(&second));
        asking.refused(1, NodeRefusal::Full);
        asking.unreached(1, true);
        assert_eq!(next(&mut asking), None, "the second node has not refused");
        assert!(!asking.settle(1));
        assert!(asking.settle(2));
        assert!(!asking.settle(2), "once");
        let at = Session {
            room: "r".into(),
            client: "ann".into(),
            node: second.as_str().into(),
            generation: outlast_model::Generation(1),
        };
        let seat = asking.open(at);
        assert_eq!((role.sessions(), role.asks()), (1, 0));
        drop(seat);
        assert_eq!(role.sessions(), 0);
    }

    #[test]
    fn who_leaves_is_withdrawn_whenever() {
        let (role, _) = role(1);
        let asking = ask(&role);
        assert_eq!(role.asks(), 1);
        drop(asking);
        assert_eq!(role.asks(), 0);
        let mut asking = ask(&role);
        assert!(next(&mut asking).is_some() && asking.settle(1));
        assert_eq!(role.asks(), 1, "taken by a node, and not opened yet");
        drop(asking);
        assert_eq!(role.asks(), 0);
    }

    #[tokio::test]
    async fn the_last_word_is_heard() {
        let (role, _) = role(1);
        role.input(Input::Drain);
        let turn = ask(&role).turn().await;
        assert!(matches!(turn.step, Step::Unplaced { why: Unplaced::Shed, .. }), "{turn:?}");
    }
}
