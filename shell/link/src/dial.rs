//! The client's half: one HTTP/1.1 request, or one WebSocket, over mutual TLS to a process of the cluster.

use std::{io, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::{client::generate_key, derive_accept_key},
        protocol::Role,
    },
};

use crate::{
    CLUSTER_NAME, Credentials, CredentialsError, WebSocket, serve::Body, websocket_config,
};

/// Default limit of TCP and TLS together: two round trips around the world and some scheduling.
pub const TLS_CONNECT_MAX: Duration = Duration::from_millis(1_500);

/// Limits of one request.
#[derive(Clone, Copy, Debug)]
pub struct DialLimits {
    /// TCP connect and TLS handshake together.
    pub connect: Duration,
    /// From the request to the whole response (or the `101`).
    pub response: Duration,
    /// Largest response body, in bytes; of a refused handshake as well.
    pub body_bytes: usize,
    /// Largest WebSocket message that may come, in bytes; to a node's signalling
    /// [`MESSAGE_WRITTEN_BYTES_MAX`](crate::MESSAGE_WRITTEN_BYTES_MAX). Those that go may always have as much.
    pub message_bytes: usize,
}

impl Default for DialLimits {
    fn default() -> Self {
        Self {
            connect: TLS_CONNECT_MAX,
            response: Duration::from_secs(5),
            body_bytes: 1 << 20,
            message_bytes: 1 << 20,
        }
    }
}

/// Why a request got no answer, or a handshake no socket.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No TCP connection, or the TLS handshake failed.
    #[error("connecting to {address}")]
    Connect {
        /// Where to.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A limit of [`DialLimits`] passed.
    #[error("{address} was too slow")]
    TooSlow {
        /// Where to.
        address: String,
    },
    /// The connection broke, or the peer does not speak HTTP.
    #[error("HTTP exchange")]
    Http(#[from] hyper::Error),
    /// The response's body was too large or broke off.
    #[error("reading the response")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The peer answered a WebSocket handshake with something else.
    #[error("refused with status {}", .0.status())]
    Refused(Box<Response<Bytes>>),
    /// The peer's `101` does not belong to our handshake.
    #[error("malformed WebSocket handshake")]
    BadHandshake,
    /// The request could not be written as HTTP.
    #[error("malformed request")]
    BadRequest(#[from] http::Error),
}

/// TCP with TLS over it.
pub(crate) type Connection = TlsStream<TcpStream>;

/// Opens connections with this process's credentials. Cloning is cheap, and clones share TLS session tickets.
#[derive(Clone)]
pub struct Dialer {
    tls: TlsConnector,
    name: ServerName<'static>,
}

impl Dialer {
    /// A dialer that shows `credentials` and trusts their authority alone.
    ///
    /// # Errors
    /// When certificate and key do not fit together.
    pub fn new(credentials: &Credentials) -> Result<Dialer, CredentialsError> {
        let tls = TlsConnector::from(credentials.client_config()?);
        let name = ServerName::try_from(CLUSTER_NAME).expect("the cluster's name is a DNS name");
        Ok(Dialer { tls, name })
    }

    /// Sends `request` (with a path, no authority) to `address` (`host:port`) and collects the response, whatever its
    /// status.
    ///
    /// # Errors
    /// When there is no response within `limits`.
    pub async fn request(
        &self,
        address: &str,
        request: Request<Body>,
        limits: &DialLimits,
    ) -> Result<Response<Bytes>, DialError> {
        let stream = self.connect(address, limits).await?;
        let exchange = async {
            let response = send(stream, request).await?;
            collect(response, limits.body_bytes).await
        };
        within(address, limits.response, exchange).await
    }

    /// Opens a WebSocket at `target` (path and query) of `address`. `headers` go along; those of the handshake are
    /// added.
    ///
    /// # Errors
    /// [`DialError::Refused`] with the peer's status and body when it does not upgrade; others when it is not there.
    pub async fn websocket(
        &self,
        address: &str,
        target: &str,
        headers: HeaderMap,
        limits: &DialLimits,
    ) -> Result<WebSocket, DialError> {
        let handshake = Handshake::new(target, headers)?;
        let stream = self.connect(address, limits).await?;
        handshake.shake(address, stream, limits).await
    }

    pub(crate) async fn connect(
        &self,
        address: &str,
        limits: &DialLimits,
    ) -> Result<Connection, DialError> {
        let failed = |source| DialError::Connect { address: address.to_owned(), source };
        let connecting = async {
            let stream = TcpStream::connect(address).await.map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            self.tls.connect(self.name.clone(), stream).await.map_err(failed)
        };
        within(address, limits.connect, connecting).await
    }
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dialer")
    }
}

/// The client's half of a WebSocket handshake (RFC 6455 §4.1).
#[derive(Clone)]
pub(crate) struct Handshake {
    key: String,
    request: Request<Body>,
}

impl Handshake {
    /// For `target` (path and query), with `headers` beside its own.
    pub(crate) fn new(target: &str, headers: HeaderMap) -> Result<Handshake, DialError> {
        let key = generate_key();
        let mut request = Request::get(target).body(Body::default())?;
        *request.headers_mut() = headers;
        let fields = request.headers_mut();
        fields.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        fields.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        let value = HeaderValue::from_str(&key).expect("base64 is a valid header value");
        fields.insert(header::SEC_WEBSOCKET_KEY, value);
        Ok(Handshake { key, request })
    }

    /// Shakes hands over `stream`, which leads to `address`.
    pub(crate) async fn shake(
        self,
        address: &str,
        stream: Connection,
        limits: &DialLimits,
    ) -> Result<WebSocket, DialError> {
        let exchange = async {
            let response = send(stream, self.request).await?;
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                let refusal = collect(response, limits.body_bytes).await?;
                return Err(DialError::Refused(Box::new(refusal)));
            }
            let accept = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
            if accept.map(HeaderValue::as_bytes)
                != Some(derive_accept_key(self.key.as_bytes()).as_bytes())
            {
                return Err(DialError::BadHandshake);
            }
            let stream = TokioIo::new(hyper::upgrade::on(response).await?);
            let config = websocket_config(limits.message_bytes);
            Ok(WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await)
        };
        within(address, limits.response, exchange).await
    }
}

async fn send(
    stream: Connection,
    mut request: Request<Body>,
) -> Result<Response<Incoming>, DialError> {
    request.headers_mut().insert(header::HOST, HeaderValue::from_static(CLUSTER_NAME));
    let (mut sender, connection) =
        http1::Builder::new().handshake::<_, Body>(TokioIo::new(stream)).await?;
    // The task ends with the exchange: when the sender and the response (or the upgraded stream) are dropped.
    tokio::spawn(connection.with_upgrades());
    Ok(sender.send_request(request).await?)
}

async fn collect(response: Response<Incoming>, max: usize) -> Result<Response<Bytes>, DialError> {
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, max).collect().await.map_err(DialError::Body)?;
    Ok(Response::from_parts(parts, body.to_bytes()))
}

async fn within<T>(
    address: &str,
    limit: Duration,
    work: impl Future<Output = Result<T, DialError>>,
) -> Result<T, DialError> {
    match timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(DialError::TooSlow { address: address.to_owned() }),
    }
}
