//! `/rtc/v1` and `/rtc/v1/validate`: who may come in, which node takes them, and the proxied socket.

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use outlast_gateway_core::{Placement, Session};
use outlast_link::{Body, DialError, DialLimits, Upgrade, WebSocket};
use outlast_model::{Generation, Identity, RoomName, SIGNAL_FRAME_BYTES_MAX};
use tokio::time::Instant;

use crate::{
    gateway::Shared,
    proxy,
    query::{self, Token},
    reach::{Goal, Unreached, reach},
    refusal::{Refusal, with_retry_after},
};

/// Most signalling sockets of one gateway.
pub(crate) const SESSIONS_MAX: usize = 20_000;

/// A request that may come in.
struct Admission {
    room: RoomName,
    client: Identity,
    goal: Goal,
    headers: HeaderMap,
    /// Path and query for the node.
    target: String,
}

/// Answers `/rtc/v1`.
pub(crate) async fn join(
    shared: &Arc<Shared>,
    client: IpAddr,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let started = Instant::now();
    let admission = match admit(shared, client, "/rtc/v1", &request) {
        Ok(admission) => admission,
        Err(refusal) => return refused(shared, refusal),
    };
    let Ok(upgrade) = Upgrade::take(&mut request) else {
        return refused(shared, Refusal::NotWebSocket);
    };
    let Ok(_permit) = shared.joins.try_acquire() else { return refused(shared, Refusal::Busy) };
    if shared.role.sessions() >= SESSIONS_MAX {
        return refused(shared, Refusal::Busy);
    }
    let reached = reach(shared, &admission.room, admission.goal, |address, generation, limits| {
        let headers = with_generation(&admission.headers, generation);
        let (dialer, target) = (&shared.dialer, &admission.target);
        async move { dialer.websocket(&address.to_string(), target, headers, &limits).await }
    });
    match reached.await {
        Ok((node, placement)) => {
            shared.metrics.admitted(started.elapsed());
            open(shared, upgrade, node, admission, placement)
        }
        Err(Unreached::Gone) => {
            shared.metrics.join("gone");
            say_gone(upgrade)
        }
        Err(Unreached::Refused(response)) => {
            shared.metrics.join("refused_by_node");
            relay(*response)
        }
        Err(Unreached::NoNode) => refused(shared, Refusal::NoNode),
    }
}

/// Answers `/rtc/v1/validate`.
pub(crate) async fn validate(
    shared: &Arc<Shared>,
    client: IpAddr,
    request: Request<Incoming>,
) -> Response<Body> {
    let admission = match admit(shared, client, "/rtc/v1/validate", &request) {
        Ok(admission) => admission,
        Err(refusal) => return refusal.response(),
    };
    let Ok(_permit) = shared.joins.try_acquire() else { return Refusal::Busy.response() };
    // A resume is asked about as a join: what was lost is no fault of the token's.
    let reached = reach(shared, &admission.room, Goal::Join, |address, generation, limits| {
        ask(shared, &admission, address, generation, limits)
    });
    match reached.await {
        Ok((response, _)) => response.map(Body::new),
        Err(Unreached::Refused(response)) => relay(*response),
        Err(Unreached::NoNode | Unreached::Gone) => Refusal::NoNode.response(),
    }
}

async fn ask(
    shared: &Shared,
    admission: &Admission,
    address: std::net::SocketAddr,
    generation: Generation,
    limits: DialLimits,
) -> Result<Response<bytes::Bytes>, DialError> {
    let mut request = Request::get(admission.target.as_str()).body(Body::default())?;
    *request.headers_mut() = with_generation(&admission.headers, generation);
    let response = shared.dialer.request(&address.to_string(), request, &limits).await?;
    if response.status().is_success() {
        Ok(response)
    } else {
        Err(DialError::Refused(Box::new(response)))
    }
}

/// Looks at the token, and at no more of the request than placement needs.
fn admit(
    shared: &Shared,
    client: IpAddr,
    path: &str,
    request: &Request<Incoming>,
) -> Result<Admission, Refusal> {
    let query = request.uri().query().unwrap_or_default();
    let token = match query::token(request.headers(), query) {
        Token::Found(token) => token,
        Token::Missing | Token::NotBearer => return Err(Refusal::NoToken),
    };
    let claims = shared.keys.verify(&token, shared.wall.unix_now()).map_err(Refusal::Token)?;
    if !claims.video.room_join {
        return Err(Refusal::NoJoinGrant);
    }
    if claims.video.room.is_empty() {
        return Err(Refusal::NoRoom);
    }
    let mut headers = HeaderMap::new();
    for name in [header::AUTHORIZATION, header::USER_AGENT] {
        if let Some(value) = request.headers().get(&name) {
            headers.insert(name, value.clone());
        }
    }
    if let Ok(value) = HeaderValue::from_str(&client.to_string()) {
        headers.insert("outlast-client-ip", value);
    }
    Ok(Admission {
        room: RoomName::from(claims.video.room.as_str()),
        client: claims.identity,
        goal: if query::is_resume(query) { Goal::Resume } else { Goal::Join },
        headers,
        target: if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") },
    })
}

fn with_generation(headers: &HeaderMap, generation: Generation) -> HeaderMap {
    let mut headers = headers.clone();
    headers.insert("outlast-generation", HeaderValue::from(generation.0));
    headers
}

/// Upgrades the client, now that a node has admitted it.
fn open(
    shared: &Arc<Shared>,
    upgrade: Upgrade,
    node: WebSocket,
    admission: Admission,
    placement: Placement,
) -> Response<Body> {
    let (response, socket) = upgrade.accept(SIGNAL_FRAME_BYTES_MAX);
    let Placement { node: id, generation, .. } = placement;
    let Admission { room, client, .. } = admission;
    let seat = shared.role.open(Session { room, client, node: id.clone(), generation });
    tokio::spawn(async move {
        let Ok(client) = socket.await else { return };
        let started = Instant::now();
        let ended = proxy::pump(client, node, seat).await;
        let seconds = Duration::as_secs(&started.elapsed());
        tracing::debug!(node = %id, ?ended, seconds, "session ended");
    });
    response
}

/// Upgrades a client whose session is lost, and says so in the first message.
fn say_gone(upgrade: Upgrade) -> Response<Body> {
    let (response, socket) = upgrade.accept(SIGNAL_FRAME_BYTES_MAX);
    tokio::spawn(async move {
        let Ok(client) = socket.await else { return };
        let (sink, source) = client.split();
        proxy::farewell(sink, source).await;
    });
    response
}

fn refused(shared: &Shared, refusal: Refusal) -> Response<Body> {
    shared.metrics.join("refused");
    refusal.response()
}

/// A node's refusal as the client gets it: status and text, no other header.
fn relay(response: Response<bytes::Bytes>) -> Response<Body> {
    let (parts, body) = response.into_parts();
    with_retry_after(outlast_link::text(parts.status, body))
}
