//! `outlast token`: makes access tokens for trying things out and for scripts. Services make theirs with LiveKit's
//! server SDKs.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use outlast_token::{ApiKeys, Claims, VideoGrant};

use crate::{check, overrides::Overrides};

/// What the token shall say.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Configuration whose first API key (or --api-key) signs
    #[arg(long, value_name = "FILE", env = "OUTLAST_CONFIG")]
    config: Option<PathBuf>,
    /// API key that signs; with --config, one of its keys
    #[arg(long, env = "LIVEKIT_API_KEY")]
    api_key: Option<String>,
    /// Secret of --api-key; better given in the environment, where other users do not see it
    #[arg(long, env = "LIVEKIT_API_SECRET", hide_env_values = true)]
    api_secret: Option<String>,
    /// Who the participant is
    #[arg(long)]
    identity: Option<String>,
    /// Room that may be joined (with --identity) or administered (with --admin)
    #[arg(long)]
    room: Option<String>,
    /// Display name
    #[arg(long)]
    name: Option<String>,
    /// Participant metadata
    #[arg(long)]
    metadata: Option<String>,
    /// Participant attribute; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    attribute: Vec<String>,
    /// How long the token is valid: 30s, 10m, 6h, 7d
    #[arg(long, default_value = "6h", value_parser = span)]
    ttl: Duration,
    /// Whether tracks may be published [default: true]
    #[arg(long, value_name = "BOOL")]
    can_publish: Option<bool>,
    /// Sources that may be published: camera, microphone, screen_share, screen_share_audio
    #[arg(long, value_name = "SOURCE", value_delimiter = ',')]
    can_publish_sources: Vec<String>,
    /// Whether data may be sent [default: as --can-publish]
    #[arg(long, value_name = "BOOL")]
    can_publish_data: Option<bool>,
    /// Whether tracks may be received [default: true]
    #[arg(long, value_name = "BOOL")]
    can_subscribe: Option<bool>,
    /// Whether own name, metadata and attributes may be changed [default: false]
    #[arg(long, value_name = "BOOL")]
    can_update_own_metadata: Option<bool>,
    /// Never shown to others
    #[arg(long)]
    hidden: bool,
    /// May administer --room
    #[arg(long)]
    admin: bool,
    /// May create and delete rooms
    #[arg(long)]
    create: bool,
    /// May list rooms
    #[arg(long)]
    list: bool,
}

/// Prints a token.
///
/// # Errors
/// When there is no key to sign with, or the wishes do not fit together.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    println!("{}", keys(args)?.mint(&claims(args, now)?, now));
    Ok(())
}

fn keys(args: &Args) -> anyhow::Result<ApiKeys> {
    if let (Some(key), Some(secret)) = (&args.api_key, &args.api_secret) {
        return Ok(ApiKeys::new([(key.as_str(), secret.as_str())])?);
    }
    let Some(config) = &args.config else {
        bail!("no API key to sign with: give --config FILE, or --api-key with LIVEKIT_API_SECRET");
    };
    let keys = check::load(&Overrides::of_file(config.clone()))?.api_keys()?;
    if let Some(key) = &args.api_key
        && !keys.names().any(|name| name == key)
    {
        bail!("{} has no API key {key:?}", config.display());
    }
    Ok(keys)
}

fn claims(args: &Args, now: Duration) -> anyhow::Result<Claims> {
    let joins = args.identity.is_some() && args.room.is_some();
    if !joins && !args.admin && !args.create && !args.list {
        bail!(
            "the token would grant nothing: give --identity and --room, or --admin, --create, --list"
        );
    }
    if args.admin && args.room.is_none() {
        bail!("--admin needs --room");
    }
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').with_context(|| {
            format!("--attribute {text:?} has no '=': write --attribute NAME=VALUE")
        })?;
        Ok((name.to_owned(), value.to_owned()))
    };
    let attributes: anyhow::Result<BTreeMap<_, _>> = args.attribute.iter().map(pair).collect();
    Ok(Claims {
        issuer: args.api_key.clone().unwrap_or_default(),
        identity: args.identity.as_deref().unwrap_or_default().into(),
        name: args.name.clone().unwrap_or_default(),
        metadata: args.metadata.clone().unwrap_or_default(),
        attributes: attributes?,
        video: VideoGrant {
            room_join: joins,
            room: args.room.clone().unwrap_or_default(),
            room_admin: args.admin,
            room_create: args.create,
            room_list: args.list,
            can_publish: args.can_publish,
            can_publish_sources: args.can_publish_sources.clone(),
            can_publish_data: args.can_publish_data,
            can_subscribe: args.can_subscribe,
            can_update_own_metadata: args.can_update_own_metadata,
            hidden: args.hidden,
            ..VideoGrant::default()
        },
        expires_at: now.saturating_add(args.ttl).as_secs(),
        ..Claims::default()
    })
}

/// A span as people write it on command lines.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.trim_end_matches(|c: char| c.is_alphabetic()).len());
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err("write 30s, 10m, 6h or 7d".to_owned()),
    };
    match number.parse::<u64>() {
        Ok(number) if number > 0 => Ok(Duration::from_secs(number.saturating_mul(seconds))),
        _ => Err("write 30s, 10m, 6h or 7d".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn spans_are_read() {
        for (text, seconds) in
            [("30s", 30), ("10m", 600), ("6h", 21_600), ("7d", 604_800), ("5", 5)]
        {
            assert_eq!(span(text).map(|span| span.as_secs()), Ok(seconds), "{text}");
        }
        for text in ["", "0s", "h", "-1h", "1w", "1.5h", "1h30m"] {
            assert!(span(text).is_err(), "{text}");
        }
    }
}
