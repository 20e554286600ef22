//! What operators see: counters of this crate, and the shards' own figures, read when they are asked for.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use outlast_node_core::ShardStats;
use outlast_runtime::SendCounters;
use outlast_tenure::Why;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
    },
    registry::Registry,
};

/// Label of a refused request.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Status {
    status: u16,
}

/// Label of somebody who was turned away.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Reason {
    why: &'static str,
}

/// A node's metrics, `outlast_node_...`; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct NodeMetrics {
    pub(crate) sessions: Gauge,
    pub(crate) overflows: Counter,
    pub(crate) fences: Counter,
    pub(crate) restarts: Counter,
    pub(crate) beats: Counter,
    pub(crate) beats_held: Counter,
    pub(crate) echoes_refused: Counter,
    pub(crate) rooms_fenced: Counter,
    gateways_heard: Gauge,
    lease_ms: Gauge,
    draining: Gauge,
    turned_away: Family<Reason, Counter>,
    refused: Family<Status, Counter>,
    shards: Arc<Shards>,
}

/// One shard's figures as of its last tick; counters start again when the shard does.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ShardReport {
    pub(crate) stats: ShardStats,
    pub(crate) sends: SendCounters,
    pub(crate) datagrams_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) truncated: u64,
    /// Share of a core that the shard's thread used since the tick before, in thousandths.
    pub(crate) load_permille: u16,
    /// As in the shard's figures, and never less than before, even when the shard starts again.
    pub(crate) joins_admitted: u64,
    pub(crate) joins_connected: u64,
}

#[derive(Debug, Default)]
struct Shards(Mutex<Vec<ShardReport>>);

impl NodeMetrics {
    /// Makes the metrics and puts them into `registry`.
    pub fn register(registry: &mut Registry) -> NodeMetrics {
        let metrics = NodeMetrics::default();
        let node = registry.sub_registry_with_prefix("outlast_node");
        node.register("sessions", "Open signalling sockets", metrics.sessions.clone());
        node.register(
            "session_overflows",
            "Sessions closed because their client did not read",
            metrics.overflows.clone(),
        );
        let help = "Shards that dropped all after a pause, or because no gateway heard the node";
        node.register("fences", help, metrics.fences.clone());
        let help = "Rooms given up because another node holds them";
        node.register("rooms_fenced", help, metrics.rooms_fenced.clone());
        let help = "What is left of the right to serve, in milliseconds";
        node.register("lease_ms", help, metrics.lease_ms.clone());
        node.register("draining", "1 while everybody is moved away", metrics.draining.clone());
        let help = "Joins and resumes that were turned away, by reason";
        node.register("turned_away", help, metrics.turned_away.clone());
        node.register("shard_restarts", "Shards lost to a panic", metrics.restarts.clone());
        node.register("beats", "Beats sent, to each gateway", metrics.beats.clone());
        let help = "Beats not sent because a shard did not answer in time";
        node.register("beats_held", help, metrics.beats_held.clone());
        let help = "Datagrams to the beat socket that were no authentic, new echo";
        node.register("echoes_refused", help, metrics.echoes_refused.clone());
        let help = "Gateways that have echoed a beat in the last two seconds";
        node.register("gateways_heard", help, metrics.gateways_heard.clone());
        let help = "Requests of the internal server that were refused, by HTTP status";
        node.register("refused", help, metrics.refused.clone());
        node.register_collector(Box::new(Arc::clone(&metrics.shards)));
        metrics
    }

    pub(crate) fn count_refused(&self, status: u16) {
        self.refused.get_or_create(&Status { status }).inc();
    }

    pub(crate) fn count_turned_away(&self, why: Why) {
        self.turned_away.get_or_create(&Reason { why: why.as_str() }).inc();
    }

    /// How many gateways hear the node, what is left of its lease, and whether it drains.
    pub(crate) fn role(&self, heard: usize, lease: Duration, draining: bool) {
        self.gateways_heard.set(i64::try_from(heard).unwrap_or(i64::MAX));
        self.lease_ms.set(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX));
        self.draining.set(draining.into());
    }

    pub(crate) fn report(&self, shard: usize, report: ShardReport) {
        let mut shards = self.shards.0.lock().expect("nobody panics with a report in hand");
        if shards.len() <= shard {
            shards.resize(shard + 1, ShardReport::default());
        }
        shards[shard] = report;
    }

    /// The sum of all shards; the load is that of the busiest, which is what refuses first.
    pub(crate) fn total(&self) -> ShardReport {
        self.shards.total()
    }
}

impl Shards {
    fn total(&self) -> ShardReport {
        let shards = self.0.lock().expect("nobody panics with a report in hand");
        shards.iter().fold(ShardReport::default(), |mut sum, one| {
            sum.stats.rooms += one.stats.rooms;
            sum.stats.participants += one.stats.participants;
            sum.stats.tracks += one.stats.tracks;
            sum.stats.subscriptions += one.stats.subscriptions;
            sum.stats.resumes += one.stats.resumes;
            sum.stats.panics += one.stats.panics;
            sum.stats.strays += one.stats.strays;
            sum.stats.plane.packets_in += one.stats.plane.packets_in;
            sum.stats.plane.packets_out += one.stats.plane.packets_out;
            sum.stats.plane.retransmitted += one.stats.plane.retransmitted;
            sum.stats.plane.plis_sent += one.stats.plane.plis_sent;
            sum.stats.plane.dropped.forged += one.stats.plane.dropped.forged;
            sum.stats.plane.dropped.overrun += one.stats.plane.dropped.overrun;
            sum.sends.sent += one.sends.sent;
            sum.sends.bytes += one.sends.bytes;
            sum.sends.dropped += one.sends.dropped;
            sum.sends.refused += one.sends.refused;
            sum.datagrams_in += one.datagrams_in;
            sum.bytes_in += one.bytes_in;
            sum.truncated += one.truncated;
            sum.load_permille = sum.load_permille.max(one.load_permille);
            sum.joins_admitted = sum.joins_admitted.wrapping_add(one.joins_admitted);
            sum.joins_connected = sum.joins_connected.wrapping_add(one.joins_connected);
            sum
        })
    }
}

impl Collector for Shards {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let total = self.total();
        let ShardReport { stats, sends, datagrams_in, bytes_in, truncated, load_permille, .. } =
            total;
        let gauges = [
            ("rooms", "Open rooms", stats.rooms),
            ("participants", "Participants in rooms", stats.participants),
            ("tracks", "Published tracks", stats.tracks),
            ("subscriptions", "Subscriptions to tracks", stats.subscriptions),
            ("load_permille", "CPU of the busiest shard", usize::from(load_permille)),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let encoder = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(encoder)?;
        }
        let counters = [
            ("joins", "Joins accepted", total.joins_admitted),
            ("joins_connected", "Joins whose media came up", total.joins_connected),
            ("resumes", "Resumes accepted", stats.resumes),
            ("panics", "Sessions ended by a panic", stats.panics),
            ("strays", "Datagrams that belonged to nobody", stats.strays),
            ("packets_in", "RTP packets received", stats.plane.packets_in),
            ("packets_out", "RTP packets sent", stats.plane.packets_out),
            ("retransmitted", "RTP packets sent again", stats.plane.retransmitted),
            ("plis_sent", "Key frames asked for", stats.plane.plis_sent),
            ("packets_forged", "RTP packets that were not authentic", stats.plane.dropped.forged),
            ("packets_overrun", "RTP packets over a batch's limit", stats.plane.dropped.overrun),
            ("datagrams_in", "UDP datagrams received", datagrams_in),
            ("datagram_bytes_in", "Their payload", bytes_in),
            ("datagrams_truncated", "UDP datagrams too long to take", truncated),
            ("datagrams_out", "UDP datagrams sent", sends.sent),
            ("datagram_bytes_out", "Their payload", sends.bytes),
            ("datagrams_dropped", "UDP datagrams dropped at a full buffer", sends.dropped),
            ("datagrams_refused", "UDP datagrams that the system refused", sends.refused),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            let encoder = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(encoder)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_summed_and_the_busiest_is_the_load() {
        let mut registry = Registry::default();
        let metrics = NodeMetrics::register(&mut registry);
        let stats = ShardStats { rooms: 2, ..ShardStats::default() };
        metrics.report(1, ShardReport { stats, load_permille: 300, ..ShardReport::default() });
        metrics.report(0, ShardReport { stats, load_permille: 700, ..ShardReport::default() });
        metrics.count_refused(503);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "outlast_node_rooms 4",
            "outlast_node_load_permille 700",
            "outlast_node_joins_total 0",
            "outlast_node_refused_total{status=\"503\"} 1",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
        }
    }
}
