//! The server API's way to the shards: `POST /api/<Method>`, protobuf in and out. Gateways have checked the grants.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use outlast_link::Body;
use outlast_livekit::{self as proto, ListRoomsResponse, Message};
use outlast_model::Generation;
use outlast_node_core::{ApiError, ApiRequest};
use outlast_wire::{CLIENT_MESSAGE_LIMITS, within};
use tokio::{sync::oneshot, time::timeout};

use crate::{
    admit,
    refusal::Refusal,
    role_loop::RoleLoop,
    shards::{Input, Shards},
};

/// Largest request, in bytes: metadata at its limit and as much again.
const REQUEST_BYTES_MAX: usize = 256 * 1024;
/// How long a shard may take to answer.
const ANSWER_SPAN: Duration = Duration::from_secs(5);

/// Why a call has failed.
enum Failure {
    Api(ApiError),
    /// The node takes no room, or not this one.
    TurnedAway(Refusal),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Failure {
        Failure::Api(error)
    }
}

/// What a gateway says about a room beside the request.
struct Heading {
    generation: Generation,
    created_unix_ms: Option<i64>,
}

/// Answers one request; errors are Twirp's JSON.
pub(crate) async fn answer(
    method: &str,
    request: Request<Incoming>,
    role: &RoleLoop,
    shards: &Arc<Shards>,
) -> Response<Body> {
    match call(method, request, role, shards).await {
        Ok(bytes) => response(StatusCode::OK, "application/protobuf", bytes),
        Err(Failure::Api(error)) => failure(&error),
        Err(Failure::TurnedAway(refusal)) => {
            let mut response = failure(&error("unavailable", refusal.text.as_str()));
            *response.status_mut() = refusal.status;
            refusal.put_headers(response.headers_mut());
            response
        }
    }
}

async fn call(
    method: &str,
    request: Request<Incoming>,
    role: &RoleLoop,
    shards: &Arc<Shards>,
) -> Result<Vec<u8>, Failure> {
    let malformed = |refusal: Refusal| error("malformed", refusal.text);
    let headers = request.headers();
    let generation = admit::generation(headers).map_err(malformed)?;
    let created_unix_ms = admit::created_unix_ms(headers).map_err(malformed)?;
    let goal = admit::join_goal(headers);
    let body = timeout(ANSWER_SPAN, Limited::new(request.into_body(), REQUEST_BYTES_MAX).collect())
        .await
        .map_err(|_| error("deadline_exceeded", "the request did not arrive in time"))?
        .map_err(|_| error("malformed", "the request is too large or broke off"))?
        .to_bytes();
    let decoded = decode(method, &body, Heading { generation, created_unix_ms })?;
    let Some(room) = decoded.room() else { return Ok(list_rooms(shards, &body).await?) };
    if matches!(decoded, ApiRequest::CreateRoom { .. }) {
        role.ask(&room, generation, goal).map_err(|refusal| Failure::TurnedAway(refusal.into()))?;
    }
    Ok(ask(shards, shards.of(&room), decoded).await?)
}

/// Asks all shards, one after the other: it is rare, and the slowest decides either way.
async fn list_rooms(shards: &Arc<Shards>, body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let mut all = ListRoomsResponse::default();
    for shard in 0..shards.len() {
        let answer = ask(shards, shard, ApiRequest::ListRooms(parse(body)?)).await?;
        let part = ListRoomsResponse::decode(answer.as_slice())
            .map_err(|_| error("internal", "a shard's answer cannot be read"))?;
        all.rooms.extend(part.rooms);
    }
    Ok(all.encode_to_vec())
}

async fn ask(shards: &Arc<Shards>, shard: usize, request: ApiRequest) -> Result<Vec<u8>, ApiError> {
    let (answer, answered) = oneshot::channel();
    shards
        .send(shard, Input::Api { request: Box::new(request), answer })
        .map_err(|busy| error("unavailable", busy.to_string()))?;
    match timeout(ANSWER_SPAN, answered).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(error("unavailable", "the shard was lost: ask again")),
        Err(_) => Err(error("unavailable", "the shard does not answer")),
    }
}

fn decode(method: &str, body: &[u8], heading: Heading) -> Result<ApiRequest, ApiError> {
    within(body, CLIENT_MESSAGE_LIMITS)
        .map_err(|scan| error("invalid_argument", scan.to_string()))?;
    Ok(match method {
        "CreateRoom" => {
            let Heading { generation, created_unix_ms } = heading;
            ApiRequest::CreateRoom { request: Box::new(parse(body)?), generation, created_unix_ms }
        }
        "ListRooms" => ApiRequest::ListRooms(parse(body)?),
        "DeleteRoom" => ApiRequest::DeleteRoom(parse(body)?),
        "ListParticipants" => ApiRequest::ListParticipants(parse(body)?),
        "GetParticipant" => ApiRequest::GetParticipant(parse(body)?),
        "RemoveParticipant" => ApiRequest::RemoveParticipant(parse(body)?),
        "MutePublishedTrack" => ApiRequest::MutePublishedTrack(parse(body)?),
        "SendData" => ApiRequest::SendData(parse::<proto::SendDataRequest>(body)?),
        "UpdateParticipant" => ApiRequest::UpdateParticipant(parse(body)?),
        "UpdateRoomMetadata" => ApiRequest::UpdateRoomMetadata(parse(body)?),
        _ => return Err(error("bad_route", format!("there is no method {method}"))),
    })
}

fn parse<M: Message + Default>(body: &[u8]) -> Result<M, ApiError> {
    M::decode(body).map_err(|_| error("malformed", "the body is not the method's message"))
}

fn error(code: &'static str, message: impl Into<String>) -> ApiError {
    ApiError { code, message: message.into() }
}

fn failure(error: &ApiError) -> Response<Body> {
    let body = serde_json::json!({ "code": error.code, "msg": error.message });
    response(status(error.code), "application/json", body.to_string().into_bytes())
}

/// Twirp's table (livekit-wire 1.7).
fn status(code: &str) -> StatusCode {
    match code {
        "invalid_argument" | "malformed" | "out_of_range" => StatusCode::BAD_REQUEST,
        "unauthenticated" => StatusCode::UNAUTHORIZED,
        "permission_denied" => StatusCode::FORBIDDEN,
        "not_found" | "bad_route" => StatusCode::NOT_FOUND,
        "already_exists" | "aborted" => StatusCode::CONFLICT,
        "failed_precondition" => StatusCode::PRECONDITION_FAILED,
        "resource_exhausted" => StatusCode::TOO_MANY_REQUESTS,
        "canceled" | "deadline_exceeded" => StatusCode::REQUEST_TIMEOUT,
        "unimplemented" => StatusCode::NOT_IMPLEMENTED,
        "unavailable" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn response(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_known_by_name_and_bodies_are_checked() {
        let body = proto::DeleteRoomRequest { room: "r".into() }.encode_to_vec();
        let heading = || Heading { generation: Generation(1), created_unix_ms: None };
        let request = decode("DeleteRoom", &body, heading()).unwrap();
        assert_eq!(request.room(), Some("r".into()));
        let code = |method: &str, body: &[u8]| decode(method, body, heading()).unwrap_err().code;
        assert_eq!(code("Nonsense", &body), "bad_route");
        assert_eq!(code("DeleteRoom", &[0xff]), "malformed");
        assert_eq!(code("ListRooms", &[0x0a, 0].repeat(100_000)), "invalid_argument");
        assert_eq!(status("not_found"), StatusCode::NOT_FOUND);
        assert_eq!(status("something else"), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
