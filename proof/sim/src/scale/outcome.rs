//! What came of one loss, in numbers.

use std::time::Duration;

use serde::Serialize;

use super::{Effort, Globe, Happens, Scale, meter};

/// The steady state is counted over so long before the loss.
pub(super) const REST: Duration = Duration::from_secs(4);
/// At most so many calls of the directory a second and gateway are rest: what is left are heartbeats and watches.
const REST_CALLS: u64 = 5;
/// The directory has been at rest for so long before the steady state is counted: gateways still look through their rooms.
const REST_BEFORE: u64 = 5;
/// Nobody waits longer for the rest after a start.
const START_SECONDS_MAX: u64 = 300;
/// The curve of those who are back is told at this grain.
const CURVE_STEP_MS: u32 = 250;
/// Everybody has been back for so many seconds: the run may end.
const QUIET_SECONDS: u64 = 4;

/// A number of `T`, and its name.
pub(super) type Named<T> = (&'static str, fn(&T) -> f64);

/// Numbers of one run. Messages, CPU and bytes of a gateway are the mean of those that survive.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) scale: Scale,
    /// People who lost their call, each as often as it happened, and those who are back.
    pub(crate) out: u64,
    pub(crate) back: usize,
    pub(crate) given_up: u64,
    pub(crate) refused_by_nodes: u64,
    pub(crate) turned_away_by_gateways: u64,
    /// Seconds after the loss: half of the people, 95 %, 99 %, the last.
    pub(crate) back_after: [f64; 4],
    /// Seconds after the loss, and people back by then.
    pub(crate) curve: Vec<(f64, usize)>,
    /// Longest wait of an admitted join for its node's core, in milliseconds.
    pub(crate) core_wait_ms: f64,
    /// Participants of every surviving node, in order.
    pub(crate) spread: Vec<u32>,
    /// Mean participants of a surviving node, by region.
    pub(crate) spread_of_regions: Vec<f64>,
    pub(crate) rest: Rates,
    /// Second by second, from `REST` before the loss.
    pub(crate) seconds: Vec<Rates>,
    /// The busiest second after the loss.
    pub(crate) peak: Rates,
    /// CPU time of the costliest single input of a gateway's role after the loss, in milliseconds.
    pub(crate) longest_step_ms: f64,
    /// The most joins and resumes that one gateway got in one second.
    pub(crate) asks_max: f64,
    /// Datagrams in and out of a node, a second.
    pub(crate) node_datagrams: f64,
    /// Nodes and rooms that a gateway knows.
    pub(crate) view_nodes: usize,
    pub(crate) view_rooms: usize,
    pub(crate) view_bytes: i64,
    /// Everything that a gateway's role holds, its view and sessions included.
    pub(crate) role_bytes: i64,
    pub(crate) directory_rooms: usize,
    pub(crate) directory_bytes: i64,
    /// Calls of the directory a second, of all gateways.
    pub(crate) directory_rest: f64,
    pub(crate) directory_peak: f64,
}

/// Of one gateway, a second.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Rates {
    /// In, and as many echoes out.
    pub(crate) beats: f64,
    /// In, and as many out.
    pub(crate) outlooks: f64,
    pub(crate) frames: f64,
    pub(crate) calls: f64,
    pub(crate) asks: f64,
    pub(crate) told: f64,
    /// CPU time of the role, in percent of a core.
    pub(crate) cpu_percent: f64,
}

impl Rates {
    /// Each of them is what `of` makes of how it is read.
    fn each(of: impl Fn(fn(&Rates) -> f64) -> f64) -> Rates {
        Rates {
            beats: of(|rates| rates.beats),
            outlooks: of(|rates| rates.outlooks),
            frames: of(|rates| rates.frames),
            calls: of(|rates| rates.calls),
            asks: of(|rates| rates.asks),
            told: of(|rates| rates.told),
            cpu_percent: of(|rates| rates.cpu_percent),
        }
    }

    /// All messages, in and out.
    pub(crate) fn messages(&self) -> f64 {
        2.0 * (self.beats + self.outlooks + self.calls) + self.frames + self.asks + self.told
    }
}

impl Scale {
    /// Runs it: until everybody is back, or for [`Scale::seconds`] after the loss.
    pub(crate) fn lose(&self) -> Outcome {
        let mut globe = Globe::new(self);
        globe.rest();
        let mut seen = vec![globe.efforts()];
        for gateway in &mut globe.gateways {
            gateway.effort.longest = Duration::ZERO;
        }
        globe.lost_at = globe.now + REST;
        globe.at(globe.lost_at, Happens::Lost);
        let mut quiet = 0;
        for _ in 0..REST.as_secs() + self.seconds {
            globe.second();
            seen.push(globe.efforts());
            let back = globe.out > 0 && globe.back.len() as u64 + globe.lost == globe.out;
            quiet = if back { quiet + 1 } else { 0 };
            if quiet >= QUIET_SECONDS {
                break;
            }
        }
        globe.outcome(self, &seen)
    }
}

impl Globe {
    /// Runs until what the start has brought with it is over.
    fn rest(&mut self) {
        let calls = |globe: &Globe| globe.efforts().iter().map(|effort| effort.calls).sum::<u64>();
        let mut rested = 0;
        for _ in 0..START_SECONDS_MAX {
            let before = calls(self);
            self.second();
            let rests = calls(self) - before <= REST_CALLS * self.gateways.len() as u64;
            rested = if rests { rested + 1 } else { 0 };
            if rested >= REST_BEFORE {
                break;
            }
        }
    }

    fn second(&mut self) {
        let end = self.now + Duration::from_secs(1);
        self.run(end);
        self.now = end;
    }

    fn efforts(&self) -> Vec<Effort> {
        self.gateways.iter().map(|gateway| gateway.effort).collect()
    }

    fn outcome(&mut self, scale: &Scale, seen: &[Vec<Effort>]) -> Outcome {
        self.back.sort_unstable();
        let living: Vec<usize> =
            (0..self.gateways.len()).filter(|gateway| self.gateways[*gateway].lives).collect();
        let seconds: Vec<Rates> = seen.windows(2).map(|pair| mean(pair, &living)).collect();
        let rest_seconds = REST.as_secs() as usize;
        let (before, after) = seconds.split_at(rest_seconds);
        let calls = |pair: &[Vec<Effort>]| {
            let all = |efforts: &[Effort]| efforts.iter().map(|effort| effort.calls).sum::<u64>();
            (all(&pair[1]) - all(&pair[0])) as f64
        };
        let calls: Vec<f64> = seen.windows(2).map(calls).collect();
        let spread = self.spread();
        let view = self.gateways[living[0]].role.view();
        let (view_nodes, view_rooms) = (view.nodes().count(), view.rooms());
        Outcome {
            scale: scale.clone(),
            out: self.out,
            back: self.back.len(),
            given_up: self.lost,
            refused_by_nodes: self.refused,
            turned_away_by_gateways: self.unplaced,
            back_after: [500, 950, 990, 1_000].map(|permille| self.back_after(permille)),
            curve: self.curve(),
            core_wait_ms: self.core_wait.as_secs_f64() * 1e3,
            spread,
            spread_of_regions: (1..scale.regions).map(|region| self.mean_of(region)).collect(),
            rest: Rates::each(|rate| before.iter().map(rate).sum::<f64>() / REST.as_secs_f64()),
            peak: Rates::each(|rate| after.iter().map(rate).fold(0.0, f64::max)),
            seconds,
            longest_step_ms: self.longest_step(&living).as_secs_f64() * 1e3,
            asks_max: asks_max(&seen[rest_seconds..]),
            node_datagrams: self.gateways.len() as f64 * 2.0
                / outlast_model::BEAT_INTERVAL.as_secs_f64(),
            view_nodes,
            view_rooms,
            view_bytes: self.view_bytes(living[0]),
            role_bytes: self.role_bytes(&living),
            directory_rooms: self.table.rooms(),
            directory_bytes: meter::bytes_of(|| self.table.clone()),
            directory_rest: calls[..rest_seconds].iter().sum::<f64>() / rest_seconds as f64,
            directory_peak: calls[rest_seconds..].iter().copied().fold(0.0, f64::max),
        }
    }

    fn longest_step(&self, living: &[usize]) -> Duration {
        let steps = living.iter().map(|gateway| self.gateways[*gateway].effort.longest);
        steps.max().unwrap_or_default()
    }

    fn back_after(&self, permille: usize) -> f64 {
        let place = self.back.len().saturating_sub(1) * permille / 1_000;
        f64::from(self.back.get(place).copied().unwrap_or(0)) / 1e3
    }

    fn curve(&self) -> Vec<(f64, usize)> {
        let last = self.back.last().copied().unwrap_or(0);
        let by = |ms: u32| self.back.partition_point(|back| *back <= ms);
        let steps = 0..=last.div_ceil(CURVE_STEP_MS);
        steps.map(|n| n * CURVE_STEP_MS).map(|ms| (f64::from(ms) / 1e3, by(ms))).collect()
    }

    fn spread(&self) -> Vec<u32> {
        let living = self.nodes.iter().filter(|node| node.lives);
        let mut spread: Vec<u32> = living.map(|node| node.participants).collect();
        spread.sort_unstable();
        spread
    }

    fn mean_of(&self, region: usize) -> f64 {
        let nodes = self.nodes.iter().filter(|node| node.region == region);
        let (count, people) = nodes.fold((0, 0.0), |(count, people), node| {
            (count + 1, people + f64::from(node.participants))
        });
        people / f64::from(count)
    }

    /// Bytes of a copy of the gateway's view, with the names, which here all gateways share.
    fn view_bytes(&self, gateway: usize) -> i64 {
        let view = self.gateways[gateway].role.view();
        // A name has two counters before its text.
        let names = view.room_names().map(|name| name.as_str().len() as i64 + 16).sum::<i64>();
        meter::bytes_of(|| view.clone()) + names
    }

    /// Bytes that are free when a gateway's role is gone: nothing is left of the globe after it.
    fn role_bytes(&mut self, living: &[usize]) -> i64 {
        let before = meter::held();
        self.gateways.clear();
        (before - meter::held()) / living.len() as i64
    }
}

/// Of the `living`, between two looks that are a second apart.
fn mean(pair: &[Vec<Effort>], living: &[usize]) -> Rates {
    let [before, after] = pair else { unreachable!("windows of two") };
    let rate = |count: fn(&Effort) -> f64| {
        let grown = living.iter().map(|gateway| count(&after[*gateway]) - count(&before[*gateway]));
        grown.sum::<f64>() / living.len() as f64
    };
    Rates {
        beats: rate(|effort| effort.beats as f64),
        outlooks: rate(|effort| effort.outlooks as f64),
        frames: rate(|effort| effort.frames as f64),
        calls: rate(|effort| effort.calls as f64),
        asks: rate(|effort| effort.asks as f64),
        told: rate(|effort| effort.told as f64),
        cpu_percent: rate(|effort| effort.spent.as_secs_f64() * 100.0),
    }
}

fn asks_max(seen: &[Vec<Effort>]) -> f64 {
    let grown = seen.windows(2).flat_map(|pair| {
        let both = pair[0].iter().zip(&pair[1]);
        both.map(|(before, after)| (after.asks - before.asks) as f64)
    });
    grown.fold(0.0, f64::max)
}
