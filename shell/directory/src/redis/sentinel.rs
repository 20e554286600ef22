//! Who the primary is, by what all Sentinels say.

use std::{sync::Arc, time::Duration};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use outlast_directory::Partition;
use redis::{Pipeline, Value};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    answer::bytes,
    node_conn::{Door, NodeConn},
    primary::Primary,
    routes::Routes,
};
use crate::HostPort;

/// Between two looks when nothing happens.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Shortest pause between two looks, whatever happens.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// Longest time until the first Sentinel has answered.
const LOOK_MAX: Duration = Duration::from_millis(900);
/// How long the others may take after it. Lower: one that lags behind is believed alone; higher: a new primary is used so
/// much later.
const GRACE: Duration = Duration::from_millis(250);
/// After so long without a primary that is reached an older election counts too. Lower: while a primary is being replaced,
/// the one before is believed again, by a Sentinel that has not heard yet; higher: Sentinels that were set up anew, and count
/// from 0, are believed so much later.
const ANEW_AFTER: Duration = Duration::from_secs(5);

/// After Sentinels did not agree for a while, the same primary of the same election is believed in again when they have agreed for
/// so long: one of them may be putting another in its place, without being heard from here, and it would lose what it
/// takes until then, with a replica or without. Lower: acknowledged writes are lost when a cut ends in the middle of an
/// election; higher: rooms are placed without the directory for longer after each trouble.
const HOLD: Duration = Duration::from_secs(2);

/// The Sentinels of one primary.
pub(super) struct Sentinels {
    /// What they call it.
    pub(super) name: String,
    pub(super) conns: Vec<NodeConn>,
    /// How the primary is reached.
    pub(super) door: Arc<Door>,
    pub(super) replicas: u32,
    pub(super) routes: Arc<Routes>,
    pub(super) look: Arc<Notify>,
    pub(super) agreed: watch::Sender<Option<Agreed>>,
}

/// What a Sentinel says of the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    /// Counts the elections.
    epoch: u64,
    at: HostPort,
    /// It does not reach it.
    is_down: bool,
    /// It is about to put another one in its place, and perhaps has begun: replicas may follow either.
    is_replaced: bool,
}

/// Whom most Sentinels name for long enough, and when they were asked.
#[derive(Clone, Debug)]
pub(super) struct Agreed {
    pub(super) at: HostPort,
    pub(super) asked: Instant,
}

impl Sentinels {
    /// Follows what they say, for ever.
    pub(super) async fn follow(self: Arc<Sentinels>) {
        let mut current: Option<Named> = None;
        // When it was reached last, or believed in.
        let mut good = Instant::now();
        let mut trust = Trust::default();
        loop {
            let asked = Instant::now();
            let said = self.ask_all().await;
            let at = trust.judge(asked, agreed(&said, self.conns.len()));
            self.agreed.send_replace(at.map(|at| Agreed { at, asked }));
            let primary = self.routes.primary(Partition(0));
            if primary.is_some_and(|primary| primary.node().link().is_some()) {
                good = Instant::now();
            }
            if let Some(chosen) = choose(said, current.as_ref(), good.elapsed()) {
                if current.as_ref().is_none_or(|current| current.at != chosen.at) {
                    good = Instant::now();
                    let node = NodeConn::start(chosen.at.clone(), self.door.clone());
                    let waits = self.replicas > 0;
                    let primary = Primary::start(Arc::new(node), self.replicas, waits);
                    self.routes.set(vec![Some(Arc::new(primary))]);
                }
                current = Some(chosen);
            }
            // Whether somebody calls or not.
            let _ = timeout(LOOK_INTERVAL, self.look.notified()).await;
            sleep(LOOK_PAUSE).await;
        }
    }

    async fn ask_all(&self) -> Vec<Named> {
        let mut asked: FuturesUnordered<_> =
            self.conns.iter().map(|conn| named(conn, &self.name)).collect();
        let mut said = Vec::new();
        let mut deadline = Instant::now() + LOOK_MAX;
        while let Ok(Some(answer)) = timeout_at(deadline, asked.next()).await {
            let Some(named) = answer else { continue };
            said.push(named);
            deadline = deadline.min(Instant::now() + GRACE);
        }
        said
    }
}

/// Whether what Sentinels agree on may be relied upon.
#[derive(Debug, Default)]
struct Trust {
    /// The last primary that they agreed on, by its election.
    last: Option<(HostPort, u64)>,
    /// They did not agree on it in between, and since when they do again.
    doubted: bool,
    again: Option<Instant>,
}

impl Trust {
    /// Takes what they agreed on when they were `asked`; returns whom to rely upon.
    fn judge(&mut self, asked: Instant, agreed: Option<(HostPort, u64)>) -> Option<HostPort> {
        let Some(now) = agreed else {
            (self.doubted, self.again) = (self.last.is_some(), None);
            return None;
        };
        let is_same = self.last.as_ref() == Some(&now);
        let (at, _) = &now;
        if is_same && self.doubted {
            let again = *self.again.get_or_insert(asked);
            if asked.duration_since(again) < HOLD {
                return None;
            }
        }
        let at = at.clone();
        *self = Trust { last: Some(now), doubted: false, again: None };
        Some(at)
    }
}

/// The highest election counts. One that is lower than what was known counts only when nobody has been reached for a while:
/// an isolated Sentinel tells of the past, but those that were set up anew begin at 0.
fn choose(said: Vec<Named>, current: Option<&Named>, away: Duration) -> Option<Named> {
    let highest =
        said.into_iter().reduce(|one, other| if other.epoch > one.epoch { other } else { one })?;
    match current {
        Some(current) if away < ANEW_AFTER && highest.epoch < current.epoch => None,
        _ => Some(highest),
    }
}

/// Whom more than half of `all` Sentinels name, by the latest election that they know of, while none of those that answer is
/// putting another one in its place.
fn agreed(said: &[Named], all: usize) -> Option<(HostPort, u64)> {
    if said.iter().any(|named| named.is_replaced) {
        return None;
    }
    let count =
        |at: &HostPort| said.iter().filter(|named| named.at == *at && !named.is_down).count();
    let at = said.iter().map(|named| &named.at).find(|at| 2 * count(at) > all)?;
    let epoch = said.iter().filter(|named| named.at == *at).map(|named| named.epoch).max()?;
    Some((at.clone(), epoch))
}

async fn named(conn: &NodeConn, name: &str) -> Option<Named> {
    let link = conn.link()?;
    let mut questions = Pipeline::new();
    questions.cmd("SENTINEL").arg("MASTER").arg(name);
    questions.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    let answers = conn.ask(&link, &questions).await.ok()?;
    let [about, at] = &answers[..] else { return None };
    if let Value::ServerError(error) = about {
        conn.trouble(&super::fault::words(error));
    }
    read(about, at)
}

/// The election is in one answer and who won it in the other: the Sentinel that replaces a primary counts its election from the
/// promotion on, and until all replicas follow it tells in the first answer of the primary before.
fn read(about: &Value, at: &Value) -> Option<Named> {
    let text = |value| str::from_utf8(bytes(value)?).ok();
    let field = |name: &str| {
        let is_it = |key: &Value| bytes(key) == Some(name.as_bytes());
        let value = match about {
            Value::Map(fields) => fields.iter().find(|(key, _)| is_it(key)).map(|(_, value)| value),
            Value::Array(all) => {
                all.iter().step_by(2).position(is_it).and_then(|at| all.get(2 * at + 1))
            }
            _ => None,
        };
        text(value?)
    };
    let Value::Array(place) = at else { return None };
    let [host, port] = &place[..] else { return None };
    let (host, port) = (text(host)?, text(port)?);
    let is_of_it = (field("ip")?, field("port")?) == (host, port);
    let has =
        |flag| is_of_it && field("flags").is_some_and(|all| all.split(',').any(|one| one == flag));
    Some(Named {
        epoch: field("config-epoch")?.parse().ok()?,
        at: HostPort { host: host.to_owned(), port: port.parse().ok()? },
        is_down: has("s_down"),
        is_replaced: has("failover_in_progress"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(epoch: u64, host: &str) -> Named {
        let at = HostPort { host: host.to_owned(), port: 6379 };
        Named { epoch, at, is_down: false, is_replaced: false }
    }

    #[test]
    fn the_highest_election_counts_and_the_past_does_not() {
        let (old, new) = (says(1, "a"), says(2, "b"));
        let (now, later) = (Duration::ZERO, ANEW_AFTER);
        assert_eq!(choose(vec![], None, now), None);
        assert_eq!(choose(vec![old.clone()], None, now), Some(old.clone()));
        let both = vec![old.clone(), new.clone(), old.clone()];
        assert_eq!(choose(both, Some(&old), now), Some(new.clone()));
        assert_eq!(choose(vec![old.clone()], Some(&new), now), None);
        assert_eq!(choose(vec![old.clone()], Some(&new), later), Some(old));
        assert_eq!(choose(vec![new.clone()], Some(&new), now), Some(new));
    }

    #[test]
    fn most_sentinels_agree_while_none_replaces_the_primary() {
        let (one, other) = (says(1, "a"), says(1, "b"));
        let down = Named { is_down: true, ..one.clone() };
        let replaced = Named { is_replaced: true, ..one.clone() };
        let all = |said: &[&Named]| {
            agreed(&said.iter().map(|named| (*named).clone()).collect::<Vec<_>>(), 3)
        };
        assert_eq!(all(&[&one, &other, &one]), Some((one.at.clone(), 1)));
        assert_eq!(all(&[&one, &one]), Some((one.at.clone(), 1)));
        assert_eq!(all(&[&one]), None);
        assert_eq!(all(&[&one, &down, &other]), None);
        assert_eq!(all(&[&one, &one, &replaced]), None);
        assert_eq!(agreed(&[], 0), None);
    }

    #[test]
    fn after_a_doubt_the_same_primary_is_relied_upon_again_only_after_a_while() {
        let at = |host: &str| HostPort { host: host.to_owned(), port: 6379 };
        let (start, mut trust) = (Instant::now(), Trust::default());
        let mut judge = |ms: u64, agreed: Option<(&str, u64)>| {
            let agreed = agreed.map(|(host, epoch)| (at(host), epoch));
            trust.judge(start + Duration::from_millis(ms), agreed).map(|at| at.host)
        };
        let a = Some("a".to_owned());
        assert_eq!((judge(0, None), judge(0, Some(("a", 1)))), (None, a.clone()), "the first");
        assert_eq!(judge(1_000, Some(("a", 1))), a);
        assert_eq!((judge(2_000, None), judge(3_000, Some(("a", 1)))), (None, None));
        assert_eq!(judge(4_900, Some(("a", 1))), None);
        // Another doubt begins it anew.
        assert_eq!((judge(4_950, None), judge(5_000, Some(("a", 1)))), (None, None));
        assert_eq!(judge(7_000, Some(("a", 1))), a);
        // One that was elected since is not waited for, nor the same one if it was elected anew.
        assert_eq!(
            (judge(8_000, None), judge(8_100, Some(("b", 2)))),
            (None, Some("b".to_owned()))
        );
        assert_eq!(
            (judge(9_000, None), judge(9_100, Some(("b", 3)))),
            (None, Some("b".to_owned()))
        );
    }

    #[test]
    fn a_sentinel_is_understood_in_either_protocol() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        // While it makes all replicas follow the new one.
        let pairs = [
            ("ip", "10.0.0.1"),
            ("port", "6379"),
            ("flags", "s_down,master,failover_in_progress"),
            ("config-epoch", "3"),
        ];
        let flat = pairs.iter().flat_map(|(key, value)| [text(key), text(value)]).collect();
        let map = pairs.iter().map(|(key, value)| (text(key), text(value))).collect();
        let at = Value::Array(vec![text("10.0.0.7"), text("6379")]);
        let expected = Some(says(3, "10.0.0.7"));
        assert_eq!(read(&Value::Array(flat), &at), expected);
        let about = Value::Map(map);
        assert_eq!(read(&about, &at), expected);
        let before = Value::Array(vec![text("10.0.0.1"), text("6379")]);
        let replaced = Named { is_down: true, is_replaced: true, ..says(3, "10.0.0.1") };
        assert_eq!(read(&about, &before), Some(replaced));
        assert_eq!(read(&about, &Value::Nil), None);
        assert_eq!(read(&Value::Nil, &at), None);
    }
}
