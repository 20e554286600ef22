//! Who decides for which slots of a cluster, by what most of its nodes agree on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use redis::{Pipeline, Value};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    answer::bytes,
    keys::Keys,
    node_conn::{Door, NodeConn},
    primary::Primary,
    routes::Routes,
};
use crate::HostPort;

/// Between two looks when nothing happens.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Shortest pause between two looks, whatever happens.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// Longest time for one look.
const LOOK_MAX: Duration = Duration::from_millis(600);
/// How long the others may take after the first node has answered.
const GRACE: Duration = Duration::from_millis(250);

/// A cluster's nodes.
pub(super) struct Cluster {
    /// Those in the address: they are asked even when nobody names them.
    pub(super) seeds: Vec<HostPort>,
    pub(super) door: Arc<Door>,
    /// Of each partition.
    pub(super) keys: Vec<Keys>,
    /// How many replicas shall have a claim.
    pub(super) replicas: u32,
    pub(super) routes: Arc<Routes>,
    pub(super) look: Arc<Notify>,
    pub(super) known: Mutex<Known>,
}

/// What is known of a cluster.
#[derive(Default)]
pub(super) struct Known {
    nodes: BTreeMap<HostPort, Arc<NodeConn>>,
    primaries: BTreeMap<HostPort, Arc<Primary>>,
    view: View,
}

/// What a node says of its cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct View {
    /// Counts the elections.
    epoch: u64,
    ranges: Vec<Range>,
}

/// Slots with one primary.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    primary: HostPort,
    /// Those that the cluster has not agreed to be lost.
    replicas: Vec<HostPort>,
}

impl Cluster {
    /// Follows what the nodes say, for ever.
    pub(super) async fn follow(self: Arc<Cluster>) {
        self.adopt(View::default());
        loop {
            if let Some(view) = self.ask_all().await {
                self.adopt(view);
            }
            // Whether somebody calls or not.
            let _ = timeout(LOOK_INTERVAL, self.look.notified()).await;
            sleep(LOOK_PAUSE).await;
        }
    }

    /// Connections to the replicas of whoever decides for `slot`.
    pub(super) fn replicas(&self, slot: u16) -> Vec<Arc<NodeConn>> {
        let known = self.lock();
        let Some(range) = known.view.range(slot) else { return Vec::new() };
        range.replicas.iter().filter_map(|at| known.nodes.get(at).cloned()).collect()
    }

    /// All nodes that are known.
    pub(super) fn nodes(&self) -> Vec<Arc<NodeConn>> {
        self.lock().nodes.values().cloned().collect()
    }

    /// Whether it has slots.
    pub(super) fn is_primary(&self, at: &HostPort) -> bool {
        self.lock().view.ranges.iter().any(|range| range.primary == *at)
    }

    /// The replicas of the primary at `at` that are not agreed to be lost.
    pub(super) fn replicas_of(&self, at: &HostPort) -> Vec<HostPort> {
        let known = self.lock();
        let range = known.view.ranges.iter().find(|range| range.primary == *at);
        range.map(|range| range.replicas.clone()).unwrap_or_default()
    }

    async fn ask_all(&self) -> Option<View> {
        let nodes: Vec<_> = self.lock().nodes.values().cloned().collect();
        let mut asked: FuturesUnordered<_> = nodes.iter().map(|node| view(node)).collect();
        let mut deadline = Instant::now() + LOOK_MAX;
        let mut best: Option<View> = None;
        while let Ok(Some(answer)) = timeout_at(deadline, asked.next()).await {
            let Some(view) = answer else { continue };
            if best.as_ref().is_none_or(|best| view.epoch > best.epoch) {
                best = Some(view);
            }
            deadline = deadline.min(Instant::now() + GRACE);
        }
        best
    }

    /// Connects to all that are named, drops those that are not, and has each partition decided by the owner of its slot.
    fn adopt(&self, view: View) {
        let mut known = self.lock();
        let named = view
            .ranges
            .iter()
            .flat_map(|range| std::iter::once(&range.primary).chain(&range.replicas));
        let all: BTreeSet<_> = named.chain(&self.seeds).cloned().collect();
        known.nodes.retain(|at, _| all.contains(at));
        for at in all {
            let start = |at: &HostPort| Arc::new(NodeConn::start(at.clone(), self.door.clone()));
            known.nodes.entry(at).or_insert_with_key(start);
        }
        let owners: BTreeSet<_> = view.ranges.iter().map(|range| &range.primary).collect();
        known.primaries.retain(|at, _| owners.contains(at));
        let parts = self.keys.iter().map(|keys| {
            let range = view.range(keys.slot)?;
            let node = known.nodes.get(&range.primary)?.clone();
            let replicas = self.wanted(range);
            let start = || Arc::new(Primary::start(node, replicas, self.replicas > 0));
            let primary = known.primaries.entry(range.primary.clone()).or_insert_with(start);
            primary.replicas.store(replicas, Relaxed);
            Some(primary.clone())
        });
        let parts = parts.collect();
        known.view = view;
        drop(known);
        self.routes.set(parts);
    }

    /// How many replicas shall have a claim: no more than there are. One that is merely not reached counts as being there;
    /// only when most primaries have agreed that it is lost does its partition go on without, since it would be away until
    /// somebody brings another.
    fn wanted(&self, range: &Range) -> u32 {
        self.replicas.min(u32::try_from(range.replicas.len()).unwrap_or(u32::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    fn range(&self, slot: u16) -> Option<&Range> {
        self.ranges.iter().find(|range| (range.first..=range.last).contains(&slot))
    }
}

/// What `node` says; `None` when it does not, or is cut off from most primaries.
async fn view(node: &NodeConn) -> Option<View> {
    let link = node.link()?;
    let mut questions = Pipeline::new();
    questions.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("SLOTS");
    let answers = node.ask(&link, &questions).await.ok()?;
    let [info, slots] = &answers[..] else { return None };
    if let Value::ServerError(error) = slots {
        node.trouble(&super::fault::words(error));
    }
    read(node.at(), info, slots)
}

fn read(from: &HostPort, info: &Value, slots: &Value) -> Option<View> {
    let info = str::from_utf8(bytes(info)?).ok()?;
    let field = |name: &str| {
        let mut lines = info.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(other, _)| *other == name).map(|(_, value)| value.trim())
    };
    if field("cluster_state") != Some("ok") {
        return None;
    }
    let Value::Array(slots) = slots else { return None };
    let ranges = slots.iter().map(|range| read_range(from, range)).collect::<Option<_>>()?;
    Some(View { epoch: field("cluster_current_epoch")?.parse().ok()?, ranges })
}

fn read_range(from: &HostPort, range: &Value) -> Option<Range> {
    let Value::Array(parts) = range else { return None };
    let [Value::Int(first), Value::Int(last), primary, replicas @ ..] = &parts[..] else {
        return None;
    };
    Some(Range {
        first: u16::try_from(*first).ok()?,
        last: u16::try_from(*last).ok()?,
        primary: read_node(from, primary)?,
        replicas: replicas.iter().filter_map(|node| read_node(from, node)).collect(),
    })
}

/// A node that does not know its own address says nothing, or `?`: it is where it was asked.
fn read_node(from: &HostPort, node: &Value) -> Option<HostPort> {
    let Value::Array(parts) = node else { return None };
    let [host, Value::Int(port), ..] = &parts[..] else { return None };
    let host = bytes(host).and_then(|host| str::from_utf8(host).ok());
    let host = host.filter(|host| !host.is_empty() && *host != "?").unwrap_or(&from.host);
    Some(HostPort { host: host.to_owned(), port: u16::try_from(*port).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> HostPort {
        HostPort { host: host.to_owned(), port }
    }

    #[test]
    fn a_node_is_understood_unless_it_is_cut_off() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let node = |host: Value, port| Value::Array(vec![host, Value::Int(port), text("id")]);
        let (first, last) = (Value::Int(0), Value::Int(5_460));
        let nodes = [node(text("10.0.0.1"), 7000), node(Value::Nil, 7001), node(text("?"), 7002)];
        let slots =
            Value::Array(vec![Value::Array([first, last].into_iter().chain(nodes).collect())]);
        let info =
            |state: &str| text(&format!("cluster_state:{state}\r\ncluster_current_epoch:7\r\n"));
        let from = at("10.0.0.9", 7009);
        let view = read(&from, &info("ok"), &slots).unwrap();
        let replicas = vec![at("10.0.0.9", 7001), at("10.0.0.9", 7002)];
        let range = Range { first: 0, last: 5_460, primary: at("10.0.0.1", 7000), replicas };
        assert_eq!(view, View { epoch: 7, ranges: vec![range.clone()] });
        assert_eq!((view.range(5_460), view.range(5_461)), (Some(&range), None));
        assert_eq!(read(&from, &info("fail"), &slots), None);
        assert_eq!(read(&from, &info("ok"), &Value::Nil), None);
    }
}
