//! The shell's part of room streams: dialled for ever, looked after with pings, taken for dead when silent.

use std::time::Duration;

use outlast_gateway_core::{Input, StreamEvent};
use outlast_model::Time;
use outlast_wire::RoomFrame;

use crate::{
    conn::{Frame, Purpose},
    event::{ConnId, Event},
    world::World,
};

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_millis(1_000);
/// Between two pings on a stream.
const LOOK_INTERVAL: Duration = Duration::from_millis(1_000);
/// Silence after which the stream is opened anew: a connection may be dead at one end only.
const SILENCE_MAX: Duration = Duration::from_millis(3_000);
/// TCP and TLS.
const CONNECT_MAX: Duration = Duration::from_millis(1_200);

/// One gateway's stream of one node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    conn: Option<ConnId>,
    connected: bool,
    backoff: Duration,
    /// When it is looked after next; an event of another time is void.
    due: Time,
    /// When the peer was heard last, or the dial began.
    heard_at: Time,
}

impl Stream {
    /// The connection, when frames may be sent on it.
    pub(crate) fn open(&self) -> Option<ConnId> {
        self.conn.filter(|_| self.connected)
    }
}

impl World {
    pub(crate) fn start_streams(&mut self, gateway: usize) {
        for node in 0..self.nodes.len() {
            self.stream_in(gateway, node, Duration::from_millis(1));
        }
    }

    fn stream_in(&mut self, gateway: usize, node: usize, after: Duration) {
        let (life, due) = (self.processes[gateway].life, self.now + after);
        self.gateways[gateway].streams[node].due = due;
        let (gateway, node) = (gateway as u16, node as u16);
        self.queue.at(due, Event::Stream { gateway, node, life });
    }

    /// Dials, pings, or gives up a stream, as it is due.
    pub(crate) fn look_after_stream(&mut self, gateway: usize, node: usize, life: u16) {
        let process = &self.processes[gateway];
        if process.life != life || !process.is_up() {
            return;
        }
        let now = self.now;
        if now < self.gateways[gateway].streams[node].due {
            return;
        }
        let Some(conn) = self.gateways[gateway].streams[node].conn else {
            return self.dial_stream(gateway, node);
        };
        let flows = self.flows(conn);
        let stream = &mut self.gateways[gateway].streams[node];
        if stream.connected && flows {
            stream.heard_at = now;
        }
        let span = if stream.connected { SILENCE_MAX } else { CONNECT_MAX };
        if now.since(stream.heard_at) < span {
            return self.stream_in(gateway, node, LOOK_INTERVAL.min(span));
        }
        let was_open = std::mem::take(&mut stream.connected);
        stream.conn = None;
        self.abort(conn, 0);
        self.redial(gateway, node);
        if was_open {
            let node = self.node_ids[node].clone();
            self.gateway(gateway, Input::Stream { node, event: StreamEvent::Stale });
        }
    }

    fn dial_stream(&mut self, gateway: usize, node: usize) {
        let ends = [self.processes[gateway].host, self.node(node).host];
        let purpose = Purpose::Rooms { gateway: gateway as u16, node: node as u16 };
        let conn = self.conns.dial(&mut self.queue, self.now, ends, purpose);
        let stream = &mut self.gateways[gateway].streams[node];
        (stream.conn, stream.connected, stream.heard_at) = (Some(conn), false, self.now);
        self.stream_in(gateway, node, CONNECT_MAX);
    }

    fn redial(&mut self, gateway: usize, node: usize) {
        let stream = &mut self.gateways[gateway].streams[node];
        stream.backoff = (stream.backoff * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
        let pause = stream.backoff / 2 + self.phases.millis(0, stream.backoff.as_millis() as u64);
        self.stream_in(gateway, node, pause);
    }

    pub(crate) fn stream_dialled(
        &mut self,
        gateway: usize,
        node: usize,
        conn: ConnId,
        accepted: bool,
    ) {
        if self.gateways[gateway].streams.get(node).is_none_or(|it| it.conn != Some(conn)) {
            return self.close(conn, 0);
        }
        let stream = &mut self.gateways[gateway].streams[node];
        let id = self.node_ids[node].clone();
        if !accepted {
            stream.conn = None;
            self.redial(gateway, node);
            let refused = !self.processes[self.names.gateways + node].untrusted;
            if refused {
                self.gateway(gateway, Input::ConnectionRefused { node: id });
            }
            return;
        }
        (stream.connected, stream.heard_at, stream.backoff) = (true, self.now, Duration::ZERO);
        self.send(conn, 0, Frame::Follow);
        self.gateway(gateway, Input::Stream { node: id, event: StreamEvent::Connected });
    }

    /// Something on a room stream, from the node.
    pub(crate) fn stream_frame(&mut self, gateway: usize, node: usize, conn: ConnId, frame: Frame) {
        if self.gateways[gateway].streams.get(node).is_none_or(|it| it.conn != Some(conn)) {
            return;
        }
        let stream = &mut self.gateways[gateway].streams[node];
        stream.heard_at = self.now;
        let id = self.node_ids[node].clone();
        match frame {
            Frame::Rooms(frame) => {
                self.note(|world| {
                    let gateway = &world.gateway_ids[gateway];
                    format!("{gateway} hears of {id} that {}", told(&frame))
                });
                if let RoomFrame::Hosted { room, settings, .. } = &*frame {
                    let room = self.room_number(room);
                    let gateway = &mut self.gateways[gateway];
                    gateway.bare_at[room] = settings.is_none().then_some(node);
                    if let Some(settings) = settings {
                        gateway.told_settings[room] = settings.by_api;
                    }
                }
                if let RoomFrame::Closed { room, lost: false, .. } = &*frame {
                    // As far as this gateway can know the room is over, and its settings with it.
                    let room = self.room_number(room);
                    self.gateways[gateway].told_settings[room] = false;
                }
                if let RoomFrame::Hosted { room, .. } | RoomFrame::Closed { room, .. } = &*frame {
                    let room = self.room_number(room);
                    self.gateways[gateway].heard_of[room] = self.now;
                }
                if let RoomFrame::Closed { room, generation, .. } = &*frame {
                    let room = self.room_number(room);
                    let ended = &mut self.gateways[gateway].ended[room];
                    *ended = (*ended).max(*generation);
                }
                if let RoomFrame::Ruled { identity, ruling: Some(ruling), .. } = &*frame {
                    self.ruling_told(gateway, identity.as_str(), ruling.version);
                }
                let over = match &*frame {
                    RoomFrame::Closed { room, lost: false, .. } => Some(self.room_number(room)),
                    _ => None,
                };
                let event = StreamEvent::Frame(*frame);
                self.gateway(gateway, Input::Stream { node: id, event });
                if let Some(room) = over {
                    self.rulings_void(gateway, room);
                }
            }
            Frame::Fin => {
                (stream.conn, stream.connected) = (None, false);
                self.redial(gateway, node);
                self.gateway(gateway, Input::Stream { node: id, event: StreamEvent::Lost });
            }
            _ => {}
        }
    }
}

/// A frame in words.
fn told(frame: &RoomFrame) -> String {
    match frame {
        RoomFrame::Started { .. } => "it has started".to_owned(),
        RoomFrame::Hosted { room, generation, settings } => {
            let settings = if settings.is_some() { ", with settings" } else { "" };
            format!("it has {room} of {}{settings}", generation.0)
        }
        RoomFrame::Closed { room, generation, lost } => {
            let how = if *lost { "has lost" } else { "has closed" };
            format!("it {how} {room} of {}", generation.0)
        }
        RoomFrame::Ruled { room, identity, ruling, .. } => match ruling {
            Some(ruling) => format!("{identity} of {room} is ruled by {}", ruling.version),
            None => format!("the stay of {identity} in {room} is over"),
        },
        RoomFrame::Synced => "that was all".to_owned(),
    }
}
