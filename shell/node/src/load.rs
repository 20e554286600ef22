//! How busy the node is, smoothed: one busy tick is no load that anybody should be refused for.

use std::time::Duration;

use outlast_model::Time;

/// Load beyond this counts as this, in thousandths.
const PERMILLE_MAX: f64 = 10_000.0;

/// CPU use of the process, load of its busiest shard, and participants.
#[derive(Debug)]
pub(crate) struct Load {
    cores: usize,
    participants_max: usize,
    participants: usize,
    at: Time,
    cpu: Duration,
    cpu_permille: f64,
    shard_permille: f64,
}

impl Load {
    /// Begins to measure a node for so many participants, on so many cores; `cpu` is the CPU time used so far.
    pub(crate) fn new(now: Time, cpu: Duration, cores: usize, participants_max: usize) -> Load {
        Load {
            cores: cores.max(1),
            participants_max: participants_max.max(1),
            participants: 0,
            at: now,
            cpu,
            cpu_permille: 0.0,
            shard_permille: 0.0,
        }
    }

    /// After another tick: `cpu` used by now, the busiest shard's load in it, participants. Each tick's load counts as much
    /// as all before.
    pub(crate) fn measure(
        &mut self,
        now: Time,
        cpu: Duration,
        shard_permille: u16,
        participants: usize,
    ) {
        self.participants = participants;
        let span = now.since(self.at).as_secs_f64().max(0.001) * self.cores as f64;
        let used = cpu.saturating_sub(self.cpu).as_secs_f64();
        (self.at, self.cpu) = (now, cpu);
        self.cpu_permille = f64::midpoint(self.cpu_permille, 1_000.0 * used / span);
        self.shard_permille = f64::midpoint(self.shard_permille, f64::from(shard_permille));
    }

    /// CPU use in thousandths of all cores.
    pub(crate) fn cpu_permille(&self) -> u16 {
        self.cpu_permille.min(PERMILLE_MAX) as u16
    }

    /// Load in thousandths of what the node can carry: of the busiest shard's core, or of its participants.
    pub(crate) fn load_permille(&self) -> u16 {
        let participants = 1_000.0 * self.participants as f64 / self.participants_max as f64;
        self.shard_permille.max(participants).min(PERMILLE_MAX) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_busy_tick_is_half_the_truth_and_many_are_all_of_it() {
        let mut load = Load::new(Time::from_millis(1_000), Duration::from_secs(7), 4, 200);
        let mut at = (Time::from_millis(1_000), Duration::from_secs(7));
        let mut tick = |cpu_ms, shard| {
            at = (at.0 + Duration::from_millis(400), at.1 + Duration::from_millis(cpu_ms));
            load.measure(at.0, at.1, shard, 3);
            (load.cpu_permille(), load.load_permille())
        };
        assert_eq!(tick(800, 1_000), (250, 500));
        assert_eq!(tick(0, 0), (125, 250));
        for _ in 0..20 {
            tick(1_600, 900);
        }
        assert_eq!(tick(1_600, 900), (999, 899));
    }

    #[test]
    fn a_node_with_as_many_participants_as_it_takes_is_loaded() {
        let now = Time::from_millis(1_000);
        let mut load = Load::new(now, Duration::ZERO, 1, 200);
        load.measure(now, Duration::ZERO, 100, 150);
        assert_eq!(load.load_permille(), 750);
        load.measure(now, Duration::ZERO, 100, 200);
        assert_eq!(load.load_permille(), 1_000);
    }
}
