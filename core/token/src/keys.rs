//! The API keys: who may sign a token, and the signing and checking itself (HS256 alone, RFC 7515, RFC 8725 §3.1).

use std::{collections::BTreeMap, fmt, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use serde_json::{Map, Value};

use crate::{Claims, json};

/// Longest token that is looked at, in bytes: room for [`outlast_model::METADATA_BYTES_MAX`] of metadata in base64
/// and as much again, and nothing that a request line could not carry.
pub const TOKEN_BYTES_MAX: usize = 128 * 1024;
/// How far clocks of issuer and server may be apart, at both ends of a token's validity.
pub const LEEWAY: Duration = Duration::from_secs(60);
/// Shortest validity of a refreshed token: what a client needs to find its way back after a fault.
pub const REFRESHED_TTL_MIN: Duration = Duration::from_secs(10 * 60);

/// Why a token is refused. Texts never repeat the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Longer than [`TOKEN_BYTES_MAX`].
    #[error("token is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// Not three parts of base64url with JSON objects in the first two.
    #[error("token is not a JWT")]
    Malformed,
    /// Signed by anything but HS256, or not at all, or with extensions that must be understood.
    #[error("token must be signed with HS256")]
    Algorithm,
    /// `iss` is absent or no key of ours.
    #[error("token's issuer is not a known API key")]
    Issuer,
    /// The signature is not that of the issuer's secret.
    #[error("token's signature is wrong")]
    Signature,
    /// `exp` is absent.
    #[error("token has no expiry")]
    NoExpiry,
    /// `exp` and the leeway are over.
    #[error("token is expired")]
    Expired,
    /// `nbf`, less the leeway, is to come.
    #[error("token is not valid yet")]
    NotYet,
    /// A claim has a type that it must not have.
    #[error("token's claim {0} has the wrong type")]
    Claim(&'static str),
}

/// Why a set of keys cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// No key at all: nobody could ever join.
    #[error("there is no API key")]
    None,
    /// A key with an empty name.
    #[error("an API key has an empty name")]
    EmptyName,
    /// The secret of this key is empty.
    #[error("the secret of API key {0:?} is empty")]
    EmptySecret(String),
}

/// One or more API keys with their secrets, in the order of their names.
#[derive(Clone)]
pub struct ApiKeys(BTreeMap<String, Secret>);

#[derive(Clone)]
struct Secret {
    verifies: DecodingKey,
    signs: EncodingKey,
}

impl Secret {
    fn sign(&self, payload: &str) -> String {
        let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
        let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
        let signature = crypto::sign(message.as_bytes(), &self.signs, Algorithm::HS256)
            .expect("HMAC takes a key of any length");
        format!("{message}.{signature}")
    }
}

impl ApiKeys {
    /// Takes (key, secret) pairs; of a key that stands twice, the last counts.
    ///
    /// # Errors
    /// When there is none, or one of them is empty.
    pub fn new<K, S>(pairs: impl IntoIterator<Item = (K, S)>) -> Result<ApiKeys, KeysError>
    where
        K: Into<String>,
        S: AsRef<[u8]>,
    {
        let mut keys = BTreeMap::new();
        for (name, secret) in pairs {
            let (name, secret) = (name.into(), secret.as_ref());
            if name.is_empty() {
                return Err(KeysError::EmptyName);
            }
            if secret.is_empty() {
                return Err(KeysError::EmptySecret(name));
            }
            let secret = Secret {
                verifies: DecodingKey::from_secret(secret),
                signs: EncodingKey::from_secret(secret),
            };
            keys.insert(name, secret);
        }
        if keys.is_empty() { Err(KeysError::None) } else { Ok(ApiKeys(keys)) }
    }

    /// The keys' names, ascending.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Checks `token` at `unix_now` (time since 1970) and returns what it says. Whether it grants what is asked is
    /// the caller's question.
    ///
    /// # Errors
    /// [`TokenError`]: all of them mean 401.
    pub fn verify(&self, token: &str, unix_now: Duration) -> Result<Claims, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(TokenError::Malformed)?;
        check_header(&decode(header)?)?;
        let payload = decode(payload)?;
        let json::NamedIssuer(issuer) =
            serde_json::from_slice(&payload).map_err(|_| TokenError::Malformed)?;
        let secret = issuer.and_then(|issuer| self.0.get(&issuer)).ok_or(TokenError::Issuer)?;
        let right =
            crypto::verify(signature, message.as_bytes(), &secret.verifies, Algorithm::HS256)
                .map_err(|_| TokenError::Signature)?;
        if !right {
            return Err(TokenError::Signature);
        }
        let claims = json::read(&payload)?;
        check_validity(&claims, unix_now)?;
        Ok(claims)
    }

    /// Signs `claims` as they are, with the key that `claims.issuer` names, else with the first. `unix_now` becomes
    /// `nbf` when the claims have none, so that a token is not valid before it was made.
    pub fn mint(&self, claims: &Claims, unix_now: Duration) -> String {
        let (issuer, secret) = self
            .0
            .get_key_value(&claims.issuer)
            .or_else(|| self.0.first_key_value())
            .expect("there is at least one key");
        let mut claims = claims.clone();
        claims.not_before.get_or_insert(unix_now.as_secs());
        secret.sign(&json::write(&claims, issuer).to_string())
    }

    /// Signs any JSON as a JWT of HS256, with the key of that name, else with the first. What it says is no access token, unless it says so.
    pub fn sign(&self, issuer: &str, payload: &str) -> String {
        let secret = self.0.get(issuer).or_else(|| self.0.values().next());
        secret.expect("there is at least one key").sign(payload)
    }

    /// Signs `claims` anew, valid from `unix_now` on for what was left of them, at least for [`REFRESHED_TTL_MIN`].
    pub fn refresh(&self, claims: &Claims, unix_now: Duration) -> String {
        let least = unix_now.saturating_add(REFRESHED_TTL_MIN).as_secs();
        let claims = Claims {
            expires_at: claims.expires_at.max(least),
            not_before: Some(unix_now.as_secs()),
            refreshed: true,
            ..claims.clone()
        };
        self.mint(&claims, unix_now)
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}

fn check_header(header: &[u8]) -> Result<(), TokenError> {
    let header: Map<String, Value> =
        serde_json::from_slice(header).map_err(|_| TokenError::Malformed)?;
    // `kid`, `jku`, `jwk` and the like are never followed; `crit` asks for something that we do not do.
    let pinned = header.get("alg").and_then(Value::as_str) == Some("HS256");
    if pinned && !header.contains_key("crit") { Ok(()) } else { Err(TokenError::Algorithm) }
}

fn check_validity(claims: &Claims, unix_now: Duration) -> Result<(), TokenError> {
    let now = unix_now.as_secs();
    if now > claims.expires_at.saturating_add(LEEWAY.as_secs()) {
        return Err(TokenError::Expired);
    }
    if claims.not_before.is_some_and(|from| now.saturating_add(LEEWAY.as_secs()) < from) {
        return Err(TokenError::NotYet);
    }
    Ok(())
}
