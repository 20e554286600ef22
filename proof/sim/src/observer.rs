//! What must hold, looked at after every event that could break it and twice a second besides. The observer sees the truth,
//! of which the roles know only what reaches them; each rule therefore says who could have known.

use std::time::Duration;

use outlast_control::PLANNED_KEPT;
use outlast_gateway_core::{Change, Health, Why};
use outlast_model::{Generation, RoomSettings, Time};

use crate::{
    client::{Moved, Stage},
    fault::Lasting,
    network::Zone,
    oracle::LEASE,
    retry::Sdk,
    schedule::{Schedule, What},
    world::World,
};

/// Between two looks at everything.
pub(crate) const STOCK_INTERVAL: Duration = Duration::from_millis(500);
/// Two homes of a room that somebody can talk to are one after so long: 5 s, and as long as it takes to notice that one can
/// talk (a stream's redial, one beat).
const CONVERGE_MAX: Duration = Duration::from_millis(5_000);
/// Nobody who could be served is out of the call for longer: SDKs pause for 8 s between two tries at most, a try that hangs
/// takes 8 s more, and who has it at a node that freezes then has it again.
const OUT_MAX: Duration = Duration::from_secs(24);
/// After the last fault has healed nobody is out of the call for longer, whatever it was.
const STUCK_MAX: Duration = Duration::from_secs(30);
/// A client that could be served for so long while it tried was not to be lost.
const TRY_MAX: Duration = Duration::from_secs(15);
/// Nobody is moved twice in this span, unless the new home died.
const MOVE_INTERVAL: Duration = Duration::from_secs(60);
/// A participant whose client has left is seen no longer.
const GHOST_MAX: Duration = Duration::from_secs(30);
/// By then every gateway has heard of a room that was opened.
pub(crate) const NEWS_MAX: Duration = Duration::from_secs(1);
/// A room is not opened at one node more often than so in this span, while others open it too.
const OPENINGS_MAX: usize = 4;
const FEUD_SPAN: Duration = Duration::from_secs(10);
/// Who came to a room again so soon may be left there beside its home for [`SPLIT_SPAN`].
const RETURN_SPAN: Duration = Duration::from_secs(12);
/// By so much the observer may take a lease for longer than it is.
const LEASE_SLACK: Duration = Duration::from_millis(500);
/// For so long a process that stood still works on what it knew before.
const WOKEN_SPAN: Duration = Duration::from_secs(3);
/// Two homes lately explain that somebody was told to move.
const SPLIT_SPAN: Duration = Duration::from_secs(30);

/// Something that must not be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Violation {
    pub(crate) at: Time,
    /// Which rule, in a word.
    pub(crate) rule: &'static str,
    pub(crate) what: String,
}

/// What is known of a room.
#[derive(Clone, Debug, Default)]
pub(crate) struct RoomTruth {
    /// It has had two homes since then that could be talked to.
    split_since: Option<Time>,
    /// When it last had two.
    split_at: Option<Time>,
    /// Where it came to lately.
    openings: Vec<(Time, usize)>,
    /// When it last came back to a node that it had left for another.
    returned_at: Option<Time>,
    /// When a node has closed it last because nobody was in it for long, and which.
    pub(crate) closed: Option<(Time, usize)>,
    /// What it was made as by the server API, while it lives.
    pub(crate) settings: Option<RoomSettings>,
}

/// Everything that the observer keeps.
pub(crate) struct Observer {
    pub(crate) violation: Option<Violation>,
    pub(crate) rooms: Vec<RoomTruth>,
    /// When each client could be served without a break since.
    served_since: Vec<Option<Time>>,
    /// When each client was found out of its call first, if it was at every look since.
    found_out: Vec<Option<Time>>,
    people_disturbed: Vec<Time>,
    regions: usize,
    pub(crate) lasting: Vec<Lasting>,
    pub(crate) fired: [u32; What::KINDS.len()],
    /// When the last of all faults has healed.
    healed_at: Time,
    pub(crate) events: u64,
    pub(crate) asks: u64,
    pub(crate) told: u64,
    pub(crate) forced: u64,
    pub(crate) moves: u64,
    /// Moves away from nodes that were fine.
    pub(crate) unforced: u32,
    pub(crate) excused_losses: u64,
    /// A node was given up in this run though nothing was wrong but loss.
    chance_taken: bool,
    /// How long people were out of the call, each time, in milliseconds.
    pub(crate) gaps: Vec<u32>,
}

impl Observer {
    pub(crate) fn new(schedule: &Schedule) -> Observer {
        let shape = &schedule.world;
        let regions = shape.regions.len();
        let ends = schedule.faults.iter().map(|fault| fault.span().1);
        Observer {
            violation: None,
            rooms: vec![RoomTruth::default(); shape.rooms],
            served_since: vec![None; shape.clients],
            found_out: vec![None; shape.clients],
            people_disturbed: vec![Time::ZERO; regions],
            regions,
            lasting: vec![Lasting::default(); schedule.faults.len()],
            fired: [0; What::KINDS.len()],
            healed_at: ends.max().unwrap_or(Time::ZERO),
            events: 0,
            asks: 0,
            told: 0,
            forced: 0,
            moves: 0,
            unforced: 0,
            excused_losses: 0,
            chance_taken: false,
            gaps: Vec::new(),
        }
    }

    pub(crate) fn is_violated(&self) -> bool {
        self.violation.is_some()
    }

    pub(crate) fn disturb_people(&mut self, zone: Zone, until: Time) {
        if zone >= self.regions {
            let it = &mut self.people_disturbed[zone - self.regions];
            *it = (*it).max(until);
        }
    }
}

impl World {
    /// A rule is broken; the first break ends the run.
    pub(crate) fn violated(&mut self, rule: &'static str, say: impl FnOnce(&World) -> String) {
        if self.observer.violation.is_some() {
            return;
        }
        let what = say(self);
        self.note(|_| format!("VIOLATION {rule}: {what}"));
        self.observer.violation = Some(Violation { at: self.now, rule, what });
    }

    fn is_disturbed(&self, process: usize) -> bool {
        self.processes[process].disturbed_until >= self.now
    }

    fn node_disturbed(&self, node: usize) -> bool {
        self.is_disturbed(self.names.gateways + node)
    }

    fn people_disturbed(&self, client: usize) -> bool {
        self.observer.people_disturbed[self.clients[client].place] >= self.now
    }

    /// Nodes with participants in `room`, as they are by truth.
    pub(crate) fn hosts(&self, room: usize) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(move |node| {
            let open = self.nodes[*node].shard.room(room);
            open.is_some_and(|open| !open.members.is_empty())
        })
    }

    // What is looked at when it happens.

    /// A node has opened a room, or taken it over under another generation.
    pub(crate) fn room_opens(&mut self, node: usize, room: usize, generation: Generation) {
        self.trace.mix((node as u64) << 32 ^ (room as u64) << 24 ^ generation.0);
        // One that is empty by now may be a home to others all the same.
        let open = |other: &usize| *other != node && self.nodes[*other].shard.room(room).is_some();
        let (now, others) = (self.now, (0..self.nodes.len()).filter(open).count());
        let truth = &mut self.observer.rooms[room];
        if others > 0 {
            // Another split than any before, which may have come to its end between two looks.
            (truth.split_at, truth.split_since) = (Some(now), None);
        }
        truth.openings.retain(|(at, _)| now.since(*at) < RETURN_SPAN);
        if truth.openings.last().is_none_or(|(_, last)| *last != node) {
            if truth.openings.iter().any(|(_, other)| *other == node) {
                truth.returned_at = Some(now);
            }
            truth.openings.push((now, node));
        }
        let lately = |(at, _): &(Time, usize)| now.since(*at) < FEUD_SPAN;
        let openings: Vec<_> = truth.openings.iter().filter(|it| lately(it)).collect();
        let here = openings.iter().filter(|(_, other)| *other == node).count();
        if here > OPENINGS_MAX && openings.len() > here {
            self.violated("feud", |world| {
                format!("room-{room} comes to {} again and again", world.node_ids[node])
            });
        }
    }

    /// A client's join has come to media at `node`.
    pub(crate) fn arrived(&mut self, client: usize, node: usize) {
        self.note(|world| {
            format!("{} is in at {}", world.clients[client].identity, world.node_ids[node])
        });
        let now = self.now;
        if let Some(since) = self.clients[client].out_since.take() {
            self.observer.gaps.push(now.since(since).as_millis() as u32);
        }
        let sent_at = self.clients[client].sent_at;
        let moved = Moved { node, sent_at, at: now };
        let before = self.clients[client].moved.replace(moved);
        let Some(before) = before else { return };
        if before.node == node {
            // Back where it was is no move; its time counts on.
            self.clients[client].moved = Some(before);
            return;
        }
        self.clients[client].moves += 1;
        self.observer.moves += 1;
        let old = before.node;
        let died = self.node_disturbed(old)
            || self.processes[self.names.gateways + old].disturbed_until >= before.at;
        self.observer.unforced += u32::from(!died);
        let room = self.clients[client].room;
        // Two gateways that took the room over at once have sent it to one of two homes, and one of them had to lose; so has one
        // that has not heard of the other yet.
        let split_at = self.observer.rooms[room].split_at;
        let raced = split_at.is_some_and(|at| at + NEWS_MAX >= before.sent_at);
        // Who was away until the room was over has come to another one.
        let closed = self.observer.rooms[room].closed;
        let over = closed.is_some_and(|(at, closer)| closer == old && at >= before.at);
        let again = now.since(before.at) < MOVE_INTERVAL && self.clients[client].moves > 1;
        if again && !died && !raced && !over {
            self.violated("moved-twice", |world| {
                let (who, from) = (&world.clients[client].identity, &world.node_ids[old]);
                let to = &world.node_ids[node];
                format!(
                    "{who} went from {from} to {to}, {:?} after its last move",
                    now.since(before.at)
                )
            });
        }
    }

    /// A gateway has ejected a node, or has taken it back.
    pub(crate) fn ejects(&mut self, gateway: usize, node: usize, ejected: bool) {
        let people = self.observer.people_disturbed.iter().any(|until| *until >= self.now);
        let disturbed = people || self.node_disturbed(node) || self.is_disturbed(gateway);
        self.gateways[gateway].ejected[node] = ejected && disturbed;
    }

    /// A gateway tells a client to reconnect.
    pub(crate) fn was_told(&mut self, gateway: usize, client: usize, node: usize, why: Why) {
        self.observer.told += 1;
        self.trace.mix((gateway as u64) << 40 ^ (client as u64) << 8 ^ why.index() as u64);
        if why.resumes() {
            return;
        }
        let room = self.clients[client].room;
        let split = self.observer.rooms[room].split_at;
        let excused = self.node_disturbed(node)
            || self.is_disturbed(gateway)
            || self.people_disturbed(client)
            || split.is_some_and(|at| self.now.since(at) <= SPLIT_SPAN);
        if !excused {
            self.violated("blast", |world| {
                let (gateway, who) = (&world.gateway_ids[gateway], &world.clients[client].identity);
                let node = &world.node_ids[node];
                format!(
                    "{gateway} moves {who} from {node} ({}), and nothing was wrong",
                    why.as_str()
                )
            });
        }
    }

    /// A gateway sends a client to a node.
    pub(crate) fn goes(&mut self, gateway: usize, client: usize, node: usize) {
        self.clients[client].sent_at = self.now;
        let room = self.clients[client].room;
        let Some(home) = self.hosts(room).find(|home| *home != node) else { return };
        let opened = self.nodes[home].shard.room(room).map_or(self.now, |open| open.opened_at);
        // A claim that it had won before it heard of the home counts for a while: others may have been sent there.
        let name = &self.room_names[room];
        let planned = self.role_at(gateway).and_then(|(role, _)| role.view().planned(name));
        let claimed = planned.is_some_and(|plan| plan.node == self.node_ids[node]);
        let calm = self.now.since(opened) > if claimed { PLANNED_KEPT } else { NEWS_MAX }
            && !self.is_disturbed(gateway)
            && !self.node_disturbed(home)
            && !self.node_disturbed(node)
            && !self.gateways[gateway].ejected[home]
            && self.hosts(room).count() == 1
            && self.sends(home)
            && self.observer.rooms[room].split_at.is_none_or(|at| self.now.since(at) > SPLIT_SPAN);
        if calm {
            self.violated("needless-split", |world| {
                let (gateway, who) = (&world.gateway_ids[gateway], &world.clients[client].identity);
                let (node, home) = (&world.node_ids[node], &world.node_ids[home]);
                format!("{gateway} sends {who} to {node}; room-{room} is at {home}, which is fine")
            });
        }
    }

    /// A gateway has changed its mind about a node.
    pub(crate) fn judged(&mut self, gateway: usize, node: usize, change: &Change) {
        self.trace.mix((gateway as u64) << 40 ^ (node as u64) << 8 ^ change.to as u64);
        // Having stood still is no excuse, it did not listen; what was wrong when it froze is one.
        let (here, there) = (&self.processes[gateway], self.node(node));
        let woke = self.now.since(here.stood_until) < WOKEN_SPAN;
        let from = if woke { here.froze_at } else { self.now };
        let excused = here.parted_until >= from || there.disturbed_until >= from;
        // At the heaviest loss of these worlds, five beats in a row are lost in one run of 60,000: once in a run is chance.
        let chance = change.to == Health::Down && !excused && self.schedule.world.loss_permille > 5;
        let chance = chance && !std::mem::replace(&mut self.observer.chance_taken, true);
        if chance {
            self.processes[self.names.gateways + node].disturbed_until = self.now + WOKEN_SPAN;
        }
        if change.to == Health::Down && !excused && !chance {
            self.violated("false-alarm", |world| {
                let (gateway, node) = (&world.gateway_ids[gateway], &world.node_ids[node]);
                format!("{gateway} gives {node} up, and nothing was wrong")
            });
        }
    }

    /// A node was not run for longer than it may: nothing of before is left.
    pub(crate) fn woken(&mut self, node: usize) {
        let it = &self.nodes[node];
        // A shard that hangs does not notice anything yet.
        if it.hung_since.is_none() && !it.shard.rooms.is_empty() {
            self.violated("zombie", |world| {
                format!("{} wakes up and keeps its rooms", world.node_ids[node])
            });
        }
    }

    /// A node has given up all that it has: it was not run, or its lease is over. That is as good as dying.
    pub(crate) fn fenced(&mut self, node: usize) {
        let runs_on = self.now + LEASE.mul_f64(0.05) + LEASE_SLACK;
        let early = self.nodes[node].truth_until.is_some_and(|until| runs_on < until);
        if early && !self.node_disturbed(node) {
            self.violated("needless-fence", |world| {
                format!("{} gives everything up, and nothing was wrong", world.node_ids[node])
            });
        }
        let process = &mut self.processes[self.names.gateways + node];
        process.disturbed_until = process.disturbed_until.max(self.now);
    }

    /// A client has given its session up.
    pub(crate) fn lost(&mut self, client: usize) {
        self.note(|world| format!("{} GIVES UP", world.clients[client].identity));
        let since = self.observer.served_since[client];
        if since.is_some_and(|since| self.now.since(since) >= TRY_MAX) {
            self.violated("lost-session", |world| {
                format!("{} gave up, and could have been served", world.clients[client].identity)
            });
        } else {
            self.observer.excused_losses += 1;
        }
    }

    // What is looked at twice a second.

    pub(crate) fn take_stock(&mut self) {
        self.queue.at(self.now + STOCK_INTERVAL, crate::event::Event::Stock);
        for room in 0..self.room_names.len() {
            self.look_at_room(room);
        }
        self.look_at_directory();
        for node in 0..self.nodes.len() {
            self.look_at_node(node);
            self.look_at_drain(node);
            self.look_at_rights(node);
            self.look_at_generations(node);
        }
        for gateway in 0..self.names.gateways {
            self.look_at_visits(gateway);
            self.look_at_rulings(gateway);
        }
        for client in 0..self.clients.len() {
            self.look_at_client(client);
        }
    }

    /// Whether a room has had one home at most for so long.
    pub(crate) fn has_not_been_split_for(&self, room: usize, span: Duration) -> bool {
        self.observer.rooms[room].split_at.is_none_or(|at| self.now.since(at) >= span)
    }

    fn look_at_room(&mut self, room: usize) {
        let sending = || self.hosts(room).filter(|node| self.sends(*node));
        if sending().nth(1).is_none() {
            self.observer.rooms[room].split_since = None;
            return;
        }
        let sending: Vec<usize> = sending().collect();
        self.observer.rooms[room].split_at = Some(self.now);
        let talk = |gateway: usize| {
            let process = &self.processes[gateway];
            process.is_up() && sending.iter().all(|node| self.talks(gateway, *node))
        };
        // Where a gateway does not get through to the other home its clients could not follow, and both homes are right.
        let concerned = |gateway: &usize| {
            let region = self.processes[*gateway].region;
            self.processes[*gateway].is_up()
                && sending.iter().any(|node| self.node(*node).region == region)
        };
        let gateways = 0..self.names.gateways;
        let witnessed = gateways.clone().any(talk)
            && gateways.filter(concerned).all(talk)
            && !self.has_home_that_flaps(room);
        let now = self.now;
        let truth = &mut self.observer.rooms[room];
        if !witnessed || truth.returned_at.is_some_and(|at| now.since(at) < SPLIT_SPAN) {
            truth.split_since = None;
            return;
        }
        let since = *truth.split_since.get_or_insert(now);
        if now.since(since) > CONVERGE_MAX {
            self.violated("two-homes", |world| {
                let homes: Vec<String> = sending
                    .iter()
                    .map(|node| {
                        let open = world.nodes[*node].shard.room(room);
                        let generation = open.map_or(0, |open| open.generation.0);
                        format!("{} ({generation})", world.node_ids[*node])
                    })
                    .collect();
                format!("room-{room} is at {} for {:?}", homes.join(" and "), now.since(since))
            });
        }
    }

    /// Whether a gateway and a node hear each other well, and can open connections.
    pub(crate) fn talks(&self, gateway: usize, node: usize) -> bool {
        let (a, b) = (&self.processes[gateway], self.node(node));
        self.net.clean(self.now, a.host, b.host)
            && b.is_up()
            && !b.untrusted
            && self.nodes[node].hung_since.is_none()
    }

    fn look_at_node(&mut self, node: usize) {
        let it = &self.nodes[node];
        let Some(until) = it.truth_until else { return };
        let serves = it.shard.rooms.iter().any(|open| !open.members.is_empty());
        if serves && self.sends(node) && self.now > until {
            self.violated("lease", |world| {
                format!("{} sends, and no gateway has heard it for a lease", world.node_ids[node])
            });
        }
        self.look_for_ghosts(node);
    }

    fn look_for_ghosts(&mut self, node: usize) {
        if !self.node(node).is_up() || self.node_disturbed(node) {
            return;
        }
        let ghost = self.nodes[node].shard.rooms.iter().flat_map(|open| &open.members).find(|m| {
            let client = &self.clients[m.client];
            client.media != Some((node, m.number))
                && self.now.since(m.heard_at) > GHOST_MAX
                && (client.is_present() || self.now.since(client.left_at) > GHOST_MAX)
        });
        if let Some(client) = ghost.map(|member| member.client) {
            self.violated("ghost", |world| {
                let (node, who) = (&world.node_ids[node], &world.clients[client].identity);
                format!("{node} still shows {who}")
            });
        }
    }

    fn look_at_client(&mut self, client: usize) {
        let now = self.now;
        let it = &self.clients[client];
        if !it.is_present() || it.stage == Stage::In && self.media_flows(client) {
            self.observer.served_since[client] = None;
            self.observer.found_out[client] = None;
            return;
        }
        let out = *self.observer.found_out[client].get_or_insert(now);
        if now.since(out.max(self.observer.healed_at)) > STUCK_MAX {
            self.violated("stuck", |world| {
                let it = &world.clients[client];
                format!(
                    "{} is out {STUCK_MAX:?} after the last fault ({:?})",
                    it.identity, it.stage
                )
            });
        }
        if !self.could_be_served(client) {
            self.observer.served_since[client] = None;
            return;
        }
        let since = *self.observer.served_since[client].get_or_insert(now);
        if now.since(since) > OUT_MAX {
            self.violated("stuck", |world| {
                let it = &world.clients[client];
                format!(
                    "{} is out for {OUT_MAX:?} ({:?}), and could be served",
                    it.identity, it.stage
                )
            });
        }
    }

    /// Whether a client would get into its call, if everybody did what they should. Whatever makes that doubtful is an excuse:
    /// a node that some gateways hear and others do not, or that this client alone does not get through to.
    fn could_be_served(&self, client: usize) -> bool {
        let it = &self.clients[client];
        let fine = |a: usize, b: usize| self.net.clean(self.now, a, b);
        // A socket that leads nowhere is given up when the SDK's own time is over.
        let waits = it.stage == Stage::Asking && it.conn.is_none();
        if waits || it.conn.is_some_and(|conn| !self.flows(conn)) {
            return false;
        }
        let gateways = 0..self.names.gateways;
        let serving: Vec<usize> = gateways.filter(|g| self.gateway_serves(*g)).collect();
        // The name's answer must lead somewhere.
        let Some(addresses) = self.would_dial(client) else { return false };
        let mut reached = false;
        for gateway in addresses {
            let process = &self.processes[gateway as usize];
            if serving.contains(&(gateway as usize)) && fine(it.host, process.host) {
                reached = true;
                break;
            }
            let refuses = process.state == crate::process::State::Dead
                && !process.off
                && fine(it.host, process.host);
            if it.sdk == Sdk::Rust && !refuses {
                return false;
            }
        }
        if !reached {
            return false;
        }
        let mut candidates = 0;
        for node in 0..self.nodes.len() {
            let process = self.node(node);
            let state = &self.nodes[node];
            if !process.is_up() {
                continue;
            }
            let dark =
                serving.iter().all(|g| !self.net.connects(self.processes[*g].host, process.host));
            if dark {
                continue;
            }
            let sound = state.hung_since.is_none()
                && !state.gray
                && !state.overloaded
                && !process.untrusted
                && fine(it.host, process.host)
                && serving.iter().all(|g| fine(self.processes[*g].host, process.host));
            if !sound {
                return false;
            }
            candidates += usize::from(!state.draining);
        }
        // Gateways that do not hear each other well may differ about what lives.
        let agreed = serving.iter().all(|a| {
            serving.iter().all(|b| a == b || fine(self.processes[*a].host, self.processes[*b].host))
        });
        candidates > 0 && agreed
    }
}
