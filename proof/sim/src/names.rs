//! The service's name: authoritative servers that look at the gateways every second and hand out two of them, resolvers
//! around each region that keep an answer for its five seconds, and Chromium, which keeps it for a minute.

use std::time::Duration;

use outlast_model::Time;

use crate::{process::State, world::World};

/// How late the name servers are: a look each second, two misses.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Lifetime of an answer.
const TTL: Duration = Duration::from_secs(5);
/// Addresses of one answer: Chromium goes past one dead address in 0.3 s, and past two only after two minutes.
pub(crate) const ADDRESSES_MAX: usize = 2;

/// Gateways by number, best first.
pub(crate) type Answer = Vec<u16>;

/// The name servers and the resolvers.
#[derive(Default)]
pub(crate) struct NameServers {
    /// Looks in a row that went wrong, by gateway.
    missed: Vec<u8>,
    /// Gateways that are handed out.
    listed: Vec<bool>,
    /// What the resolver around each region knows, and since when.
    resolvers: Vec<Option<(Time, Answer)>>,
    pub(crate) down: bool,
}

impl World {
    pub(crate) fn name_servers_start(&mut self) {
        let gateways = self.names.gateways;
        self.dns.missed = vec![0; gateways];
        self.dns.listed = vec![true; gateways];
        self.dns.resolvers = vec![None; self.names.regions.len()];
    }

    /// A look at every gateway, from the other regions.
    pub(crate) fn look_for_gateways(&mut self) {
        self.queue.at(self.now + LOOK_INTERVAL, crate::event::Event::Names);
        let mut listed = self.dns.listed.clone();
        for (gateway, listed) in listed.iter_mut().enumerate() {
            let process = &self.processes[gateway];
            let observers = self.processes[..self.names.gateways].iter();
            let mut elsewhere = observers.filter(|other| other.region != process.region);
            // A machine answers for its people when anybody from outside gets through to it.
            let reached = elsewhere.any(|other| self.net.connects(other.host, process.host))
                || self.names.regions.len() == 1;
            let fine =
                reached && process.is_up() && !process.untrusted && !self.gateways[gateway].leaving;
            let missed = &mut self.dns.missed[gateway];
            *missed = if fine { 0 } else { (*missed + 1).min(3) };
            *listed = *missed < 2;
        }
        let (before, after) =
            (count(&self.dns.listed), listed.iter().filter(|listed| **listed).count());
        // Whoever finds most gateways gone has lost its own way to them.
        if after > 0 && 2 * after >= before {
            self.dns.listed = listed;
        }
    }

    /// What the resolver around `place` answers; `None` when it has no answer.
    fn resolve(&mut self, place: usize, client: usize) -> Option<Answer> {
        if let Some((since, answer)) = &self.dns.resolvers[place]
            && self.now.since(*since) < TTL
        {
            return Some(answer.clone());
        }
        if self.dns.down {
            return None;
        }
        let answer = self.answer_for(place, client);
        self.dns.resolvers[place] = Some((self.now, answer.clone()));
        Some(answer)
    }

    /// Second nearest region first: whatever dies, signalling and media do not die together.
    fn answer_for(&self, place: usize, client: usize) -> Answer {
        let regions = self.names.regions.len();
        let mut order: Vec<usize> = (0..regions).collect();
        order.sort_by_key(|region| self.net.zone_latency(regions + place, *region));
        if regions > 1 {
            order.swap(0, 1);
        }
        let mut answer = Answer::new();
        for region in order {
            let here: Vec<usize> = (0..self.names.gateways)
                .filter(|g| self.processes[*g].region == region && self.dns.listed[*g])
                .collect();
            if !here.is_empty() && answer.len() < ADDRESSES_MAX {
                answer.push(here[client % here.len()] as u16);
            }
        }
        answer
    }

    /// The addresses that a client dials now.
    pub(crate) fn addresses(&mut self, client: usize) -> Option<Answer> {
        let (place, browser) = (self.clients[client].place, self.clients[client].is_browser());
        if let Some((since, answer)) = &self.clients[client].names
            && browser
            && self.now.since(*since) < BROWSER_KEEPS
        {
            return Some(answer.clone());
        }
        let answer = self.resolve(place, client)?;
        self.clients[client].names = Some((self.now, answer.clone()));
        Some(answer)
    }

    /// The addresses that a client would dial now; nothing changes.
    pub(crate) fn would_dial(&self, client: usize) -> Option<Answer> {
        let it = &self.clients[client];
        let kept = it
            .names
            .as_ref()
            .filter(|(since, _)| it.is_browser() && self.now.since(*since) < BROWSER_KEEPS);
        let resolver = self.dns.resolvers[it.place].as_ref();
        let fresh = resolver.filter(|(since, _)| self.now.since(*since) < TTL);
        match kept.or(fresh) {
            Some((_, answer)) => Some(answer.clone()),
            None if self.dns.down => None,
            None => Some(self.answer_for(it.place, client)),
        }
    }

    /// Whether `gateway` could take people, if they got through to it.
    pub(crate) fn gateway_serves(&self, gateway: usize) -> bool {
        let process = &self.processes[gateway];
        process.state == State::Up && !process.untrusted && !self.gateways[gateway].leaving
    }
}

/// Chromium keeps every answer at least so long.
const BROWSER_KEEPS: Duration = Duration::from_secs(60);

fn count(listed: &[bool]) -> usize {
    listed.iter().filter(|listed| **listed).count()
}
