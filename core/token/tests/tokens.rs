//! Tokens good and bad, each with what must be said of it.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use outlast_token::{ApiKeys, Claims, KeysError, TOKEN_BYTES_MAX, TokenError, VideoGrant};
use proptest::prelude::*;

const NOW: u64 = 1_800_000_000;
const SECRET: &str = "a secret of more than thirty-two characters";
const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

fn keys() -> ApiKeys {
    ApiKeys::new([("key", SECRET), ("other", "another secret of more than 32 characters")])
        .expect("keys")
}

fn now() -> Duration {
    Duration::from_secs(NOW)
}

/// A token of `header` and `payload` as they are, signed with `secret`.
fn signed_with(header: &str, payload: &str, secret: &str, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = crypto::sign(message.as_bytes(), &key, algorithm).expect("signed");
    format!("{message}.{signature}")
}

fn signed(payload: &str) -> String {
    signed_with(HS256, payload, SECRET, Algorithm::HS256)
}

fn with_header(header: &str) -> String {
    signed_with(header, &format!(r#"{{"iss":"key","exp":{NOW}}}"#), SECRET, Algorithm::HS256)
}

fn verdict(token: &str) -> Result<(), TokenError> {
    keys().verify(token, now()).map(|_| ())
}

#[track_caller]
fn check_all(rows: &[(&str, String, Result<(), TokenError>)]) {
    for (what, token, expected) in rows {
        assert_eq!(verdict(token), *expected, "{what}");
    }
}

#[test]
fn shape_header_and_signature() {
    let good = signed(&format!(r#"{{"iss":"key","exp":{NOW}}}"#));
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    let raw = |header: &str| {
        let header = URL_SAFE_NO_PAD.encode(header);
        format!("{header}.{payload}.{signature}")
    };
    let stray = URL_SAFE_NO_PAD.encode(format!(r#"{{"iss":"other","exp":{NOW}}}"#));
    use TokenError::*;
    check_all(&[
        ("good", good.clone(), Ok(())),
        ("empty", String::new(), Err(Malformed)),
        ("dots", "..".into(), Err(Malformed)),
        ("one part", "abc".into(), Err(Malformed)),
        ("two parts", message.into(), Err(Malformed)),
        ("four parts", format!("{good}.x"), Err(Malformed)),
        ("space before", format!(" {good}"), Err(Malformed)),
        ("newline after", format!("{good}\n"), Err(Signature)),
        ("padded base64", format!("{header}=.{payload}.{signature}"), Err(Malformed)),
        ("not base64", format!("{header}.p&yload.{signature}"), Err(Malformed)),
        ("payload is no JSON", signed("hello"), Err(Malformed)),
        ("payload is a list", signed("[]"), Err(Malformed)),
        ("payload is deep", signed(&"[".repeat(10_000)), Err(Malformed)),
        ("claim is deep", signed(&format!(r#"{{"x":{}"#, "[".repeat(10_000))), Err(Malformed)),
        ("header is no JSON", raw("HS256"), Err(Malformed)),
        ("no algorithm", with_header("{}"), Err(Algorithm)),
        ("none", raw(r#"{"alg":"none"}"#), Err(Algorithm)),
        ("none, unsigned", format!("{}.{payload}.", encode(r#"{"alg":"none"}"#)), Err(Algorithm)),
        ("nOnE", with_header(r#"{"alg":"nOnE"}"#), Err(Algorithm)),
        ("hs256", with_header(r#"{"alg":"hs256"}"#), Err(Algorithm)),
        ("RS256", with_header(r#"{"alg":"RS256"}"#), Err(Algorithm)),
        ("ES256", with_header(r#"{"alg":"ES256"}"#), Err(Algorithm)),
        ("PS512", with_header(r#"{"alg":"PS512"}"#), Err(Algorithm)),
        ("EdDSA", with_header(r#"{"alg":"EdDSA"}"#), Err(Algorithm)),
        ("list of algorithms", with_header(r#"{"alg":["HS256"]}"#), Err(Algorithm)),
        ("crit", with_header(r#"{"alg":"HS256","crit":["x"],"x":1}"#), Err(Algorithm)),
        ("HS512, honestly", other_hash(jsonwebtoken::Algorithm::HS512), Err(Algorithm)),
        ("HS384, honestly", other_hash(jsonwebtoken::Algorithm::HS384), Err(Algorithm)),
        ("kid and jwk are ignored", with_header(JWK), Ok(())),
        ("no typ", with_header(r#"{"alg":"HS256"}"#), Ok(())),
        ("no signature", format!("{message}."), Err(Signature)),
        ("half a signature", good[..good.len() - 20].into(), Err(Signature)),
        ("other payload", format!("{header}.{stray}.{signature}"), Err(Signature)),
        ("too long", "a".repeat(TOKEN_BYTES_MAX + 1), Err(TooLong)),
        ("just not too long", "a".repeat(TOKEN_BYTES_MAX), Err(Malformed)),
    ]);
}

const JWK: &str = r#"{"alg":"HS256","kid":"other","jwk":{"kty":"oct","k":"AA"},"jku":"x"}"#;

fn encode(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

fn other_hash(algorithm: Algorithm) -> String {
    let header = format!(r#"{{"alg":"{algorithm:?}"}}"#);
    signed_with(&header, &format!(r#"{{"iss":"key","exp":{NOW}}}"#), SECRET, algorithm)
}

#[test]
fn issuer_and_validity() {
    let at = |text: &str| signed(&format!(r#"{{"iss":"key",{text}}}"#));
    let exp = |seconds: u64| at(&format!(r#""exp":{seconds}"#));
    let nbf = |seconds: u64| at(&format!(r#""exp":{},"nbf":{seconds}"#, NOW + 600));
    let issuer = |json: &str| signed(&format!(r#"{{"iss":{json},"exp":{NOW}}}"#));
    let guessed = signed_with(
        HS256,
        r#"{"iss":"key","exp":1900000000}"#,
        "guess",
        jsonwebtoken::Algorithm::HS256,
    );
    use TokenError::*;
    check_all(&[
        ("ends in an hour", exp(NOW + 3_600), Ok(())),
        ("ended within the leeway", exp(NOW - 60), Ok(())),
        ("ended before", exp(NOW - 61), Err(Expired)),
        ("ended in 1970", exp(0), Err(Expired)),
        ("never ends", exp(u64::MAX), Ok(())),
        ("no expiry", signed(r#"{"iss":"key"}"#), Err(NoExpiry)),
        ("null expiry", at(r#""exp":null"#), Err(NoExpiry)),
        ("expiry with a fraction", at(r#""exp":1800000000.75"#), Ok(())),
        ("expiry in words", at(r#""exp":"1900000000""#), Err(Claim("exp"))),
        ("negative expiry", at(r#""exp":-1"#), Err(Claim("exp"))),
        ("huge expiry", at(r#""exp":1e300"#), Err(Claim("exp"))),
        ("starts within the leeway", nbf(NOW + 60), Ok(())),
        ("starts later", nbf(NOW + 61), Err(NotYet)),
        ("starts at the end of time", nbf(u64::MAX), Err(NotYet)),
        ("start in words", at(r#""exp":1900000000,"nbf":"x""#), Err(Claim("nbf"))),
        ("issued in the future is nobody's matter", at(r#""exp":1900000000,"iat":9e9"#), Ok(())),
        ("no issuer", signed(&format!(r#"{{"exp":{NOW}}}"#)), Err(Issuer)),
        ("unknown issuer", issuer(r#""nobody""#), Err(Issuer)),
        ("empty issuer", issuer(r#""""#), Err(Issuer)),
        ("issuer is a list", issuer(r#"["key"]"#), Err(Malformed)),
        ("another key's name", issuer(r#""other""#), Err(Signature)),
        ("wrong secret", guessed.clone(), Err(Signature)),
        ("first of two issuers is bad", signed(TWO_ISSUERS), Ok(())),
        ("last of two issuers is bad", signed(TWO_ISSUERS_BAD), Err(Issuer)),
        ("last of two expiries counts", at(r#""exp":1900000000,"exp":1"#), Err(Expired)),
        ("unknown claims", at(r#""exp":1900000000,"x":{"y":[1,2]},"aud":["z"]"#), Ok(())),
    ]);
}

const TWO_ISSUERS: &str = r#"{"iss":"nobody","iss":"key","exp":1900000000}"#;
const TWO_ISSUERS_BAD: &str = r#"{"iss":"key","iss":"nobody","exp":1900000000}"#;

#[test]
fn claims_of_wrong_types() {
    let claim = |text: &str| signed(&format!(r#"{{"iss":"key","exp":1900000000,{text}}}"#));
    use TokenError::Claim;
    check_all(&[
        ("identity is a number", claim(r#""sub":7"#), Err(Claim("sub"))),
        ("name is a list", claim(r#""name":[]"#), Err(Claim("name"))),
        ("metadata is an object", claim(r#""metadata":{}"#), Err(Claim("metadata"))),
        ("attribute is a number", claim(r#""attributes":{"a":1}"#), Err(Claim("attributes"))),
        ("attributes are a list", claim(r#""attributes":["a"]"#), Err(Claim("attributes"))),
        ("video is a flag", claim(r#""video":true"#), Err(Claim("video"))),
        ("join is a word", claim(r#""video":{"roomJoin":"true"}"#), Err(Claim("roomJoin"))),
        ("publish is 1", claim(r#""video":{"canPublish":1}"#), Err(Claim("canPublish"))),
        ("room is a list", claim(r#""video":{"room":["a"]}"#), Err(Claim("room"))),
        ("nulls", claim(r#""sub":null,"video":null,"attributes":null"#), Ok(())),
        ("null in video", claim(r#""video":{"canPublish":null,"room":null}"#), Ok(())),
    ]);
}

fn read(video: &str) -> Claims {
    let payload = format!(r#"{{"iss":"key","sub":"amy","exp":1900000000,"video":{video}}}"#);
    keys().verify(&signed(&payload), now()).expect("good")
}

#[test]
fn defaults_of_the_grant() {
    for (video, publish, data, subscribe) in [
        ("{}", true, true, true),
        (r#"{"canPublish":false}"#, false, false, true),
        (r#"{"canPublish":false,"canPublishData":true}"#, false, true, true),
        (r#"{"canPublishData":false}"#, true, false, true),
        (r#"{"canSubscribe":false}"#, true, true, false),
        (r#"{"canPublish":true,"canSubscribe":true}"#, true, true, true),
    ] {
        let grant = read(video).video;
        let may = (grant.may_publish(), grant.may_publish_data(), grant.may_subscribe());
        assert_eq!(may, (publish, data, subscribe), "{video}");
        assert!(!grant.may_update_own_metadata(), "{video}");
    }
    let grant = read(r#"{"canPublishSources":["camera"]}"#).video;
    assert!(grant.may_publish_source("camera") && !grant.may_publish_source("microphone"));
    let grant = read(r#"{"roomJoin":true,"roomAdmin":true,"room":"a"}"#).video;
    assert!(grant.may_join(&"a".into()) && !grant.may_join(&"b".into()));
    assert!(grant.may_admin(&"a".into()) && !grant.may_admin(&"".into()));
    let nowhere = read(r#"{"roomJoin":true,"roomAdmin":true}"#).video;
    assert!(!nowhere.may_join(&"".into()) && !nowhere.may_admin(&"".into()));
}

#[test]
fn identity_is_the_subject_or_else_the_token_id() {
    let identity = |text: &str| {
        let token = signed(&format!(r#"{{"iss":"key","exp":1900000000{text}}}"#));
        keys().verify(&token, now()).unwrap().identity.as_str().to_owned()
    };
    assert_eq!(identity(r#","sub":"amy","jti":"x""#), "amy");
    assert_eq!(identity(r#","jti":"bob""#), "bob");
    assert_eq!(identity(""), "");
}

#[test]
fn a_ruling_is_a_version_or_the_token_is_refused() {
    let verify = |text: &str| {
        let token = signed(&format!(r#"{{"iss":"key","exp":1900000000,"ruling":{text}}}"#));
        keys().verify(&token, now()).map(|claims| claims.ruling.to_string())
    };
    assert_eq!(verify(r#""18446744073709551615.2""#), Ok("18446744073709551615.2".to_owned()));
    assert_eq!((verify("null"), verify(r#""""#)), (Ok("0.0".to_owned()), Ok("0.0".to_owned())));
    for text in ["3", "3.1", r#""3""#, r#""x.1""#, "{}"] {
        assert_eq!(verify(text), Err(TokenError::Claim("ruling")), "{text}");
    }
}

fn everything() -> Claims {
    Claims {
        issuer: "other".into(),
        identity: "amy".into(),
        name: "Amy \u{1f3a4}".into(),
        metadata: "{}".into(),
        attributes: [("a".to_owned(), "1".to_owned())].into(),
        kind: "agent".into(),
        kind_details: vec!["x".into()],
        video: VideoGrant {
            room_join: true,
            room: "a room".into(),
            can_publish: Some(false),
            can_publish_data: Some(true),
            can_publish_sources: vec!["camera".into()],
            can_update_own_metadata: Some(true),
            hidden: true,
            ..VideoGrant::default()
        },
        expires_at: NOW + 30,
        not_before: Some(NOW),
        room_preset: "p".into(),
        room_config: Some(serde_json::json!({"maxParticipants": 3})),
        sha256: "d".into(),
        refreshed: false,
        ruling: "3.7".parse().expect("a version"),
    }
}

#[test]
fn minted_is_verified_and_refreshed_lives_long_enough() {
    let claims = everything();
    let token = keys().mint(&claims, now());
    assert_eq!(keys().verify(&token, now()).unwrap(), claims);

    let later = now() + Duration::from_secs(20);
    let refreshed = keys().verify(&keys().refresh(&claims, later), later).unwrap();
    assert_eq!(refreshed.expires_at, NOW + 20 + 600);
    assert_eq!(refreshed.not_before, Some(NOW + 20));
    assert_eq!(refreshed.issuer, "other");
    assert!(refreshed.refreshed);
    assert_eq!(refreshed.ruling, claims.ruling);

    let long = Claims { expires_at: NOW + 7_200, ..claims };
    let refreshed = keys().verify(&keys().refresh(&long, later), later).unwrap();
    assert_eq!(refreshed.expires_at, NOW + 7_200);

    let stranger = Claims { issuer: "nobody".into(), ..everything() };
    assert_eq!(keys().verify(&keys().mint(&stranger, now()), now()).unwrap().issuer, "key");
}

#[test]
fn keys_refuse_emptiness_and_show_no_secret() {
    let none: [(&str, &str); 0] = [];
    assert_eq!(ApiKeys::new(none).unwrap_err(), KeysError::None);
    assert_eq!(ApiKeys::new([("", "x")]).unwrap_err(), KeysError::EmptyName);
    assert_eq!(ApiKeys::new([("k", "")]).unwrap_err(), KeysError::EmptySecret("k".into()));
    assert_eq!(format!("{:?}", keys()), r#"{"key", "other"}"#);
    let shown = format!("{:?}", Claims { metadata: "my diary".into(), ..everything() });
    assert!(!shown.contains("diary"), "{shown}");
}

proptest! {
    #[test]
    fn any_text_is_refused(text in "\\PC*") {
        prop_assert!(keys().verify(&text, now()).is_err());
    }

    #[test]
    fn any_bytes_in_three_parts_are_refused(parts in prop::array::uniform3(prop::collection::vec(any::<u8>(), 0..200))) {
        let token = parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        prop_assert!(keys().verify(&token, now()).is_err());
    }

    /// Rightly signed bytes reach the reading of claims, which must stand them.
    #[test]
    fn any_signed_payload_is_answered(payload in prop::collection::vec(any::<u8>(), 0..300)) {
        let text = String::from_utf8_lossy(&payload).into_owned();
        let _ = keys().verify(&signed(&text), now());
    }

    #[test]
    fn any_claim_value_is_answered(name in "sub|name|exp|nbf|video|attributes|kindDetails", value in "null|true|-1|1e400|\"x\"|\\[1\\]|\\{\"room\":1\\}|\\{\"a\":\"b\"\\}|1900000000") {
        let payload = format!(r#"{{"iss":"key","exp":1900000000,"{name}":{value}}}"#);
        let _ = keys().verify(&signed(&payload), now());
    }

    #[test]
    fn one_changed_byte_is_refused(at in 0_usize..10_000, to in 0_u8..64) {
        let token = keys().mint(&everything(), now());
        let mut bytes = token.clone().into_bytes();
        let at = at % bytes.len();
        bytes[at] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[usize::from(to)];
        let changed = String::from_utf8(bytes).unwrap();
        prop_assume!(changed != token);
        prop_assert!(keys().verify(&changed, now()).is_err());
    }
}
