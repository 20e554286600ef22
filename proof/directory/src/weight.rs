//! What a directory costs: the gateways of several regions ask of it what many nodes and a steady stream of new rooms make
//! them ask, and everything that can be weighed of its servers is.

mod gateway;
mod listing;
mod meter;
mod report;
mod rooms;
mod scale;
mod sockets;
mod tally;
mod told;

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use futures_util::future::join_all;
use outlast_directory::SUMMARY_NODES_MAX;
use outlast_model::NodeId;
use serde::Serialize;
use tokio::{sync::watch, task::JoinHandle};

pub use report::Report;

use self::{
    gateway::{Counted, Gateway, Left, Phase},
    listing::{listed, serves},
    meter::Cost,
    report::{Environment, Fill, Flow, Growth, Look, Operation, Process, Server, per_second},
    rooms::Rooms,
    scale::{Reading, Scale},
};
use crate::{
    chance::Chance,
    home::Home,
    servers::{Lab, READY_DEADLINE, Stored},
};

/// Between two looks at the servers while it is counted: what they are asked for that is part of their cost.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// Between two looks at whether all rooms that are to stand do.
const PAUSE: Duration = Duration::from_millis(200);
/// Slowest that rooms may be told, for each region and second, before that is given up.
const FILL_PER_SECOND_MIN: u64 = 20;

/// What gateways have to do.
#[derive(Clone, Debug, Serialize)]
pub struct Weight {
    /// What choices are drawn from.
    pub seed: u64,
    /// Nodes of all regions together, each region's in one summary a second: at most `SUMMARY_NODES_MAX` a region.
    pub nodes: usize,
    /// With one gateway each that asks.
    pub regions: usize,
    /// New rooms a second and region.
    pub claims: u32,
    /// How long a room lives on average.
    pub life: Duration,
    /// Rooms besides that are there from the start and stay.
    pub standing: u64,
    /// How long everything is counted.
    pub span: Duration,
}

impl Weight {
    /// Asks and weighs, on `lab`'s servers; `say` is told how it goes.
    ///
    /// # Errors
    /// When servers do not do what they should, or there are more nodes than summaries take.
    pub async fn weigh(&self, lab: &mut dyn Lab, say: impl Fn(&str)) -> anyhow::Result<Report> {
        anyhow::ensure!(self.regions > 0, "there must be a region");
        let most = self.nodes.div_ceil(self.regions);
        anyhow::ensure!(most <= SUMMARY_NODES_MAX, "more than {SUMMARY_NODES_MAX} nodes a region");
        anyhow::ensure!(self.nodes >= self.regions, "a region without a node");
        let homes: Vec<_> = (0..self.regions)
            .map(|region| Home::new(&*lab, region, None))
            .collect::<anyhow::Result<_>>()?;
        let (phase, told) = watch::channel(Phase::Fill);
        let counted = Counted::new(told);
        let filled = watch::Sender::new(0);
        for home in &homes {
            serves(home).await?;
        }
        let gateways: Vec<_> = (0..self.regions)
            .map(|region| {
                let gateway = self.gateway(region, &homes[region], &counted, &filled);
                homes[region].spawn(gateway.run())
            })
            .collect();
        let fill = self.fill(&counted, &filled, &say).await?;
        phase.send_replace(Phase::Load);
        say(&format!("rooms begin, and end after {:?} on average", self.life));
        // The oldest of those that are to be there at a time are one and a half lives old.
        tokio::time::sleep(self.life + self.life / 2).await;
        let mut scale = Scale::new(&*lab, &counted, self.regions);
        scale.look()?;
        phase.send_replace(Phase::Measure);
        let begin = scale.read()?;
        let course = self.course(&mut scale, &begin, &say).await?;
        let end = scale.read()?;
        let processes = scale.processes;
        phase.send_replace(Phase::Drain);
        let left = drained(gateways).await?;
        let rooms = rooms_of(&homes, left).await?;
        say("history is thrown away");
        lab.compact()?;
        let compacted = lab.stored()?;
        Ok(self.report(&counted, (&begin, &end), &processes, &compacted, fill, rooms, course))
    }

    fn gateway(
        &self,
        region: usize,
        home: &Home,
        counted: &Counted,
        filled: &watch::Sender<u64>,
    ) -> Gateway {
        let share = |all: usize| all / self.regions + usize::from(region < all % self.regions);
        let nodes =
            (0..share(self.nodes)).map(|n| NodeId::from(&*format!("r{region}-node-{n:04}")));
        let chance = |what: &str| Chance::named(self.seed, &format!("{what} of region {region}"));
        let rooms = Rooms::new(chance("rooms"), nodes.collect(), self.claims, self.life);
        let standing = share(usize::try_from(self.standing).unwrap_or(usize::MAX)) as u64;
        let name = format!("region{region}").as_str().into();
        let filled = filled.clone();
        Gateway::new(counted.clone(), home.engine(), name, rooms, chance("calls"), standing, filled)
    }

    /// Waits until the rooms that stand are told.
    async fn fill(
        &self,
        counted: &Counted,
        filled: &watch::Sender<u64>,
        say: impl Fn(&str),
    ) -> anyhow::Result<Option<Fill>> {
        if self.standing == 0 {
            return Ok(None);
        }
        let begin = counted.clock.now();
        let patience = READY_DEADLINE + Duration::from_secs(self.standing / FILL_PER_SECOND_MIN);
        let mut said_at = begin;
        loop {
            let (now, there) = (counted.clock.now(), *filled.borrow());
            if there >= self.standing {
                let seconds = now.since(begin).as_secs_f64();
                return Ok(Some(Fill { rooms: there, seconds }));
            }
            anyhow::ensure!(now.since(begin) < patience, "only {there} rooms after {patience:?}");
            if now.since(said_at) >= LOOK_INTERVAL {
                said_at = now;
                say(&format!("{there} of {} rooms are told", self.standing));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Looks at the servers until the time is over.
    async fn course(
        &self,
        scale: &mut Scale<'_>,
        begin: &Reading,
        say: impl Fn(&str),
    ) -> anyhow::Result<Vec<Look>> {
        let clock = scale.counted.clock;
        let mut course = Vec::new();
        loop {
            let over = clock.now().since(begin.at);
            course.push(Look { seconds: over.as_secs_f64(), stored: scale.lab.stored()? });
            let left = self.span.saturating_sub(over);
            if left.is_zero() {
                return Ok(course);
            }
            tokio::time::sleep(left.min(LOOK_INTERVAL)).await;
            scale.look()?;
            let claims = scale.counted.tally().of("place");
            let over = clock.now().since(begin.at).as_secs();
            let kept = course.last().and_then(|look| look.stored.first());
            let kept = kept.map(|kept| format!("; the first server keeps {kept:?}"));
            say(&format!("{over} s, {claims} claims{}", kept.unwrap_or_default()));
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what was measured, put together once")]
    fn report(
        &self,
        counted: &Counted,
        (begin, end): (&Reading, &Reading),
        processes: &[(String, u32)],
        compacted: &[Stored],
        fill: Option<Fill>,
        rooms: report::Counted,
        course: Vec<Look>,
    ) -> Report {
        let span = end.at.since(begin.at);
        let tally = counted.tally();
        let cpu = |begin: Cost, end: Cost| {
            let ticks = end.ticks.saturating_sub(begin.ticks) as f64;
            per_second(ticks, span) / meter::hertz() * 100.0
        };
        let gateways = (0..self.regions).map(|region| Process {
            name: format!("gateway{region}"),
            cpu_percent: cpu(begin.gateways[region], end.gateways[region]),
        });
        let servers = processes.iter().enumerate().map(|(n, (name, _))| {
            let flow = |side: usize| Flow::of(end.flows[n][side].since(begin.flows[n][side]), span);
            let growth = |(figure, now): (&&'static str, &u64)| {
                let before = begin.stored[n].get(figure).copied().unwrap_or(0);
                let after = compacted[n].get(figure).copied().unwrap_or(0);
                (*figure, Growth::of(before, *now, after, span))
            };
            Server {
                process: Process {
                    name: name.clone(),
                    cpu_percent: cpu(begin.servers[n], end.servers[n]),
                },
                resident_begin: begin.servers[n].resident,
                resident_end: end.servers[n].resident,
                with_gateways: flow(0),
                with_servers: flow(1),
                stored: end.stored[n].iter().map(growth).collect(),
            }
        });
        let operations = tally.operations().map(|(operation, asked)| {
            let [p50_ms, p99_ms, max_ms] = asked.quantiles([500, 990, 1_000]).unwrap_or_default();
            let outcomes = asked.outcomes.clone();
            let per_second = per_second(asked.asked as f64, span);
            let asked = asked.asked;
            Operation { operation, asked, per_second, outcomes, p50_ms, p99_ms, max_ms }
        });
        let busy = end.machine.busy.saturating_sub(begin.machine.busy) as f64;
        Report {
            settings: self.clone(),
            seconds: span.as_secs_f64(),
            machine: Environment {
                cores: std::thread::available_parallelism().map_or(1, usize::from),
                begin: begin.machine,
                end: end.machine,
                busy_cores: per_second(busy, span) / meter::hertz(),
            },
            fill,
            operations: operations.collect(),
            late: tally.late,
            shed: tally.shed,
            heard_per_second: per_second(tally.heard as f64, span),
            gateways: gateways.collect(),
            servers: servers.collect(),
            rooms,
            course,
        }
    }
}

async fn drained(gateways: Vec<JoinHandle<Left>>) -> anyhow::Result<Left> {
    let mut sum = Left::default();
    for left in join_all(gateways).await {
        let Left { alive, perhaps, perhaps_not } = left.context("a gateway broke")?;
        sum.alive += alive;
        sum.perhaps += perhaps;
        sum.perhaps_not += perhaps_not;
    }
    Ok(sum)
}

/// What the directory has in the end, as who watches from the start is told: by each region's engine, and together.
async fn rooms_of(homes: &[Home], left: Left) -> anyhow::Result<report::Counted> {
    let mut rooms = BTreeMap::new();
    for home in homes {
        rooms.extend(home.spawn(listed(home.engine())).await.context("a listing broke")??);
    }
    let held = rooms.values().filter(|is_held| **is_held).count();
    let Left { alive, perhaps, perhaps_not } = left;
    Ok(report::Counted { alive, perhaps, perhaps_not, held, ended: rooms.len() - held })
}
