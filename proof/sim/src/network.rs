//! The network between zones (a region's machines, or the people around it): latency, jitter, loss, cuts one way or both,
//! and clogs. It answers what becomes of a packet sent now; who waits for it is not its business.

use std::time::Duration;

use outlast_model::Time;

use crate::{
    chance::Stream,
    geography::{City, one_way},
};

/// A machine with one address: a server process's, or a client's.
pub(crate) type Host = usize;
/// Machines that share their way to all others.
pub(crate) type Zone = usize;

/// From an access network to the next region's machines.
const ACCESS: Duration = Duration::from_millis(6);
/// One packet in so many waits in a queue.
const QUEUED_ONE_IN: u64 = 64;
const QUEUED_MAX: u64 = 30_000_000;

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    latency: u64,
    cuts: u16,
    loss_permille: u16,
    clogged_until: Time,
}

#[derive(Clone, Copy, Debug)]
struct Machine {
    zone: Zone,
    cuts_in: u16,
    cuts_out: u16,
}

/// The state of every path.
pub(crate) struct Network {
    zones: usize,
    links: Vec<Link>,
    machines: Vec<Machine>,
    chance: Stream,
    base_loss_permille: u16,
}

impl Network {
    /// Zones `0..n` are the regions in `cities`, `n..2n` the people around them.
    pub(crate) fn new(cities: &[City], base_loss_permille: u16, chance: Stream) -> Network {
        let zones = 2 * cities.len();
        let mut links = vec![Link::default(); zones * zones];
        for from in 0..zones {
            for to in 0..zones {
                let (a, b) = (from % cities.len(), to % cities.len());
                let outside = from >= cities.len() || to >= cities.len();
                let access = if outside { ACCESS } else { Duration::ZERO };
                let span = one_way(cities[a], cities[b]) + access;
                links[from * zones + to].latency = span.as_nanos() as u64;
            }
        }
        Network { zones, links, machines: Vec::new(), chance, base_loss_permille }
    }

    /// One more machine.
    pub(crate) fn add(&mut self, zone: Zone) -> Host {
        self.machines.push(Machine { zone, cuts_in: 0, cuts_out: 0 });
        self.machines.len() - 1
    }

    pub(crate) fn zone(&self, host: Host) -> Zone {
        self.machines[host].zone
    }

    fn link(&self, from: Host, to: Host) -> &Link {
        &self.links[self.machines[from].zone * self.zones + self.machines[to].zone]
    }

    /// Whether packets come through at all, one way.
    pub(crate) fn passes(&self, from: Host, to: Host) -> bool {
        self.link(from, to).cuts == 0
            && self.machines[from].cuts_out == 0
            && self.machines[to].cuts_in == 0
    }

    /// Whether packets come through both ways.
    pub(crate) fn connects(&self, a: Host, b: Host) -> bool {
        self.passes(a, b) && self.passes(b, a)
    }

    /// Whether the path is good both ways: neither cut, nor clogged, nor losing much.
    pub(crate) fn clean(&self, now: Time, a: Host, b: Host) -> bool {
        let good = |link: &Link| link.loss_permille < 100 && link.clogged_until <= now;
        self.connects(a, b) && good(self.link(a, b)) && good(self.link(b, a))
    }

    /// Whether anything passes in a reasonable time.
    pub(crate) fn clogged(&self, now: Time, from: Host, to: Host) -> bool {
        self.link(from, to).clogged_until > now
    }

    /// One way, without queues.
    pub(crate) fn latency(&self, from: Host, to: Host) -> Duration {
        Duration::from_nanos(self.link(from, to).latency)
    }

    /// One way between two zones, without queues.
    pub(crate) fn zone_latency(&self, from: Zone, to: Zone) -> Duration {
        Duration::from_nanos(self.links[from * self.zones + to].latency)
    }

    /// When a datagram sent now arrives; `None` when it is lost.
    pub(crate) fn datagram(&mut self, now: Time, from: Host, to: Host) -> Option<Time> {
        if !self.passes(from, to) {
            return None;
        }
        let link = *self.link(from, to);
        let draw = self.chance.next();
        let loss = u64::from(link.loss_permille.max(self.base_loss_permille));
        if draw % 1_000 < loss {
            return None;
        }
        Some(now.max(link.clogged_until) + Duration::from_nanos(link.latency + jitter(link, draw)))
    }

    /// When a segment of a connection that was sent now arrives, with what its repetitions cost; the path is not cut.
    pub(crate) fn segment(&mut self, now: Time, from: Host, to: Host) -> Time {
        let link = *self.link(from, to);
        let draw = self.chance.next();
        let loss = u64::from(link.loss_permille.max(self.base_loss_permille));
        let mut delay = link.latency + jitter(link, draw);
        // A loss costs a timeout or, more often, a duplicate acknowledgement; a bad link loses the repetition as well.
        let mut again = draw;
        while again % 1_000 < loss && delay < 5_000_000_000 {
            delay += 200_000_000 + 2 * link.latency;
            again = self.chance.next();
        }
        now.max(link.clogged_until) + Duration::from_nanos(delay)
    }

    /// Cuts (`true`) or mends what `from` sends to `to`.
    pub(crate) fn cut(&mut self, from: Zone, to: Zone, cut: bool) {
        let cuts = &mut self.links[from * self.zones + to].cuts;
        *cuts = if cut { *cuts + 1 } else { cuts.saturating_sub(1) };
    }

    /// Cuts or mends what a machine hears.
    pub(crate) fn cut_in(&mut self, host: Host, cut: bool) {
        let cuts = &mut self.machines[host].cuts_in;
        *cuts = if cut { *cuts + 1 } else { cuts.saturating_sub(1) };
    }

    /// Cuts or mends what a machine sends.
    pub(crate) fn cut_out(&mut self, host: Host, cut: bool) {
        let cuts = &mut self.machines[host].cuts_out;
        *cuts = if cut { *cuts + 1 } else { cuts.saturating_sub(1) };
    }

    /// Loses `permille` of what passes between two zones, both ways; 0 mends.
    pub(crate) fn lose(&mut self, a: Zone, b: Zone, permille: u16) {
        self.links[a * self.zones + b].loss_permille = permille;
        self.links[b * self.zones + a].loss_permille = permille;
    }

    /// Holds back everything from `from` to `to` until then.
    pub(crate) fn clog(&mut self, from: Zone, to: Zone, until: Time) {
        let link = &mut self.links[from * self.zones + to];
        link.clogged_until = link.clogged_until.max(until);
    }

    pub(crate) fn zones(&self) -> usize {
        self.zones
    }
}

/// A few percent of the way, and now and then a queue.
fn jitter(link: Link, draw: u64) -> u64 {
    let small = (draw >> 32) % (link.latency / 16 + 1);
    if (draw >> 16).is_multiple_of(QUEUED_ONE_IN) {
        small + (draw >> 24) % QUEUED_MAX
    } else {
        small
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geography::CITIES;

    fn network() -> (Network, Host, Host) {
        let mut network = Network::new(&CITIES[..3], 0, Stream::named(1, "network"));
        let (a, b) = (network.add(0), network.add(1));
        (network, a, b)
    }

    #[test]
    fn a_cut_is_one_way_and_counts() {
        let (mut network, a, b) = network();
        let now = Time::from_millis(5);
        network.cut(0, 1, true);
        network.cut(0, 1, true);
        assert!(network.datagram(now, a, b).is_none());
        assert!(network.datagram(now, b, a).is_some());
        network.cut(0, 1, false);
        assert!(!network.passes(a, b));
        network.cut(0, 1, false);
        assert!(network.connects(a, b));
        network.cut_in(b, true);
        assert!(!network.passes(a, b) && network.passes(b, a));
    }

    #[test]
    fn loss_is_a_share_and_costs_segments_time() {
        let (mut network, a, b) = network();
        network.lose(0, 1, 300);
        let now = Time::from_millis(5);
        let lost = (0..1_000).filter(|_| network.datagram(now, a, b).is_none()).count();
        assert!((250..350).contains(&lost), "{lost}");
        let direct = network.latency(a, b) * 2;
        let slow = (0..1_000).filter(|_| network.segment(now, a, b).since(now) > direct).count();
        assert!((250..350).contains(&slow), "{slow}");
    }

    #[test]
    fn a_clog_holds_back_until_it_opens() {
        let (mut network, a, b) = network();
        network.clog(0, 1, Time::from_millis(9_000));
        let arrives = network.datagram(Time::from_millis(5), a, b).expect("not lost");
        assert!(arrives >= Time::from_millis(9_000));
        assert!(!network.clean(Time::from_millis(5), a, b));
    }
}
