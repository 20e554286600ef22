//! Answers to requests that cannot be served: one table from what is wrong to what a client is told. Infrastructure
//! trouble is 503 with a jittered `Retry-After`, never 401, 403 or 404: SDKs end the session for good on those.

use http::{HeaderValue, Response, StatusCode, header};
use outlast_link::{Body, text};
use outlast_runtime::entropy;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No token, or the header is not `Bearer`.
    NoToken,
    /// The token is not good; with what is wrong with it.
    Token(outlast_token::TokenError),
    /// The token does not grant joining.
    NoJoinGrant,
    /// The token names no room.
    NoRoom,
    /// No WebSocket handshake where one is needed.
    NotWebSocket,
    /// The older signalling path.
    V0,
    /// Nothing here.
    NoSuchPath,
    /// No node can be reached now.
    NoNode,
    /// This gateway has as much to do as it can.
    Busy,
}

impl Refusal {
    /// The answer.
    pub(crate) fn response(self) -> Response<Body> {
        let (status, body) = match self {
            Refusal::NoToken => (StatusCode::UNAUTHORIZED, "no access token".into()),
            Refusal::Token(error) => (StatusCode::UNAUTHORIZED, error.to_string()),
            Refusal::NoJoinGrant => {
                (StatusCode::UNAUTHORIZED, "token does not grant joining a room".into())
            }
            Refusal::NoRoom => (StatusCode::BAD_REQUEST, "token names no room".into()),
            Refusal::NotWebSocket => {
                (StatusCode::UPGRADE_REQUIRED, "this path takes WebSocket requests".into())
            }
            Refusal::V0 => (
                StatusCode::NOT_IMPLEMENTED,
                "signalling v0 is not served here; use /rtc/v1".into(),
            ),
            Refusal::NoSuchPath => (StatusCode::NOT_FOUND, "nothing here".into()),
            Refusal::NoNode => (StatusCode::SERVICE_UNAVAILABLE, "no media server now".into()),
            Refusal::Busy => (StatusCode::SERVICE_UNAVAILABLE, "gateway is busy".into()),
        };
        let mut response = text(status, body);
        if status == StatusCode::UPGRADE_REQUIRED {
            response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        with_retry_after(response)
    }
}

/// Adds `Retry-After` to a 503 that has none: one to four seconds, so that a herd comes back spread out.
pub(crate) fn with_retry_after(mut response: Response<Body>) -> Response<Body> {
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        let seconds = HeaderValue::from(1 + jitter(4));
        response.headers_mut().entry(header::RETRY_AFTER).or_insert(seconds);
    }
    response
}

/// A random number below `below`; zero when the kernel gives none.
pub(crate) fn jitter(below: u32) -> u32 {
    entropy::bytes().map_or(0, |bytes| u32::from_le_bytes(bytes) % below.max(1))
}
