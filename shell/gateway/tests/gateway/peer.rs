//! A fake node: beats, a room stream, and signalling sockets that echo. It can refuse, freeze and die.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use outlast_link::{
    Body, MESSAGE_WRITTEN_BYTES_MAX, ServerLimits, ServerTls, Upgrade, WebSocket, serve, text,
    tungstenite::Message as Frame,
};
use outlast_livekit::{ListRoomsResponse, Message as _, Room};
use outlast_model::{BEAT_INTERVAL, Epoch, Generation};
use outlast_token::ApiKeys;
use outlast_wire::{Beat, Message, Opener, Process, RoomFrame, Sealer};
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::watch,
};

use crate::Cluster;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Running,
    Frozen,
    Dead,
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
}

pub(crate) struct Peer {
    pub(crate) id: String,
    pub(crate) address: SocketAddr,
    pub(crate) beat_address: SocketAddr,
    state: Arc<State>,
    listener: Option<TcpListener>,
    beats: Option<UdpSocket>,
}

struct State {
    id: String,
    keys: ApiKeys,
    life: watch::Sender<Life>,
    draining: AtomicBool,
    rooms: watch::Sender<BTreeMap<String, u64>>,
    refusal: Mutex<Option<(StatusCode, &'static str)>>,
    seen: Mutex<Vec<Seen>>,
    calls: Mutex<Vec<(String, Bytes)>>,
    echoes: AtomicUsize,
}

impl Peer {
    pub(crate) async fn bind(cluster: &Cluster, id: &str) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let beats = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let state = State {
            id: id.into(),
            keys: cluster.keys.clone(),
            life: watch::channel(Life::Running).0,
            draining: AtomicBool::new(false),
            rooms: watch::channel(BTreeMap::new()).0,
            refusal: Mutex::default(),
            seen: Mutex::default(),
            calls: Mutex::default(),
            echoes: AtomicUsize::new(0),
        };
        Peer {
            id: id.into(),
            address: listener.local_addr().unwrap(),
            beat_address: beats.local_addr().unwrap(),
            state: Arc::new(state),
            listener: Some(listener),
            beats: Some(beats),
        }
    }

    /// Starts to serve and to beat.
    pub(crate) fn run(&mut self, cluster: &Cluster, gateway: SocketAddr) {
        let tls = ServerTls::Cluster(cluster.credentials(&self.id).server_config().unwrap());
        let state = Arc::clone(&self.state);
        let handler = move |_, request| answer(Arc::clone(&state), request);
        let (stop, stopped) = watch::channel(false);
        let listener = self.listener.take().unwrap();
        tokio::spawn(serve(listener, tls, ServerLimits::default(), handler, stopped));
        let mut life = self.state.life.subscribe();
        tokio::spawn(async move {
            life.wait_for(|life| *life == Life::Dead).await.unwrap();
            stop.send_replace(true);
        });
        let me = Process::node(&self.id);
        let gateway_process = Process::gateway("gw");
        let mut sealer = Sealer::new(&cluster.secret, me.clone(), Epoch(1));
        let mut opener = Opener::new(&cluster.secret, me, [gateway_process.clone()]);
        let (state, socket) = (Arc::clone(&self.state), self.beats.take().unwrap());
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(BEAT_INTERVAL);
            let mut buffer = [0; 256];
            loop {
                tokio::select! {
                    _ = ticks.tick() => {
                        if *state.life.borrow() == Life::Running {
                            let draining = state.draining.load(Ordering::Relaxed);
                            let beat = Beat { ticked: true, draining, ..Beat::default() };
                            let beat = Message::Beat(beat);
                            let datagram = sealer.seal(&gateway_process, &beat);
                            let _ = socket.send_to(&datagram.bytes, gateway).await;
                        }
                    }
                    Ok((length, _)) = socket.recv_from(&mut buffer) => {
                        let opened = opener.open(&buffer[..length]).unwrap();
                        assert!(matches!(opened.message, Message::Echo(echo) if echo.heard_epoch == Epoch(1)));
                        state.echoes.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
    }

    pub(crate) fn live(&self, life: Life) {
        self.state.life.send_replace(life);
    }

    /// Says so in its beats, and takes nobody in.
    pub(crate) fn drain(&self) {
        self.state.draining.store(true, Ordering::Relaxed);
        self.refuse(Some((StatusCode::SERVICE_UNAVAILABLE, "this node is draining")));
    }

    pub(crate) fn refuse(&self, refusal: Option<(StatusCode, &'static str)>) {
        *self.state.refusal.lock().unwrap() = refusal;
    }

    pub(crate) fn hosts(&self, room: &str) -> bool {
        *self.state.life.borrow() == Life::Running && self.state.rooms.borrow().contains_key(room)
    }

    /// Hosts `room` from now on, as far as the gateway can know.
    pub(crate) fn host(&self, room: &str, generation: u64) {
        self.state.rooms.send_modify(|rooms| {
            rooms.insert(room.into(), generation);
        });
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    pub(crate) fn calls(&self) -> Vec<(String, Bytes)> {
        self.state.calls.lock().unwrap().clone()
    }

    pub(crate) fn echoes(&self) -> usize {
        self.state.echoes.load(Ordering::Relaxed)
    }
}

async fn answer(state: Arc<State>, mut request: Request<Incoming>) -> Response<Body> {
    state.life.subscribe().wait_for(|life| *life != Life::Frozen).await.unwrap();
    let path = request.uri().path().to_owned();
    if path == "/rooms" {
        let (response, socket) = Upgrade::take(&mut request).unwrap().accept(1_000);
        tokio::spawn(async move { name_rooms(&state, socket.await.unwrap()).await });
        return response;
    }
    if let Some(method) = path.strip_prefix("/api/") {
        return call(&state, method.to_owned(), request).await;
    }
    let seen = Seen { target: request.uri().to_string(), headers: request.headers().clone() };
    state.seen.lock().unwrap().push(seen.clone());
    if let Some((status, reason)) = *state.refusal.lock().unwrap() {
        return text(status, reason);
    }
    if path == "/rtc/v1/validate" {
        return text(StatusCode::OK, "success");
    }
    let query = request.uri().query().unwrap_or_default();
    let token = query.split('&').find_map(|pair| pair.strip_prefix("access_token=")).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let room = state.keys.verify(token, now).unwrap().video.room;
    let generation = seen.headers["outlast-generation"].to_str().unwrap().parse().unwrap();
    let (response, socket) = Upgrade::take(&mut request).unwrap().accept(1 << 20);
    state.rooms.send_modify(|rooms| {
        rooms.insert(room, generation);
    });
    tokio::spawn(async move { echo(&state, socket.await.unwrap()).await });
    response
}

async fn call(state: &State, method: String, request: Request<Incoming>) -> Response<Body> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    state.calls.lock().unwrap().push((method.clone(), body.clone()));
    let room = |name: &str| Room { name: name.into(), num_participants: 2, ..Room::default() };
    let reply = match method.as_str() {
        "ListRooms" => {
            let rooms = state.rooms.borrow();
            ListRoomsResponse { rooms: rooms.keys().map(|name| room(name)).collect() }
                .encode_to_vec()
        }
        "CreateRoom" => {
            let request = outlast_livekit::CreateRoomRequest::decode(body).unwrap();
            state.rooms.send_modify(|rooms| {
                rooms.insert(request.name.clone(), 1);
            });
            room(&request.name).encode_to_vec()
        }
        "GetParticipant" => {
            let body = r#"{"code":"not_found","msg":"participant does not exist"}"#;
            return text(StatusCode::NOT_FOUND, body);
        }
        _ => Vec::new(),
    };
    Response::new(Body::new(reply.into()))
}

/// The room stream: everything, then what is new.
async fn name_rooms(state: &State, mut socket: WebSocket) {
    let (mut rooms, mut life) = (state.rooms.subscribe(), state.life.subscribe());
    let mut named = BTreeMap::new();
    let mut synced = false;
    loop {
        let now = rooms.borrow_and_update().clone();
        for (room, generation) in &now {
            if named.get(room) != Some(generation) {
                let frame = RoomFrame::Hosted {
                    room: room.as_str().into(),
                    generation: Generation(*generation),
                };
                socket.send(Frame::Binary(frame.encode().into())).await.unwrap();
            }
        }
        named = now;
        if !std::mem::replace(&mut synced, true) {
            socket.send(Frame::Binary(RoomFrame::Synced.encode().into())).await.unwrap();
        }
        loop {
            tokio::select! {
                _ = rooms.changed() => break,
                _ = life.wait_for(|life| *life == Life::Dead) => return,
                message = socket.next() => if !matches!(message, Some(Ok(_))) { return },
            }
        }
    }
}

/// A signalling socket: says who it is, then echoes. `break` ends the connection without a word, `large` is answered with
/// the largest message that a node sends.
async fn echo(state: &State, mut socket: WebSocket) {
    let mut life = state.life.subscribe();
    let hello = Bytes::from(format!("hello from {}", state.id));
    socket.send(Frame::Binary(hello)).await.unwrap();
    loop {
        if life.wait_for(|life| *life != Life::Frozen).await.is_ok_and(|life| *life == Life::Dead) {
            return;
        }
        tokio::select! {
            _ = life.changed() => {}
            message = socket.next() => match message {
                Some(Ok(Frame::Binary(bytes))) if bytes == "break" => return,
                Some(Ok(Frame::Binary(bytes))) if bytes == "large" => {
                    let large = vec![7; MESSAGE_WRITTEN_BYTES_MAX];
                    socket.send(Frame::Binary(large.into())).await.unwrap();
                }
                Some(Ok(message @ (Frame::Binary(_) | Frame::Text(_)))) => {
                    if socket.send(message).await.is_err() { return }
                }
                Some(Ok(Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_))) => {}
                Some(Ok(Frame::Close(_)) | Err(_)) | None => return,
            },
        }
    }
}
