//! Calls to a node's internal API: `POST /api/<Method>`, protobuf in and out.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use outlast_link::{Body, DialError, DialLimits};
use outlast_livekit::{CreateRoomRequest, Message as _};
use outlast_model::RoomName;

use crate::{gateway::Shared, reach::Target};

/// Largest answer of a node: a room's list of participants may be long.
const REPLY_BYTES_MAX: usize = 16 << 20;

/// When a room that moves was made, in milliseconds of Unix time.
const CREATED: HeaderName = HeaderName::from_static("outlast-created-unix-ms");

/// Calls `method`.
///
/// # Errors
/// [`DialError::Refused`] with the node's error; others when it is not there.
pub(crate) async fn post(
    shared: &Shared,
    target: &Target,
    method: &str,
    body: Bytes,
) -> Result<Bytes, DialError> {
    send(shared, target, request(method, body)?).await
}

fn request(method: &str, body: Bytes) -> Result<Request<Body>, http::Error> {
    Request::post(format!("/api/{method}"))
        .header(header::CONTENT_TYPE, "application/protobuf")
        .body(Body::new(body))
}

async fn send(
    shared: &Shared,
    target: &Target,
    mut request: Request<Body>,
) -> Result<Bytes, DialError> {
    target.mark(request.headers_mut());
    let limits = DialLimits { body_bytes: REPLY_BYTES_MAX, ..target.limits };
    let response = shared.dialer.request(&target.address.to_string(), request, &limits).await?;
    if response.status().is_success() {
        Ok(response.into_body())
    } else {
        Err(DialError::Refused(Box::new(response)))
    }
}

/// Tells a room's new home what the room is set to, before anybody comes in: whoever comes first would make a room of its
/// own. Nothing to tell is told at once.
///
/// # Errors
/// When the node does not take the room. Settings alone that it does not like are lost, and people still come in.
pub(crate) async fn set_up(
    shared: &Shared,
    target: &Target,
    room: &RoomName,
) -> Result<(), DialError> {
    let Some(settings) = &target.settings else { return Ok(()) };
    let create = CreateRoomRequest {
        name: room.as_str().to_owned(),
        empty_timeout: settings.empty_timeout_s,
        departure_timeout: settings.departure_timeout_s,
        max_participants: settings.max_participants,
        metadata: settings.metadata.clone(),
        ..CreateRoomRequest::default()
    };
    let mut request = request("CreateRoom", create.encode_to_vec().into())?;
    if settings.created_unix_ms > 0 {
        request.headers_mut().insert(CREATED, HeaderValue::from(settings.created_unix_ms));
    }
    match send(shared, target, request).await {
        Ok(_) => Ok(()),
        Err(DialError::Refused(response)) if is_about_settings(response.status()) => {
            let status = response.status();
            tracing::warn!(node = %target.placement.node, %status, "a room lost its settings");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn is_about_settings(status: StatusCode) -> bool {
    status.is_client_error() && status != StatusCode::CONFLICT
}
