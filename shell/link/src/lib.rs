//! Authenticated links between gateways and nodes: mutual TLS under one cluster authority, HTTP/1.1 and WebSockets
//! over it, and the accept loop that every HTTP listener of the house uses. No policy lives here.

mod authority;
mod credentials;
mod dial;
mod serve;
mod spare;
mod websocket;

pub use authority::{Authority, AuthorityError, Issued};
pub use credentials::{CLUSTER_NAME, Credentials, CredentialsError, public_tls};
pub use dial::{DialError, DialLimits, Dialer, TLS_CONNECT_MAX};
pub use serve::{Body, PEER_HEADERS_MAX, Peer, ServerLimits, ServerTls, serve, text};
pub use spare::Spares;
pub use tokio_tungstenite::tungstenite;
pub use websocket::{
    MESSAGE_WRITTEN_BYTES_MAX, Upgrade, UpgradeError, WebSocket, websocket_config,
};
