//! Looking into a request without trusting it: query parameters, the token, the client's address, and whether a
//! `join_request` is a resume.

use std::{
    borrow::Cow,
    io::Read,
    net::{IpAddr, SocketAddr},
};

use base64::{
    Engine,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use flate2::read::GzDecoder;
use http::{HeaderMap, header};
use outlast_livekit::{Message, WrappedJoinRequest, wrapped_join_request::Compression};
use outlast_model::JOIN_REQUEST_BYTES_MAX;

use crate::fields::{Fields, Malformed, Value};

/// SDKs pad or do not pad.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The first value of `name` in a query string, percent-decoded.
pub(crate) fn parameter<'q>(query: &'q str, name: &str) -> Option<Cow<'q, str>> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(key, _)| *key == name)?;
    Some(percent_decoded(value))
}

fn percent_decoded(value: &str) -> Cow<'_, str> {
    if !value.contains(['%', '+']) {
        return Cow::Borrowed(value);
    }
    let mut out = Vec::with_capacity(value.len());
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        let hex = |byte: Option<u8>| char::from(byte?).to_digit(16);
        out.push(match byte {
            b'+' => b' ',
            b'%' => match (hex(bytes.next()), hex(bytes.next())) {
                (Some(high), Some(low)) => u8::try_from(high << 4 | low).unwrap_or(b'?'),
                _ => b'?',
            },
            byte => byte,
        });
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// Where a request's token may stand.
pub(crate) enum Token<'r> {
    /// Here it is.
    Found(Cow<'r, str>),
    /// Nowhere.
    Missing,
    /// There is an `Authorization` header, and it is not `Bearer`.
    NotBearer,
}

/// The token of a request: the `Authorization` header, and only without it the `access_token` parameter.
pub(crate) fn token<'r>(headers: &'r HeaderMap, query: &'r str) -> Token<'r> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return match parameter(query, "access_token") {
            Some(token) if !token.is_empty() => Token::Found(token),
            _ => Token::Missing,
        };
    };
    match value.to_str().ok().and_then(|value| value.split_once(' ')) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            Token::Found(Cow::Borrowed(token.trim()))
        }
        _ => Token::NotBearer,
    }
}

/// The client's address: the TCP peer's, or, behind trusted proxies, the last one that none of them added.
pub(crate) fn client_ip(peer: SocketAddr, headers: &HeaderMap, trusted: &[IpAddr]) -> IpAddr {
    let mut client = peer.ip().to_canonical();
    let forwarded = headers.get_all("x-forwarded-for").into_iter();
    let hops: Vec<&str> = forwarded
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    for hop in hops.into_iter().rev() {
        if !trusted.contains(&client) {
            break;
        }
        let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
        client = address.to_canonical();
    }
    client
}

/// Whether the request wants to go on with a session that it had. What cannot be read is no resume: the node says what is
/// wrong with it.
pub(crate) fn is_resume(query: &str) -> bool {
    if parameter(query, "reconnect").is_some_and(|value| value == "1" || value == "true") {
        return true;
    }
    let Some(encoded) = parameter(query, "join_request") else { return false };
    let Ok(bytes) = BASE64.decode(encoded.as_bytes()) else { return false };
    let Ok(wrapped) = WrappedJoinRequest::decode(bytes.as_slice()) else { return false };
    match wrapped.compression() {
        Compression::None => reconnect_flag(&wrapped.join_request),
        Compression::Gzip => {
            let mut inflated = Vec::new();
            let limit = u64::try_from(JOIN_REQUEST_BYTES_MAX).expect("a limit fits u64");
            let inflating = GzDecoder::new(wrapped.join_request.as_slice()).take(limit);
            inflating.take(limit).read_to_end(&mut inflated).is_ok() && reconnect_flag(&inflated)
        }
    }
}

/// Field 7 of a `JoinRequest`; the last one counts.
fn reconnect_flag(message: &[u8]) -> bool {
    const RECONNECT: u64 = 7;
    let mut flag = false;
    for field in Fields::of(message) {
        match field {
            Ok((RECONNECT, Value::Number(value))) => flag = value != 0,
            Ok(_) => {}
            Err(Malformed) => return false,
        }
    }
    flag
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression as Level, write::GzEncoder};
    use http::HeaderValue;
    use outlast_livekit::{JoinRequest, SessionDescription};
    use proptest::prelude::*;

    use super::*;

    fn query(request: &JoinRequest, gzip: bool, pad: bool) -> String {
        let bytes = request.encode_to_vec();
        let wrapped = if gzip {
            let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
            encoder.write_all(&bytes).unwrap();
            let join_request = encoder.finish().unwrap();
            WrappedJoinRequest { compression: Compression::Gzip.into(), join_request }
        } else {
            WrappedJoinRequest { compression: Compression::None.into(), join_request: bytes }
        };
        let text = BASE64.encode(wrapped.encode_to_vec());
        let text = if pad { text.replace('=', "%3D") } else { text.replace('=', "") };
        format!("access_token=x&join_request={text}")
    }

    #[test]
    fn a_resume_is_seen_in_every_spelling() {
        let offer = SessionDescription { sdp: "v=0 ".repeat(4_000), ..Default::default() };
        for reconnect in [false, true] {
            for (gzip, pad) in [(false, false), (false, true), (true, false), (true, true)] {
                let request = JoinRequest {
                    reconnect,
                    publisher_offer: Some(offer.clone()),
                    participant_sid: "PA_x".into(),
                    ..Default::default()
                };
                assert_eq!(is_resume(&query(&request, gzip, pad)), reconnect);
            }
        }
        assert!(is_resume("reconnect=1&sid=PA_x"));
        assert!(!is_resume("reconnect=0&join_request=%%%"));
    }

    #[test]
    fn a_bomb_is_cut_at_the_limit() {
        let request = JoinRequest {
            metadata: "x".repeat(16 * JOIN_REQUEST_BYTES_MAX),
            reconnect: true,
            ..Default::default()
        };
        assert!(!is_resume(&query(&request, true, true)));
    }

    #[test]
    fn the_header_goes_before_the_parameter() {
        let mut headers = HeaderMap::new();
        let found = |headers: &HeaderMap, query: &str| match token(headers, query) {
            Token::Found(token) => token.into_owned(),
            Token::Missing => "missing".to_owned(),
            Token::NotBearer => "not bearer".to_owned(),
        };
        assert_eq!(found(&headers, "a=1"), "missing");
        assert_eq!(found(&headers, "a=1&access_token=t%2Eu"), "t.u");
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer header"));
        assert_eq!(found(&headers, "access_token=t"), "header");
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Basic eDp5"));
        assert_eq!(found(&headers, "access_token=t"), "not bearer");
    }

    #[test]
    fn forwarded_addresses_count_only_behind_trusted_proxies() {
        let proxy: IpAddr = "10.0.0.1".parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(
            "x-forwarded-for",
            HeaderValue::from_static("1.1.1.1, 2.2.2.2, ::ffff:10.0.0.2"),
        );
        let ip = |peer: &str, trusted: &[IpAddr]| {
            client_ip(SocketAddr::new(peer.parse().unwrap(), 9), &headers, trusted).to_string()
        };
        assert_eq!(ip("3.3.3.3", &[proxy]), "3.3.3.3");
        assert_eq!(ip("::ffff:10.0.0.1", &[proxy]), "10.0.0.2");
        assert_eq!(ip("10.0.0.1", &[proxy, "10.0.0.2".parse().unwrap()]), "2.2.2.2");
    }

    proptest! {
        #[test]
        fn garbage_is_no_resume_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in ".{0,60}") {
            let wrapped = WrappedJoinRequest { compression: 0, join_request: bytes.clone() };
            is_resume(&format!("join_request={}", BASE64.encode(wrapped.encode_to_vec())));
            is_resume(&format!("join_request={}", BASE64.encode(&bytes)));
            is_resume(&text);
            percent_decoded(&text);
        }
    }
}
