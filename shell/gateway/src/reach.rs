//! From a room to an answer of the node that has it, or takes it: the one loop over placements, under one budget.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Response, StatusCode};
use outlast_gateway_core::{Gone, Input, PlaceError, Placement};
use outlast_link::{DialError, DialLimits, MESSAGE_WRITTEN_BYTES_MAX};
use outlast_model::{Generation, NodeId, RoomName};
use tokio::time::{Instant, sleep};

use crate::gateway::Shared;

/// From the request to the node's answer. A frozen node is given up after 2 s, and the next one wants a second; SDKs wait
/// five or fifteen.
pub(crate) const REACH_MAX: Duration = Duration::from_millis(3_500);
/// TCP and TLS to one node: two round trips around the world.
const CONNECT_MAX: Duration = Duration::from_millis(1_200);
/// Between two looks at the view, or two tries of the same node.
const PAUSE: Duration = Duration::from_millis(50);
/// How often a room's home may refuse a session before the client hears of it: a node that has begun to drain says so in its
/// next beat.
const HOME_REFUSALS_MAX: u32 = 4;
/// How a node's 401 begins that is about what the token allows, and not about whether it is good: the one grant that is
/// asked for inside the `join_request`, which only nodes read.
const GRANT_REFUSAL: &[u8] = b"the token does not grant canUpdateOwnMetadata";

/// Who is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// The room's home, or a new one.
    Join,
    /// The room's home only.
    Resume,
}

/// Why nobody has taken the request.
pub(crate) enum Unreached {
    /// A node has answered, and it was no.
    Refused(Box<Response<Bytes>>),
    /// To be resumed: the room's home is unknown or down.
    Gone,
    /// No node within the budget.
    NoNode,
}

/// Asks nodes for `room`, one after the other, by `dial`, until one takes the request or refuses it for good.
pub(crate) async fn reach<T, D, F>(
    shared: &Shared,
    room: &RoomName,
    goal: Goal,
    dial: D,
) -> Result<(T, Placement), Unreached>
where
    D: Fn(SocketAddr, Generation, DialLimits) -> F,
    F: Future<Output = Result<T, DialError>>,
{
    let deadline = Instant::now() + REACH_MAX;
    let mut tried: Vec<NodeId> = Vec::new();
    let mut refusal = None;
    let mut home_refusals = 0;
    settle(shared, deadline).await;
    while Instant::now() < deadline {
        let placement = match choose(shared, room, goal, &tried) {
            Choice::Go(placement) => placement,
            Choice::Gone => return Err(Unreached::Gone),
            Choice::AllTried => break,
            Choice::Wait => {
                sleep(PAUSE).await;
                continue;
            }
        };
        let Some(peer) = shared.nodes.get(&placement.node) else { break };
        let rest = deadline.saturating_duration_since(Instant::now());
        let limits = DialLimits {
            connect: CONNECT_MAX.min(rest),
            response: rest,
            message_bytes: MESSAGE_WRITTEN_BYTES_MAX,
            ..DialLimits::default()
        };
        let answer = tokio::select! {
            answer = dial(peer.address, placement.generation, limits) => answer,
            () = moved(shared, room, goal, &tried, &placement.node) => continue,
        };
        match answer {
            Ok(answer) => return Ok((answer, placement)),
            Err(DialError::Refused(response)) => {
                if is_about_the_request(&response) {
                    return Err(Unreached::Refused(response));
                }
                let status = response.status();
                if status.is_server_error() {
                    refusal = Some(response);
                } else {
                    tracing::warn!(node = %placement.node, %status, "node disagrees about a request");
                }
                // A conflict is a node that knows a newer generation: this gateway is about to hear of it.
                if placement.home || status == StatusCode::CONFLICT {
                    home_refusals += 1;
                    if home_refusals >= HOME_REFUSALS_MAX {
                        break;
                    }
                    sleep(4 * PAUSE).await;
                } else {
                    tried.push(placement.node);
                }
            }
            Err(error) => {
                tracing::debug!(node = %placement.node, error = &error as &dyn std::error::Error,
                    "node not reached");
                if is_refused(&error) {
                    shared.role.input(Input::Refused { node: placement.node.clone() });
                }
                if placement.home {
                    sleep(PAUSE).await;
                } else {
                    tried.push(placement.node);
                }
            }
        }
    }
    Err(refusal.map_or(Unreached::NoNode, Unreached::Refused))
}

/// Whether a refusal is the client's own doing, so that every node would say the same. The token is good and the path
/// exists, or the request would not have come so far: a node that does not find so is misconfigured, and clients that
/// hear 401, 403 or 404 give up for good.
fn is_about_the_request(response: &Response<Bytes>) -> bool {
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

/// Whether nothing listens at the other end: the process is gone, the machine is not.
pub(crate) fn is_refused(error: &DialError) -> bool {
    matches!(error, DialError::Connect { source, .. }
        if source.kind() == std::io::ErrorKind::ConnectionRefused)
}

enum Choice {
    Go(Placement),
    /// Nothing to resume.
    Gone,
    /// Every node has refused.
    AllTried,
    /// No node now; perhaps soon.
    Wait,
}

fn choose(shared: &Shared, room: &RoomName, goal: Goal, tried: &[NodeId]) -> Choice {
    match goal {
        Goal::Resume => match shared.role.resume(room) {
            Ok(placement) => Choice::Go(placement),
            Err(Gone) => Choice::Gone,
        },
        Goal::Join => match shared.role.place(room, tried) {
            Ok(placement) => Choice::Go(placement),
            Err(PlaceError::AllTried) => Choice::AllTried,
            Err(PlaceError::NoNode) => Choice::Wait,
        },
    }
}

/// Ends when `node` is no longer where `room` should go: a node that is being waited for may be frozen.
async fn moved(shared: &Shared, room: &RoomName, goal: Goal, tried: &[NodeId], node: &NodeId) {
    loop {
        sleep(PAUSE).await;
        match choose(shared, room, goal, tried) {
            Choice::Go(placement) if placement.node == *node => {}
            // Nowhere better to go is no reason to stop waiting here.
            Choice::Wait | Choice::AllTried => {}
            Choice::Go(_) | Choice::Gone => return,
        }
    }
}

async fn settle(shared: &Shared, deadline: Instant) {
    while !shared.role.settled() && Instant::now() < deadline {
        sleep(PAUSE).await;
    }
}
