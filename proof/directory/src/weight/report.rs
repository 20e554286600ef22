//! What was measured, as figures.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{Weight, meter::Machine, sockets::Counts};

/// Everything of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub(super) settings: Weight,
    pub(super) seconds: f64,
    pub(super) machine: Environment,
    pub(super) fill: Option<Fill>,
    pub(super) operations: Vec<Operation>,
    /// Claims that were not answered within what a join waits, and those that were not sent.
    pub(super) late: u64,
    pub(super) shed: u64,
    /// Changes that watches told, a second.
    pub(super) heard_per_second: f64,
    pub(super) gateways: Vec<Process>,
    pub(super) servers: Vec<Server>,
    pub(super) rooms: Counted,
    /// The sizes of all servers at each look.
    pub(super) course: Vec<Look>,
}

/// What the machine had to do besides.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Environment {
    pub(super) cores: usize,
    pub(super) begin: Machine,
    pub(super) end: Machine,
    /// How many cores were busy on average, all that runs on the machine together.
    pub(super) busy_cores: f64,
}

/// How the rooms that stand were told.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Fill {
    pub(super) rooms: u64,
    pub(super) seconds: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Operation {
    pub(super) operation: &'static str,
    pub(super) asked: u64,
    pub(super) per_second: f64,
    pub(super) outcomes: BTreeMap<&'static str, u64>,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Process {
    pub(super) name: String,
    /// Of one core.
    pub(super) cpu_percent: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Server {
    #[serde(flatten)]
    pub(super) process: Process,
    pub(super) resident_begin: u64,
    pub(super) resident_end: u64,
    pub(super) with_gateways: Flow,
    pub(super) with_servers: Flow,
    pub(super) stored: BTreeMap<&'static str, Growth>,
}

/// Per second.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Flow {
    pub(super) sent_bytes: f64,
    pub(super) received_bytes: f64,
    pub(super) packets: f64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Growth {
    pub(super) begin: u64,
    pub(super) end: u64,
    pub(super) per_hour: f64,
    /// When the history has been thrown away.
    pub(super) compacted: u64,
}

/// Rooms in the end.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Counted {
    /// As the gateways know it.
    pub(super) alive: usize,
    /// Rooms that perhaps are held besides, and rooms of them that perhaps are not.
    pub(super) perhaps: usize,
    pub(super) perhaps_not: usize,
    /// As the directory tells who watches from the start.
    pub(super) held: usize,
    pub(super) ended: usize,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Look {
    pub(super) seconds: f64,
    pub(super) stored: Vec<BTreeMap<&'static str, u64>>,
}

/// `count` in `span`, a second; 0 in no time.
pub(super) fn per_second(count: f64, span: Duration) -> f64 {
    if span.is_zero() { 0.0 } else { count / span.as_secs_f64() }
}

impl Flow {
    pub(super) fn of(counts: Counts, span: Duration) -> Flow {
        Flow {
            sent_bytes: per_second(counts.sent as f64, span),
            received_bytes: per_second(counts.received as f64, span),
            packets: per_second(counts.packets as f64, span),
        }
    }
}

impl Growth {
    pub(super) fn of(begin: u64, end: u64, compacted: u64, span: Duration) -> Growth {
        let per_hour = per_second(end as f64 - begin as f64, span) * 3_600.0;
        Growth { begin, end, per_hour, compacted }
    }
}

impl Report {
    /// Whether every request had an answer that tells something, and the directory has the rooms that gateways think it has.
    pub fn is_fine(&self) -> bool {
        let odd = |operation: &Operation| {
            let answered: u64 = operation.outcomes.values().sum();
            let ok = operation.outcomes.get("ok").copied().unwrap_or(0);
            answered != operation.asked || ok != operation.asked
        };
        !self.operations.iter().any(odd) && self.shed == 0 && self.rooms.agree()
    }

    /// How many of `operation` were asked and had an answer while it was counted.
    pub fn asked(&self, operation: &str) -> u64 {
        let of = self.operations.iter().find(|one| one.operation == operation);
        of.map_or(0, |one| one.asked)
    }

    /// As JSON.
    ///
    /// # Errors
    /// Never with the figures that there are.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }
}

impl Counted {
    /// Whether the directory may have what gateways know.
    fn agree(&self) -> bool {
        let least = self.alive.saturating_sub(self.perhaps_not);
        (least..=self.alive + self.perhaps).contains(&self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second_and_growth_per_hour() {
        let span = Duration::from_secs(20);
        assert_eq!(per_second(60.0, span), 3.0);
        assert_eq!(per_second(60.0, Duration::ZERO), 0.0);
        let flow = Flow::of(Counts { sent: 40, received: 100, packets: 10 }, span);
        assert_eq!([flow.sent_bytes, flow.received_bytes, flow.packets], [2.0, 5.0, 0.5]);
        assert_eq!(Growth::of(50, 10, 0, span).per_hour, -7_200.0);
    }

    #[test]
    fn rooms_that_nobody_knows_of_are_neither_missed_nor_found() {
        let counted = |held| Counted { alive: 10, perhaps: 2, perhaps_not: 3, held, ended: 0 };
        let agree: Vec<_> = [6, 7, 12, 13].map(|held| counted(held).agree()).into();
        assert_eq!(agree, [false, true, true, false]);
    }
}
