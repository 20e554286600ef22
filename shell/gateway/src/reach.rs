//! From a wish to an answer of the node that has the room, or takes it: dials the nodes that the role names, one after the
//! other, and tells it what came of each.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use outlast_gateway_core::{NodeRefusal, Placement, REACH_MAX, Unplaced};
use outlast_link::{Body, DialError, DialLimits, MESSAGE_WRITTEN_BYTES_MAX};
use outlast_model::{Generation, RoomSettings, Ruling};
use outlast_wire::ruling_to_text;

use crate::{
    asking::{Asking, Go, Step, Turn, Wish},
    gateway::Shared,
    refusal::{Refusal, come_back_after, relay},
};

/// TCP and TLS to one node: two round trips around the world.
const CONNECT_MAX: Duration = Duration::from_millis(1_200);
/// How a node's 401 begins that is about what the token allows, and not about whether it is good: the one grant that is
/// asked for inside the `join_request`, which only nodes read.
const GRANT_REFUSAL: &[u8] = b"the token does not grant canUpdateOwnMetadata";
/// Why a node has refused, in a refusal that is its own doing.
const REFUSAL: HeaderName = HeaderName::from_static("outlast-refusal");
/// The generation under which a room is asked for, or under which the node that refuses knows it.
const GENERATION: HeaderName = HeaderName::from_static("outlast-generation");
/// No other node takes the client: one that drains may.
const NOWHERE_ELSE: HeaderName = HeaderName::from_static("outlast-nowhere-else");
/// What the server API has last said of the client's permission.
const RULING: HeaderName = HeaderName::from_static("outlast-ruling");
/// A generation above it is none: it could not be superseded for long.
const GENERATION_MAX: u64 = u64::MAX / 2;

/// One node, and how it is asked.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) placement: Placement,
    pub(crate) nowhere_else: bool,
    /// What the room is set to, when the node has to be told first.
    pub(crate) settings: Option<Arc<RoomSettings>>,
    /// What the server API has last said of the client's permission.
    pub(crate) ruling: Option<Ruling>,
    pub(crate) limits: DialLimits,
}

impl Target {
    /// The room's home, for a call.
    pub(crate) fn home(shared: &Shared, placement: Placement, limits: DialLimits) -> Target {
        let go = Go { placement, nowhere_else: false, settings: None, ruling: None };
        Target::new(shared, go, limits)
    }

    fn new(shared: &Shared, go: Go, limits: DialLimits) -> Target {
        let Go { placement, nowhere_else, settings, ruling } = go;
        let peer = shared.nodes.get(&placement.node).expect("the view has only configured nodes");
        Target { address: peer.address, placement, nowhere_else, settings, ruling, limits }
    }

    /// Adds what a node wants to know of its request.
    pub(crate) fn mark(&self, headers: &mut HeaderMap) {
        headers.insert(GENERATION, HeaderValue::from(self.placement.generation.0));
        if self.nowhere_else {
            headers.insert(NOWHERE_ELSE, HeaderValue::from_static("1"));
        }
        if let Some(ruling) = &self.ruling {
            let value = HeaderValue::try_from(ruling_to_text(ruling));
            headers.insert(RULING, value.expect("digits, a dot and a colon"));
        }
    }
}

/// A node has taken the request.
pub(crate) struct Reached<T> {
    pub(crate) answer: T,
    pub(crate) placement: Placement,
    /// To be opened; dropped, it ends here.
    pub(crate) asking: Asking,
}

/// Why nobody has taken the request.
pub(crate) enum Unreached {
    /// A node has answered, and it was no for good.
    Refused(Box<Response<Bytes>>),
    /// To be resumed: the room's home is unknown, down, or gives its rooms away.
    Gone,
    /// No node in time; with what one has said about itself.
    NoNode { said: Option<Box<Response<Bytes>>>, retry_after: Duration },
    /// Too many ask, or this gateway is about to stop.
    Shed { retry_after: Duration },
}

impl Unreached {
    /// The answer to an HTTP request.
    pub(crate) fn response(self) -> Response<Body> {
        match self {
            Unreached::Refused(response) => relay(*response),
            Unreached::Gone => Refusal::NoNode.response(),
            Unreached::NoNode { said: None, retry_after } => {
                Refusal::NoNode.response_after(retry_after)
            }
            Unreached::NoNode { said: Some(response), retry_after } => {
                come_back_after(relay(*response), retry_after)
            }
            Unreached::Shed { retry_after } => Refusal::Busy.response_after(retry_after),
        }
    }
}

/// Asks the nodes that the role names by `dial`, until one takes the request or refuses it for good. A dial that still runs
/// when the role has something newer to say is given up.
pub(crate) async fn reach<T, D, F>(
    shared: &Shared,
    wish: Wish,
    dial: D,
) -> Result<Reached<T>, Unreached>
where
    D: Fn(Target) -> F,
    F: Future<Output = Result<T, DialError>>,
{
    let mut asking = shared.role.ask(wish);
    let mut turn = asking.turn().await;
    let mut said = None;
    loop {
        let Turn { number, step } = turn;
        let go = match step {
            Step::Go(go) => go,
            Step::Unplaced { why, retry_after } => return Err(unplaced(why, retry_after, said)),
            Step::Wait => {
                turn = asking.turn().await;
                continue;
            }
        };
        let placement = go.placement.clone();
        let answer = tokio::select! {
            biased;
            newer = asking.turn() => {
                turn = newer;
                continue;
            }
            answer = dial(Target::new(shared, go, limits())) => answer,
        };
        match answer {
            Ok(answer) if asking.settle(number) => {
                return Ok(Reached { answer, placement, asking });
            }
            // The role has just changed its mind: the node that has taken the client loses it.
            Ok(_) => {}
            Err(DialError::Refused(response)) if is_about_the_request(&response) => {
                return Err(Unreached::Refused(response));
            }
            Err(DialError::Refused(response)) => {
                asking.refused(number, why(&response, &placement));
                note(response, &placement, &mut said);
            }
            Err(error) => {
                tracing::debug!(node = %placement.node, error = &error as &dyn std::error::Error,
                    "node not reached");
                asking.unreached(number, is_refused(&error));
            }
        }
        turn = asking.turn().await;
    }
}

/// The role ends a dial before these do, unless the node does not even take the connection.
fn limits() -> DialLimits {
    DialLimits {
        connect: CONNECT_MAX,
        response: REACH_MAX,
        message_bytes: MESSAGE_WRITTEN_BYTES_MAX,
        ..DialLimits::default()
    }
}

fn unplaced(why: Unplaced, retry_after: Duration, said: Option<Box<Response<Bytes>>>) -> Unreached {
    match why {
        Unplaced::Gone => Unreached::Gone,
        Unplaced::NoNode => Unreached::NoNode { said, retry_after },
        Unplaced::Shed => Unreached::Shed { retry_after },
    }
}

/// Keeps a refusal that tells a client more than that there is no node.
fn note(
    response: Box<Response<Bytes>>,
    placement: &Placement,
    said: &mut Option<Box<Response<Bytes>>>,
) {
    let status = response.status();
    if status.is_server_error() {
        *said = Some(response);
    } else if status != StatusCode::CONFLICT {
        tracing::warn!(node = %placement.node, %status, "node disagrees about a request");
    }
}

/// Whether a refusal is the client's own doing, so that every node would say the same. The token is good and the path
/// exists, or the request would not have come so far: a node that does not find so is misconfigured, and clients that
/// hear 401, 403 or 404 give up for good.
fn is_about_the_request(response: &Response<Bytes>) -> bool {
    if response.headers().contains_key(REFUSAL) {
        return false;
    }
    match response.status() {
        StatusCode::UNAUTHORIZED => response.body().starts_with(GRANT_REFUSAL),
        StatusCode::FORBIDDEN
        | StatusCode::NOT_FOUND
        | StatusCode::REQUEST_TIMEOUT
        | StatusCode::CONFLICT
        | StatusCode::TOO_MANY_REQUESTS => false,
        status => status.is_client_error(),
    }
}

/// Why a node has refused, for reasons of its own.
fn why(response: &Response<Bytes>, placement: &Placement) -> NodeRefusal {
    let text = |name: &HeaderName| response.headers().get(name)?.to_str().ok();
    match text(&REFUSAL) {
        Some("stale") => {
            let known = text(&GENERATION).and_then(|known| known.parse().ok());
            let known = known.filter(|known| *known <= GENERATION_MAX).map(Generation);
            // It is a higher one, whichever.
            NodeRefusal::Stale(known.unwrap_or(placement.generation.next()))
        }
        Some("full") => NodeRefusal::Full,
        Some("draining") => NodeRefusal::Draining,
        Some("busy") => NodeRefusal::Busy,
        _ => NodeRefusal::Other,
    }
}

/// Whether nothing listens at the other end: the process is gone, the machine is not.
pub(crate) fn is_refused(error: &DialError) -> bool {
    matches!(error, DialError::Connect { source, .. }
        if source.kind() == std::io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, headers: &[(&'static str, &'static str)]) -> Response<Bytes> {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        response.body(Bytes::new()).unwrap()
    }

    #[test]
    fn refusals_are_told_apart_by_their_header() {
        let placement = Placement { node: "n".into(), generation: Generation(4), home: false };
        let check = |status, headers: &[(&'static str, &'static str)], expected| {
            assert_eq!(why(&refusal(status, headers), &placement), expected, "{headers:?}");
        };
        let stale = ("outlast-refusal", "stale");
        check(409, &[stale, ("outlast-generation", "9")], NodeRefusal::Stale(Generation(9)));
        for absurd in ["", "-1", "x", "18446744073709551615"] {
            let generation = ("outlast-generation", absurd);
            check(409, &[stale, generation], NodeRefusal::Stale(Generation(5)));
        }
        check(409, &[stale], NodeRefusal::Stale(Generation(5)));
        check(503, &[("outlast-refusal", "full")], NodeRefusal::Full);
        check(503, &[("outlast-refusal", "draining")], NodeRefusal::Draining);
        check(503, &[("outlast-refusal", "busy")], NodeRefusal::Busy);
        check(503, &[("outlast-refusal", "fenced")], NodeRefusal::Other);
        check(503, &[("outlast-refusal", "of a later version")], NodeRefusal::Other);
        check(503, &[], NodeRefusal::Other);
        check(409, &[], NodeRefusal::Other);
    }

    #[test]
    fn what_a_node_says_of_itself_is_never_the_client_s_doing() {
        for status in [400, 401, 403, 404, 409, 429, 503] {
            assert!(!is_about_the_request(&refusal(status, &[("outlast-refusal", "busy")])));
        }
        let about = [400, 413, 415, 426].map(|status| is_about_the_request(&refusal(status, &[])));
        assert_eq!(about, [true; 4]);
        let about = [401, 403, 404, 408, 409, 429, 500, 503]
            .map(|s| is_about_the_request(&refusal(s, &[])));
        assert_eq!(about, [false; 8]);
    }
}
