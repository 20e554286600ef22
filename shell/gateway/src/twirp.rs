//! The server API: `POST /twirp/livekit.RoomService/<Method>`. Grants are checked before a body is decoded; the room's home
//! does the work, wherever it is.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use outlast_gateway_core::{Goal, Input, Located, Placement};
use outlast_link::{Body, DialError, DialLimits};
use outlast_livekit::{
    CreateRoomRequest, DeleteRoomRequest, DeleteRoomResponse, ListParticipantsRequest,
    ListParticipantsResponse, ListRoomsRequest, ListRoomsResponse, Message, MuteRoomTrackRequest,
    MuteRoomTrackResponse, ParticipantInfo, RemoveParticipantResponse, Room,
    RoomParticipantIdentity, SendDataRequest, SendDataResponse, UpdateParticipantRequest,
    UpdateRoomMetadataRequest,
};
use outlast_model::{Generation, Identity, NAME_CHARS_MAX, NodeId, RoomName};
use outlast_token::VideoGrant;
use outlast_wire::{CLIENT_MESSAGE_LIMITS, within};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    asking::Wish,
    gateway::Shared,
    node_api::{post, set_up},
    query::{self, Token},
    reach::{Target, Unreached, reach},
    refusal::{come_back_after, with_retry_after},
    twirp_json,
};

/// Largest request body, in either encoding: what a node takes (`REQUEST_BYTES_MAX` in its `api.rs`).
const BODY_BYTES_MAX: usize = 256 * 1024;
/// A body that takes longer is not read to its end.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// One node's answer; of a node that hangs, the list of rooms is missing.
const CALL_MAX: Duration = Duration::from_secs(2);

/// Which call a path names.
pub(crate) struct Call {
    service: String,
    method: String,
}

impl Call {
    /// `None` when `path` (slashes collapsed, any prefix) is no call at all.
    pub(crate) fn of(path: &str) -> Option<Call> {
        let (_, rest) = path.split_once("/twirp/")?;
        let (service, method) = rest.split_once('/').unwrap_or((rest, ""));
        Some(Call { service: service.to_owned(), method: method.to_owned() })
    }
}

/// What went wrong, in Twirp's words.
#[derive(Debug)]
pub(crate) struct TwirpError {
    code: &'static str,
    message: String,
}

impl TwirpError {
    fn new(code: &'static str, message: impl Into<String>) -> TwirpError {
        TwirpError { code, message: message.into() }
    }

    fn response(&self) -> Response<Body> {
        let status = match self.code {
            "invalid_argument" | "malformed" => StatusCode::BAD_REQUEST,
            "unauthenticated" => StatusCode::UNAUTHORIZED,
            "permission_denied" => StatusCode::FORBIDDEN,
            "not_found" | "bad_route" => StatusCode::NOT_FOUND,
            "failed_precondition" => StatusCode::PRECONDITION_FAILED,
            "unimplemented" => StatusCode::NOT_IMPLEMENTED,
            "unavailable" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let body = serde_json::json!({ "code": self.code, "msg": self.message });
        json(status, body.to_string().into())
    }
}

/// How the caller writes and reads messages.
#[derive(Clone, Copy)]
enum Encoding {
    Protobuf,
    Json,
}

/// A call that may go on.
struct Granted {
    encoding: Encoding,
    caller: Identity,
    grant: VideoGrant,
    body: Bytes,
}

/// Answers one call.
pub(crate) async fn answer(
    shared: &Arc<Shared>,
    call: Call,
    request: Request<Incoming>,
) -> Response<Body> {
    let answer = match route(shared, &call, request).await {
        Ok(response) => response,
        Err(error) => error.response(),
    };
    shared.metrics.call(if answer.status().is_success() { "done" } else { "failed" });
    with_retry_after(answer)
}

async fn route(
    shared: &Arc<Shared>,
    call: &Call,
    request: Request<Incoming>,
) -> Result<Response<Body>, TwirpError> {
    if call.service != "livekit.RoomService" {
        let message = format!("service {:?} is not served here", call.service);
        return Err(TwirpError::new("unimplemented", message));
    }
    if request.method() != Method::POST {
        return Err(TwirpError::new("bad_route", "calls are POST requests"));
    }
    let needs = need_of(&call.method)?;
    let granted = grant(shared, needs, request).await?;
    dispatch(shared, &call.method, &granted).await
}

async fn dispatch(
    shared: &Arc<Shared>,
    method: &str,
    granted: &Granted,
) -> Result<Response<Body>, TwirpError> {
    match method {
        "CreateRoom" => create_room(shared, granted).await,
        "ListRooms" => list_rooms(shared, granted).await,
        "DeleteRoom" => delete_room(shared, granted).await,
        "ListParticipants" => {
            forward::<ListParticipantsRequest, ListParticipantsResponse>(
                shared,
                method,
                granted,
                |q| &q.room,
            )
            .await
        }
        "GetParticipant" => {
            forward::<RoomParticipantIdentity, ParticipantInfo>(shared, method, granted, |q| {
                &q.room
            })
            .await
        }
        "RemoveParticipant" => {
            forward::<RoomParticipantIdentity, RemoveParticipantResponse>(
                shared,
                method,
                granted,
                |q| &q.room,
            )
            .await
        }
        "MutePublishedTrack" => {
            forward::<MuteRoomTrackRequest, MuteRoomTrackResponse>(shared, method, granted, |q| {
                &q.room
            })
            .await
        }
        "UpdateParticipant" => {
            forward::<UpdateParticipantRequest, ParticipantInfo>(shared, method, granted, |q| {
                &q.room
            })
            .await
        }
        "SendData" => {
            forward::<SendDataRequest, SendDataResponse>(shared, method, granted, |q| &q.room).await
        }
        // The only one left of those that `need_of` lets pass.
        _ => forward::<UpdateRoomMetadataRequest, Room>(shared, method, granted, |q| &q.room).await,
    }
}

/// The grant that a method asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Create,
    List,
    /// Of the room in the request.
    Admin,
}

fn need_of(method: &str) -> Result<Need, TwirpError> {
    match method {
        "CreateRoom" | "DeleteRoom" => Ok(Need::Create),
        "ListRooms" => Ok(Need::List),
        "ListParticipants" | "GetParticipant" | "RemoveParticipant" | "MutePublishedTrack"
        | "UpdateParticipant" | "SendData" | "UpdateRoomMetadata" => Ok(Need::Admin),
        "UpdateSubscriptions" | "PerformRpc" | "ForwardParticipant" | "MoveParticipant" => {
            Err(TwirpError::new("unimplemented", format!("{method} is not served yet")))
        }
        _ => Err(TwirpError::new("bad_route", format!("no method {method:?}"))),
    }
}

/// Checks the token against `need`, and only then reads the body.
async fn grant(
    shared: &Shared,
    need: Need,
    request: Request<Incoming>,
) -> Result<Granted, TwirpError> {
    let query = request.uri().query().unwrap_or_default();
    let token = match query::token(request.headers(), query) {
        Token::Found(token) => token,
        Token::Missing | Token::NotBearer => {
            return Err(TwirpError::new("unauthenticated", "no access token"));
        }
    };
    let claims = shared
        .keys
        .verify(&token, shared.wall.unix_now())
        .map_err(|error| TwirpError::new("unauthenticated", error.to_string()))?;
    let grant = claims.video;
    let granted = match need {
        Need::Create => grant.room_create,
        Need::List => grant.room_list,
        Need::Admin => grant.room_admin && !grant.room.is_empty(),
    };
    if !granted {
        return Err(TwirpError::new("permission_denied", "token does not grant this call"));
    }
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let encoding = match content_type.and_then(|value| value.to_str().ok()) {
        Some(value) if value.starts_with("application/protobuf") => Encoding::Protobuf,
        Some(value) if value.starts_with("application/json") => Encoding::Json,
        _ => return Err(TwirpError::new("bad_route", "content type must be protobuf or JSON")),
    };
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect();
    match timeout(BODY_TIME_MAX, body).await {
        Ok(Ok(body)) => {
            Ok(Granted { encoding, caller: claims.identity, grant, body: body.to_bytes() })
        }
        Ok(Err(_)) | Err(_) => Err(TwirpError::new(
            "malformed",
            format!("body broke off or is over {BODY_BYTES_MAX} bytes"),
        )),
    }
}

/// Hands a call to the home of the room that it names.
async fn forward<Q, R>(
    shared: &Arc<Shared>,
    method: &str,
    granted: &Granted,
    room: impl Fn(&Q) -> &str,
) -> Result<Response<Body>, TwirpError>
where
    Q: Message + Default + DeserializeOwned,
    R: Message + Default + Serialize,
{
    let request: Q = decode(granted)?;
    let room = named_room(room(&request))?;
    if need_of(method)? == Need::Admin && !granted.grant.may_admin(&room) {
        return Err(TwirpError::new("permission_denied", "token is for another room"));
    }
    let placement = home(shared, &room)?;
    let body = encoded(&request)?;
    let reply = call(shared, &placement, method, body).await.map_err(unreached)?;
    encode::<R>(granted.encoding, reply)
}

async fn create_room(
    shared: &Arc<Shared>,
    granted: &Granted,
) -> Result<Response<Body>, TwirpError> {
    let request: CreateRoomRequest = decode(granted)?;
    let room = named_room(&request.name)?;
    let body = encoded(&request)?;
    // Whoever calls the server API is mostly another server, whose place says nothing of the people.
    let (client, goal) = (granted.caller.clone(), Goal::Join);
    let wish = Wish { room: room.clone(), client, goal, near: None };
    let create = |target: Target| create(shared, target, &room, body.clone());
    match reach(shared, wish, create).await {
        Ok(reached) => encode::<Room>(granted.encoding, reached.answer),
        Err(unreached) => Ok(not_created(unreached)),
    }
}

/// A room that moves keeps what it was set to, where the request says nothing else.
async fn create(
    shared: &Shared,
    target: Target,
    room: &RoomName,
    body: Bytes,
) -> Result<Bytes, DialError> {
    set_up(shared, &target, room).await?;
    post(shared, &target, "CreateRoom", body).await
}

fn not_created(unreached: Unreached) -> Response<Body> {
    let error = |text| TwirpError::new("unavailable", text).response();
    match unreached {
        Unreached::Refused(response) => relay(*response),
        Unreached::NoNode { said: Some(response), retry_after } => {
            come_back_after(relay(*response), retry_after)
        }
        Unreached::NoNode { said: None, retry_after } => {
            come_back_after(error("no media server now"), retry_after)
        }
        Unreached::Shed { retry_after } => come_back_after(error("gateway is busy"), retry_after),
        Unreached::Gone => error("no media server now"),
    }
}

async fn delete_room(
    shared: &Arc<Shared>,
    granted: &Granted,
) -> Result<Response<Body>, TwirpError> {
    let request: DeleteRoomRequest = decode(granted)?;
    let room = named_room(&request.room)?;
    let placement = home(shared, &room)?;
    let body = encoded(&request)?;
    let reply = call(shared, &placement, "DeleteRoom", body).await.map_err(unreached)?;
    // The next room of this name is a new one.
    shared.role.input(Input::Deleted { room });
    encode::<DeleteRoomResponse>(granted.encoding, reply)
}

async fn list_rooms(shared: &Arc<Shared>, granted: &Granted) -> Result<Response<Body>, TwirpError> {
    let request: ListRoomsRequest = decode(granted)?;
    let body = encoded(&request)?;
    let mut asked = JoinSet::new();
    for node in shared.role.living() {
        let (shared, body) = (Arc::clone(shared), body.clone());
        asked.spawn(async move {
            let placement = Placement { node: node.clone(), generation: Generation(0), home: true };
            (node, call(&shared, &placement, "ListRooms", body).await)
        });
    }
    let mut rooms: Vec<(NodeId, Room)> = Vec::new();
    while let Some(answered) = asked.join_next().await {
        let Ok((node, answer)) = answered else { continue };
        let list = answer.ok().and_then(|bytes| ListRoomsResponse::decode(bytes).ok());
        match list {
            Some(list) => rooms.extend(list.rooms.into_iter().map(|room| (node.clone(), room))),
            // The others' rooms are worth more than an error.
            None => tracing::warn!(%node, "rooms of this node are missing from a list"),
        }
    }
    rooms.retain(|(node, room)| match shared.role.locate(&RoomName::from(room.name.as_str())) {
        Located::At(placement) => placement.node == *node,
        Located::Unknown | Located::Down => true,
    });
    rooms.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
    rooms.dedup_by(|(_, a), (_, b)| a.name == b.name);
    let list = ListRoomsResponse { rooms: rooms.into_iter().map(|(_, room)| room).collect() };
    encode::<ListRoomsResponse>(granted.encoding, list.encode_to_vec().into())
}

fn named_room(name: &str) -> Result<RoomName, TwirpError> {
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
        return Err(TwirpError::new("invalid_argument", "room name is empty or too long"));
    }
    Ok(RoomName::from(name))
}

fn home(shared: &Shared, room: &RoomName) -> Result<Placement, TwirpError> {
    match shared.role.locate(room) {
        Located::At(placement) => Ok(placement),
        Located::Down => Err(TwirpError::new("unavailable", "room is about to move")),
        Located::Unknown if shared.role.settled() => {
            Err(TwirpError::new("not_found", "requested room does not exist"))
        }
        Located::Unknown => Err(TwirpError::new("unavailable", "gateway has just started")),
    }
}

async fn call(
    shared: &Shared,
    placement: &Placement,
    method: &str,
    body: Bytes,
) -> Result<Bytes, DialError> {
    let limits = DialLimits { connect: CALL_MAX, response: CALL_MAX, ..DialLimits::default() };
    let target = Target::home(shared, placement.clone(), limits);
    post(shared, &target, method, body).await
}

/// What a caller hears of a node that did not do as asked.
fn unreached(error: DialError) -> TwirpError {
    let DialError::Refused(response) = error else {
        return TwirpError::new("unavailable", "media server is not reachable");
    };
    // What is not Twirp's may still be a node's trouble.
    let otherwise = match response.status() {
        StatusCode::SERVICE_UNAVAILABLE => "unavailable",
        _ => "internal",
    };
    let word = |body: &serde_json::Value, key: &str| body.get(key)?.as_str().map(str::to_owned);
    let body = serde_json::from_slice(response.body()).unwrap_or_default();
    // The codes that a node may answer with; anything else is a fault of its own.
    const CODES: [&str; 6] = [
        "invalid_argument",
        "not_found",
        "permission_denied",
        "failed_precondition",
        "unimplemented",
        "unavailable",
    ];
    let code = word(&body, "code").unwrap_or_default();
    let code = CODES.into_iter().find(|known| *known == code).unwrap_or(otherwise);
    TwirpError::new(code, word(&body, "msg").unwrap_or_default())
}

fn relay(response: Response<Bytes>) -> Response<Body> {
    let error = unreached(DialError::Refused(Box::new(response)));
    error.response()
}

fn decode<Q: Message + Default + DeserializeOwned>(granted: &Granted) -> Result<Q, TwirpError> {
    let malformed = |what: String| TwirpError::new("malformed", what);
    match granted.encoding {
        Encoding::Protobuf => {
            within(&granted.body, CLIENT_MESSAGE_LIMITS)
                .map_err(|error| TwirpError::new("invalid_argument", error.to_string()))?;
            Q::decode(granted.body.clone()).map_err(|error| malformed(error.to_string()))
        }
        Encoding::Json => {
            serde_json::from_slice(&granted.body).map_err(|error| malformed(error.to_string()))
        }
    }
}

/// `request` as a node takes it: JSON may write a number in fewer bytes than protobuf.
fn encoded(request: &impl Message) -> Result<Bytes, TwirpError> {
    if request.encoded_len() > BODY_BYTES_MAX {
        let message = format!("request is over {BODY_BYTES_MAX} bytes");
        return Err(TwirpError::new("malformed", message));
    }
    Ok(request.encode_to_vec().into())
}

fn encode<R: Message + Default + Serialize>(
    encoding: Encoding,
    reply: Bytes,
) -> Result<Response<Body>, TwirpError> {
    if let Encoding::Protobuf = encoding {
        let mut response = Response::new(Body::new(reply));
        let content_type = HeaderValue::from_static("application/protobuf");
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        return Ok(response);
    }
    let internal = |_| TwirpError::new("internal", "media server's answer is malformed");
    let message = R::decode(reply)
        .map_err(|_| TwirpError::new("internal", "media server's answer is malformed"))?;
    let value = serde_json::to_value(&message).map_err(internal)?;
    Ok(json(StatusCode::OK, twirp_json::with_proto_names(value).to_string().into()))
}

fn json(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_calls() {
        let named = |path| Call::of(path).map(|call| (call.service, call.method));
        let list = ("livekit.RoomService".to_owned(), "ListRooms".to_owned());
        assert_eq!(named("/twirp/livekit.RoomService/ListRooms"), Some(list.clone()));
        assert_eq!(named("/prefix/twirp/livekit.RoomService/ListRooms"), Some(list));
        assert_eq!(named("/rtc/v1"), None);
    }

    #[test]
    fn protobuf_bodies_are_scanned_before_they_are_decoded() {
        let granted = |body: Vec<u8>, encoding| Granted {
            encoding,
            caller: "".into(),
            grant: VideoGrant::default(),
            body: body.into(),
        };
        // Names of rooms, all empty: two bytes each on the wire, dozens in memory.
        let bomb = [0x0a, 0].repeat(10_000);
        let decoded = decode::<ListRoomsRequest>(&granted(bomb, Encoding::Protobuf));
        assert_eq!(decoded.unwrap_err().code, "invalid_argument");
        let request = ListRoomsRequest { names: vec!["r".into()] };
        let decoded =
            decode::<ListRoomsRequest>(&granted(request.encode_to_vec(), Encoding::Protobuf));
        assert_eq!(decoded.unwrap(), request);
        let decoded =
            decode::<ListRoomsRequest>(&granted(br#"{"names":["r"]}"#.to_vec(), Encoding::Json));
        assert_eq!(decoded.unwrap(), request);
        let large = SendDataRequest { data: vec![0; BODY_BYTES_MAX], ..SendDataRequest::default() };
        assert_eq!(encoded(&large).unwrap_err().code, "malformed");
    }

    #[test]
    fn only_known_errors_of_a_node_pass() {
        let refusal = |body: &'static str| {
            let mut response = Response::new(Bytes::from_static(body.as_bytes()));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            unreached(DialError::Refused(Box::new(response)))
        };
        assert_eq!(refusal(r#"{"code":"not_found","msg":"no participant"}"#).code, "not_found");
        assert_eq!(refusal(r#"{"code":"strange"}"#).code, "internal");
        assert_eq!(refusal("<html>").code, "internal");
        let mut busy = Response::new(Bytes::from_static(b"too many come at once"));
        *busy.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(unreached(DialError::Refused(Box::new(busy))).code, "unavailable");
    }
}
