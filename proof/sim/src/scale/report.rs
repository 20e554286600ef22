//! What the loss of a region costs at scale, in numbers.

use std::time::{Duration, Instant};

use outlast_model::Time;

use super::{Effort, Globe, LOST_AT};

/// Loses one of many regions and counts.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Scale {
    /// Regions; one of them is lost.
    #[arg(long, default_value_t = 5)]
    pub(crate) regions: usize,
    /// Nodes of all regions.
    #[arg(long, default_value_t = 2_000)]
    pub(crate) nodes: usize,
    /// Gateways of each region.
    #[arg(long, default_value_t = 2)]
    pub(crate) gateways: usize,
    /// Rooms.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) rooms: usize,
    /// People.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) clients: usize,
    /// RECONNECTs a second of one gateway.
    #[arg(long, default_value_t = 500)]
    pub(crate) tell_per_second: u32,
    /// Simulated seconds after the loss.
    #[arg(long, default_value_t = 60)]
    pub(crate) seconds: u64,
    /// Draws phases and people.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

impl Scale {
    /// Runs it and prints the report.
    pub(crate) fn run(&self) {
        let began = Instant::now();
        let mut globe = Globe::new(self);
        let calm: Vec<Effort> = globe.gateways.iter().map(|gateway| gateway.effort).collect();
        println!(
            "{} regions, {} nodes, {} gateways, {} rooms, {} people, {} RECONNECTs a second and gateway",
            self.regions,
            self.nodes,
            globe.gateways.len(),
            self.rooms,
            self.clients,
            self.tell_per_second
        );
        globe.run(LOST_AT + Duration::from_secs(self.seconds));
        globe.curve(self.seconds);
        globe.spread();
        globe.efforts(&calm, self.seconds);
        globe.sizes();
        println!("run in {:.1} s", began.elapsed().as_secs_f64());
    }
}

impl Globe {
    fn curve(&mut self, seconds: u64) {
        self.back.sort_unstable();
        let home_lost = self.out;
        println!(
            "told {home_lost}, back {}, given up {}, refused by nodes {}, turned away by gateways {}",
            self.back.len(),
            self.lost,
            self.refused,
            self.unplaced
        );
        let at = |permille: usize| {
            let place = self.back.len().saturating_sub(1) * permille / 1_000;
            f64::from(self.back.get(place).copied().unwrap_or(0)) / 1_000.0
        };
        println!(
            "back after (s): p50 {:.1}, p95 {:.1}, p99 {:.1}, last {:.1}",
            at(500),
            at(950),
            at(990),
            at(1_000)
        );
        let mut line = String::from("back by second:");
        for second in 1..=seconds {
            let by = self.back.partition_point(|ms| u64::from(*ms) <= second * 1_000);
            line.push_str(&format!(" {by}"));
            if by == self.back.len() {
                break;
            }
        }
        println!("{line}");
    }

    fn spread(&self) {
        let living = || self.nodes.iter().filter(|node| node.lives);
        let mut people: Vec<u32> = living().map(|node| node.participants).collect();
        people.sort_unstable();
        let mean = people.iter().map(|count| u64::from(*count)).sum::<u64>() / people.len() as u64;
        println!(
            "participants of a surviving node: least {}, mean {mean}, p99 {}, most {}",
            people[0],
            people[people.len() * 99 / 100],
            people[people.len() - 1]
        );
    }

    fn efforts(&self, calm: &[Effort], seconds: u64) {
        let per = |count: u64, span: Duration| count as f64 / span.as_secs_f64();
        let (before, after) = (LOST_AT.since(Time::ZERO), Duration::from_secs(seconds));
        let first = calm.first().copied().unwrap_or_default();
        println!(
            "a gateway at rest, a second: beats in {:.0}, outlooks in {:.1}, calls {:.1}",
            per(first.beats, before),
            per(first.outlooks, before),
            per(first.calls, before)
        );
        let busiest = self
            .gateways
            .iter()
            .zip(calm)
            .filter(|(gateway, _)| gateway.lives)
            .max_by_key(|(gateway, calm)| gateway.effort.asks - calm.asks);
        let Some((gateway, calm)) = busiest else { return };
        let now = gateway.effort;
        println!(
            "the busiest after the loss, a second: beats {:.0}, outlooks {:.1}, room frames {:.0}, calls {:.0}, asks {:.0}, told {:.0}; its role took {:.1} % of a core",
            per(now.beats - calm.beats, after),
            per(now.outlooks - calm.outlooks, after),
            per(now.frames - calm.frames, after),
            per(now.calls - calm.calls, after),
            per(now.asks - calm.asks, after),
            per(now.told - calm.told, after),
            100.0 * (now.spent - calm.spent).as_secs_f64() / after.as_secs_f64()
        );
    }

    fn sizes(&self) {
        let living = self.gateways.iter().find(|gateway| gateway.lives);
        let rooms = living.map_or(0, |gateway| gateway.role.view().rooms());
        println!(
            "view of a gateway: {} nodes, {rooms} rooms; directory: {} rooms, {} tombstones",
            self.nodes.len(),
            self.table.rooms(),
            self.table.tombstones()
        );
    }
}
