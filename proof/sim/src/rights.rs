//! Who may do what: operators change it through the server API, nodes and gateways carry it along (the real [`Stays`] and the
//! real role), and nobody is ever let in with less, or more, than what was acknowledged last.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use outlast_gateway_core::Located;
use outlast_model::{AWAY_KEPT, Identity, Ruling, RulingVersion, Time};
use outlast_tenure::Input;

use crate::{
    chance::Stream,
    conn::{Frame, Purpose},
    event::{ConnId, Event, Slots},
    shard::{Member, Room},
    world::World,
};

/// Most rulings of a run.
const RULINGS_MAX: u64 = 6;
/// By then every gateway that hears a home well knows what was ruled there.
const NEWS_MAX: Duration = Duration::from_secs(1);
/// Who was out of the call for longer may have been taken for gone; it is seen as a participant for a while first.
const STAY_MIN: Duration = Duration::from_secs(AWAY_KEPT.as_secs() - 5);

/// What somebody may do, at the grain of these worlds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rights {
    pub(crate) publish: bool,
    pub(crate) subscribe: bool,
}

impl Rights {
    /// What every token grants at first.
    pub(crate) const FIRST: Rights = Rights { publish: true, subscribe: true };

    fn bytes(self) -> Arc<[u8]> {
        [u8::from(self.publish), u8::from(self.subscribe)].into()
    }

    fn of(ruling: &Ruling) -> Rights {
        let [publish, subscribe] = *ruling.permission else { panic!("made by another world") };
        Rights { publish: publish != 0, subscribe: subscribe != 0 }
    }
}

/// A token: its rights, and the ruling that they come of. Also what a session has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) version: RulingVersion,
    pub(crate) rights: Rights,
}

impl Token {
    /// As the application makes it.
    pub(crate) fn first() -> Token {
        Token { version: RulingVersion::default(), rights: Rights::FIRST }
    }

    pub(crate) fn of(ruling: &Ruling) -> Token {
        Token { version: ruling.version, rights: Rights::of(ruling) }
    }

    /// What it says that others may not know.
    pub(crate) fn ruling(self) -> Option<Ruling> {
        let ruled = self.version > RulingVersion::default();
        ruled.then(|| Ruling { version: self.version, permission: self.rights.bytes() })
    }
}

/// An operator's request on its way.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    gateway: usize,
    node: usize,
    /// The lives of both.
    lives: [u16; 2],
    client: usize,
    rights: Rights,
    /// What came of it, and the visit of the person that it was for.
    made: Option<(RulingVersion, u32)>,
}

impl Call {
    pub(crate) fn processes(&self, gateways: usize) -> [usize; 2] {
        [self.gateway, gateways + self.node]
    }
}

/// The last ruling of a stay that an operator was told to be done.
#[derive(Clone, Copy, Debug)]
struct Acknowledged {
    version: RulingVersion,
    at: Time,
    node: usize,
}

/// What is true of one client.
#[derive(Clone, Debug, Default)]
struct Truth {
    /// Two homes of one generation may have made one each.
    made: BTreeMap<RulingVersion, Vec<Rights>>,
    acknowledged: Option<Acknowledged>,
}

/// The operators, and what the observer knows of their work.
pub(crate) struct Operators {
    chance: Stream,
    pub(crate) calls: Slots<Call>,
    clients: Vec<Truth>,
    /// Sessions that were looked at while a ruling was to be obeyed, and those that could not know.
    pub(crate) looked: u64,
    pub(crate) excused: u64,
}

impl Operators {
    pub(crate) fn new(seed: u64, clients: usize) -> Operators {
        Operators {
            chance: Stream::named(seed, "rights"),
            calls: Slots::default(),
            clients: vec![Truth::default(); clients],
            looked: 0,
            excused: 0,
        }
    }
}

impl World {
    /// When operators act, and who keeps the token that it came with.
    pub(crate) fn plan_rulings(&mut self) {
        if !self.schedule.world.rulings {
            return;
        }
        for client in 0..self.clients.len() {
            self.clients[client].keeps_first = self.operators.chance.hits(400);
        }
        for _ in 0..self.operators.chance.below(RULINGS_MAX + 1) {
            let at = self.now + self.operators.chance.millis(15_000, 225_000);
            let client = self.operators.chance.index(self.clients.len()) as u16;
            // One word is often followed by another.
            let more = u32::from(self.operators.chance.hits(300));
            for n in 0..=more {
                self.queue.at(at + Duration::from_secs(3) * n, Event::Rule { client });
            }
        }
    }

    /// An operator changes what a client may do, through whichever gateway.
    pub(crate) fn operator_rules(&mut self, client: usize) {
        let up = (0..self.names.gateways).filter(|gateway| self.processes[*gateway].is_up());
        let up: Vec<usize> = up.collect();
        let chance = &mut self.operators.chance;
        let gateway = chance.index(up.len());
        let rights = Rights { publish: chance.hits(400), subscribe: chance.hits(600) };
        let Some(gateway) = up.get(gateway).copied() else { return };
        let room = self.room_names[self.clients[client].room].clone();
        let Some((role, _)) = self.role_at(gateway) else { return };
        let Located::At(placement) = role.locate(&room) else { return };
        let node = self.node_number(&placement.node);
        let ends = [self.processes[gateway].host, self.node(node).host];
        if self.node(node).off || self.node(node).untrusted || !self.net.passes(ends[0], ends[1]) {
            return;
        }
        let lives = [self.processes[gateway].life, self.node(node).life];
        let call = Call { gateway, node, lives, client, rights, made: None };
        let slot = self.operators.calls.put(call);
        self.queue.at(self.now + self.net.latency(ends[0], ends[1]), Event::RuleCall { slot });
    }

    /// The request has come to the node.
    pub(crate) fn rule_called(&mut self, slot: u32) {
        let mut call = self.operators.calls.take(slot);
        let Call { gateway, node, client, rights, .. } = call;
        let process = self.node(node);
        if !process.is_up()
            || process.life != call.lives[1]
            || self.nodes[node].hung_since.is_some()
        {
            return;
        }
        let Some(version) = self.shard_rules(node, client, rights) else { return };
        call.made = Some((version, self.clients[client].stay));
        let ends = [self.node(node).host, self.processes[gateway].host];
        if self.net.passes(ends[0], ends[1]) {
            let slot = self.operators.calls.put(call);
            let at = self.now + self.net.latency(ends[0], ends[1]);
            self.queue.at(at, Event::RuleAnswer { slot });
        }
    }

    fn shard_rules(&mut self, node: usize, client: usize, rights: Rights) -> Option<RulingVersion> {
        let now = self.now;
        let (room, identity) = (self.clients[client].room, self.clients[client].identity.clone());
        let open = self.nodes[node].shard.room_mut(room)?;
        open.members.iter().find(|member| member.client == client)?;
        let ruling = open.stays.rule(open.generation, &identity, rights.bytes());
        open.ruled_at = now;
        let (token, mut told) = (Token::of(&ruling), Vec::new());
        let sessions = open.members.iter_mut().chain(&mut open.successors);
        for member in sessions.filter(|member| member.client == client) {
            member.token = token;
            told.extend(member.conn);
        }
        let made = &mut self.operators.clients[client].made;
        made.entry(token.version).or_default().push(rights);
        self.note(|world| {
            format!("{} rules {} of {identity}: {rights:?}", world.node_ids[node], token.version)
        });
        let room = self.room_names[room].clone();
        self.tenure(node, Input::Ruled { room, identity, ruling: Some(ruling) });
        for conn in told {
            self.send(conn, 1, Frame::Token(token));
        }
        Some(token.version)
    }

    /// The operator is told that it is done.
    pub(crate) fn rule_answered(&mut self, slot: u32) {
        let Call { gateway, node, lives, client, made, .. } = self.operators.calls.take(slot);
        let process = &self.processes[gateway];
        let Some((version, stay)) = made else { return };
        let it = &self.clients[client];
        if !process.is_up() || process.life != lives[0] || it.stay != stay || !it.is_present() {
            return;
        }
        self.note(|_| format!("the operator knows of {version} of client-{client}"));
        let truth = &mut self.operators.clients[client];
        if truth.acknowledged.is_none_or(|before| before.version < version) {
            truth.acknowledged = Some(Acknowledged { version, at: self.now, node });
        }
    }

    /// Whoever comes now comes with a token of its own, and nothing has been ruled of it.
    pub(crate) fn stay_begins(&mut self, client: usize) {
        let it = &mut self.clients[client];
        (it.stay, it.token_held) = (it.stay + 1, Token::first());
        self.operators.clients[client].acknowledged = None;
    }

    /// A room is over, as far as anybody can know.
    pub(crate) fn stays_end(&mut self, room: usize) {
        for (client, truth) in self.operators.clients.iter_mut().enumerate() {
            if self.clients[client].room == room {
                truth.acknowledged = None;
            }
        }
    }

    /// A client has left a room, or was away from it for too long.
    pub(crate) fn end_stay(&mut self, node: usize, room: usize, client: usize) {
        let identity = self.clients[client].identity.clone();
        let Some(open) = self.nodes[node].shard.room_mut(room) else { return };
        let here = open.sessions().any(|member| member.client == client);
        if !here && open.stays.end(&identity) {
            let room = self.room_names[room].clone();
            self.tenure(node, Input::Ruled { room, identity, ruling: None });
        }
    }

    /// Ends the stays of those who have been away for too long.
    pub(crate) fn end_stays(&mut self, node: usize) {
        let now = self.now;
        let mut overdue = Vec::new();
        for open in &mut self.nodes[node].shard.rooms {
            let here: Vec<&str> = open
                .members
                .iter()
                .chain(&open.successors)
                .map(|member| self.clients[member.client].identity.as_str())
                .collect();
            for identity in open.stays.overdue(now, |identity| here.contains(&identity.as_str())) {
                overdue.push((open.room, identity));
            }
        }
        for (room, identity) in overdue {
            let client = self.clients.iter().position(|it| it.identity == identity);
            self.end_stay(node, room, client.expect("rulings are made of clients"));
        }
    }

    // What must hold.

    /// A gateway was told of a ruling.
    pub(crate) fn ruling_told(&mut self, gateway: usize, identity: &str, version: RulingVersion) {
        let client = self.clients.iter().position(|it| it.identity.as_str() == identity);
        let told = &mut self.gateways[gateway].told_rulings;
        let told = &mut told[client.expect("rulings are made of clients")];
        *told = version.max(*told);
    }

    /// A gateway has heard that a room is over, and knows no other home of it: it forgets the rulings soon.
    pub(crate) fn rulings_void(&mut self, gateway: usize, room: usize) {
        let Some((role, _)) = self.role_at(gateway) else { return };
        if role.view().home(&self.room_names[room]).is_some() {
            return;
        }
        for (client, told) in self.gateways[gateway].told_rulings.iter_mut().enumerate() {
            if self.clients[client].room == room {
                *told = RulingVersion::default();
            }
        }
    }

    /// `node` has let somebody in, whom `gateway` has sent: with the rights of the last ruling that was acknowledged. Nobody on
    /// the way could know of it when the gateway had not been told in its present life when it sent the client (the stream was
    /// cut; that it is told when it is not is looked at by [`World::look_at_rulings`]), or when the client was out for so long
    /// that it had left.
    pub(crate) fn look_at_admitted(&mut self, conn: ConnId, node: usize, number: u32) {
        let Purpose::Proxy { gateway, visit, .. } = self.conns.get(conn).purpose else { return };
        let gateway = gateway as usize;
        let visit = self.gateways[gateway].visits.get(visit as usize);
        // An attempt that the gateway has given up since, for a better one: nobody comes in by it, and what was known when it
        // was made is forgotten.
        let Some(visit) = visit.filter(|visit| visit.proxy == Some(conn)) else { return };
        let told = visit.order.as_ref().map(|order| order.told);
        let Some((client, token)) = self.session(node, number) else { return };
        self.look_at_token(node, client, token);
        let Some(last) = self.operators.clients[client].acknowledged else { return };
        self.operators.looked += 1;
        if token.version >= last.version {
            return;
        }
        let out = self.clients[client].out_since;
        let gone = out.is_some_and(|since| self.now.since(since) >= STAY_MIN);
        if gone || told.is_none_or(|told| told < last.version) {
            self.operators.clients[client].acknowledged = None;
            self.operators.excused += 1;
            return;
        }
        self.violated("rights", |world| {
            let (gateway, node) = (&world.gateway_ids[gateway], &world.node_ids[node]);
            let (who, is) = (&world.clients[client].identity, token.version);
            format!("{gateway} knows {} of {who}, and {node} lets it in with {is}", last.version)
        });
    }

    pub(crate) fn session(&self, node: usize, number: u32) -> Option<(usize, Token)> {
        let mut sessions = self.nodes[node].shard.rooms.iter().flat_map(|open| open.sessions());
        let found = sessions.find(|member| member.number == number)?;
        Some((found.client, found.token))
    }

    /// Rights are those that go with the version, wherever it has been.
    fn look_at_token(&mut self, node: usize, client: usize, token: Token) {
        let made = &self.operators.clients[client].made;
        let right = match made.get(&token.version) {
            Some(made) => made.contains(&token.rights),
            None => token == Token::first(),
        };
        if !right {
            self.violated("rights", |world| {
                let (node, who) = (&world.node_ids[node], &world.clients[client].identity);
                format!("{who} has {token:?} at {node}, which nobody has ruled")
            });
        }
    }

    /// Everybody at a node, twice a second: whom it sends media to, and from whom, by the rights of both.
    pub(crate) fn look_at_rights(&mut self, node: usize) {
        if !self.sends(node) {
            return;
        }
        for at in 0..self.nodes[node].shard.rooms.len() {
            let room = self.nodes[node].shard.rooms[at].room;
            for member in 0..self.nodes[node].shard.rooms[at].members.len() {
                self.look_at_member(
                    node,
                    room,
                    self.nodes[node].shard.rooms[at].members[member].clone(),
                );
            }
        }
    }

    fn look_at_member(&mut self, node: usize, room: usize, member: Member) {
        let Member { client, number, token, joined_at, .. } = member;
        if self.clients[client].room != room {
            return self.violated("rights", |world| {
                format!("{} is served in room-{room}", world.clients[client].identity)
            });
        }
        self.look_at_token(node, client, token);
        let Some(last) = self.operators.clients[client].acknowledged else { return };
        if self.clients[client].media != Some((node, number)) {
            return;
        }
        self.operators.looked += 1;
        if token.version >= last.version {
            return;
        }
        // It was ruled at another home of the room after this one had taken the client in.
        if last.node != node && joined_at <= last.at {
            self.operators.clients[client].acknowledged = None;
            self.operators.excused += 1;
            return;
        }
        self.violated("rights", |world| {
            let (node, who) = (&world.node_ids[node], &world.clients[client].identity);
            format!("{who} has {} at {node}, not {}", token.version, last.version)
        });
    }

    /// Gateways know what is ruled at the homes that they hear well.
    pub(crate) fn look_at_rulings(&mut self, gateway: usize) {
        let Some((node, who, version)) = self.unknown_ruling(gateway) else { return };
        self.violated("rights", |world| {
            let (gateway, node) = (&world.gateway_ids[gateway], &world.node_ids[node]);
            format!("{gateway} does not know {version} of {who} at {node}")
        });
    }

    /// A ruling that `gateway` should know and does not.
    fn unknown_ruling(&self, gateway: usize) -> Option<(usize, Identity, RulingVersion)> {
        let (role, _) = self.role_at(gateway).filter(|_| self.is_calm(gateway))?;
        let view = role.view();
        let ruled = |open: &&Room| open.stays.rulings().next().is_some();
        let rules = |node: &usize| self.nodes[*node].shard.rooms.iter().any(|open| ruled(&open));
        let nodes = (0..self.nodes.len()).filter(rules);
        for node in nodes.filter(|node| self.hears(gateway, *node)) {
            for open in self.nodes[node].shard.rooms.iter().filter(ruled) {
                // It may be lost on the way, and lost again.
                let young = self.now.since(open.ruled_at) < NEWS_MAX * 2;
                // Of two homes that do not know of each other, each has its own.
                if young || self.hosts(open.room).count() > 1 {
                    continue;
                }
                let name = &self.room_names[open.room];
                let obeyed = |(who, ruling): &(&Identity, &Ruling)| {
                    self.is_obeyed(node, open, who, ruling.version)
                };
                let mut held = open.stays.rulings().filter(obeyed);
                let unknown = held.find(|(who, ruling)| view.ruling(name, who) < Some(*ruling));
                if let Some((who, ruling)) = unknown {
                    return Some((node, who.clone(), ruling.version));
                }
            }
        }
        None
    }

    /// Whether a home holds this ruling for the present stay of somebody who is really there: an older home may hold what a
    /// later one has ended.
    fn is_obeyed(&self, node: usize, open: &Room, who: &Identity, version: RulingVersion) -> bool {
        open.members.iter().any(|member| {
            let client = &self.clients[member.client];
            let last = self.operators.clients[member.client].acknowledged;
            client.identity == *who
                && client.media == Some((node, member.number))
                && last.is_some_and(|last| last.version <= version)
        })
    }

    fn is_calm(&self, gateway: usize) -> bool {
        let process = &self.processes[gateway];
        process.is_up() && process.disturbed_until < self.now
    }

    /// Whether nothing has been between a gateway and a node for a while.
    fn hears(&self, gateway: usize, node: usize) -> bool {
        self.talks(gateway, node)
            && self.node(node).disturbed_until < self.now
            && self.gateways[gateway].streams[node].open().is_some_and(|conn| self.flows(conn))
    }
}
