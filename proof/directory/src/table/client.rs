//! A light client: signalling as the SDKs do it, and no media.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::{SinkExt as _, StreamExt as _};
use outlast_livekit::{
    ClientInfo, JoinRequest, LeaveRequest, Message as _, Ping, SignalRequest, SignalResponse,
    WrappedJoinRequest, signal_request, signal_response,
};
use outlast_runtime::Clock;
use outlast_token::{ApiKeys, Claims, VideoGrant};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message},
};

/// Longest join; what takes longer has failed. SDKs give up after 10 s or more.
const JOIN_MAX: Duration = Duration::from_secs(8);
/// How long a token is valid: longer than any run.
const TOKEN_SPAN: Duration = Duration::from_secs(6 * 3_600);
/// The protocol that clients speak.
const PROTOCOL: i32 = 17;
/// Between two pings: what gateways tell clients.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(1);

/// How clients come in.
#[derive(Clone)]
pub(crate) struct Door {
    /// The gateway's public listener.
    pub(crate) gateway: SocketAddr,
    /// Who signs their tokens.
    pub(crate) keys: ApiKeys,
    /// For the tokens' validity.
    pub(crate) clock: Clock,
}

/// A client that is in.
pub(crate) struct Seat {
    socket: WebSocketStream<TcpStream>,
    /// From the request for the upgrade to its answer.
    pub(crate) took: Duration,
    /// The node that it is at.
    pub(crate) node: String,
}

impl Door {
    /// Joins `room` as `identity` and waits for the node's word. Whatever goes wrong is told in a few words, with the time that
    /// it took.
    pub(crate) async fn join(&self, room: &str, identity: &str) -> Result<Seat, String> {
        match timeout(JOIN_MAX, self.try_join(room, identity)).await {
            Ok(joined) => joined,
            Err(_) => Err(format!("no answer within {JOIN_MAX:?}")),
        }
    }

    /// Asks for the gateway's root page. Returns how long the answer took.
    ///
    /// # Errors
    /// As of a join.
    pub(crate) async fn bare(&self) -> Result<Duration, String> {
        match timeout(JOIN_MAX, self.try_bare()).await {
            Ok(answered) => answered.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {JOIN_MAX:?}")),
        }
    }

    async fn try_bare(&self) -> io::Result<Duration> {
        let mut stream = TcpStream::connect(self.gateway).await?;
        stream.set_nodelay(true)?;
        let request =
            format!("GET / HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.gateway);
        let start = Instant::now();
        stream.write_all(request.as_bytes()).await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        let took = start.elapsed();
        if answer == *b"HTTP/1.1 200" { Ok(took) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    async fn try_join(&self, room: &str, identity: &str) -> Result<Seat, String> {
        let stream = TcpStream::connect(self.gateway).await;
        let stream = stream.map_err(|error| format!("connecting: {error}"))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let url = self.url(room, identity);
        let start = Instant::now();
        let (socket, _) = client_async(url, stream).await.map_err(refusal)?;
        let took = start.elapsed();
        let mut seat = Seat { socket, took, node: String::new() };
        loop {
            match seat.next().await? {
                signal_response::Message::Join(join) => {
                    seat.node = join.server_info.map(|info| info.node_id).unwrap_or_default();
                    return Ok(seat);
                }
                signal_response::Message::Leave(leave) => return Err(told_to_leave(&leave)),
                _ => {}
            }
        }
    }

    fn url(&self, room: &str, identity: &str) -> String {
        let video = VideoGrant { room_join: true, room: room.to_owned(), ..VideoGrant::default() };
        let now = self.clock.unix_now();
        let claims = Claims {
            issuer: String::new(),
            identity: identity.into(),
            name: String::new(),
            metadata: String::new(),
            attributes: Default::default(),
            kind: String::new(),
            kind_details: Vec::new(),
            video,
            expires_at: (now + TOKEN_SPAN).as_secs(),
            not_before: None,
            room_preset: String::new(),
            room_config: None,
            sha256: String::new(),
            refreshed: false,
            ruling: Default::default(),
        };
        let token = self.keys.mint(&claims, now);
        let client = ClientInfo { protocol: PROTOCOL, ..ClientInfo::default() };
        let request = JoinRequest { client_info: Some(client), ..JoinRequest::default() };
        let request = request.encode_to_vec();
        let wrapped = WrappedJoinRequest { join_request: request, ..Default::default() };
        let wrapped = URL_SAFE_NO_PAD.encode(wrapped.encode_to_vec());
        format!("ws://{}/rtc/v1?access_token={token}&join_request={wrapped}", self.gateway)
    }
}

impl Seat {
    /// The next message of the server.
    ///
    /// # Errors
    /// When the connection is over, in a few words.
    pub(crate) async fn next(&mut self) -> Result<signal_response::Message, String> {
        loop {
            let frame = match self.socket.next().await {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Err(format!("connection broken: {error}")),
                None => return Err("connection closed".to_owned()),
            };
            let Message::Binary(bytes) = frame else { continue };
            let response = SignalResponse::decode(bytes);
            let response = response.map_err(|error| format!("no SignalResponse: {error}"))?;
            if let Some(message) = response.message {
                return Ok(message);
            }
        }
    }

    /// Says that the client is still there.
    ///
    /// # Errors
    /// When the connection is over, in a few words.
    pub(crate) async fn ping(&mut self, clock: Clock) -> Result<(), String> {
        let timestamp = i64::try_from(clock.unix_now().as_millis()).unwrap_or(i64::MAX);
        self.say(signal_request::Message::PingReq(Ping { timestamp, rtt: 0 })).await
    }

    /// Leaves as a client does that has had enough. What is lost on the way is the server's to find out.
    pub(crate) async fn leave(mut self) {
        let told = self.say(signal_request::Message::Leave(LeaveRequest::default())).await;
        if told.is_ok() {
            // The other side need not answer in time.
            drop(timeout(PING_INTERVAL, self.socket.close(None)).await);
        }
    }

    async fn say(&mut self, message: signal_request::Message) -> Result<(), String> {
        let request = SignalRequest { message: Some(message) };
        let sent = self.socket.send(Message::binary(request.encode_to_vec())).await;
        sent.map_err(|error| format!("connection broken: {error}"))
    }
}

/// A leave that the server sent, in a few words.
pub(crate) fn told_to_leave(leave: &LeaveRequest) -> String {
    format!("told to leave: {:?}, {:?}", leave.action(), leave.reason())
}

/// Why there was no upgrade.
fn refusal(error: Error) -> String {
    match error {
        Error::Http(response) => {
            let body = response.body().as_deref().unwrap_or_default();
            let body = String::from_utf8_lossy(body);
            format!("refused with {}: {}", response.status(), body.trim())
        }
        error => format!("no upgrade: {error}"),
    }
}
