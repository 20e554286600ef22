//! Routes of the public listener, and the CORS headers that every answer carries: without them a browser cannot tell a 401
//! from a dead server.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use outlast_link::{Body, Peer, text};

use crate::{gateway::Shared, page, query, refusal::Refusal, servers, signal, twirp};

/// Answers one request.
pub(crate) async fn answer(
    shared: Arc<Shared>,
    peer: Peer,
    request: Request<Incoming>,
) -> Response<Body> {
    let requested = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let preflight = request.method() == Method::OPTIONS;
    let mut response =
        if preflight { text(StatusCode::OK, "") } else { route(&shared, peer, request).await };
    cors(response.headers_mut(), preflight, requested);
    response
}

async fn route(shared: &Arc<Shared>, peer: Peer, request: Request<Incoming>) -> Response<Body> {
    let path = collapsed(request.uri().path());
    let method = request.method().clone();
    if let Some(call) = twirp::Call::of(&path) {
        return twirp::answer(shared, call, request).await;
    }
    if path == "/token-source" && [Method::GET, Method::POST].contains(&method) {
        let client = query::client_ip(peer.address, request.headers(), &shared.trusted_proxies);
        return servers::answer(shared, client, &request);
    }
    if method != Method::GET && method != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET only");
    }
    if let Some(page) = shared.pages.get(&path) {
        return page::respond(page, request.headers());
    }
    if path == "/" {
        return text(StatusCode::OK, "OK");
    }
    let client = query::client_ip(peer.address, request.headers(), &shared.trusted_proxies);
    // SDKs append these to whatever path the application's URL has.
    if path.ends_with("/rtc/v1") {
        signal::join(shared, client, request).await
    } else if path.ends_with("/rtc/v1/validate") {
        signal::validate(shared, client, request).await
    } else if path.ends_with("/rtc") || path.ends_with("/rtc/validate") {
        Refusal::V0.response()
    } else {
        Refusal::NoSuchPath.response()
    }
}

/// `path` with runs of slashes made one: a trailing slash in an application's URL gives `//rtc`.
fn collapsed(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !out.ends_with('/') {
            out.push(character);
        }
    }
    out
}

fn cors(headers: &mut HeaderMap, preflight: bool, requested: Option<HeaderValue>) {
    let any = HeaderValue::from_static("*");
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any.clone());
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, any.clone());
    if preflight {
        let methods = HeaderValue::from_static("OPTIONS, HEAD, GET, POST, PATCH, DELETE");
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        // A `*` would not cover `Authorization`.
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, requested.unwrap_or(any));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_collapse() {
        assert_eq!(collapsed("//rtc/v1"), "/rtc/v1");
        assert_eq!(collapsed("/a///b//"), "/a/b/");
        assert_eq!(collapsed("/"), "/");
    }
}
