//! The WebSocket handshake (RFC 6455 §4.2) on a request that hyper has parsed, and the frames after it. Extensions are
//! neither offered nor accepted: a compressed frame hides its size.

use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use hyper::{
    body::Incoming,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};

use crate::serve::Body;

/// A WebSocket over whatever stream hyper was serving.
pub type WebSocket = WebSocketStream<TokioIo<Upgraded>>;

/// Largest message, in bytes, that any WebSocket of ours writes, whatever it reads: the join of a room with thousands
/// of participants. Whoever reads from a node must allow as much.
pub const MESSAGE_WRITTEN_BYTES_MAX: usize = 16 << 20;
/// Room beside such a message: its header, and pongs that wait with it.
const WRITE_SLACK_BYTES: usize = 64 * 1024;

/// Limits of one WebSocket: reads whole messages and single frames of at most `message_bytes`; writes messages of up to
/// [`MESSAGE_WRITTEN_BYTES_MAX`], one at a time, before the writer has to wait.
pub fn websocket_config(message_bytes: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(8 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(MESSAGE_WRITTEN_BYTES_MAX + WRITE_SLACK_BYTES)
        .max_message_size(Some(message_bytes))
        .max_frame_size(Some(message_bytes))
}

/// Why a request is no WebSocket handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeError {
    /// Not a GET with `Connection: upgrade` and `Upgrade: websocket`.
    #[error("not a WebSocket request")]
    NotWebSocket,
    /// `Sec-WebSocket-Version` is not 13 or `Sec-WebSocket-Key` is missing.
    #[error("unsupported WebSocket handshake")]
    BadHandshake,
}

/// A handshake that may still be answered with a refusal: nothing has been sent yet.
pub struct Upgrade {
    on: OnUpgrade,
    accept: String,
}

impl Upgrade {
    /// Takes the handshake out of `request`.
    ///
    /// # Errors
    /// When `request` is not a WebSocket handshake.
    pub fn take(request: &mut Request<Incoming>) -> Result<Upgrade, UpgradeError> {
        let headers = request.headers();
        if request.method() != Method::GET
            || !lists(headers, header::CONNECTION, "upgrade")
            || !lists(headers, header::UPGRADE, "websocket")
        {
            return Err(UpgradeError::NotWebSocket);
        }
        if !lists(headers, header::SEC_WEBSOCKET_VERSION, "13") {
            return Err(UpgradeError::BadHandshake);
        }
        let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or(UpgradeError::BadHandshake)?;
        let accept = derive_accept_key(key.as_bytes());
        Ok(Upgrade { on: hyper::upgrade::on(request), accept })
    }

    /// The `101` to return from the request's handler, and the socket that exists once it has been sent. Messages
    /// above `message_bytes` that the peer sends end the socket; ours may have [`MESSAGE_WRITTEN_BYTES_MAX`].
    pub fn accept(
        self,
        message_bytes: usize,
    ) -> (Response<Body>, impl Future<Output = Result<WebSocket, hyper::Error>> + Send + 'static)
    {
        let mut response = Response::new(Body::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
        let accept =
            header::HeaderValue::from_str(&self.accept).expect("base64 is a valid header value");
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        let on = self.on;
        let socket = async move {
            let stream = TokioIo::new(on.await?);
            let config = websocket_config(message_bytes);
            Ok(WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await)
        };
        (response, socket)
    }
}

/// Whether the comma-separated header `name` lists `token`, in any case.
fn lists(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case(token))
}
