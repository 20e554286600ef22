//! Looks for rooms in the database itself.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures_util::{StreamExt as _, stream};
use outlast_directory::{Layout, Reply, Request, RoomKeyer};
use outlast_engines::{Access, Address, Directory, Engine};
use outlast_runtime::Clock;
use tokio::time::sleep;

use super::ledger::{Ledger, Live};

/// Between two searches.
const SEARCH_INTERVAL: Duration = Duration::from_millis(500);
/// Longest search; the target is 60 s.
pub(crate) const SEARCH_MAX: Duration = Duration::from_secs(90);
/// Questions at once.
const ASKED_MAX: usize = 32;

/// What a search came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Search {
    /// When all were found, since the load began.
    pub(crate) found_at: Option<Duration>,
    /// How many there were in the end.
    pub(crate) rooms: usize,
    /// Rooms that are not there or elsewhere, with what is there.
    pub(crate) missing: Vec<String>,
}

/// The database of all gateways.
pub(crate) struct Reader {
    engine: Arc<dyn Engine>,
    layout: Layout,
    keyer: RoomKeyer,
}

impl Reader {
    /// Of the directory at `address`, whose rooms' keys hang on `secret`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When this program does not have the engine.
    pub(crate) fn connect(address: &str, secret: &str) -> anyhow::Result<Reader> {
        let address: Address = address.parse().context("a launcher's address")?;
        let directory = Directory::connect(&address, &Access::default(), Clock::start())?;
        let keyer = outlast_gateway::room_keyer(secret.as_bytes());
        Ok(Reader { engine: directory.engine, layout: directory.layout, keyer })
    }

    /// Searches until every room in which somebody has sat since before `before` is in the database, at the node where its
    /// participants are, or until it has taken too long.
    pub(crate) async fn search(self, ledger: Arc<Ledger>, before: Duration) -> Search {
        loop {
            let rooms = ledger.live(before);
            let missing = self.missing(&rooms).await;
            let (now, rooms) = (ledger.now(), rooms.len());
            if missing.is_empty() {
                return Search { found_at: Some(now), rooms, missing };
            }
            if now > before + SEARCH_MAX {
                return Search { found_at: None, rooms, missing };
            }
            sleep(SEARCH_INTERVAL).await;
        }
    }

    async fn missing(&self, rooms: &BTreeMap<String, Live>) -> Vec<String> {
        let asked: Vec<_> = rooms.iter().map(|(room, live)| self.is_wrong(room, live)).collect();
        stream::iter(asked).buffered(ASKED_MAX).filter_map(std::future::ready).collect().await
    }

    /// What is wrong with a room in the database, if anything is.
    async fn is_wrong(&self, room: &str, live: &Live) -> Option<String> {
        let key = self.keyer.key(&room.into());
        let at = self.layout.order(key).first().copied()?;
        let expected = &live.node;
        match self.engine.ask(at, Request::Lookup { room: key }).await {
            Reply::Found(Some(held)) if held.node.as_str() == expected => None,
            Reply::Found(Some(held)) => Some(format!("{room}: at {}, not {expected}", held.node)),
            other => Some(format!("{room}: {other:?}, not at {expected}")),
        }
    }
}
