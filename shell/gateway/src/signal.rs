//! `/rtc/v1` and `/rtc/v1/validate`: who may come in, which node takes them, and the proxied socket.

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use outlast_gateway_core::{Goal, Session};
use outlast_link::{Body, DialError, Upgrade, WebSocket};
use outlast_model::{RoomName, SIGNAL_FRAME_BYTES_MAX};
use tokio::time::Instant;

use crate::{
    asking::Wish,
    gateway::Shared,
    node_api::set_up,
    outcome::Outcome,
    proxy,
    query::{self, Token},
    reach::{Reached, Target, Unreached, reach},
    refusal::Refusal,
};

/// Most signalling sockets of one gateway.
pub(crate) const SESSIONS_MAX: usize = 20_000;

/// A request that may come in.
struct Admission {
    wish: Wish,
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
    if shared.role.sessions() >= SESSIONS_MAX {
        return refused(shared, Refusal::Busy);
    }
    let dial = |target: Target| dial(shared, &admission, target);
    match reach(shared, admission.wish.clone(), dial).await {
        Ok(reached) => {
            shared.metrics.admitted(started.elapsed());
            open(upgrade, reached, admission.wish)
        }
        Err(Unreached::Gone) => {
            shared.metrics.join("gone");
            say_gone(upgrade)
        }
        Err(unreached) => {
            let by_node = matches!(
                unreached,
                Unreached::Refused(_) | Unreached::NoNode { said: Some(_), .. }
            );
            shared.metrics.join(if by_node { "refused_by_node" } else { "refused" });
            unreached.response()
        }
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
    // A resume is asked about as a join: what was lost is no fault of the token's.
    let wish = Wish { goal: Goal::Join, ..admission.wish.clone() };
    match reach(shared, wish, |target| ask(shared, &admission, target)).await {
        Ok(reached) => reached.answer.map(Body::new),
        Err(unreached) => unreached.response(),
    }
}

async fn dial(
    shared: &Shared,
    admission: &Admission,
    target: Target,
) -> Result<WebSocket, DialError> {
    set_up(shared, &target, &admission.wish.room).await?;
    let address = target.address.to_string();
    let headers = admission.headers_for(&target);
    shared.spares.websocket(&address, &admission.target, headers, &target.limits).await
}

async fn ask(
    shared: &Shared,
    admission: &Admission,
    target: Target,
) -> Result<Response<bytes::Bytes>, DialError> {
    let mut request = Request::get(admission.target.as_str()).body(Body::default())?;
    *request.headers_mut() = admission.headers_for(&target);
    let address = target.address.to_string();
    let response = shared.dialer.request(&address, request, &target.limits).await?;
    if response.status().is_success() {
        Ok(response)
    } else {
        Err(DialError::Refused(Box::new(response)))
    }
}

impl Admission {
    fn headers_for(&self, target: &Target) -> HeaderMap {
        let mut headers = self.headers.clone();
        target.mark(&mut headers);
        headers
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
    let goal = if query::is_resume(query) { Goal::Resume } else { Goal::Join };
    let room = RoomName::from(claims.video.room.as_str());
    Ok(Admission {
        wish: Wish {
            room,
            client: claims.identity,
            goal,
            near: shared.locations.region(client).cloned(),
        },
        headers,
        target: if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") },
    })
}

/// Upgrades the client, now that a node has admitted it.
fn open(upgrade: Upgrade, reached: Reached<WebSocket>, wish: Wish) -> Response<Body> {
    let (response, socket) = upgrade.accept(SIGNAL_FRAME_BYTES_MAX);
    let Reached { answer: node, placement, asking } = reached;
    let Wish { room, client, goal, .. } = wish;
    let id = placement.node.clone();
    let at = Session { room, client, node: placement.node, generation: placement.generation };
    let (seat, told) = asking.open(at);
    tokio::spawn(async move {
        let Ok(client) = socket.await else { return };
        let started = Instant::now();
        let outcome = (goal == Goal::Join).then(|| Outcome::new(started));
        let ended = proxy::pump(client, node, seat, told, outcome).await;
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
