//! A fake node: beats, a room stream, and signalling sockets that echo. It can refuse, freeze, die, and fail to deliver.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
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
use outlast_livekit::{
    JoinResponse, ListRoomsResponse, Message as _, ParticipantInfo, ParticipantUpdate, Room,
    SessionDescription, SignalResponse, participant_info::State as Standing,
    signal_response::Message as Signal,
};
use outlast_model::{BEAT_INTERVAL, Epoch, Generation, Identity, RoomName, RoomSettings, Ruling};
use outlast_token::ApiKeys;
use outlast_wire::{Beat, Echoed, Message, Opener, Process, RoomFrame, Sealer, Steer};
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
    /// How many API calls had come before it.
    pub(crate) after_calls: usize,
}

/// A call of the API as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) generation: String,
    pub(crate) created: Option<String>,
    pub(crate) body: Bytes,
}

/// What a signalling socket says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    /// Who it is, and no protocol.
    Hello,
    /// The same, a join and an answer; whether media comes up after it.
    Protocol { delivers: bool },
}

/// The rooms of a node: generation and settings.
type Rooms = BTreeMap<String, (u64, Option<RoomSettings>)>;

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
    /// It says nothing on its room stream.
    mute: AtomicBool,
    rooms: watch::Sender<Rooms>,
    /// By room; named behind it.
    rulings: Mutex<Vec<(String, Identity, Ruling)>>,
    refusal: Mutex<Option<(StatusCode, &'static str)>>,
    /// Rooms are known under this generation: whoever asks under a lower one is refused.
    known: AtomicU64,
    speech: Mutex<Speech>,
    seen: Mutex<Vec<Seen>>,
    calls: Mutex<Vec<Call>>,
    steers: Mutex<Vec<Steer>>,
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
            mute: AtomicBool::new(false),
            rooms: watch::channel(Rooms::new()).0,
            rulings: Mutex::default(),
            refusal: Mutex::default(),
            known: AtomicU64::new(0),
            speech: Mutex::new(Speech::Hello),
            seen: Mutex::default(),
            calls: Mutex::default(),
            steers: Mutex::default(),
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
            let mut heard = None;
            loop {
                tokio::select! {
                    _ = ticks.tick() => {
                        if *state.life.borrow() == Life::Running {
                            let draining = state.draining.load(Ordering::Relaxed);
                            let echoed = heard.map(|(epoch, stamp, at): (_, _, Instant)| Echoed {
                                epoch,
                                stamp,
                                held: at.elapsed(),
                            });
                            let beat = Beat { ticked: true, draining, echoed, ..Beat::default() };
                            let beat = Message::Beat(beat);
                            let datagram = sealer.seal(&gateway_process, &beat);
                            let _ = socket.send_to(&datagram.bytes, gateway).await;
                        }
                    }
                    Ok((length, _)) = socket.recv_from(&mut buffer) => {
                        let opened = opener.open(&buffer[..length]).unwrap();
                        // No room is here that has not been named.
                        let Message::Echo(echo) = opened.message else { continue };
                        assert_eq!(echo.heard_epoch, Epoch(1));
                        heard = Some((opened.epoch, echo.stamp, Instant::now()));
                        state.echoes.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
    }

    /// Whether it names no room from now on.
    pub(crate) fn mute(&self, mute: bool) {
        self.state.mute.store(mute, Ordering::Relaxed);
    }

    pub(crate) fn live(&self, life: Life) {
        self.state.life.send_replace(life);
    }

    /// Says so in its beats, and takes nobody in.
    pub(crate) fn drain(&self) {
        self.say_draining();
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
        self.state.host(room, generation, None);
    }

    pub(crate) fn host_set(&self, room: &str, generation: u64, settings: RoomSettings) {
        self.state.host(room, generation, Some(settings));
    }

    /// Names this ruling whenever it names `room` from now on.
    pub(crate) fn rule(&self, room: &str, identity: &str, ruling: Ruling) {
        self.state.rulings.lock().unwrap().push((room.into(), identity.into(), ruling));
    }

    /// Refuses as stale whoever asks under a generation below this one.
    pub(crate) fn knows(&self, generation: u64) {
        self.state.known.store(generation, Ordering::Relaxed);
    }

    pub(crate) fn speak(&self, speech: Speech) {
        *self.state.speech.lock().unwrap() = speech;
    }

    pub(crate) fn steers(&self) -> Vec<Steer> {
        self.state.steers.lock().unwrap().clone()
    }

    /// Says in its beats that it drains, and takes whoever comes.
    pub(crate) fn say_draining(&self) {
        self.state.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state.calls.lock().unwrap().clone()
    }

    pub(crate) fn echoes(&self) -> usize {
        self.state.echoes.load(Ordering::Relaxed)
    }
}

impl State {
    fn host(&self, room: &str, generation: u64, settings: Option<RoomSettings>) {
        self.rooms.send_modify(|rooms| {
            rooms.insert(room.into(), (generation, settings));
        });
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
    let after_calls = state.calls.lock().unwrap().len();
    let (target, headers) = (request.uri().to_string(), request.headers().clone());
    let seen = Seen { target, headers, after_calls };
    state.seen.lock().unwrap().push(seen.clone());
    let generation = seen.headers["outlast-generation"].to_str().unwrap().parse().unwrap();
    let known = state.known.load(Ordering::Relaxed);
    if generation < known {
        let mut response = text(StatusCode::CONFLICT, "the room was placed anew");
        response.headers_mut().insert("outlast-refusal", "stale".parse().unwrap());
        response.headers_mut().insert("outlast-generation", known.into());
        return response;
    }
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
    let (response, socket) = Upgrade::take(&mut request).unwrap().accept(1 << 20);
    let settings = state.rooms.borrow().get(&room).and_then(|(_, settings)| settings.clone());
    state.host(&room, generation, settings);
    tokio::spawn(async move { echo(&state, socket.await.unwrap()).await });
    response
}

async fn call(state: &State, method: String, request: Request<Incoming>) -> Response<Body> {
    let header = |name| Some(request.headers().get(name)?.to_str().unwrap().to_owned());
    let generation = header("outlast-generation").unwrap();
    let created = header("outlast-created-unix-ms");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let call = Call { method: method.clone(), generation, created, body: body.clone() };
    state.calls.lock().unwrap().push(call);
    let room = |name: &str| Room { name: name.into(), num_participants: 2, ..Room::default() };
    let reply = match method.as_str() {
        "ListRooms" => {
            let rooms = state.rooms.borrow();
            ListRoomsResponse { rooms: rooms.keys().map(|name| room(name)).collect() }
                .encode_to_vec()
        }
        "CreateRoom" => {
            let request = outlast_livekit::CreateRoomRequest::decode(body).unwrap();
            state.host(&request.name, 1, None);
            room(&request.name).encode_to_vec()
        }
        "DeleteRoom" => {
            let request = outlast_livekit::DeleteRoomRequest::decode(body).unwrap();
            state.rooms.send_modify(|rooms| drop(rooms.remove(&request.room)));
            Vec::new()
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
    if state.mute.load(Ordering::Relaxed) {
        let _ = life.wait_for(|life| *life == Life::Dead).await;
        return;
    }
    let mut named = Rooms::new();
    let mut synced = false;
    loop {
        let now = rooms.borrow_and_update().clone();
        let mut frames = Vec::new();
        if !synced {
            frames.push(RoomFrame::Started { epoch: Epoch(1) }.encode());
            // Of a version that says more than this one knows.
            frames.push(vec![1, 99, 0]);
        }
        for (room, (generation, settings)) in &now {
            if named.get(room).map(|(generation, _)| generation) != Some(generation) {
                let (name, generation) = (RoomName::from(room.as_str()), Generation(*generation));
                let (settings, room) = (settings.clone(), name.clone());
                frames.push(RoomFrame::Hosted { room, generation, settings }.encode());
                let rulings = state.rulings.lock().unwrap().clone();
                for (_, identity, ruling) in rulings.into_iter().filter(|of| of.0 == name.as_str())
                {
                    let (room, ruling) = (name.clone(), Some(ruling));
                    frames.push(RoomFrame::Ruled { room, generation, identity, ruling }.encode());
                }
            }
        }
        for (room, (generation, _)) in named.iter().filter(|(room, _)| !now.contains_key(*room)) {
            let (room, generation) = (room.as_str().into(), Generation(*generation));
            frames.push(RoomFrame::Closed { room, generation, lost: false }.encode());
        }
        for frame in frames {
            socket.send(Frame::Binary(frame.into())).await.unwrap();
        }
        named = now;
        if !std::mem::replace(&mut synced, true) {
            socket.send(Frame::Binary(RoomFrame::Synced.encode().into())).await.unwrap();
        }
        loop {
            tokio::select! {
                _ = rooms.changed() => break,
                _ = life.wait_for(|life| *life == Life::Dead) => return,
                message = socket.next() => match message {
                    Some(Ok(Frame::Binary(bytes))) => {
                        state.steers.lock().unwrap().push(Steer::decode(&bytes).unwrap());
                    }
                    Some(Ok(_)) => {}
                    _ => return,
                },
            }
        }
    }
}

/// The frames of a join whose offer is answered at once.
fn protocol(delivers: bool) -> Vec<Signal> {
    let me = |state: Standing| ParticipantInfo {
        sid: "PA_me".into(),
        state: state.into(),
        ..ParticipantInfo::default()
    };
    let participant = Some(me(Standing::Joined));
    let mut messages = vec![
        Signal::Join(JoinResponse { participant, ..JoinResponse::default() }),
        Signal::Answer(SessionDescription::default()),
    ];
    if delivers {
        let participants = vec![me(Standing::Active)];
        messages.push(Signal::Update(ParticipantUpdate { participants }));
    }
    messages
}

/// A signalling socket: says who it is, then echoes. `break` ends the connection without a word, `large` is answered with
/// the largest message that a node sends.
async fn echo(state: &State, mut socket: WebSocket) {
    let mut life = state.life.subscribe();
    let hello = Bytes::from(format!("hello from {}", state.id));
    socket.send(Frame::Binary(hello)).await.unwrap();
    let speech = *state.speech.lock().unwrap();
    if let Speech::Protocol { delivers } = speech {
        for message in protocol(delivers) {
            let response = SignalResponse { message: Some(message) };
            socket.send(Frame::Binary(response.encode_to_vec().into())).await.unwrap();
        }
    }
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
