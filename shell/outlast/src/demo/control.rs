//! The demo's control endpoint: states, buttons and tokens for the pages of its own three gateways, on loopback only.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use outlast_link::{Body, text};
use outlast_model::Identity;
use outlast_token::{ApiKeys, Claims, VideoGrant};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::fleet::{Action, Fleet, unix_ms};

/// Longest room, identity or name in bytes.
const NAME_BYTES_MAX: usize = 256;
/// Long enough for a day of watching the demo.
const TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);

/// What the endpoint works on.
pub(super) struct Control {
    pub(super) fleet: Arc<Mutex<Fleet>>,
    pub(super) keys: ApiKeys,
    /// Told when everything in the directory is to be deleted; `None` with the embedded one.
    pub(super) wipe: Option<Arc<Notify>>,
    /// This endpoint's `host:port` names; another `Host` is a page that rebound its name to loopback.
    pub(super) hosts: Vec<String>,
    /// Origins of the gateways' pages.
    pub(super) origins: Vec<String>,
}

impl Control {
    /// Answers one request.
    pub(super) fn answer(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        headers: &HeaderMap,
    ) -> Response<Body> {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        if host.is_none_or(|host| !self.hosts.iter().any(|ours| ours == host)) {
            return text(StatusCode::FORBIDDEN, "this endpoint is for the demo's own pages");
        }
        let origin = headers.get(header::ORIGIN);
        let Some(origin) = origin else { return self.act(method, path, query) };
        if !self.origins.iter().any(|ours| origin.as_bytes() == ours.as_bytes()) {
            return text(StatusCode::FORBIDDEN, "this endpoint is for the demo's own pages");
        }
        let mut response = match *method {
            Method::OPTIONS => preflight(),
            _ => self.act(method, path, query),
        };
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("origin"));
        response
    }

    fn act(&self, method: &Method, path: &str, query: &str) -> Response<Body> {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (method, parts.as_slice()) {
            (&Method::GET, ["state"]) => json_response(&self.fleet().state()),
            (&Method::GET, ["token"]) => self.token(query),
            (&Method::POST, [kind @ ("regions" | "processes"), target, action]) => {
                let Some(action) = Action::named(action) else {
                    return text(StatusCode::NOT_FOUND, "kill, freeze, thaw, drain or start");
                };
                let done = match *kind {
                    "regions" => self.fleet().act_on_region(target, action),
                    _ => self.fleet().act_on_process(target, action),
                };
                match done {
                    None => text(StatusCode::NOT_FOUND, "no such region or process"),
                    Some(Err(error)) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
                    Some(Ok(())) => json_response(&self.fleet().state()),
                }
            }
            (&Method::POST, ["directory", "wipe"]) => match &self.wipe {
                None => {
                    text(StatusCode::NOT_FOUND, "the embedded directory has no servers to wipe")
                }
                Some(wipe) => {
                    self.fleet().note("wipe", "directory".to_owned());
                    wipe.notify_one();
                    json_response(&self.fleet().state())
                }
            },
            _ => text(
                StatusCode::NOT_FOUND,
                "GET /state, GET /token, POST /regions/NAME/ACTION, POST /processes/ID/ACTION, POST /directory/wipe",
            ),
        }
    }

    fn fleet(&self) -> std::sync::MutexGuard<'_, Fleet> {
        self.fleet.lock().expect("no panic while the fleet is held")
    }

    fn token(&self, query: &str) -> Response<Body> {
        let value = |name| parameter(query, name).filter(|value| value.len() <= NAME_BYTES_MAX);
        let (Some(room), Some(identity)) = (value("room"), value("identity")) else {
            return text(StatusCode::BAD_REQUEST, "room and identity are needed");
        };
        if room.is_empty() || identity.is_empty() {
            return text(StatusCode::BAD_REQUEST, "room and identity are needed");
        }
        let now = Duration::from_secs_f64(unix_ms() / 1_000.0);
        let claims = Claims {
            identity: Identity::from(identity),
            name: value("name").unwrap_or_default(),
            video: VideoGrant {
                room_join: true,
                room,
                can_update_own_metadata: Some(true),
                ..VideoGrant::default()
            },
            expires_at: (now + TOKEN_LIFE).as_secs(),
            ..Claims::default()
        };
        json_response(&json!({ "token": self.keys.mint(&claims, now) }))
    }
}

fn preflight() -> Response<Body> {
    let mut response = text(StatusCode::NO_CONTENT, "");
    let methods = HeaderValue::from_static("GET, POST");
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    response
}

fn json_response(value: &Value) -> Response<Body> {
    let mut response = text(StatusCode::OK, value.to_string());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The value of `name` in a query of the `application/x-www-form-urlencoded` kind. `None` when it is absent, or no
/// UTF-8 once decoded.
fn parameter(query: &str, name: &str) -> Option<String> {
    let raw = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (high, low) = (rest.next()?, rest.next()?);
                let digit = |byte: u8| char::from(byte).to_digit(16);
                u8::try_from(digit(high)? * 16 + digit(low)?).ok()?
            }
            plain => plain,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control() -> Control {
        let kind = crate::demo::database::Kind::Etcd;
        let all = crate::demo::plan::processes(7880, kind);
        let fleet = Fleet::new("own".into(), kind, &all, |_| (Vec::new(), "l".into()));
        Control {
            fleet: Arc::new(Mutex::new(fleet)),
            keys: ApiKeys::new([("key", "secret")]).unwrap(),
            wipe: None,
            hosts: vec!["127.0.0.1:7879".into()],
            origins: vec!["http://127.0.0.1:7880".into()],
        }
    }

    fn ask(
        method: Method,
        path: &str,
        query: &str,
        headers: &[(&'static str, &str)],
    ) -> Response<Body> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        control().answer(&method, path, query, &map)
    }

    #[test]
    fn only_our_own_pages_are_served() {
        let host = ("host", "127.0.0.1:7879");
        let ours = ("origin", "http://127.0.0.1:7880");
        let answer = ask(Method::GET, "/state", "", &[host, ours]);
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["access-control-allow-origin"], ours.1);
        for bad in
            [[host, ("origin", "http://evil.example")], [("host", "evil.example:7879"), ours]]
        {
            assert_eq!(ask(Method::GET, "/state", "", &bad).status(), StatusCode::FORBIDDEN);
            assert_eq!(ask(Method::POST, "/regions/eu/kill", "", &bad).status(), 403);
        }
        assert_eq!(ask(Method::GET, "/state", "", &[]).status(), StatusCode::FORBIDDEN);
    }

    #[test]
    fn a_token_needs_a_room_and_an_identity() {
        let host = [("host", "127.0.0.1:7879")];
        let token = |query| ask(Method::GET, "/token", query, &host).status();
        assert_eq!(token("room=a&identity=b&name=%C3%84+B"), StatusCode::OK);
        assert_eq!(token("room=a"), StatusCode::BAD_REQUEST);
        assert_eq!(token("room=&identity=b"), StatusCode::BAD_REQUEST);
        assert_eq!(token("room=a&identity=%f"), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn an_unknown_target_or_action_is_not_found() {
        let host = [("host", "127.0.0.1:7879")];
        for path in
            ["/regions/xx/kill", "/processes/xx/kill", "/regions/eu/burn", "/directory/wipe", "/"]
        {
            assert_eq!(
                ask(Method::POST, path, "", &host).status(),
                StatusCode::NOT_FOUND,
                "{path}"
            );
        }
    }

    #[test]
    fn parameters_are_decoded() {
        assert_eq!(parameter("a=1&name=%C3%84+B", "name").as_deref(), Some("Ä B"));
        assert_eq!(parameter("name=%ff", "name"), None);
        assert_eq!(parameter("naming=1", "name"), None);
    }
}
