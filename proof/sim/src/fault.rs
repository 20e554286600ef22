//! Faults: how each begins, how it heals, and whom it disturbs.

use std::time::Duration;

use outlast_model::Time;

use crate::{
    conn::Purpose, event::Event, network::Zone, process::State, schedule::What, world::World,
};

/// How long after it has healed a fault explains what happens.
const AFTERMATH: Duration = Duration::from_secs(8);
/// The same of a node that delivered nothing: it stays ejected for a while, longer with each time.
const EJECTED: Duration = Duration::from_secs(130);
/// From the end of a process that is restarted to its next start.
const RESTART_AFTER: Duration = Duration::from_millis(400);

/// What has to be remembered of a fault while it lasts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lasting {
    /// A flapping fault is in its dark half.
    dark: bool,
    /// The life of the process that it hit.
    life: u16,
}

impl World {
    fn what(&self, fault: usize) -> What {
        self.schedule.faults[fault].what.clone()
    }

    pub(crate) fn process_called(&self, who: &str) -> usize {
        self.names.process(who).expect("the schedule was checked")
    }

    fn zone_called(&self, name: &str) -> Zone {
        self.names.zone(name).expect("the schedule was checked")
    }

    /// When the fault is over, and what it did with it.
    fn aftermath(&self, fault: usize) -> Time {
        let told = &self.schedule.faults[fault];
        let after = if matches!(told.what, What::Gray { .. }) { EJECTED } else { AFTERMATH };
        World::world_time(told.at + told.lasts) + after
    }

    fn disturb_process(&mut self, fault: usize, process: usize) {
        let until = self.aftermath(fault);
        let it = &mut self.processes[process];
        it.disturbed_until = it.disturbed_until.max(until);
    }

    /// The process stays as it is; its way to others does not.
    fn part_process(&mut self, fault: usize, process: usize) {
        self.disturb_process(fault, process);
        let it = &mut self.processes[process];
        it.parted_until = it.parted_until.max(it.disturbed_until);
    }

    fn disturb_zone(&mut self, fault: usize, zone: Zone) {
        let until = self.aftermath(fault);
        for it in &mut self.processes {
            if self.net.zone(it.host) == zone {
                it.disturbed_until = it.disturbed_until.max(until);
                it.parted_until = it.parted_until.max(until);
            }
        }
        self.observer.disturb_people(zone, until);
    }

    /// The fault begins.
    pub(crate) fn begin(&mut self, fault: usize) {
        let what = self.what(fault);
        if self.schedule.world.directory || !what.is_of_the_directory() {
            self.observer.fired[what.kind()] += 1;
        }
        self.note(|_| format!("FAULT {}", say(&what)));
        match &what {
            What::Dies { who } | What::PowerLoss { who } | What::Upgrade { who } => {
                let process = self.process_called(who);
                self.disturb_process(fault, process);
                self.observer.lasting[fault].life = self.processes[process].life;
                self.kill(process, matches!(what, What::PowerLoss { .. }));
            }
            What::Freezes { who } => {
                let process = self.process_called(who);
                self.disturb_process(fault, process);
                self.freeze(fault, process);
            }
            What::ShardHangs { who } | What::Overload { who } | What::Gray { who } => {
                let process = self.process_called(who);
                self.disturb_process(fault, process);
                self.observer.lasting[fault].life = self.processes[process].life;
                self.trouble_node(&what, process, true);
            }
            What::RegionDies { region } => self.region_dies(fault, region),
            What::Flaps { .. } | What::RegionFlaps { .. } => self.flip(fault),
            What::Deaf { who } | What::Mute { who } => {
                let process = self.process_called(who);
                self.part_process(fault, process);
                self.cut_machine(&what, process, true);
            }
            What::RegionDark { .. }
            | What::RegionAlone { .. }
            | What::OneWay { .. }
            | What::Cut { .. }
            | What::Offline { .. } => {
                for (from, to) in self.cuts(&what) {
                    self.disturb_zone(fault, from);
                    self.disturb_zone(fault, to);
                    self.net.cut(from, to, true);
                }
            }
            What::Lossy { from, to, .. } | What::Clog { from, to } => {
                let (from, to) = (self.zone_called(from), self.zone_called(to));
                self.disturb_zone(fault, from);
                self.disturb_zone(fault, to);
                self.burden(fault, &what, (from, to));
            }
            other => self.begin_other(fault, other),
        }
    }

    fn begin_other(&mut self, fault: usize, what: &What) {
        match what {
            What::Herd { people } => self.herd(fault, people),
            What::Drain { who, .. } => {
                let process = self.process_called(who);
                self.disturb_process(fault, process);
                self.observer.lasting[fault].life = self.processes[process].life;
                let lasts = Duration::from_secs_f64(self.schedule.faults[fault].lasts);
                if self.is_gateway(process) {
                    self.drain_gateway(process);
                } else {
                    self.drain_node(process - self.names.gateways, lasts);
                }
            }
            What::DirectoryFailover
            | What::DirectoryDown
            | What::DirectorySlow { .. }
            | What::DirectoryWiped => self.trouble_engine(what, true),
            What::NamesDown => self.dns.down = true,
            What::ClockJumps { who, seconds } => {
                let process = self.process_called(who);
                self.processes[process].clock.jump(*seconds);
            }
            What::ClockDrifts { who, ppm } => {
                let process = self.process_called(who);
                self.processes[process].clock.set_rate(self.now, *ppm);
                self.replan_wake(process);
            }
            What::CertificateExpires { who } => {
                let process = self.process_called(who);
                self.disturb_process(fault, process);
                self.processes[process].untrusted = true;
            }
            _ => {}
        }
    }

    /// The fault heals.
    pub(crate) fn heal(&mut self, fault: usize) {
        let what = self.what(fault);
        self.note(|_| format!("healed {}", say(&what)));
        self.look_at_cut(fault, &what);
        match &what {
            What::Dies { who } | What::PowerLoss { who } => {
                let process = self.process_called(who);
                self.rise(process);
            }
            What::Upgrade { who } => {
                let process = self.process_called(who);
                if self.processes[process].state == State::Dead {
                    self.processes[process].old ^= self.schedule.world.mixed_versions;
                }
                self.rise(process);
            }
            What::Freezes { who } => self.thaw(fault, self.process_called(who)),
            What::ShardHangs { who } | What::Overload { who } | What::Gray { who } => {
                let process = self.process_called(who);
                if self.processes[process].life == self.observer.lasting[fault].life {
                    self.trouble_node(&what, process, false);
                }
            }
            What::RegionDies { region } => {
                let zone = self.zone_called(region);
                for process in 0..self.processes.len() {
                    if self.processes[process].region == zone {
                        self.rise(process);
                    }
                }
            }
            What::Flaps { .. } | What::RegionFlaps { .. } => {
                if self.observer.lasting[fault].dark {
                    self.turn(fault);
                }
            }
            What::Deaf { who } | What::Mute { who } => {
                self.cut_machine(&what, self.process_called(who), false);
            }
            What::RegionDark { .. }
            | What::RegionAlone { .. }
            | What::OneWay { .. }
            | What::Cut { .. }
            | What::Offline { .. } => {
                for (from, to) in self.cuts(&what) {
                    self.net.cut(from, to, false);
                }
            }
            other => self.heal_other(fault, other),
        }
    }

    fn heal_other(&mut self, fault: usize, what: &What) {
        match what {
            What::Lossy { from, to, .. } => {
                let (from, to) = (self.zone_called(from), self.zone_called(to));
                self.net.lose(from, to, 0);
            }
            What::Drain { who, restart } => self.drained(fault, self.process_called(who), *restart),
            What::DirectoryFailover | What::DirectoryDown | What::DirectorySlow { .. } => {
                self.trouble_engine(what, false);
            }
            What::NamesDown => self.dns.down = false,
            What::ClockDrifts { who, .. } => {
                let process = self.process_called(who);
                self.processes[process].clock.set_rate(self.now, 0);
                self.replan_wake(process);
            }
            What::CertificateExpires { who } => {
                let process = self.process_called(who);
                self.processes[process].untrusted = false;
            }
            _ => {}
        }
    }

    /// A flapping thing turns, and turns again until its time is over.
    pub(crate) fn flip(&mut self, fault: usize) {
        let told = &self.schedule.faults[fault];
        let (_, end) = told.span();
        let period = match &told.what {
            What::Flaps { period, .. } | What::RegionFlaps { period, .. } => *period,
            _ => return,
        };
        if self.now >= end {
            return;
        }
        self.turn(fault);
        let half = Duration::from_secs_f64(period.max(0.2) / 2.0);
        self.queue.at(self.now + half, Event::Flip { fault: fault as u16 });
    }

    fn turn(&mut self, fault: usize) {
        let what = self.what(fault);
        let lasting = &mut self.observer.lasting[fault];
        lasting.dark = !lasting.dark;
        let dark = lasting.dark;
        match &what {
            What::Flaps { who, .. } => {
                let process = self.process_called(who);
                self.part_process(fault, process);
                self.net.cut_in(self.processes[process].host, dark);
                self.net.cut_out(self.processes[process].host, dark);
            }
            _ => {
                for (from, to) in self.cuts(&what) {
                    self.disturb_zone(fault, from);
                    self.disturb_zone(fault, to);
                    self.net.cut(from, to, dark);
                }
            }
        }
    }

    /// The one-way paths that a fault of the network cuts.
    pub(crate) fn cuts(&self, what: &What) -> Vec<(Zone, Zone)> {
        let (regions, zones) = (self.names.regions.len(), self.net.zones());
        let both = |a: Zone, b: Zone| [(a, b), (b, a)];
        match what {
            What::RegionDark { region } | What::RegionFlaps { region, .. } => {
                let zone = self.zone_called(region);
                let others = (0..zones).filter(|other| *other != zone);
                others.flat_map(|other| both(zone, other)).collect()
            }
            What::RegionAlone { region } => {
                let zone = self.zone_called(region);
                let others = (0..regions).filter(|other| *other != zone);
                others.flat_map(|other| both(zone, other)).collect()
            }
            What::Offline { people } => {
                let zone = self.zone_called(people);
                (0..regions).flat_map(|other| both(zone, other)).collect()
            }
            What::OneWay { from, to } => vec![(self.zone_called(from), self.zone_called(to))],
            What::Cut { from, to } => {
                both(self.zone_called(from), self.zone_called(to)).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    fn cut_machine(&mut self, what: &What, process: usize, cut: bool) {
        let host = self.processes[process].host;
        match what {
            What::Deaf { .. } => self.net.cut_in(host, cut),
            _ => self.net.cut_out(host, cut),
        }
    }

    fn burden(&mut self, fault: usize, what: &What, (from, to): (Zone, Zone)) {
        match what {
            What::Lossy { permille, .. } => self.net.lose(from, to, *permille),
            _ => {
                let told = &self.schedule.faults[fault];
                self.net.clog(from, to, World::world_time(told.at + told.lasts));
            }
        }
    }

    fn region_dies(&mut self, fault: usize, region: &str) {
        let zone = self.zone_called(region);
        self.disturb_zone(fault, zone);
        for process in 0..self.processes.len() {
            if self.processes[process].region == zone {
                self.kill(process, true);
            }
        }
    }

    /// A process that is down is started (again), unless another fault has done it.
    fn rise(&mut self, process: usize) {
        if self.processes[process].state == State::Dead {
            self.note(|world| format!("{} starts", world.process_name(process)));
            self.start(process);
        }
    }

    pub(crate) fn restart(&mut self, process: usize, life: u16) {
        if self.processes[process].life == life {
            self.rise(process);
        }
    }

    fn freeze(&mut self, fault: usize, process: usize) {
        let it = &mut self.processes[process];
        self.observer.lasting[fault].life = it.life;
        if it.is_up() {
            it.state = State::Frozen { since: self.now };
        }
    }

    /// It goes on as if nothing had been: first of all its own loops find how late it is, then what has come meanwhile.
    fn thaw(&mut self, fault: usize, process: usize) {
        let it = &mut self.processes[process];
        let State::Frozen { since } = it.state else { return };
        if it.life != self.observer.lasting[fault].life {
            return;
        }
        (it.state, it.froze_at, it.stood_until) = (State::Up, since, self.now);
        let held = std::mem::take(&mut it.held);
        for event in held {
            self.queue.at(self.now, event);
        }
        if !self.is_gateway(process) {
            self.node_wakes_up(process - self.names.gateways, since);
        }
    }

    fn trouble_node(&mut self, what: &What, process: usize, begins: bool) {
        self.processes[process].stood_until = self.now;
        if self.is_gateway(process) {
            return;
        }
        let number = process - self.names.gateways;
        let node = &mut self.nodes[number];
        match what {
            What::ShardHangs { .. } if begins => node.hung_since = Some(self.now),
            What::ShardHangs { .. } => {
                if let Some(since) = node.hung_since.take() {
                    self.node_wakes_up(number, since);
                }
            }
            What::Overload { .. } => node.overloaded = begins,
            _ => node.gray = begins,
        }
    }

    fn trouble_engine(&mut self, what: &What, begins: bool) {
        let engine = &mut self.engine;
        engine.troubled_at = Some(self.now);
        match what {
            What::DirectoryFailover | What::DirectoryDown if begins => engine.down += 1,
            What::DirectoryFailover => {
                engine.down -= 1;
                self.engine_fails_over();
            }
            What::DirectoryDown => engine.down -= 1,
            What::DirectorySlow { seconds } if begins => {
                engine.slow = Duration::from_secs_f64(*seconds);
            }
            What::DirectorySlow { .. } => engine.slow = Duration::ZERO,
            _ => engine.wipe(),
        }
    }

    fn herd(&mut self, fault: usize, people: &str) {
        let zone = self.zone_called(people);
        let until = self.aftermath(fault);
        self.observer.disturb_people(zone, until);
        for client in 0..self.clients.len() {
            let it = &self.clients[client];
            let Some(conn) = it.conn.filter(|_| self.net.zone(it.host) == zone) else { continue };
            debug_assert!(matches!(self.conns.get(conn).purpose, Purpose::Signal { .. }));
            // A box in between resets both ends.
            self.conns.abort(&self.net, &mut self.queue, self.now, (conn, 0), false);
            self.client_reset(client, conn);
        }
    }

    /// The time of a drain is over: the process is taken back, or restarted.
    fn drained(&mut self, fault: usize, process: usize, restart: bool) {
        if self.processes[process].life != self.observer.lasting[fault].life {
            return self.rise(process);
        }
        if self.processes[process].state == State::Dead {
            return self.rise(process);
        }
        if restart || self.is_gateway(process) {
            self.kill(process, false);
            let life = self.processes[process].life;
            let event = Event::Restart { process: process as u16, life };
            self.queue.at(self.now + RESTART_AFTER, event);
        } else {
            self.undrain(process - self.names.gateways);
        }
    }

    /// A clock's rate has changed: the planned wake-up is at another moment now.
    fn replan_wake(&mut self, process: usize) {
        if self.processes[process].wake.take().is_some() {
            let it = &mut self.processes[process];
            it.wake = Some(self.now);
            self.queue.at(self.now, Event::Wake { process: process as u16, life: it.life });
        }
    }
}

/// A fault in the words of its file.
pub(crate) fn say(what: &What) -> String {
    let text = toml::to_string(what).unwrap_or_default();
    text.trim().replace("what = ", "").replace('\n', ", ").replace('"', "")
}
