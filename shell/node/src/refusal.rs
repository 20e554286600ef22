//! Why a request is refused: one status and one text, before anything is upgraded; and, when another node might say yes,
//! what a gateway needs to know of it.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use outlast_link::{Body, text};
use outlast_model::Generation;
use outlast_node_core as core;
use outlast_tenure::{self as tenure, Why};

use crate::admit::GENERATION;

/// Header that says why the node does not take somebody: the name of a [`Why`].
const REFUSAL: HeaderName = HeaderName::from_static("outlast-refusal");

/// A status and a text for a developer. SDKs end the session for good on 401, 403 and 404, and try again on 503
/// (livekit-wire 1.6): trouble of ours is never one of the former.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
    /// For the gateway.
    turned_away: Option<tenure::Refusal>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, text: impl Into<String>) -> Refusal {
        Refusal { status, text: text.into(), turned_away: None }
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

    /// The node as it is takes nobody, for a reason that needs no more words.
    pub(crate) fn because(why: Why) -> Refusal {
        tenure::Refusal { why, known: Generation(0), retry_after: None }.into()
    }

    pub(crate) fn response(self) -> Response<Body> {
        let mut response = text(self.status, self.text);
        if let Some(refusal) = &self.turned_away {
            put_headers(refusal, response.headers_mut());
        }
        response
    }

    /// Adds what a gateway needs to know.
    pub(crate) fn put_headers(&self, headers: &mut HeaderMap) {
        if let Some(refusal) = &self.turned_away {
            put_headers(refusal, headers);
        }
    }
}

impl From<tenure::Refusal> for Refusal {
    fn from(refusal: tenure::Refusal) -> Refusal {
        let (status, text) = match refusal.why {
            Why::Stale => (StatusCode::CONFLICT, "the room is not here any more: ask again"),
            Why::Full => (StatusCode::SERVICE_UNAVAILABLE, "this node is full"),
            Why::Draining => (StatusCode::SERVICE_UNAVAILABLE, "this node is draining"),
            Why::Busy => (StatusCode::SERVICE_UNAVAILABLE, "too many come at once"),
            Why::Fenced => {
                (StatusCode::SERVICE_UNAVAILABLE, "this node is cut off, or was paused: ask again")
            }
        };
        Refusal { turned_away: Some(refusal), ..Refusal::new(status, text) }
    }
}

impl From<core::Refusal> for Refusal {
    fn from(refusal: core::Refusal) -> Refusal {
        match refusal.about {
            core::About::Request => {
                let status = StatusCode::from_u16(refusal.status);
                let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                Refusal::new(status, refusal.text)
            }
            core::About::Shard => Refusal::because(Why::Full),
            core::About::Generation(known) => {
                tenure::Refusal { why: Why::Stale, known, retry_after: None }.into()
            }
        }
    }
}

fn put_headers(refusal: &tenure::Refusal, headers: &mut HeaderMap) {
    headers.insert(REFUSAL, HeaderValue::from_static(refusal.why.as_str()));
    if refusal.why == Why::Stale {
        headers.insert(GENERATION, refusal.known.0.into());
    }
    if let Some(wait) = refusal.retry_after {
        // Whole seconds, not fewer than it takes.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        headers.insert(header::RETRY_AFTER, seconds.max(1).into());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn told(refusal: Refusal) -> (u16, Vec<(String, String)>) {
        let response = refusal.response();
        let ours = |name: &str| name.starts_with("outlast") || name == "retry-after";
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        let mut headers: Vec<_> = headers.filter(|(name, _)| ours(name)).collect();
        headers.sort();
        (response.status().as_u16(), headers)
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_gateway_learns_why_and_for_how_long() {
        let refusal = |why, retry_after| {
            Refusal::from(tenure::Refusal { why, known: Generation(7), retry_after })
        };
        let stale = pairs(&[("outlast-generation", "7"), ("outlast-refusal", "stale")]);
        assert_eq!(told(refusal(Why::Stale, None)), (409, stale));
        let busy = pairs(&[("outlast-refusal", "busy"), ("retry-after", "3")]);
        assert_eq!(told(refusal(Why::Busy, Some(Duration::from_millis(2_001)))), (503, busy));
        let full = pairs(&[("outlast-refusal", "full"), ("retry-after", "1")]);
        assert_eq!(told(refusal(Why::Full, Some(Duration::ZERO))), (503, full));
        for (why, name) in [(Why::Draining, "draining"), (Why::Fenced, "fenced")] {
            assert_eq!(told(Refusal::because(why)), (503, pairs(&[("outlast-refusal", name)])));
        }
        assert_eq!(told(Refusal::unavailable("x")), (503, Vec::new()));
    }

    #[test]
    fn what_a_shard_refuses_is_said_in_the_same_words() {
        let refusal = |status, about| {
            let text = String::from("text");
            told(core::Refusal { status, text, about }.into())
        };
        assert_eq!(refusal(401, core::About::Request), (401, Vec::new()));
        assert_eq!(refusal(1, core::About::Request), (500, Vec::new()));
        let full = pairs(&[("outlast-refusal", "full")]);
        assert_eq!(refusal(503, core::About::Shard), (503, full));
        let stale = pairs(&[("outlast-generation", "9"), ("outlast-refusal", "stale")]);
        assert_eq!(refusal(409, core::About::Generation(Generation(9))), (409, stale));
    }
}
