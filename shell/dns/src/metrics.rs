//! What a name server counts.

use outlast_dns_core::{Counts, Server};
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

type Label = [(&'static str, &'static str); 1];

/// All metrics of one name server, under the prefix `outlast_dns`.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    gateways: Family<Label, Gauge>,
    answers: Family<Label, Counter>,
    limited: Family<Label, Counter>,
    ignored: Counter,
    connections: Gauge,
    connections_refused: Counter,
    datagrams: Family<Label, Counter>,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Metrics {
        let metrics = Metrics::default();
        let registry = registry.sub_registry_with_prefix("outlast_dns");
        let help = "Gateways by whether clients are sent to them";
        registry.register("gateways", help, metrics.gateways.clone());
        registry.register("answers", "Answers by what they say", metrics.answers.clone());
        let help = "Questions over a network's share, by what became of them";
        registry.register("limited", help, metrics.limited.clone());
        let help = "Messages that were no questions, and were not answered";
        registry.register("ignored", help, metrics.ignored.clone());
        registry.register("connections", "TCP connections open", metrics.connections.clone());
        let help = "TCP connections closed at once because there were too many";
        registry.register("connections_refused", help, metrics.connections_refused.clone());
        let help = "Outlooks received, by what became of them";
        registry.register("datagrams", help, metrics.datagrams.clone());
        metrics
    }

    pub(crate) fn facts(&self, server: &Server) {
        for (standing, count) in Server::STANDINGS.into_iter().zip(server.standings()) {
            let gauge = self.gateways.get_or_create(&[("standing", standing)]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let Counts { answers, dropped, truncated, ignored } = server.counts();
        for (says, total) in Counts::KINDS.into_iter().zip(answers) {
            raise(&self.answers.get_or_create(&[("says", says)]), total);
        }
        for (became, total) in [("dropped", dropped), ("truncated", truncated)] {
            raise(&self.limited.get_or_create(&[("became", became)]), total);
        }
        raise(&self.ignored, ignored);
    }

    pub(crate) fn connections(&self, open: usize) {
        self.connections.set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    pub(crate) fn connection_refused(&self) {
        self.connections_refused.inc();
    }

    pub(crate) fn datagram(&self, outcome: &'static str) {
        self.datagrams.get_or_create(&[("outcome", outcome)]).inc();
    }
}

fn raise(counter: &Counter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}
