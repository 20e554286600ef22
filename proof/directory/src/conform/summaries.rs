//! What traces cannot show, since it takes time or fills a directory: summaries run out, and not too early.

use std::{sync::Arc, time::Duration};

use outlast_directory::{
    NAME_BYTES_MAX, NodeSummary, Reply, Request, SUMMARIES_MAX, SUMMARY_TTL_MAX, Summary,
};
use outlast_engines::{Engine, Partition};
use outlast_model::Epoch;
use outlast_runtime::Clock;

use super::play::ANSWER_DEADLINE;
use crate::words;

/// How long the short summary lives.
const SHORT: Duration = Duration::from_millis(1_500);
const PAUSE: Duration = Duration::from_millis(50);

/// Lets a short summary run out beside a long one, and offers malformed ones. Fills the regions of `at`, which nobody else
/// may use meanwhile, when `is_alone`.
///
/// # Errors
/// What differs, in words.
pub async fn summaries_run_out(
    engine: &Arc<dyn Engine>,
    at: Partition,
    is_alone: bool,
) -> Result<(), String> {
    let beat = |region: &str, ttl: Duration| Request::Heartbeat { summary: summary(region), ttl };
    for (wrong, why) in [
        (beat("", SHORT), "no name"),
        (beat(&"x".repeat(NAME_BYTES_MAX + 1), SHORT), "too long a name"),
        (beat("r", Duration::ZERO), "no time to live"),
        (beat("r", SUMMARY_TTL_MAX + Duration::from_nanos(1)), "too long a time to live"),
    ] {
        let reply = engine.ask(at, wrong).await;
        if !matches!(reply, Reply::Failed(outlast_directory::Failure::Bad(_))) {
            return Err(format!("a heartbeat with {why} is answered: {}", words::reply(&reply)));
        }
    }
    let clock = Clock::start();
    done(engine, at, beat("stays", SUMMARY_TTL_MAX)).await?;
    let sent = clock.now();
    done(engine, at, beat("goes", SHORT)).await?;
    let mut was_there = false;
    loop {
        let asked = clock.now();
        let there = regions(engine, at).await?;
        let age = clock.now().since(sent);
        match (there.contains("stays"), there.contains("goes")) {
            (true, true) => was_there = true,
            (true, false) if was_there && age < SHORT => {
                return Err(format!("a summary of {SHORT:?} is gone after {age:?}"));
            }
            (true, false) if was_there => break,
            // A replica has not heard of both yet.
            _ if age < SHORT => {}
            (true, false) => return Err("a summary never showed".to_owned()),
            (false, _) => return Err(format!("a summary of {SUMMARY_TTL_MAX:?} is gone")),
        }
        if asked.since(sent) > SHORT + ANSWER_DEADLINE {
            return Err(format!("a summary of {SHORT:?} is there after {age:?}"));
        }
        tokio::time::sleep(PAUSE).await;
    }
    if is_alone { regions_have_a_limit(engine, at).await } else { Ok(()) }
}

async fn regions_have_a_limit(engine: &Arc<dyn Engine>, at: Partition) -> Result<(), String> {
    let known = regions(engine, at).await?.len();
    let beat = |n: usize| {
        let summary = summary(&format!("fills {n}"));
        Request::Heartbeat { summary, ttl: SUMMARY_TTL_MAX }
    };
    for n in known..SUMMARIES_MAX {
        done(engine, at, beat(n)).await?;
    }
    match engine.ask(at, beat(SUMMARIES_MAX)).await {
        Reply::Failed(outlast_directory::Failure::Bad(_)) => {}
        other => return Err(format!("one region too many is answered: {}", words::reply(&other))),
    }
    done(engine, at, beat(SUMMARIES_MAX - 1)).await
}

fn summary(region: &str) -> Summary {
    let node = NodeSummary {
        node: "n".into(),
        epoch: Epoch(1),
        draining: false,
        load_permille: 10,
        rooms: 2,
    };
    Summary { region: region.into(), nodes: vec![node] }
}

async fn done(engine: &Arc<dyn Engine>, at: Partition, request: Request) -> Result<(), String> {
    match engine.ask(at, request.clone()).await {
        Reply::Done => Ok(()),
        other => Err(format!("{} is answered: {}", words::request(&request), words::reply(&other))),
    }
}

async fn regions(
    engine: &Arc<dyn Engine>,
    at: Partition,
) -> Result<std::collections::BTreeSet<String>, String> {
    match engine.ask(at, Request::Summaries).await {
        Reply::Summaries(all) => {
            Ok(all.into_iter().map(|summary| summary.region.as_str().to_owned()).collect())
        }
        other => Err(format!("summaries are asked for: {}", words::reply(&other))),
    }
}
