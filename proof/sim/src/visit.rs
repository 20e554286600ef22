//! A client's visit at a gateway: the request, the dials that the role orders, the socket that is carried, and its end.

use std::{sync::Arc, time::Duration};

use outlast_gateway_core::{AskId, Goal, Input, NodeRefusal, Placement, Session, Unplaced, Why};
use outlast_model::{RoomSettings, Ruling, RulingVersion, SessionId, Time};

use crate::{
    conn::{Enter, Frame, Leave, No, Purpose, Want},
    event::{ConnId, Event},
    rights::Token,
    world::World,
};

/// TCP and TLS to a node.
const CONNECT_MAX: Duration = Duration::from_millis(1_200);
/// From the dial to the node's answer.
const ANSWER_MAX: Duration = Duration::from_millis(3_500);

/// Somebody at the door, or inside.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    pub(crate) client: usize,
    /// The client's own connection.
    pub(crate) conn: ConnId,
    pub(crate) want: Want,
    /// The client's.
    pub(crate) token: Token,
    /// The way to the node.
    pub(crate) proxy: Option<ConnId>,
    pub(crate) order: Option<Order>,
    pub(crate) stage: Stage,
    /// When the link to the node broke.
    pub(crate) broken_at: Time,
    /// Orders so far.
    pub(crate) orders: u32,
    /// One end has taken leave: what follows needs no form.
    pub(crate) left: bool,
}

/// Where the role has sent a visit last.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) placement: Placement,
    pub(crate) nowhere_else: bool,
    pub(crate) settings: Option<Arc<RoomSettings>>,
    pub(crate) ruling: Option<Ruling>,
    /// For the observer: the newest ruling of the client that the gateway had been told by then.
    pub(crate) told: RulingVersion,
    pub(crate) at: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The role is looking for a node, or the node is asked.
    Asking,
    /// Frames flow.
    Open,
    /// The link to the node broke; the role will say what to do.
    Broken,
    Over,
}

impl World {
    /// Something on a client's connection.
    pub(crate) fn signal_frame(&mut self, gateway: usize, conn: ConnId, frame: Frame) {
        match frame {
            Frame::Enter(enter) => self.knock(gateway, conn, &enter),
            Frame::Bye => {
                let Some(visit) = self.visit(gateway, conn) else { return };
                visit.left = true;
                if let Some(proxy) = visit.proxy {
                    self.send(proxy, 0, Frame::Bye);
                }
            }
            Frame::Fin => self.client_gone(gateway, conn),
            _ => {}
        }
    }

    fn visit(&mut self, gateway: usize, conn: ConnId) -> Option<&mut Visit> {
        let tag = self.conns.get(conn).tag as usize;
        self.gateways[gateway].visits.get_mut(tag).filter(|visit| visit.conn == conn)
    }

    fn knock(&mut self, gateway: usize, conn: ConnId, enter: &Enter) {
        let visits = &mut self.gateways[gateway].visits;
        let ask = AskId(visits.len() as u64);
        visits.push(Visit {
            client: enter.client as usize,
            conn,
            want: enter.want,
            token: enter.token,
            proxy: None,
            order: None,
            stage: Stage::Asking,
            broken_at: Time::ZERO,
            orders: 0,
            left: false,
        });
        self.conns.get_mut(conn).tag = ask.0 as u32;
        self.observer.asks += 1;
        let client = &self.clients[enter.client as usize];
        let (room, identity) = (self.room_names[client.room].clone(), client.identity.clone());
        let goal = match enter.want {
            Want::Join => Goal::Join,
            Want::Resume => Goal::Resume,
        };
        self.gateway(gateway, Input::Ask { ask, room, client: identity, goal, near: None });
    }

    fn client_gone(&mut self, gateway: usize, conn: ConnId) {
        let tag = self.conns.get(conn).tag as usize;
        let Some(visit) = self.visit(gateway, conn) else { return };
        let (stage, proxy) = (visit.stage, visit.proxy);
        visit.stage = Stage::Over;
        if let Some(proxy) = proxy {
            self.close(proxy, 0);
        }
        match stage {
            Stage::Asking => self.gateway(gateway, Input::Withdrawn { ask: AskId(tag as u64) }),
            Stage::Open | Stage::Broken => {
                self.gateway(gateway, Input::Closed { session: SessionId(tag as u64) });
            }
            Stage::Over => {}
        }
    }

    pub(crate) fn go(&mut self, gateway: usize, visit: usize, order: Order) {
        let room = self.clients[self.gateways[gateway].visits[visit].client].room;
        let mut order = order;
        if self.knobs.no_failover {
            let first = &mut self.gateways[gateway].first_homes[room];
            order.placement.node = first.get_or_insert(order.placement.node).clone();
        }
        self.check_settings(gateway, room, &order.placement, order.settings.as_deref());
        let node = self.node_number(&order.placement.node);
        let it = &mut self.gateways[gateway].visits[visit];
        if it.stage != Stage::Asking {
            return;
        }
        let (first, client) = (it.orders == 0, it.client);
        if first {
            self.look_at_order(gateway, client, &order.placement);
        }
        let it = &mut self.gateways[gateway].visits[visit];
        let before = it.proxy.take();
        it.order = Some(order);
        it.orders += 1;
        if let Some(before) = before {
            self.close(before, 0);
        }
        self.note(|world| {
            let (name, client) = (&world.gateway_ids[gateway], &world.clients[client].identity);
            let order = world.gateways[gateway].visits[visit].order.as_ref();
            let generation = order.map_or(0, |order| order.placement.generation.0);
            format!("{name} sends {client} to {} under {generation}", world.node_ids[node])
        });
        self.goes(gateway, client, node);
        let ends = [self.processes[gateway].host, self.node(node).host];
        let purpose =
            Purpose::Proxy { gateway: gateway as u16, node: node as u16, visit: visit as u32 };
        let conn = self.conns.dial(&mut self.queue, self.now, ends, purpose);
        self.gateways[gateway].visits[visit].proxy = Some(conn);
        self.queue.at(self.now + CONNECT_MAX, Event::DialLate { conn });
    }

    /// A dial to a node, or its answer, takes too long.
    pub(crate) fn dial_late(&mut self, conn: ConnId) {
        let Purpose::Proxy { gateway, visit, .. } = self.conns.get(conn).purpose else { return };
        let (gateway, visit) = (gateway as usize, visit as usize);
        let it = self.gateways[gateway].visits.get(visit);
        if it.is_none_or(|it| it.proxy != Some(conn) || it.stage != Stage::Asking) {
            return;
        }
        if self.conns.get(conn).tag == ASKED {
            // It is through; the answer has its own deadline.
            self.conns.get_mut(conn).tag = u32::MAX;
            let event = Event::DialLate { conn };
            return self.queue.at(self.now + (ANSWER_MAX - CONNECT_MAX), event);
        }
        self.close(conn, 0);
        self.unreached(gateway, visit, false);
    }

    fn unreached(&mut self, gateway: usize, visit: usize, connection_refused: bool) {
        self.gateways[gateway].visits[visit].proxy = None;
        let ask = AskId(visit as u64);
        self.gateway(gateway, Input::Unreached { ask, connection_refused });
    }

    pub(crate) fn proxy_dialled(
        &mut self,
        gateway: usize,
        visit: u32,
        conn: ConnId,
        accepted: bool,
    ) {
        let number = visit as usize;
        let Some(visit) = self.gateways[gateway].visits.get(number) else { return };
        if visit.proxy != Some(conn) || visit.stage != Stage::Asking {
            return self.close(conn, 0);
        }
        if !accepted {
            let there = &self.processes[self.conns.get(conn).ends[1]];
            let refused = !there.untrusted;
            return self.unreached(gateway, number, refused);
        }
        let order = visit.order.as_ref().expect("a visit that dials was placed");
        let enter = Enter {
            client: visit.client as u16,
            want: visit.want,
            generation: order.placement.generation,
            settings: order.settings.clone(),
            token: visit.token,
            ruling: order.ruling.clone(),
            nowhere_else: order.nowhere_else,
        };
        self.conns.get_mut(conn).tag = ASKED;
        self.send(conn, 0, Frame::Enter(enter));
    }

    /// Something on a connection to a node.
    pub(crate) fn proxy_frame(&mut self, gateway: usize, visit: u32, conn: ConnId, frame: Frame) {
        let number = visit as usize;
        let Some(visit) = self.gateways[gateway].visits.get(number) else { return };
        if visit.proxy != Some(conn) {
            return;
        }
        let (client_conn, stage, want) = (visit.conn, visit.stage, visit.want);
        let session = SessionId(number as u64);
        match frame {
            Frame::Taken { .. } => {
                self.open(gateway, number);
                self.send(client_conn, 1, frame);
                if want == Want::Join {
                    self.gateway(gateway, Input::Answered { session });
                }
            }
            Frame::Leave(_) => {
                if stage == Stage::Asking {
                    self.open(gateway, number);
                }
                self.gateways[gateway].visits[number].left = true;
                self.send(client_conn, 1, frame);
            }
            Frame::Token(_) => self.send(client_conn, 1, frame),
            Frame::Active => self.gateway(gateway, Input::Reached { session }),
            Frame::Refused { why } => {
                self.gateways[gateway].visits[number].proxy = None;
                let why = refusal(why);
                self.gateway(gateway, Input::Refused { ask: AskId(number as u64), why });
            }
            Frame::Fin => match stage {
                Stage::Asking => self.unreached(gateway, number, false),
                Stage::Open | Stage::Broken => self.end(gateway, number),
                Stage::Over => {}
            },
            _ => {}
        }
    }

    fn open(&mut self, gateway: usize, number: usize) {
        let visit = &mut self.gateways[gateway].visits[number];
        if visit.stage != Stage::Asking {
            return;
        }
        visit.stage = Stage::Open;
        let order = visit.order.clone().expect("a visit that is answered was placed");
        let client = &self.clients[visit.client];
        let at = Session {
            room: self.room_names[client.room].clone(),
            client: client.identity.clone(),
            node: order.placement.node,
            generation: order.placement.generation,
        };
        let (session, ask) = (SessionId(number as u64), AskId(number as u64));
        self.gateway(gateway, Input::Opened { session, ask, at });
    }

    /// The visit is over, and the client's connection closed.
    fn end(&mut self, gateway: usize, number: usize) {
        let visit = &mut self.gateways[gateway].visits[number];
        visit.stage = Stage::Over;
        let (conn, proxy) = (visit.conn, visit.proxy.take());
        self.close(conn, 1);
        if let Some(proxy) = proxy {
            self.close(proxy, 0);
        }
        self.gateway(gateway, Input::Closed { session: SessionId(number as u64) });
    }

    /// A connection to a node was reset.
    pub(crate) fn proxy_lost(&mut self, gateway: usize, visit: u32, conn: ConnId) {
        let number = visit as usize;
        let Some(visit) = self.gateways[gateway].visits.get_mut(number) else { return };
        if visit.proxy != Some(conn) {
            return;
        }
        match visit.stage {
            Stage::Asking => self.unreached(gateway, number, false),
            Stage::Open if visit.left => self.end(gateway, number),
            Stage::Open => {
                (visit.stage, visit.broken_at) = (Stage::Broken, self.now);
                self.gateway(gateway, Input::LinkLost { session: SessionId(number as u64) });
            }
            Stage::Broken | Stage::Over => {}
        }
    }

    pub(crate) fn unplaced(&mut self, gateway: usize, number: usize, why: Unplaced) {
        let visit = &mut self.gateways[gateway].visits[number];
        if visit.stage != Stage::Asking {
            return;
        }
        visit.stage = Stage::Over;
        let (conn, proxy) = (visit.conn, visit.proxy.take());
        let client = visit.client;
        if let Some(proxy) = proxy {
            self.close(proxy, 0);
        }
        self.note(|world| {
            let (gateway, client) = (&world.gateway_ids[gateway], &world.clients[client].identity);
            format!("{gateway} turns {client} away: {why:?}")
        });
        let frame = match why {
            Unplaced::Gone => Frame::Leave(Leave::Reconnect),
            _ => Frame::Unavailable,
        };
        self.send(conn, 1, frame);
        self.close(conn, 1);
    }

    pub(crate) fn tell(&mut self, gateway: usize, number: usize, why: Why) {
        if self.knobs.no_failover {
            return;
        }
        let visit = &mut self.gateways[gateway].visits[number];
        if !matches!(visit.stage, Stage::Open | Stage::Broken) {
            return;
        }
        let (client, conn) = (visit.client, visit.conn);
        let node = visit.order.as_ref().map(|order| order.placement.node.clone());
        let node = node.map(|id| self.node_number(&id)).expect("an open visit was placed");
        self.note(|world| {
            let (gateway, client) = (&world.gateway_ids[gateway], &world.clients[client].identity);
            format!("{gateway} tells {client}: {}", why.as_str())
        });
        self.was_told(gateway, client, node, why);
        if !why.resumes() {
            self.send(conn, 1, Frame::Leave(Leave::Reconnect));
        }
        // The seat is freed; outputs are being carried out, so the role hears of it when that is done.
        let visit = &mut self.gateways[gateway].visits[number];
        visit.stage = Stage::Over;
        let proxy = visit.proxy.take();
        self.close(conn, 1);
        if let Some(proxy) = proxy {
            self.close(proxy, 0);
        }
        self.gateway(gateway, Input::Closed { session: SessionId(number as u64) });
    }
}

/// A connection's tag once the request was sent.
const ASKED: u32 = u32::MAX - 1;

fn refusal(why: No) -> NodeRefusal {
    match why {
        No::Stale { known } => NodeRefusal::Stale(known),
        No::Full => NodeRefusal::Full,
        No::Draining => NodeRefusal::Draining,
        No::Busy => NodeRefusal::Busy,
        No::Fenced => NodeRefusal::Other,
    }
}
