//! From a request's head to a join: token, grants, `join_request`, and what the gateway added. The same checks serve
//! `/validate`, which clients ask when a handshake was refused.

use std::{net::IpAddr, time::Duration};

use http::{HeaderMap, StatusCode, header, request::Parts};
use outlast_livekit::JoinRequest;
use outlast_model::{Generation, Ruling};
use outlast_node_core::check_join;
use outlast_tenure::Goal;
use outlast_token::{ApiKeys, Claims};
use outlast_wire::ruling_from_text;

use crate::{join_request, query::parameter, refusal::Refusal};

/// Header in which a gateway says under which generation it takes the room to live here.
pub(crate) const GENERATION: &str = "outlast-generation";
/// Header in which a gateway says where the client comes from.
const CLIENT_IP: &str = "outlast-client-ip";
/// Header, of any value, in which a gateway says that no other node could take the client.
const NOWHERE_ELSE: &str = "outlast-nowhere-else";
/// Header in which a gateway says what the server API has last said of the client's permission.
const RULING: &str = "outlast-ruling";
/// Header in which a gateway says when a room that moves here was made, in milliseconds of Unix time.
const CREATED: &str = "outlast-created-unix-ms";

/// A request that passed; the shard checks the rest.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) claims: Claims,
    pub(crate) request: JoinRequest,
    pub(crate) generation: Generation,
    pub(crate) goal: Goal,
    pub(crate) ruling: Option<Ruling>,
    pub(crate) client_ip: Option<IpAddr>,
    pub(crate) user_agent: String,
}

/// Checks the head of a request to `/rtc/v1` or `/rtc/v1/validate`, in the order of LiveKit's server.
pub(crate) fn admit(
    head: &Parts,
    keys: &ApiKeys,
    unix_now: Duration,
) -> Result<Admission, Refusal> {
    let query = head.uri.query().unwrap_or_default();
    let token = token(&head.headers, query)?;
    let claims = keys
        .verify(&token, unix_now)
        .map_err(|error| Refusal::unauthorized(format!("invalid token: {error}")))?;
    let request = parameter(query, "join_request")
        .filter(|text| !text.is_empty())
        .ok_or_else(|| Refusal::bad("join_request is required"))
        .and_then(|text| {
            join_request::decode(&text).map_err(|error| Refusal::bad(error.to_string()))
        })?;
    check_join(&claims, &request).map_err(|refusal| {
        let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
        Refusal::new(status, refusal.text)
    })?;
    let goal = if request.reconnect { Goal::Resume } else { join_goal(&head.headers) };
    Ok(Admission {
        claims,
        request,
        goal,
        generation: generation(&head.headers)?,
        ruling: ruling(&head.headers)?,
        client_ip: text_of(&head.headers, CLIENT_IP).and_then(|text| text.parse().ok()),
        user_agent: text_of(&head.headers, header::USER_AGENT.as_str())
            .unwrap_or_default()
            .to_owned(),
    })
}

/// The room's generation as the gateway believes it; 0, which every other supersedes, when it does not say.
pub(crate) fn generation(headers: &HeaderMap) -> Result<Generation, Refusal> {
    let Some(text) = text_of(headers, GENERATION) else { return Ok(Generation(0)) };
    text.parse().map(Generation).map_err(|_| Refusal::bad(format!("{GENERATION} is no number")))
}

fn ruling(headers: &HeaderMap) -> Result<Option<Ruling>, Refusal> {
    let parse = |text: &str| {
        ruling_from_text(text).map_err(|error| Refusal::bad(format!("{RULING}: {error}")))
    };
    text_of(headers, RULING).map(parse).transpose()
}

/// What somebody wants who does not resume.
pub(crate) fn join_goal(headers: &HeaderMap) -> Goal {
    if headers.contains_key(NOWHERE_ELSE) { Goal::JoinNowhereElse } else { Goal::Join }
}

/// When the room was made, if it moves here.
pub(crate) fn created_unix_ms(headers: &HeaderMap) -> Result<Option<i64>, Refusal> {
    let parse =
        |text: &str| text.parse().map_err(|_| Refusal::bad(format!("{CREATED} is no number")));
    text_of(headers, CREATED).map(parse).transpose()
}

/// The header first; the query only without one (browsers cannot set headers on a WebSocket).
fn token(headers: &HeaderMap, query: &str) -> Result<String, Refusal> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let token = value.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
        return token.map(str::to_owned).ok_or_else(|| {
            Refusal::unauthorized("the Authorization header is not a Bearer token")
        });
    }
    parameter(query, "access_token")
        .filter(|token| !token.is_empty())
        .ok_or_else(|| Refusal::unauthorized("there is no token"))
}

fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE};
    use http::Request;
    use outlast_livekit::Message as _;
    use outlast_token::VideoGrant;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn keys() -> ApiKeys {
        ApiKeys::new([("devkey", "secret")]).unwrap()
    }

    fn claims() -> Claims {
        let video = VideoGrant { room_join: true, room: "r".into(), ..VideoGrant::default() };
        Claims {
            identity: "ann".into(),
            expires_at: NOW.as_secs() + 60,
            video,
            ..Claims::default()
        }
    }

    fn ask(claims: &Claims, request: &JoinRequest) -> Result<Admission, Refusal> {
        let wrapped = join_request::tests::wrap(&request.encode_to_vec(), true);
        let uri = format!("/rtc/v1?join_request={}", URL_SAFE.encode(wrapped));
        let token = keys().mint(claims, NOW);
        let request = Request::get(uri)
            .header("authorization", format!("Bearer {token}"))
            .header("user-agent", "test")
            .header(GENERATION, "4")
            .header(CLIENT_IP, "192.0.2.7")
            .header(NOWHERE_ELSE, "1")
            .header(RULING, "3.1:1001");
        admit(&request.body(()).unwrap().into_parts().0, &keys(), NOW)
    }

    fn status(result: Result<Admission, Refusal>) -> StatusCode {
        result.unwrap_err().status
    }

    #[test]
    fn a_good_request_is_taken_with_what_the_gateway_says() {
        let admission = ask(&claims(), &JoinRequest::default()).unwrap();
        assert_eq!(admission.generation, Generation(4));
        assert_eq!(admission.client_ip, Some("192.0.2.7".parse().unwrap()));
        assert_eq!(admission.goal, Goal::JoinNowhereElse);
        let ruling = admission.ruling.unwrap();
        assert_eq!(
            (ruling.version.to_string().as_str(), &ruling.permission[..]),
            ("3.1", &[16, 1][..])
        );
        let resume = JoinRequest { reconnect: true, ..JoinRequest::default() };
        assert_eq!(ask(&claims(), &resume).unwrap().goal, Goal::Resume);
        assert_eq!(join_goal(&HeaderMap::new()), Goal::Join);
        assert_eq!(admission.user_agent, "test");
        assert_eq!(admission.claims.identity.as_str(), "ann");
    }

    #[test]
    fn claims_that_do_not_suffice_have_the_status_that_sdks_know() {
        let join = JoinRequest::default();
        let mut no_join = claims();
        no_join.video.room_join = false;
        assert_eq!(status(ask(&no_join, &join)), StatusCode::UNAUTHORIZED);
        let mut no_room = claims();
        no_room.video.room.clear();
        assert_eq!(status(ask(&no_room, &join)), StatusCode::BAD_REQUEST);
        let nobody = Claims { identity: "".into(), ..claims() };
        assert_eq!(status(ask(&nobody, &join)), StatusCode::BAD_REQUEST);
        let long = Claims { identity: "x".repeat(257).into(), ..claims() };
        assert_eq!(status(ask(&long, &join)), StatusCode::BAD_REQUEST);
        let expired = Claims { expires_at: NOW.as_secs() - 61, ..claims() };
        assert_eq!(status(ask(&expired, &join)), StatusCode::UNAUTHORIZED);
        let metadata = JoinRequest { metadata: "m".into(), ..join };
        assert_eq!(status(ask(&claims(), &metadata)), StatusCode::UNAUTHORIZED);
    }

    #[test]
    fn a_token_comes_by_header_or_query_and_no_other_way() {
        let head = |uri: String, value: Option<&str>| {
            let mut request = Request::get(uri);
            if let Some(value) = value {
                request = request.header("authorization", value);
            }
            request.body(()).unwrap().into_parts().0
        };
        let token = keys().mint(&claims(), NOW);
        let by_query = head(format!("/rtc/v1?access_token={token}"), None);
        // It gets past the token, to the missing join_request.
        assert_eq!(status(admit(&by_query, &keys(), NOW)), StatusCode::BAD_REQUEST);
        let basic = head(format!("/rtc/v1?access_token={token}"), Some("Basic abc"));
        assert_eq!(status(admit(&basic, &keys(), NOW)), StatusCode::UNAUTHORIZED);
        let none = head("/rtc/v1".into(), None);
        assert_eq!(status(admit(&none, &keys(), NOW)), StatusCode::UNAUTHORIZED);
    }
}
