//! Answers to requests that cannot be served: one table from what is wrong to what a client is told. Infrastructure
//! trouble is 503 with a jittered `Retry-After`, never 401, 403 or 404: SDKs end the session for good on those.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use outlast_link::{Body, text};
use outlast_runtime::entropy;

/// Longest pause that a client is asked for, in seconds: SDKs give up after a quarter to three quarters of a minute.
const RETRY_AFTER_MAX_S: u32 = 10;

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
        with_retry_after(self.bare())
    }

    /// The answer to somebody who may come back after `pause`.
    pub(crate) fn response_after(self, pause: Duration) -> Response<Body> {
        come_back_after(self.bare(), pause)
    }

    fn bare(self) -> Response<Body> {
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
        response
    }
}

/// A node's refusal as a client gets it: status, text, and when the node wants it back.
pub(crate) fn relay(response: Response<Bytes>) -> Response<Body> {
    let (parts, body) = response.into_parts();
    let mut response = text(parts.status, body);
    let seconds = parts.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    if let Some(seconds) = seconds.and_then(|text| text.parse::<u32>().ok()) {
        let seconds = HeaderValue::from(seconds.clamp(1, RETRY_AFTER_MAX_S));
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

/// Adds `Retry-After` to a 503 that has none: whole seconds, no sooner than after `pause`.
pub(crate) fn come_back_after(mut response: Response<Body>, pause: Duration) -> Response<Body> {
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        let seconds = u32::try_from(pause.as_millis().div_ceil(1_000)).unwrap_or(RETRY_AFTER_MAX_S);
        let seconds = HeaderValue::from(seconds.clamp(1, RETRY_AFTER_MAX_S));
        response.headers_mut().entry(header::RETRY_AFTER).or_insert(seconds);
    }
    response
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

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(response: &Response<Body>) -> Option<&str> {
        response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn a_pause_is_whole_seconds_and_no_shorter() {
        for (ms, expected) in [(0, "1"), (400, "1"), (1_000, "1"), (1_001, "2"), (60_000, "10")] {
            let response = Refusal::NoNode.response_after(Duration::from_millis(ms));
            assert_eq!((response.status().as_u16(), seconds(&response)), (503, Some(expected)));
        }
        let response = Refusal::NoRoom.response_after(Duration::from_secs(1));
        assert_eq!((response.status().as_u16(), seconds(&response)), (400, None));
    }

    #[test]
    fn of_a_node_s_refusal_little_is_handed_on() {
        let refusal = |retry_after: &str| {
            let response = Response::builder().status(503).header("retry-after", retry_after);
            let response = response.header("outlast-refusal", "busy").body("busy".into()).unwrap();
            come_back_after(relay(response), Duration::from_secs(2))
        };
        let response = refusal("7");
        assert_eq!((seconds(&response), response.headers().len()), (Some("7"), 2));
        assert_eq!(seconds(&refusal("86400")), Some("10"));
        assert_eq!(seconds(&refusal("Fri, 31 Dec 1999")), Some("2"));
    }
}
