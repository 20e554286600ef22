//! `/token-source`: where a client may go, nearest first, for whoever has a token. It answers as LiveKit's token endpoints do, with
//! the token that it was asked with, and with all servers beside the one.

use std::{net::IpAddr, time::Duration};

use http::{HeaderValue, Request, Response, StatusCode, header};
use outlast_link::{Body, text};
use outlast_model::RegionName;
use serde_json::json;

use crate::{
    gateway::Shared,
    query::{self, Token},
    refusal::Refusal,
};

/// How long the list's signature holds.
const SIGNED_SPAN: Duration = Duration::from_secs(3_600);

/// Answers `/token-source`.
pub(crate) fn answer<B>(shared: &Shared, client: IpAddr, request: &Request<B>) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    let token = match query::token(request.headers(), query) {
        Token::Found(token) => token,
        Token::Missing | Token::NotBearer => return Refusal::NoToken.response(),
    };
    let now = shared.wall.unix_now();
    let claims = match shared.keys.verify(&token, now) {
        Ok(claims) if claims.video.room_join => claims,
        Ok(_) => return Refusal::NoJoinGrant.response(),
        Err(error) => return Refusal::Token(error).response(),
    };
    let urls = shared.urls_for(client);
    let Some(first) = urls.first() else {
        let what = "the URLs of the gateways are not configured: gateway.url, and url in [[peers]]";
        return text(StatusCode::NOT_FOUND, what);
    };
    let signed = json!({
        "iss": claims.issuer,
        "nbf": now.as_secs(),
        "exp": (now + SIGNED_SPAN).as_secs(),
        "server_urls": urls,
    });
    let signed = shared.keys.sign(&claims.issuer, &signed.to_string());
    let body = json!({
        "server_url": first,
        "participant_token": token,
        "server_urls": urls,
        "server_urls_signed": signed,
    });
    let mut response = text(StatusCode::OK, body.to_string());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Shared {
    /// One URL of each region that has one, the one to try first first.
    fn urls_for(&self, client: IpAddr) -> Vec<&str> {
        let near: Option<&RegionName> = self.locations.region(client);
        let mut urls: Vec<&str> = Vec::new();
        let mut seen: Vec<RegionName> = Vec::new();
        for (gateway, region) in self.role.doors(near) {
            let Some(url) = self.urls.get(gateway.as_str()) else { continue };
            if !seen.contains(&region) {
                seen.push(region);
                urls.push(url);
            }
        }
        if self.crossed && urls.len() > 1 {
            urls.swap(0, 1);
        }
        urls
    }
}
