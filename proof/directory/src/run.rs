//! One run: load, a fault in the middle of it, everything read in the end, announced again and read again; then the history is
//! checked.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures_util::future::join_all;
use outlast_directory::{Failure, InstanceId, Record, Reply, Request, RoomKey};
use outlast_engines::{Engine, Partition, REPLY_MAX};
use outlast_model::Time;
use outlast_runtime::{Clock, entropy};
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
};

use crate::{
    faults::{Fault, FaultKind, Happened, inflict},
    history::{Consistency, Findings, History, Operation, check},
    home::Home,
    load::{Desk, Load, Region, Watched, announce, follow, is_region, misbeliefs, read_all},
    servers::{Lab, READY_DEADLINE},
};

/// How many times a room may go back where replication is asynchronous: with a split, there and back for either side.
pub const LOSSES_MAX: usize = 8;
/// Between two looks at whether servers are whole again.
const PAUSE: Duration = Duration::from_millis(100);

/// How a run goes.
#[derive(Clone, Debug)]
pub struct Run {
    /// What everything is drawn from.
    pub seed: u64,
    /// New rooms each second.
    pub places_per_second: u32,
    /// Shortest load; it goes on for a while after the fault.
    pub span: Duration,
    /// What happens.
    pub fault: Fault,
    /// What the engine promises.
    pub consistency: Consistency,
    /// How many replicas a claim waits for; `None`: as many as in a gateway.
    pub replicas: Option<u32>,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Rooms begun.
    pub rooms: u64,
    /// Requests that were answered `Unknown`.
    pub unknown: usize,
    /// Requests that were answered `Unavailable`.
    pub unavailable: usize,
    /// Longest stretch in which nobody won or lost a claim in one of the partitions.
    pub outage: Duration,
    /// When the fault was.
    pub happened: Happened,
    /// Of the history.
    pub findings: Findings,
    /// What the directory had wrong after everything was announced again.
    pub unrepaired: Vec<String>,
    /// What followers had wrong in the end.
    pub misbeliefs: Vec<String>,
    /// Where content was lost and the instance stayed the same.
    pub unnoticed: Vec<String>,
    /// How often followers began anew.
    pub resyncs: u64,
}

impl Outcome {
    /// Whether nothing was wrong. A room whose history was too much for the search is not known to be right.
    pub fn is_fine(&self) -> bool {
        let wrong = [&self.unrepaired, &self.misbeliefs, &self.unnoticed];
        let checked = self.findings.anomalies.is_empty() && self.findings.gave_up == 0;
        checked && wrong.iter().all(|lines| lines.is_empty())
    }
}

impl Run {
    /// Does it, on `lab`'s servers; returns the lab when they are whole again.
    ///
    /// # Errors
    /// When an engine cannot be made, or servers do not do what they are told.
    pub async fn go(&self, mut lab: Box<dyn Lab>) -> anyhow::Result<(Outcome, Box<dyn Lab>)> {
        let clock = Clock::start();
        let desk = Desk::new(clock, u64::from_le_bytes(entropy::bytes()?));
        let load = Load {
            seed: self.seed,
            regions: crate::servers::REGIONS,
            places_per_second: self.places_per_second,
            span: self.span.max(self.fault.load_span()),
        };
        let homes: Vec<_> = (0..load.regions)
            .map(|region| Home::new(lab.as_ref(), region, self.replicas))
            .collect::<anyhow::Result<_>>()?;
        let before = instances(&homes, clock).await?;
        let (calm, is_calm) = watch::channel(false);
        let followers: Vec<_> = homes.iter().map(|home| following(home, &is_calm)).collect();
        let regions = (0..).zip(&homes).map(|(number, home)| {
            home.spawn(Region::new(desk.clone(), home.engine(), number).run(load.clone()))
        });
        let regions: Vec<_> = regions.collect();
        let fault = self.fault.clone();
        let inflicted = spawn_blocking(move || {
            let happened = inflict(lab.as_mut(), &fault, clock);
            (happened, lab)
        });
        let mut rooms = 0;
        for region in join_all(regions).await {
            rooms = region.context("a region's load broke")?.max(rooms);
        }
        let (happened, lab) = inflicted.await.context("the fault broke")?;
        let happened = happened?;
        let lab = whole(lab).await?;
        // What is still under way to a server that was frozen arrives.
        tokio::time::sleep(REPLY_MAX).await;
        let after = instances(&homes, clock).await?;
        let repaired = repair(desk.clone(), homes[0].engine(), rooms, self.seed);
        let (unrepaired, held) = homes[0].spawn(repaired).await?;
        calm.send_replace(true);
        let mut misbelieved = Vec::new();
        let mut resyncs = 0;
        for follower in followers {
            let watched = join_all(follower).await;
            let watched: Vec<Watched> = watched.into_iter().collect::<Result<_, _>>()?;
            resyncs += watched.iter().map(|watched| watched.resyncs).sum::<u64>();
            misbelieved.extend(misbeliefs(&desk, &held, &watched));
        }
        let operations = desk.operations();
        let outage = outage(&operations, |room| {
            Desk::partition(homes[0].engine().as_ref(), desk.number(room))
        });
        let judged = self.judge(operations, happened, (outage, lab.asks_twice())).await?;
        let unnoticed = self.unnoticed(&desk, &homes, &judged.findings, &before, &after);
        let outcome = Outcome {
            rooms,
            happened,
            unrepaired,
            misbeliefs: misbelieved,
            unnoticed,
            resyncs,
            ..judged
        };
        Ok((outcome, lab))
    }

    /// Losses of which an instance that stayed the same tells nobody.
    fn unnoticed(
        &self,
        desk: &Desk,
        homes: &[Home],
        findings: &Findings,
        before: &Instances,
        after: &Instances,
    ) -> Vec<String> {
        let same = |key: &(usize, Partition)| before.get(key) == after.get(key);
        let mut unnoticed = Vec::new();
        for ((region, at), instance) in before {
            let lost = findings.lost.iter().filter(|lost| {
                let number = desk.number(lost.room);
                Desk::partition(homes[*region].engine().as_ref(), number) == *at
            });
            let lost = lost.count();
            let is_wiped = self.fault.kind == FaultKind::Wipe;
            if (lost > 0 || is_wiped) && same(&(*region, *at)) {
                unnoticed.push(format!(
                    "partition {} lost {lost} writes{} and is instance {instance} still, in region {region}",
                    at.0,
                    if is_wiped { ", was wiped" } else { "" }
                ));
            }
        }
        unnoticed
    }

    /// What the history alone tells.
    async fn judge(
        &self,
        operations: Vec<Operation>,
        happened: Happened,
        (outage, asks_twice): (Duration, bool),
    ) -> anyhow::Result<Outcome> {
        let count = |failure: Failure| {
            let failed = Reply::Failed(failure);
            operations.iter().filter(|done| done.reply == failed).count()
        };
        let (unknown, unavailable) = (count(Failure::Unknown), count(Failure::Unavailable));
        let wipes = match self.fault.kind {
            FaultKind::Wipe => vec![(happened.from, happened.to)],
            _ => Vec::new(),
        };
        let consistency = self.consistency;
        let history = History { operations, wipes, asks_twice };
        let findings = spawn_blocking(move || check(&history, consistency)).await?;
        Ok(Outcome {
            rooms: 0,
            unknown,
            unavailable,
            outage,
            happened,
            findings,
            unrepaired: Vec::new(),
            misbeliefs: Vec::new(),
            unnoticed: Vec::new(),
            resyncs: 0,
        })
    }
}

/// Reads everything, has it announced again and reads once more. What is wrong then, and who holds what.
async fn repair(
    desk: Desk,
    engine: Arc<dyn Engine>,
    rooms: u64,
    seed: u64,
) -> (Vec<String>, Vec<Option<Record>>) {
    let seed = u128::from(seed) << 1;
    let mut wrong = Vec::new();
    for silent in read_all(&desk, &engine, rooms, seed).await {
        wrong.extend(silent.err());
    }
    let kept = announce(&desk, &engine, rooms, &desk.operations()).await;
    let after = read_all(&desk, &engine, rooms, seed | 1).await;
    let mut held = Vec::new();
    for (number, (kept, read)) in (0..).zip(kept.into_iter().zip(after)) {
        match (kept, read) {
            (Ok(kept), Ok(read)) => {
                if let Some(kept) = kept
                    && read.as_ref() != Some(&kept)
                {
                    let (kept, read) =
                        (crate::words::record(&kept), read.as_ref().map(crate::words::record));
                    wrong.push(format!("room {number} is held by {kept}; read: {read:?}"));
                }
                held.push(read);
            }
            (kept, read) => {
                wrong.extend(kept.err().into_iter().chain(read.err()));
                held.push(None);
            }
        }
    }
    (wrong, held)
}

/// Followers of all partitions that are used, until it is calm.
fn following(home: &Home, calm: &watch::Receiver<bool>) -> Vec<JoinHandle<Watched>> {
    let each = Desk::partitions(home.engine().as_ref()).into_iter();
    each.map(|at| home.spawn(follow(home.engine(), at, calm.clone()))).collect()
}

/// The instance of each partition, as each region's engine tells it.
type Instances = BTreeMap<(usize, Partition), InstanceId>;

/// Waits until all engines answer, and asks them for all instances.
async fn instances(homes: &[Home], clock: Clock) -> anyhow::Result<Instances> {
    let mut instances = Instances::new();
    for (region, home) in homes.iter().enumerate() {
        let told = home.spawn(instances_of(home.engine(), clock)).await??;
        instances.extend(told.into_iter().map(|(at, instance)| ((region, at), instance)));
    }
    Ok(instances)
}

async fn instances_of(
    engine: Arc<dyn Engine>,
    clock: Clock,
) -> anyhow::Result<Vec<(Partition, InstanceId)>> {
    let mut instances = Vec::new();
    let deadline = clock.now() + READY_DEADLINE;
    for at in Desk::partitions(engine.as_ref()) {
        let instance = loop {
            match engine.ask(at, Request::Instance).await {
                Reply::Instance(instance) => break instance,
                other => anyhow::ensure!(
                    clock.now() < deadline,
                    "partition {} does not serve: {other:?}, {:?}",
                    at.0,
                    engine.state(at)
                ),
            }
            tokio::time::sleep(PAUSE).await;
        };
        instances.push((at, instance));
    }
    Ok(instances)
}

async fn whole(lab: Box<dyn Lab>) -> anyhow::Result<Box<dyn Lab>> {
    let waited = spawn_blocking(move || {
        let clock = Clock::start();
        while !lab.is_whole() {
            if clock.now().since(Time::ZERO) > READY_DEADLINE {
                let mut lab = lab;
                lab.keep_logs();
                anyhow::bail!("servers are not whole again; logs in {}", lab.logs().display());
            }
            std::thread::sleep(PAUSE);
        }
        Ok(lab)
    });
    waited.await?
}

/// The longest stretch of the load without a claim that somebody won or lost, in the partition that had the longest.
fn outage(operations: &[Operation], partition: impl Fn(RoomKey) -> Partition) -> Duration {
    let mut ends = BTreeMap::<Partition, Vec<Time>>::new();
    for done in operations {
        if let (Request::Place { room, .. } | Request::Replace { room, .. }, Reply::Placed(_)) =
            (&done.request, &done.reply)
            && is_region(done.client)
        {
            ends.entry(partition(*room)).or_default().push(done.end);
        }
    }
    let longest = ends.into_values().filter_map(|mut ends| {
        ends.sort_unstable();
        ends.windows(2).map(|pair| pair[1].since(pair[0])).max()
    });
    longest.max().unwrap_or_default()
}
