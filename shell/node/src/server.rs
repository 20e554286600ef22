//! The internal server's routes. Mutual TLS is the listener's matter; only gateways get here.

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use outlast_link::{Body, Peer, Upgrade, UpgradeError, text};
use outlast_model::SIGNAL_FRAME_BYTES_MAX;
use outlast_node_core::Command;
use outlast_runtime::Clock;
use outlast_tenure::{Goal, Why};
use outlast_token::ApiKeys;
use outlast_wire::ROOM_FRAME_BYTES_MAX;

use crate::{
    admit::{Admission, admit},
    api, drain,
    refusal::Refusal,
    role_loop::RoleLoop,
    rooms,
    session::Session,
    shards::{Input, Shards, Shared},
};

/// What every request may need; cheap to clone.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) role: Arc<RoleLoop>,
    pub(crate) shards: Arc<Shards>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) keys: ApiKeys,
    pub(crate) clock: Clock,
    pub(crate) debug_hooks: bool,
}

impl Server {
    /// Answers one request.
    pub(crate) async fn answer(self, _peer: Peer, request: Request<Incoming>) -> Response<Body> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response = match (&method, path.as_str()) {
            (&Method::GET, "/rtc/v1") => self.signal(request).await,
            (&Method::GET, "/rtc/v1/validate") => self.validate(request),
            (&Method::GET, "/rooms") => self.rooms(request),
            (&Method::GET | &Method::POST | &Method::DELETE, "/drain") => {
                let participants = self.shared.metrics.total().stats.participants;
                drain::answer(request, &self.role, participants, self.clock).await
            }
            (&Method::POST, path) => match (path.strip_prefix("/api/"), self.panicking(path)) {
                (Some(method), _) => {
                    Ok(api::answer(method, request, &self.role, &self.shards).await)
                }
                (None, Some(identity)) => Ok(self.panic(identity)),
                (None, None) => Err(not_found()),
            },
            _ => Err(not_found()),
        };
        response.unwrap_or_else(|refusal| {
            self.shared.metrics.count_refused(refusal.status.as_u16());
            refusal.response()
        })
    }

    async fn signal(&self, mut request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let upgrade = Upgrade::take(&mut request).map_err(no_upgrade)?;
        let admission = self.admit(request)?;
        let room = admission.claims.video.room.as_str().into();
        self.role.ask(&room, admission.generation, admission.goal)?;
        let session = Session::join(&self.shards, admission, &self.shared.metrics).await?;
        let (response, socket) = upgrade.accept(SIGNAL_FRAME_BYTES_MAX);
        let clock = self.clock;
        tokio::spawn(async move {
            // Without a socket the session is dropped, which its shard hears.
            if let Ok(socket) = socket.await {
                session.run(socket, clock).await;
            }
        });
        Ok(response)
    }

    fn admit(&self, request: Request<Incoming>) -> Result<Admission, Refusal> {
        admit(&request.into_parts().0, &self.keys, self.clock.unix_now())
    }

    /// Nobody comes in here, so the role is not asked, which would count it.
    fn validate(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let admission = self.admit(request)?;
        if self.role.drain_state().deadline.is_some() && admission.goal == Goal::Join {
            return Err(Refusal::because(Why::Draining));
        }
        Ok(text(StatusCode::OK, "success"))
    }

    fn rooms(&self, mut request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let upgrade = Upgrade::take(&mut request).map_err(no_upgrade)?;
        let (response, socket) = upgrade.accept(ROOM_FRAME_BYTES_MAX);
        let role = Arc::clone(&self.role);
        tokio::spawn(async move {
            // Without a socket, or when too many follow, nobody hears anything, and the gateway tries again.
            if let Ok(socket) = socket.await
                && let Some(follower) = role.follow()
            {
                rooms::stream(socket, follower, &role).await;
            }
        });
        Ok(response)
    }

    /// The identity whose session a test wants to panic.
    fn panicking<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix("/debug/panic/").filter(|_| self.debug_hooks)
    }

    fn panic(&self, identity: &str) -> Response<Body> {
        for shard in 0..self.shards.len() {
            let command = Command::Panic { identity: identity.to_owned() };
            if self.shards.send(shard, Input::Command(command)).is_err() {
                return Refusal::unavailable("the shard is overloaded").response();
            }
        }
        text(StatusCode::OK, "asked for")
    }
}

fn no_upgrade(error: UpgradeError) -> Refusal {
    match error {
        UpgradeError::NotWebSocket => Refusal::new(StatusCode::NOT_FOUND, ""),
        UpgradeError::BadHandshake => Refusal::bad(error.to_string()),
    }
}

fn not_found() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "")
}
