//! Why a request is refused: one status and one text, before anything is upgraded.

use http::{Response, StatusCode};
use outlast_link::{Body, text};

/// A status and a text for a developer. SDKs end the session for good on 401, 403 and 404, and try again on 503
/// (livekit-wire 1.6): trouble of ours is never one of the former.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, text: impl Into<String>) -> Refusal {
        Refusal { status, text: text.into() }
    }

    /// The client's request makes no sense.
    pub(crate) fn bad(text: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, text)
    }

    /// The token does not allow it.
    pub(crate) fn unauthorized(text: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::UNAUTHORIZED, text)
    }

    /// Our trouble: worth another try.
    pub(crate) fn unavailable(text: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text)
    }

    pub(crate) fn response(self) -> Response<Body> {
        text(self.status, self.text)
    }
}
