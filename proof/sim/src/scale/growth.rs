//! One size at a time is varied, and what that does to every machine is fitted by a power of it.

use serde::Serialize;

use super::{
    outcome::{Named, Outcome, Rates},
    report::Scale,
};
use crate::say::say;

/// Simulated seconds after the loss, at most, when a size is varied.
const SECONDS: u64 = 40;

/// Runs that differ in one size.
#[derive(Serialize)]
pub(crate) struct Series {
    pub(crate) varied: &'static str,
    pub(crate) full: usize,
    /// The size, and what came of it; in order of size.
    pub(crate) points: Vec<(usize, Outcome)>,
    /// What grows, and with which power of the size.
    pub(crate) exponents: Vec<(&'static str, f64)>,
}

/// What is looked at, and what it is.
pub(crate) const METRICS: [Named<Outcome>; 10] = [
    ("seconds until the last is back", |outcome| outcome.back_after[3]),
    ("messages of a gateway at rest", |outcome| outcome.rest.messages()),
    ("messages of a gateway, busiest second", |outcome| {
        outcome.seconds.iter().map(Rates::messages).fold(0.0, f64::max)
    }),
    ("CPU of a gateway's role at rest", |outcome| outcome.rest.cpu_percent),
    ("CPU of a gateway's role, busiest second", |outcome| outcome.peak.cpu_percent),
    ("longest step of a gateway's role", |outcome| outcome.longest_step_ms),
    ("view of a gateway, bytes", |outcome| outcome.view_bytes as f64),
    ("a gateway's role, bytes", |outcome| outcome.role_bytes as f64),
    ("directory, bytes", |outcome| outcome.directory_bytes as f64),
    ("directory, calls in the busiest second", |outcome| outcome.directory_peak),
];

/// Varies nodes, rooms and gateways around `scale`, of which `full` came.
pub(crate) fn run(scale: &Scale, full: &Outcome) -> Vec<Series> {
    let base = Scale { seconds: SECONDS.min(scale.seconds), ..scale.clone() };
    // With fewer nodes, those that are left would be full.
    let nodes = [scale.nodes / 4, scale.nodes / 2, scale.nodes * 2];
    let rooms = [scale.rooms / 10, scale.rooms / 2, scale.rooms * 2];
    let gateways = [scale.gateways / 2, scale.gateways * 2, scale.gateways * 4];
    let all = |gateways| gateways * scale.regions;
    vec![
        series("nodes", scale.nodes, full, nodes.map(|n| (n, Scale { nodes: n, ..base.clone() }))),
        series("rooms", scale.rooms, full, rooms.map(|n| (n, Scale { rooms: n, ..base.clone() }))),
        series(
            "gateways",
            all(scale.gateways),
            full,
            gateways.map(|n| (all(n), Scale { gateways: n, ..base.clone() })),
        ),
    ]
}

fn series(
    varied: &'static str,
    size: usize,
    full: &Outcome,
    others: impl IntoIterator<Item = (usize, Scale)>,
) -> Series {
    let others = others.into_iter().filter(|(size, _)| *size > 0);
    let mut points: Vec<_> = others.map(|(size, scale)| (size, scale.lose_and_say())).collect();
    points.push((size, full.clone()));
    points.sort_by_key(|(size, _)| *size);
    let exponents: Vec<_> =
        METRICS.iter().map(|(name, metric)| (*name, exponent(&points, *metric))).collect();
    say(format_args!("with the number of {varied} grow:"));
    for ((name, exponent), (_, metric)) in exponents.iter().zip(METRICS) {
        let values: Vec<String> = points
            .iter()
            .map(|(size, outcome)| format!("{size}: {:.2}", metric(outcome)))
            .collect();
        say(format_args!("  {name}: power {exponent:.2} ({})", values.join(", ")));
    }
    say("");
    Series { varied, full: size, points, exponents }
}

/// The slope of the line that fits best when both are logarithms.
fn exponent(points: &[(usize, Outcome)], metric: fn(&Outcome) -> f64) -> f64 {
    let logs = points.iter().map(|(size, outcome)| ((*size as f64).ln(), metric(outcome).ln()));
    slope(&logs.collect::<Vec<_>>())
}

fn slope(points: &[(f64, f64)]) -> f64 {
    let mean =
        |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let rise: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let run: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    rise / run
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_is_found_again() {
        let points: Vec<_> =
            [1.0_f64, 2.0, 5.0, 9.0].map(|x| (x.ln(), (3.0 * x.powf(1.5)).ln())).into();
        assert!((slope(&points) - 1.5).abs() < 1e-9);
    }
}
