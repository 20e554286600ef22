//! People's SDKs, as unmodified clients behave: they dial what the name says, try again on their own schedules, obey
//! `leave`, resume while their media lives, and give up in the end.

use std::time::Duration;

use outlast_model::{Identity, Time};

use crate::{
    conn::{Enter, Frame, Leave, Purpose, Want},
    event::{ConnId, Event, Timer},
    names::Answer,
    network::Host,
    retry::{MEDIA_TIMEOUT, PING_INTERVAL, PING_TIMEOUT, RACE_AFTER, Sdk, TRIES_MAX},
    rights::Token,
    world::World,
};

/// ICE and DTLS beside their two round trips, on a client's machine.
const MEDIA_WORK: Duration = Duration::from_millis(60);
/// Between two ICE checks of a path that does not answer.
const MEDIA_AGAIN: Duration = Duration::from_millis(500);

/// Where a client is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The person is not there.
    Away,
    /// Between two tries.
    Pausing,
    /// The request is on its way.
    Asking,
    /// The node has it; media is not up.
    Joining,
    /// In the call, or believes so.
    In,
    /// Given up: the call is lost to it.
    Lost,
}

/// A client.
pub(crate) struct Client {
    pub(crate) host: Host,
    pub(crate) place: usize,
    pub(crate) room: usize,
    pub(crate) sdk: Sdk,
    pub(crate) identity: Identity,
    /// Counts the times that the person has come.
    pub(crate) stay: u32,
    /// Its access token.
    pub(crate) token_held: Token,
    /// It never uses another one than its first.
    pub(crate) keeps_first: bool,
    pub(crate) stage: Stage,
    /// Timers of an earlier stage are void.
    pub(crate) token: u32,
    pub(crate) want: Want,
    pub(crate) tries: u8,
    /// It has been in the call since the person came.
    pub(crate) was_in: bool,
    dials: Vec<ConnId>,
    addresses: Answer,
    next_address: usize,
    pub(crate) names: Option<(Time, Answer)>,
    pub(crate) conn: Option<ConnId>,
    /// The node that has its transport, and the node's number for it.
    pub(crate) media: Option<(usize, u32)>,
    pub(crate) heard_at: Time,
    ponged_at: Time,
    /// When it was last in the call and then was not.
    pub(crate) out_since: Option<Time>,
    pub(crate) left_at: Time,
    /// Its last move.
    pub(crate) moved: Option<Moved>,
    /// When a gateway sent it to a node last.
    pub(crate) sent_at: Time,
    pub(crate) moves: u32,
}

/// Where a client came to last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved {
    pub(crate) node: usize,
    /// When it was sent there.
    pub(crate) sent_at: Time,
    /// When it was in.
    pub(crate) at: Time,
}

impl Client {
    pub(crate) fn new(
        host: Host,
        place: usize,
        room: usize,
        sdk: Sdk,
        identity: Identity,
    ) -> Client {
        Client {
            host,
            place,
            room,
            sdk,
            identity,
            stay: 0,
            token_held: Token::first(),
            keeps_first: false,
            stage: Stage::Away,
            token: 0,
            want: Want::Join,
            tries: 0,
            was_in: false,
            dials: Vec::new(),
            addresses: Vec::new(),
            next_address: 0,
            names: None,
            conn: None,
            media: None,
            heard_at: Time::ZERO,
            ponged_at: Time::ZERO,
            out_since: None,
            left_at: Time::ZERO,
            moved: None,
            sent_at: Time::ZERO,
            moves: 0,
        }
    }

    pub(crate) fn is_browser(&self) -> bool {
        self.sdk == Sdk::Js
    }

    pub(crate) fn is_present(&self) -> bool {
        self.stage != Stage::Away
    }
}

impl World {
    fn client_at(&mut self, after: Duration, client: usize, timer: Timer) {
        let token = self.clients[client].token;
        let event = Event::Client { client: client as u16, timer, token };
        self.queue.at(self.now + after, event);
    }

    fn enter_stage(&mut self, client: usize, stage: Stage) {
        self.clients[client].stage = stage;
        self.clients[client].token += 1;
    }

    pub(crate) fn client_timer(&mut self, client: usize, timer: Timer, token: u32) {
        match timer {
            Timer::Come => return self.person_comes(client),
            Timer::Leave => return self.person_leaves(client),
            _ => {}
        }
        if self.clients[client].token != token {
            return;
        }
        match timer {
            Timer::Attempt => self.attempt(client),
            Timer::Race => self.dial_next(client),
            Timer::TimeOut => self.try_failed(client),
            Timer::MediaUp => self.media_comes(client),
            Timer::Ping => self.ping(client),
            Timer::Come | Timer::Leave => {}
        }
    }

    fn person_comes(&mut self, client: usize) {
        if self.clients[client].is_present() {
            return;
        }
        self.note(|world| format!("{} comes", world.clients[client].identity));
        let it = &mut self.clients[client];
        (it.was_in, it.tries, it.want, it.moved) = (false, 0, Want::Join, None);
        it.out_since = Some(self.now);
        self.stay_begins(client);
        self.enter_stage(client, Stage::Pausing);
        self.client_at(Duration::ZERO, client, Timer::Attempt);
    }

    pub(crate) fn person_leaves(&mut self, client: usize) {
        if !self.clients[client].is_present() {
            return;
        }
        self.note(|world| format!("{} leaves", world.clients[client].identity));
        if let Some(conn) = self.clients[client].conn.take() {
            self.send(conn, 0, Frame::Bye);
            self.close(conn, 0);
        }
        self.drop_dials(client);
        let it = &mut self.clients[client];
        (it.media, it.out_since, it.left_at) = (None, None, self.now);
        self.enter_stage(client, Stage::Away);
    }

    fn drop_dials(&mut self, client: usize) {
        for conn in std::mem::take(&mut self.clients[client].dials) {
            self.close(conn, 0);
        }
    }

    fn attempt(&mut self, client: usize) {
        let it = &mut self.clients[client];
        let media_failed = self.now.since(it.heard_at) >= MEDIA_TIMEOUT || it.media.is_none();
        if it.want == Want::Resume && (media_failed || it.sdk == Sdk::Rust && it.tries > 0) {
            it.want = Want::Join;
        }
        if it.want == Want::Join {
            // The old peer connection is closed before the new one is made.
            it.media = None;
        }
        self.enter_stage(client, Stage::Asking);
        let Some(addresses) = self.addresses(client) else { return self.try_failed(client) };
        self.note(|world| {
            let it = &world.clients[client];
            let doors: Vec<&str> =
                addresses.iter().map(|at| world.gateway_ids[*at as usize].as_str()).collect();
            format!("{} ({:?}) tries a {:?} at {}", it.identity, it.sdk, it.want, doors.join(", "))
        });
        let it = &mut self.clients[client];
        (it.addresses, it.next_address) = (addresses, 0);
        let (span, browser) = (it.sdk.try_timeout(), it.is_browser());
        self.client_at(span, client, Timer::TimeOut);
        if browser {
            self.client_at(RACE_AFTER, client, Timer::Race);
        }
        self.dial_next(client);
    }

    /// Dials the next address, if there is one.
    fn dial_next(&mut self, client: usize) {
        let it = &mut self.clients[client];
        let Some(gateway) = it.addresses.get(it.next_address).copied() else {
            if it.dials.is_empty() && it.conn.is_none() {
                self.try_failed(client);
            }
            return;
        };
        it.next_address += 1;
        if it.conn.is_some() {
            return;
        }
        let ends = [it.host, self.processes[gateway as usize].host];
        let purpose = Purpose::Signal { client: client as u16 };
        let conn = self.conns.dial(&mut self.queue, self.now, ends, purpose);
        self.clients[client].dials.push(conn);
    }

    /// A dial was accepted (TLS included) or refused.
    pub(crate) fn client_dialled(&mut self, client: usize, conn: ConnId, accepted: bool) {
        let it = &mut self.clients[client];
        let Some(at) = it.dials.iter().position(|dial| *dial == conn) else {
            return self.close(conn, 0);
        };
        it.dials.swap_remove(at);
        if !accepted {
            return self.dial_next(client);
        }
        it.conn = Some(conn);
        self.drop_dials(client);
        let it = &self.clients[client];
        let enter = Enter {
            client: client as u16,
            want: it.want,
            generation: outlast_model::Generation(0),
            settings: None,
            token: it.token_held,
            ruling: None,
            nowhere_else: false,
        };
        self.send(conn, 0, Frame::Enter(enter));
    }

    pub(crate) fn client_frame(&mut self, client: usize, conn: ConnId, frame: Frame) {
        if self.clients[client].conn != Some(conn) {
            return;
        }
        match frame {
            Frame::Taken { node, member, resumed, token } => {
                self.client_refreshed(client, token);
                self.client_taken(client, node as usize, member, resumed);
            }
            Frame::Token(token) => self.client_refreshed(client, token),
            Frame::Unavailable => {
                // `/validate` is asked, and says no more.
                let it = &self.clients[client];
                let round_trip = 2 * self.net.latency(it.host, self.conns.get(conn).ends[1]);
                self.drop_conn(client);
                let token = self.clients[client].token;
                let event = Event::Client { client: client as u16, timer: Timer::TimeOut, token };
                self.queue.at(self.now + round_trip, event);
            }
            Frame::Leave(leave) => self.client_told(client, leave),
            Frame::Fin => self.socket_lost(client),
            _ => {}
        }
    }

    /// A refreshed token is used from then on, by those who look at it.
    fn client_refreshed(&mut self, client: usize, token: Token) {
        let it = &mut self.clients[client];
        if !it.keeps_first {
            it.token_held = token;
        }
    }

    fn client_taken(&mut self, client: usize, node: usize, member: u32, resumed: bool) {
        let it = &mut self.clients[client];
        it.ponged_at = self.now;
        if resumed {
            it.tries = 0;
            self.enter_stage(client, Stage::In);
            self.client_at(PING_INTERVAL, client, Timer::Ping);
            return;
        }
        it.media = Some((node, member));
        it.heard_at = self.now;
        let ends = (it.host, self.node(node).host);
        self.enter_stage(client, Stage::Joining);
        let span = 4 * self.net.latency(ends.0, ends.1) + MEDIA_WORK;
        self.client_at(span, client, Timer::MediaUp);
        self.client_at(PING_INTERVAL, client, Timer::Ping);
        self.client_at(MEDIA_TIMEOUT, client, Timer::TimeOut);
    }

    fn client_told(&mut self, client: usize, leave: Leave) {
        let asking = self.clients[client].stage == Stage::Asking;
        self.drop_conn(client);
        let sdk = self.clients[client].sdk;
        match leave {
            Leave::Disconnect => self.disconnected(client),
            Leave::Resume => self.reconnect(client, Want::Resume, Duration::ZERO),
            Leave::Reconnect if asking => {
                self.clients[client].want = Want::Join;
                self.enter_stage(client, Stage::Pausing);
                self.client_at(sdk.pause_when_gone(), client, Timer::Attempt);
            }
            Leave::Reconnect => self.reconnect(client, Want::Join, sdk.pause_when_told()),
        }
    }

    /// The server has ended the session for good. Nothing in these worlds gives it a reason to.
    fn disconnected(&mut self, client: usize) {
        self.enter_stage(client, Stage::Lost);
        self.clients[client].media = None;
        self.violated("disconnected", |world| {
            format!("{} was sent away for good", world.clients[client].identity)
        });
    }

    /// A session that was: its first try comes after `pause`.
    fn reconnect(&mut self, client: usize, want: Want, pause: Duration) {
        let it = &mut self.clients[client];
        if it.stage == Stage::Joining && it.tries > 0 {
            // A join that did not come to media is a try like others.
            return self.try_failed(client);
        }
        (it.want, it.tries) = (want, 0);
        it.out_since.get_or_insert(self.now);
        if want == Want::Join {
            it.media = None;
        }
        self.enter_stage(client, Stage::Pausing);
        self.client_at(pause, client, Timer::Attempt);
    }

    /// The socket ended without a word.
    fn socket_lost(&mut self, client: usize) {
        self.drop_conn(client);
        match self.clients[client].stage {
            Stage::Asking => self.try_failed(client),
            Stage::Joining => self.reconnect(client, Want::Join, Duration::from_millis(50)),
            Stage::In => {
                let pause = self.clients[client].sdk.pause(0, &mut self.sdk_chance);
                self.reconnect(client, Want::Resume, pause);
            }
            Stage::Away | Stage::Pausing | Stage::Lost => {}
        }
    }

    pub(crate) fn client_reset(&mut self, client: usize, conn: ConnId) {
        if self.clients[client].conn == Some(conn) {
            self.socket_lost(client);
        }
    }

    fn drop_conn(&mut self, client: usize) {
        if let Some(conn) = self.clients[client].conn.take() {
            self.close(conn, 0);
        }
    }

    /// This try was in vain.
    pub(crate) fn try_failed(&mut self, client: usize) {
        self.drop_conn(client);
        self.drop_dials(client);
        let it = &mut self.clients[client];
        it.tries += 1;
        if it.sdk == Sdk::Rust || it.stage == Stage::Joining {
            // The Rust core closes its peer connection with the first try that fails.
            it.media = None;
        }
        let sdk = it.sdk;
        let (tries, was_in) = (it.tries, it.was_in);
        if was_in && tries >= TRIES_MAX {
            return self.give_up(client);
        }
        let pause = if was_in {
            sdk.pause(tries, &mut self.sdk_chance)
        } else if tries % sdk.first_tries() == 0 {
            // The person, or the application, tries again.
            self.sdk_chance.millis(1_000, 3_000)
        } else {
            Duration::from_millis(20)
        };
        self.enter_stage(client, Stage::Pausing);
        self.client_at(pause, client, Timer::Attempt);
    }

    fn give_up(&mut self, client: usize) {
        self.clients[client].media = None;
        self.enter_stage(client, Stage::Lost);
        self.lost(client);
        // The person calls again.
        self.clients[client].was_in = false;
        self.clients[client].tries = 0;
        self.clients[client].want = Want::Join;
        self.enter_stage(client, Stage::Pausing);
        let pause = self.sdk_chance.millis(2_000, 6_000);
        self.client_at(pause, client, Timer::Attempt);
    }

    fn media_comes(&mut self, client: usize) {
        if !self.media_flows(client) {
            return self.client_at(MEDIA_AGAIN, client, Timer::MediaUp);
        }
        let Some((node, member)) = self.clients[client].media else { return };
        let it = &mut self.clients[client];
        it.stage = Stage::In;
        // The time-out of the join is void, the pings go on.
        it.token += 1;
        (it.tries, it.was_in, it.heard_at) = (0, true, self.now);
        self.client_at(PING_INTERVAL, client, Timer::Ping);
        self.member_connected(node, member);
        self.arrived(client, node);
    }

    fn ping(&mut self, client: usize) {
        if self.signalling_flows(client) {
            self.clients[client].ponged_at = self.now;
            if let Some((node, member)) = self.clients[client].media {
                self.member_spoke(node, member);
            }
        }
        if self.media_flows(client) {
            self.clients[client].heard_at = self.now;
        }
        let it = &self.clients[client];
        if self.now.since(it.ponged_at) >= PING_TIMEOUT {
            if let Some(conn) = self.clients[client].conn {
                self.abort(conn, 0);
            }
            return self.socket_lost(client);
        }
        if it.stage == Stage::In && self.now.since(it.heard_at) >= MEDIA_TIMEOUT {
            self.drop_conn(client);
            return self.reconnect(client, Want::Join, Duration::from_millis(20));
        }
        self.client_at(PING_INTERVAL, client, Timer::Ping);
    }
}
