//! What a directory has, asked as whoever has just started asks.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use outlast_directory::{Event, Reply, Request, Revision, RoomKey};
use outlast_engines::{Engine, Partition};
use outlast_model::Time;
use outlast_runtime::Clock;

use crate::{home::Home, servers::READY_DEADLINE};

/// Between two questions when there was no answer.
const PAUSE: Duration = Duration::from_millis(200);

/// Waits until the engine of `home` answers in every partition.
pub(super) async fn serves(home: &Home) -> anyhow::Result<()> {
    let clock = Clock::start();
    let engine = home.engine();
    for at in (0..engine.partitions().get()).map(Partition) {
        loop {
            let asked = engine.clone();
            let answer = home.spawn(async move { asked.ask(at, Request::Instance).await });
            let reply = answer.await.context("a region's thread broke")?;
            if matches!(reply, Reply::Instance(_)) {
                break;
            }
            let state = engine.state(at);
            anyhow::ensure!(
                clock.now().since(Time::ZERO) < READY_DEADLINE,
                "partition {} does not serve: {reply:?}, {state:?}",
                at.0
            );
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

/// All rooms of all partitions, and whether each is held.
pub(super) async fn listed(engine: Arc<dyn Engine>) -> anyhow::Result<BTreeMap<RoomKey, bool>> {
    let mut rooms = BTreeMap::new();
    let clock = Clock::start();
    for at in (0..engine.partitions().get()).map(Partition) {
        let mut after = Revision::START;
        loop {
            match engine.ask(at, Request::Watch { after }).await {
                Reply::Changes(changes) if changes.events.is_empty() => break,
                Reply::Changes(changes) => {
                    after = changes.revision;
                    rooms.extend(changes.events.iter().map(|event| match event {
                        Event::Held { room, .. } => (*room, true),
                        Event::Ended { room, .. } => (*room, false),
                    }));
                }
                other => {
                    let over = clock.now().since(Time::ZERO);
                    anyhow::ensure!(over < READY_DEADLINE, "rooms are not listed: {other:?}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
    Ok(rooms)
}
