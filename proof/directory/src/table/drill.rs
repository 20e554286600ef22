//! One run: regions come up, clients join, something breaks and heals, and everything is looked at.

use std::{
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use outlast_lab::Lab as Network;
use outlast_runtime::Clock;
use outlast_token::ApiKeys;
use tokio::{runtime::Runtime, sync::watch};

use crate::{
    chance::Chance,
    home::threads,
    servers::{self, Cluster, Etcd, InProcess, Lab, READY_DEADLINE, REGIONS, Sentinels, wan},
};

use super::{
    client::Door,
    figures::{Phases, RoomKind, Sample, Spread, longest_gap, memory_growth, ms, near_ms},
    fleet::{self, Fleet},
    harm::{self, Harm, Victim},
    joins::{Load, Order},
    ledger::Ledger,
    report::RunReport,
    rooms::{Reader, SEARCH_MAX, Search},
    scrape::Directory,
    verdict::{Engine, Targets, delays, verdict},
    watch::{Seen, Watch},
};

/// Between regions and back.
const ROUND_TRIP: Duration = Duration::from_millis(100);
/// The fault comes this much later at most, as the seed says.
const PHASE_MS: u64 = 1_000;
/// Between breaking the database and restarting a gateway.
const RESTART_AFTER: Duration = Duration::from_secs(2);
/// What is under way when the load rests has ended by then.
const REST: Duration = Duration::from_millis(500);
/// A stretch without a decided claim that is shorter is no outage: looks are 100 ms apart, and so are new rooms.
const GAP_MIN: Duration = Duration::from_millis(600);
/// Shortest fault in which memory is judged.
const LONG: Duration = Duration::from_secs(120);
/// Failures and missing rooms that a report names.
const NAMED_MAX: usize = 8;
/// Of all.
const PERCENT: f64 = 100.0;

/// How runs go.
#[derive(Clone, Debug)]
pub struct Drill {
    /// The program, `outlast`.
    pub program: PathBuf,
    /// The database.
    pub engine: Engine,
    /// What everything is drawn from.
    pub seed: u64,
    /// What is broken.
    pub harm: Harm,
    /// For how long.
    pub span: Duration,
    /// Load before the fault; what gateways learn of the engine's pace, they learn in it.
    pub before: Duration,
    /// Load after the heal.
    pub after: Duration,
    /// Rooms in which somebody sits all the time.
    pub rooms: usize,
    /// Nodes of a region, 1 or 2.
    pub nodes: usize,
    /// Joins of known rooms a second.
    pub known_per_s: u32,
    /// Of new ones.
    pub new_per_s: u32,
}

impl Drill {
    /// Does it. This process must be one that may make a laboratory (`outlast_lab::alone`).
    ///
    /// # Errors
    /// When something does not start, or cannot be broken.
    pub fn run(&self) -> anyhow::Result<RunReport> {
        let network = Arc::new(Network::up(&servers::plan(self.seed, ROUND_TRIP))?);
        // Servers are started, asked and broken from the operator's desk.
        network.within(wan::OPERATOR, || self.at_desk(&network))?
    }

    fn at_desk(&self, network: &Arc<Network>) -> anyhow::Result<RunReport> {
        let mut servers = self.servers(network)?;
        let directory = |region| match self.harm {
            Harm::Move => "embedded".to_owned(),
            _ => servers.address(region),
        };
        let mut fleet = Fleet::start(&self.program, network, directory, self.nodes)?;
        let report = self.with_fleet(network, servers.as_mut(), &mut fleet);
        if !report.as_ref().is_ok_and(|report| report.missed.is_empty()) {
            servers.keep_logs();
            let logs =
                format!("logs in {} and {}", fleet.keep_logs().display(), servers.logs().display());
            return report.map_err(|error| error.context(logs.clone())).map(|mut report| {
                report.proof = format!("{}; {logs}", report.proof);
                report
            });
        }
        report
    }

    fn servers(&self, network: &Arc<Network>) -> anyhow::Result<Box<dyn Lab>> {
        let network = servers::Network::Wan(Arc::clone(network));
        Ok(match self.engine {
            Engine::Embedded => Box::new(InProcess::new()?),
            Engine::Etcd => Box::new(Etcd::start(REGIONS, network)?),
            Engine::Sentinel => Box::new(Sentinels::start(network)?),
            Engine::Cluster => Box::new(Cluster::start(network)?),
        })
    }

    fn with_fleet(
        &self,
        network: &Network,
        servers: &mut dyn Lab,
        fleet: &mut Fleet,
    ) -> anyhow::Result<RunReport> {
        let mut chance = Chance::named(self.seed, "table");
        let server = servers.decides().unwrap_or(chance.index(REGIONS));
        let region = server % REGIONS;
        let victim = Victim { server, region, clients: (region + 1 + chance.index(2)) % REGIONS };
        let mut stage = Stage::new(self, network, servers, fleet, victim)?;
        let phase = Duration::from_millis(chance.below(PHASE_MS));
        let looked = stage.play(self, phase)?;
        Ok(self.report(looked))
    }

    fn report(&self, looked: Looked) -> RunReport {
        let Looked { ledger, seen, search, phases, proof, lost, late_percent } = looked;
        let samples = ledger.samples();
        let of = |kind: RoomKind| {
            let samples: Vec<&Sample> =
                samples.iter().filter(|sample| sample.kind == kind).collect();
            let phases = phases.split(&samples);
            let spreads = [0, 1, 2].map(|phase| Spread::of(&phases[phase]));
            (spreads, phases.map(|phase| near_ms(&phase)))
        };
        let [(known, known_ms), (new, new_ms), (bare, bare_ms)] =
            [RoomKind::Known, RoomKind::New, RoomKind::Bare].map(of);
        let all: Vec<&Sample> = samples.iter().collect();
        let [once, then] = delays(&all, phases, new[0].p50_ms, &seen.away);
        let gap = longest_gap(&seen.decided, phases.fault, phases.heal);
        let gap = gap.filter(|(start, end)| *end - *start >= GAP_MIN);
        let since = |from: Duration, at: Duration| at.checked_sub(from).map(ms);
        let away_until = seen.away.last().and_then(|at| since(phases.fault, *at));
        // Of an engine of many partitions most go on deciding: those count that were away.
        let back = match self.engine {
            Engine::Cluster => away_until,
            _ => gap.and_then(|(_, end)| since(phases.fault, end)),
        };
        let bit = proof.is_some() || seen.provisional > 0.0 || gap.is_some();
        let effect =
            format!("{} claims unanswered, {} rooms without it", seen.undecided, seen.provisional);
        let (memory_kib, grown) = memory(&seen, phases);
        let failures = samples
            .iter()
            .filter_map(|sample| Some(format!("{:.1?}: {}", sample.at, sample.failure.as_ref()?)));
        let mut report = RunReport {
            engine: self.engine,
            harm: self.harm,
            seed: self.seed,
            span_s: (phases.heal - phases.fault).as_secs_f64(),
            known,
            new,
            bare,
            known_ms,
            new_ms,
            bare_ms,
            delayed_once_ms: once,
            delayed_then_ms: then,
            engine_back_ms: back,
            engine_back_after_heal_ms: back.and_then(|back| {
                let after = back - ms(phases.heal - phases.fault);
                (after > 0.0).then_some(after)
            }),
            away_until_ms: away_until,
            decided: seen.claims as u64,
            provisional: seen.provisional as u64,
            rooms_in_database_ms: search.found_at.and_then(|at| since(phases.heal, at)),
            rooms_looked_for: search.rooms,
            rooms_missing: search.missing.into_iter().take(NAMED_MAX).collect(),
            doubled: ledger.doubled(lost.as_deref()),
            dropped: ledger.dropped_all(lost.as_deref()),
            bit,
            proof: proof.map_or(effect.clone(), |proof| format!("{proof}, {effect}")),
            memory_kib,
            memory_growth_kib: grown.filter(|_| phases.heal - phases.fault >= LONG),
            network_late_percent: late_percent,
            failures: failures.take(NAMED_MAX).collect(),
            missed: Vec::new(),
        };
        report.missed = verdict(&report, &Targets::default());
        report
    }
}

/// The most memory that a gateway had before the fault and since, and what the one that grew most during it grew by, in KiB.
fn memory(seen: &Seen, phases: Phases) -> ([u64; 2], Option<i64>) {
    let sizes = |sizes: &Vec<(Duration, u64)>, from: Duration, to: Duration| -> Vec<u64> {
        let within = sizes.iter().filter(|(at, _)| *at >= from && *at < to);
        within.map(|(_, size)| *size).collect()
    };
    let most = |from, to| {
        let all = seen.memory.iter().flat_map(|all| sizes(all, from, to));
        all.max().unwrap_or_default()
    };
    let during = seen.memory.iter().map(|all| sizes(all, phases.fault, phases.heal));
    let grown = during.filter_map(|sizes| memory_growth(&sizes)).max();
    ([most(Duration::ZERO, phases.fault), most(phases.fault, Duration::MAX)], grown)
}

/// What a run leaves to be judged.
struct Looked {
    ledger: Arc<Ledger>,
    seen: Seen,
    search: Search,
    phases: Phases,
    /// What is known of the fault's effect besides the gateways' word.
    proof: Option<String>,
    /// What the names of nodes begin with that were lost on purpose.
    lost: Option<String>,
    late_percent: f64,
}

/// A run that is going on.
struct Stage<'r> {
    network: &'r Network,
    servers: &'r mut dyn Lab,
    fleet: &'r mut Fleet,
    victim: Victim,
    ledger: Arc<Ledger>,
    orders: watch::Sender<Order>,
    load: Load,
    /// Of the clients; ended first.
    clients: Runtime,
    /// Of whoever looks into the database.
    readers: Runtime,
}

impl<'r> Stage<'r> {
    fn new(
        drill: &Drill,
        network: &'r Network,
        servers: &'r mut dyn Lab,
        fleet: &'r mut Fleet,
        victim: Victim,
    ) -> anyhow::Result<Stage<'r>> {
        let at = |host: String| threads(Some(network.host(&host)?.namespace_path()), host.clone());
        let clients = at(wan::client(victim.clients))?;
        let readers = at(wan::gateway(victim.clients))?;
        let door = |region: usize| {
            let keys = ApiKeys::new([(fleet::API_KEY, fleet::API_SECRET)])?;
            anyhow::Ok(Door { gateway: fleet::public(region), keys, clock: Clock::start() })
        };
        let third =
            (0..REGIONS).find(|region| *region != victim.region && *region != victim.clients);
        let sitters = match drill.harm {
            // Who sits at the gateway that is killed is put out by that.
            Harm::GatewayRestart => third.unwrap_or(victim.region),
            _ => victim.clients,
        };
        let ledger = Arc::new(Ledger::new());
        let (orders, told) = watch::channel(Order::Go);
        let load = Load {
            seed: drill.seed,
            door: door(victim.clients)?,
            site: wan::site(victim.clients),
            sitters: door(sitters)?,
            restarts: drill.harm.restarts_gateways(),
            known: drill.rooms.max(1),
            known_per_s: drill.known_per_s,
            new_per_s: drill.new_per_s,
            ledger: Arc::clone(&ledger),
            orders: told,
        };
        Ok(Stage { network, servers, fleet, victim, ledger, orders, load, clients, readers })
    }

    fn play(&mut self, drill: &Drill, phase: Duration) -> anyhow::Result<Looked> {
        let seated = self.load.clone();
        // Sockets are in the network of the thread that makes them: what joins is spawned, never run here.
        let seated = self.clients.spawn(async move { seated.seat().await });
        let seated = self.clients.block_on(seated)?.map_err(anyhow::Error::msg);
        let mut sitters = seated.context("filling known rooms")?;
        let gateways = self.fleet.gateway_processes();
        let watch = Watch::start(self.victim.clients, gateways, Arc::clone(&self.ledger));
        let load = self.clients.spawn(self.load.clone().run());
        thread::sleep(drill.before + phase);
        let fault = self.ledger.now();
        let proof = self.break_it(drill.harm)?;
        thread::sleep((fault + drill.span).saturating_sub(self.ledger.now()));
        self.orders.send_replace(Order::Stay);
        let heal = self.ledger.now();
        let usual = wan::far(ROUND_TRIP);
        harm::heal(drill.harm, self.victim, self.servers, self.network, usual)?;
        let search = self.search(drill.engine, heal)?;
        thread::sleep((heal + drill.after).saturating_sub(self.ledger.now()));
        self.orders.send_replace(Order::Stop);
        self.clients.block_on(load)?;
        self.clients.block_on(async { while sitters.join_next().await.is_some() {} });
        let seen = watch.end()?;
        self.is_whole_in_time()?;
        let punctual = self.network.punctuality();
        let in_time = punctual.within_100_us + punctual.within_1_ms + punctual.within_10_ms;
        let all = (in_time + punctual.later).max(1);
        Ok(Looked {
            ledger: Arc::clone(&self.ledger),
            seen,
            search,
            phases: Phases { fault, heal },
            proof,
            lost: (drill.harm == Harm::Region).then(|| wan::site(self.victim.region)),
            late_percent: PERCENT * punctual.later as f64 / all as f64,
        })
    }

    /// Makes the fault, and tells what shows that it has an effect.
    fn break_it(&mut self, harm: Harm) -> anyhow::Result<Option<String>> {
        harm::make(harm, self.victim, self.servers, self.network)?;
        if harm == Harm::GatewayRestart {
            thread::sleep(RESTART_AFTER);
            let clients = self.victim.clients;
            self.at_rest(|fleet| fleet.restart_gateway(clients))?;
        }
        if harm == Harm::Move {
            for region in 0..REGIONS {
                thread::sleep(RESTART_AFTER);
                let address = self.servers.address(region);
                self.at_rest(|fleet| fleet.move_gateway(region, &address))?;
            }
            return Ok(Some("gateways have moved".to_owned()));
        }
        let is_gone = matches!(harm, Harm::Kill | Harm::Pause | Harm::AllKilled | Harm::AllWiped);
        if is_gone && !self.servers.is_whole() {
            return Ok(Some("servers are not whole".to_owned()));
        }
        // Something is under way all the time.
        thread::sleep(REST);
        Ok(harm::trace(harm, self.victim, self.network))
    }

    /// Nobody joins meanwhile: clients would be told by the name service to go elsewhere, and here there is none.
    fn at_rest(
        &mut self,
        act: impl FnOnce(&mut Fleet) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.orders.send_replace(Order::Rest);
        thread::sleep(REST);
        act(self.fleet)?;
        self.orders.send_replace(Order::Go);
        Ok(())
    }

    /// Searches for all rooms since the heal. Blocks.
    fn search(&self, engine: Engine, heal: Duration) -> anyhow::Result<Search> {
        if engine == Engine::Embedded {
            return Ok(self.search_memory(heal));
        }
        let address = self.servers.address(self.victim.clients);
        let (secret, ledger) = (self.fleet.secret.clone(), Arc::clone(&self.ledger));
        let searched = self.readers.spawn(async move {
            anyhow::Ok(Reader::connect(&address, &secret)?.search(ledger, heal).await)
        });
        self.readers.block_on(searched)?
    }

    /// The embedded directory of the clients' gateway tells no more than how many rooms it has.
    fn search_memory(&self, heal: Duration) -> Search {
        loop {
            let (rooms, now) = (self.ledger.live(heal).len(), self.ledger.now());
            let page = self.fleet.metrics(self.victim.clients).unwrap_or_default();
            let held = Directory::read(&page).rooms;
            if held >= rooms as f64 {
                return Search { found_at: Some(now), rooms, missing: Vec::new() };
            }
            if now > heal + SEARCH_MAX {
                let missing = vec![format!("the gateway's directory has {held} of {rooms}")];
                return Search { found_at: None, rooms, missing };
            }
            thread::sleep(REST);
        }
    }

    fn is_whole_in_time(&self) -> anyhow::Result<()> {
        let start = Instant::now();
        while !self.servers.is_whole() {
            let is_late = start.elapsed() > READY_DEADLINE;
            anyhow::ensure!(!is_late, "servers are not whole again after the heal");
            thread::sleep(REST);
        }
        Ok(())
    }
}
