//! Claims from JSON and to JSON. A present claim of a wrong type refuses the token; `null` counts as absent.

use std::{collections::BTreeMap, fmt};

use outlast_model::RulingVersion;
use serde::{
    Deserialize,
    de::{Deserializer, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::{Claims, TokenError, VideoGrant};

/// The issuer that an unverified payload names; nothing else of it is read or kept. The last of several wins, as in
/// the verified reading.
pub(crate) struct NamedIssuer(pub(crate) Option<String>);

impl<'de> Deserialize<'de> for NamedIssuer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Payload)
    }
}

struct Payload;

impl<'de> Visitor<'de> for Payload {
    type Value = NamedIssuer;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of claims")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NamedIssuer, A::Error> {
        let mut issuer = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == "iss" {
                issuer = map.next_value::<Option<String>>()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(NamedIssuer(issuer))
    }
}

/// Reads verified claims. Of a claim that stands twice, the last counts.
pub(crate) fn read(payload: &[u8]) -> Result<Claims, TokenError> {
    let root: Map<String, Value> =
        serde_json::from_slice(payload).map_err(|_| TokenError::Malformed)?;
    let top = Object(&root);
    let subject = top.text("sub")?;
    let identity = if subject.is_empty() { top.text("jti")? } else { subject };
    Ok(Claims {
        issuer: top.text("iss")?,
        identity: identity.into(),
        name: top.text("name")?,
        metadata: top.text("metadata")?,
        attributes: top.texts_by_name("attributes")?,
        kind: top.text("kind")?,
        kind_details: top.texts("kindDetails")?,
        video: match present(root.get("video")) {
            None => VideoGrant::default(),
            Some(Value::Object(video)) => read_video(&Object(video))?,
            Some(_) => return Err(TokenError::Claim("video")),
        },
        expires_at: top.seconds("exp")?.ok_or(TokenError::NoExpiry)?,
        not_before: top.seconds("nbf")?,
        room_preset: top.text("roomPreset")?,
        room_config: present(root.get("roomConfig")).cloned(),
        sha256: top.text("sha256")?,
        refreshed: top.flag("refreshed")?,
        ruling: top.version("ruling")?,
    })
}

fn read_video(video: &Object<'_>) -> Result<VideoGrant, TokenError> {
    Ok(VideoGrant {
        room_join: video.flag("roomJoin")?,
        room: video.text("room")?,
        room_create: video.flag("roomCreate")?,
        room_list: video.flag("roomList")?,
        room_admin: video.flag("roomAdmin")?,
        room_record: video.flag("roomRecord")?,
        ingress_admin: video.flag("ingressAdmin")?,
        destination_room: video.text("destinationRoom")?,
        can_publish: video.choice("canPublish")?,
        can_publish_sources: video.texts("canPublishSources")?,
        can_publish_data: video.choice("canPublishData")?,
        can_subscribe: video.choice("canSubscribe")?,
        can_update_own_metadata: video.choice("canUpdateOwnMetadata")?,
        can_subscribe_metrics: video.flag("canSubscribeMetrics")?,
        can_manage_agent_session: video.flag("canManageAgentSession")?,
        hidden: video.flag("hidden")?,
        recorder: video.flag("recorder")?,
        agent: video.flag("agent")?,
    })
}

struct Object<'a>(&'a Map<String, Value>);

fn present(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| !value.is_null())
}

impl Object<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        present(self.0.get(name))
    }

    fn text(&self, name: &'static str) -> Result<String, TokenError> {
        match self.get(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(TokenError::Claim(name)),
        }
    }

    fn choice(&self, name: &'static str) -> Result<Option<bool>, TokenError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(choice)) => Ok(Some(*choice)),
            Some(_) => Err(TokenError::Claim(name)),
        }
    }

    fn flag(&self, name: &'static str) -> Result<bool, TokenError> {
        Ok(self.choice(name)?.unwrap_or(false))
    }

    fn texts(&self, name: &'static str) -> Result<Vec<String>, TokenError> {
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| item.as_str().map(str::to_owned).ok_or(TokenError::Claim(name)))
                .collect(),
            Some(_) => Err(TokenError::Claim(name)),
        }
    }

    fn texts_by_name(&self, name: &'static str) -> Result<BTreeMap<String, String>, TokenError> {
        match self.get(name) {
            None => Ok(BTreeMap::new()),
            Some(Value::Object(items)) => items
                .iter()
                .map(|(key, item)| {
                    let text = item.as_str().ok_or(TokenError::Claim(name))?;
                    Ok((key.clone(), text.to_owned()))
                })
                .collect(),
            Some(_) => Err(TokenError::Claim(name)),
        }
    }

    fn version(&self, name: &'static str) -> Result<RulingVersion, TokenError> {
        let text = self.text(name)?;
        if text.is_empty() {
            return Ok(RulingVersion::default());
        }
        text.parse().map_err(|_| TokenError::Claim(name))
    }

    /// A NumericDate (RFC 7519 §2): seconds of Unix time, perhaps with a fraction, which is cut off.
    fn seconds(&self, name: &'static str) -> Result<Option<u64>, TokenError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        if let Some(seconds) = value.as_u64() {
            return Ok(Some(seconds));
        }
        match value.as_f64() {
            // 2^53: beyond it a float no longer names one second.
            Some(seconds) if (0.0..9_007_199_254_740_992.0).contains(&seconds) => {
                Ok(Some(seconds as u64))
            }
            _ => Err(TokenError::Claim(name)),
        }
    }
}

/// Writes `claims` as SDKs do: whatever has its default is left out.
pub(crate) fn write(claims: &Claims, issuer: &str) -> Value {
    let mut top = Map::new();
    top.insert("iss".into(), issuer.into());
    put_text(&mut top, "sub", claims.identity.as_str());
    put_text(&mut top, "name", &claims.name);
    put_text(&mut top, "metadata", &claims.metadata);
    if !claims.attributes.is_empty() {
        let attributes = claims.attributes.iter().map(|(k, v)| (k.clone(), v.as_str().into()));
        top.insert("attributes".into(), Value::Object(attributes.collect()));
    }
    put_text(&mut top, "kind", &claims.kind);
    put_texts(&mut top, "kindDetails", &claims.kind_details);
    top.insert("exp".into(), claims.expires_at.into());
    if let Some(not_before) = claims.not_before {
        top.insert("nbf".into(), not_before.into());
    }
    put_text(&mut top, "roomPreset", &claims.room_preset);
    if let Some(config) = &claims.room_config {
        top.insert("roomConfig".into(), config.clone());
    }
    put_text(&mut top, "sha256", &claims.sha256);
    if claims.refreshed {
        top.insert("refreshed".into(), Value::Bool(true));
    }
    if claims.ruling != RulingVersion::default() {
        top.insert("ruling".into(), claims.ruling.to_string().into());
    }
    top.insert("video".into(), write_video(&claims.video));
    Value::Object(top)
}

fn write_video(grant: &VideoGrant) -> Value {
    let mut video = Map::new();
    put_text(&mut video, "room", &grant.room);
    put_text(&mut video, "destinationRoom", &grant.destination_room);
    put_texts(&mut video, "canPublishSources", &grant.can_publish_sources);
    for (name, flag) in [
        ("roomJoin", grant.room_join),
        ("roomCreate", grant.room_create),
        ("roomList", grant.room_list),
        ("roomAdmin", grant.room_admin),
        ("roomRecord", grant.room_record),
        ("ingressAdmin", grant.ingress_admin),
        ("canSubscribeMetrics", grant.can_subscribe_metrics),
        ("canManageAgentSession", grant.can_manage_agent_session),
        ("hidden", grant.hidden),
        ("recorder", grant.recorder),
        ("agent", grant.agent),
    ] {
        if flag {
            video.insert(name.into(), true.into());
        }
    }
    for (name, choice) in [
        ("canPublish", grant.can_publish),
        ("canPublishData", grant.can_publish_data),
        ("canSubscribe", grant.can_subscribe),
        ("canUpdateOwnMetadata", grant.can_update_own_metadata),
    ] {
        if let Some(choice) = choice {
            video.insert(name.into(), choice.into());
        }
    }
    Value::Object(video)
}

fn put_text(object: &mut Map<String, Value>, name: &str, text: &str) {
    if !text.is_empty() {
        object.insert(name.into(), text.into());
    }
}

fn put_texts(object: &mut Map<String, Value>, name: &str, texts: &[String]) {
    if !texts.is_empty() {
        object.insert(name.into(), texts.into());
    }
}
