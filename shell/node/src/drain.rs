//! `/drain` of the internal server: POST begins it, DELETE calls it off, GET tells how far it is. All three answer alike.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use outlast_link::Body;
use outlast_model::Time;
use outlast_runtime::Clock;
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    refusal::Refusal,
    role_loop::{DrainState, RoleLoop},
};

/// Largest request, in bytes.
const REQUEST_BYTES_MAX: usize = 1_024;
/// How long it may take to arrive.
const REQUEST_SPAN: Duration = Duration::from_secs(5);
/// Longest deadline, in seconds.
const DEADLINE_S_MAX: u64 = 24 * 3_600;
/// Deadline of who names none, in seconds.
const DEADLINE_S: u64 = 60;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wish {
    pace_per_second: u32,
    deadline: Duration,
}

/// Answers one request. `participants` is how many are on the node.
pub(crate) async fn answer(
    request: Request<Incoming>,
    role: &RoleLoop,
    participants: usize,
    clock: Clock,
) -> Result<Response<Body>, Refusal> {
    if request.method() == Method::POST {
        let body = Limited::new(request.into_body(), REQUEST_BYTES_MAX).collect();
        let body = match timeout(REQUEST_SPAN, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) | Err(_) => return Err(Refusal::bad("the body did not arrive whole")),
        };
        let Wish { pace_per_second, deadline } = wish(&body).map_err(Refusal::bad)?;
        role.drain(pace_per_second, deadline, false);
    } else if request.method() == Method::DELETE {
        role.undrain().map_err(|ending| Refusal::new(StatusCode::CONFLICT, ending.to_string()))?;
    }
    Ok(response(&role.drain_state(), participants, clock.now()))
}

/// `{"deadline_s": 60, "pace": 0}`; either may be missing. A pace of 0 is the slowest that meets the deadline.
fn wish(body: &[u8]) -> Result<Wish, String> {
    let fields: Value = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(body).map_err(|error| format!("the body is no JSON: {error}"))?
    };
    let number = |key: &str, default| match fields.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => value.as_u64().ok_or_else(|| format!("{key} is no whole number")),
    };
    let (deadline_s, pace) = (number("deadline_s", DEADLINE_S)?, number("pace", 0)?);
    if deadline_s > DEADLINE_S_MAX {
        return Err(format!("deadline_s is over {DEADLINE_S_MAX}"));
    }
    let pace_per_second = u32::try_from(pace).map_err(|_| "pace is too large".to_owned())?;
    Ok(Wish { pace_per_second, deadline: Duration::from_secs(deadline_s) })
}

fn response(state: &DrainState, participants: usize, now: Time) -> Response<Body> {
    let left = state.deadline.map_or(0, |deadline| deadline.since(now).as_secs_f64().ceil() as u64);
    let body = serde_json::json!({
        "draining": state.deadline.is_some(),
        "participants": participants,
        "left_s": left,
    });
    let mut response = Response::new(Body::new(Bytes::from(body.to_string())));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_may_leave_things_out_and_not_be_nonsense() {
        let read = |text: &str| wish(text.as_bytes());
        let wish = |seconds, pace_per_second| {
            Ok(Wish { pace_per_second, deadline: Duration::from_secs(seconds) })
        };
        assert_eq!(read(""), wish(60, 0));
        assert_eq!(read("{}"), wish(60, 0));
        assert_eq!(read(r#"{"deadline_s": 5, "pace": 40, "later": [1]}"#), wish(5, 40));
        for nonsense in
            ["{", r#"{"deadline_s": -1}"#, r#"{"deadline_s": 86401}"#, r#"{"pace": 1e30}"#]
        {
            assert!(read(nonsense).is_err(), "{nonsense}");
        }
    }
}
