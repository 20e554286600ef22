//! The network between the hosts as one machine: packets come in with the time, and go out with the time at which they
//! are due. It has neither clock nor device.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use crate::{
    atlas::{Atlas, Place},
    counters::{Counters, Punctuality},
    error::LabError,
    faults::{Faults, Wall},
    pipe::Pipe,
    plan::Plan,
    shape::Shape,
};

/// Buffers that are kept for packets to come.
const SPARE_MAX: usize = 4096;

/// A packet that is due at a host.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) to: usize,
    pub(crate) packet: Vec<u8>,
}

/// Ordered by what is first in it: when it is due, and then who came first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct UnderWay {
    at: Duration,
    order: u64,
    from: usize,
    to: usize,
    pipe: usize,
    packet: Vec<u8>,
}

/// The whole network. Times are since the lab came up.
#[derive(Debug)]
pub(crate) struct Wan {
    seed: u64,
    atlas: Atlas,
    by_address: HashMap<IpAddr, usize>,
    faults: Faults,
    /// From each host to each, by `from * hosts + to`: from `faults`, so that a packet asks one question.
    walls: Vec<Option<Wall>>,
    /// From each site to each, by `from * sites + to`, and then those of single pairs of hosts.
    pipes: Vec<Pipe>,
    planned: Vec<Shape>,
    /// Pairs of hosts with a pipe of their own.
    own: BTreeMap<(usize, usize), usize>,
    under_way: BinaryHeap<Reverse<UnderWay>>,
    order: u64,
    spare: Vec<Vec<u8>>,
    punctuality: Punctuality,
    /// Packets to nobody here: multicast, a wrong address.
    strays: u64,
}

impl Wan {
    pub(crate) fn new(plan: &Plan) -> Self {
        let atlas = Atlas::of(plan);
        let mut pipes = Vec::new();
        for (a, (from, ..)) in atlas.sites.iter().enumerate() {
            for (b, (to, ..)) in atlas.sites.iter().enumerate() {
                let shape = plan.between(from, to).expect("a checked plan links all sites");
                pipes.push(Pipe::new(atlas.link(Place::Site(a), Place::Site(b)), shape));
            }
        }
        let by_address = atlas.hosts.iter().enumerate();
        let by_address = by_address
            .flat_map(|(host, entry)| entry.addresses.iter().map(move |address| (*address, host)))
            .collect();
        Wan {
            seed: plan.seed,
            walls: vec![None; atlas.hosts.len() * atlas.hosts.len()],
            by_address,
            faults: Faults::default(),
            planned: pipes.iter().map(|pipe| pipe.shape).collect(),
            pipes,
            own: BTreeMap::new(),
            under_way: BinaryHeap::new(),
            order: 0,
            spare: Vec::new(),
            punctuality: Punctuality::default(),
            strays: 0,
            atlas,
        }
    }

    pub(crate) fn atlas(&self) -> &Atlas {
        &self.atlas
    }

    /// Takes an IP packet that a host sent.
    pub(crate) fn take(&mut self, now: Duration, from: usize, packet: &[u8]) {
        let to = destination(packet).and_then(|address| self.by_address.get(&address));
        let Some(&to) = to else {
            self.strays += 1;
            return;
        };
        let index = self.pipe(from, to);
        let wall = self.wall(from, to);
        let pipe = &mut self.pipes[index];
        pipe.counters.sent += 1;
        pipe.counters.sent_bytes += packet.len() as u64;
        if let Some(wall) = wall {
            stop(&mut pipe.counters, wall);
            return;
        }
        let Some(passage) = pipe.take(self.seed, now, packet.len()) else { return };
        for _ in 0..if passage.twice { 2 } else { 1 } {
            let mut copy = self.spare.pop().unwrap_or_default();
            copy.clear();
            copy.extend_from_slice(packet);
            let order = self.order;
            self.order += 1;
            let entry = UnderWay { at: passage.at, order, from, to, pipe: index, packet: copy };
            self.under_way.push(Reverse(entry));
        }
    }

    /// The next packet that is due. One that meets a wall on its way goes no further: a cut takes what is in the line.
    pub(crate) fn give(&mut self, now: Duration) -> Option<Delivery> {
        while self.wake_at()? <= now {
            let Reverse(UnderWay { at, from, to, pipe, packet, .. }) = self.under_way.pop()?;
            let wall = self.wall(from, to);
            let pipe = &mut self.pipes[pipe];
            pipe.leave(packet.len());
            if let Some(wall) = wall {
                stop(&mut pipe.counters, wall);
                self.spare(packet);
                continue;
            }
            pipe.counters.delivered += 1;
            pipe.counters.delivered_bytes += packet.len() as u64;
            self.punctuality.count(now - at);
            return Some(Delivery { to, packet });
        }
        None
    }

    /// When the next packet is due.
    pub(crate) fn wake_at(&self) -> Option<Duration> {
        self.under_way.peek().map(|Reverse(entry)| entry.at)
    }

    /// Takes a buffer back.
    pub(crate) fn spare(&mut self, packet: Vec<u8>) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(packet);
        }
    }

    /// Changes the faults, and what they stand between. Returns what `change` does.
    pub(crate) fn fault<T>(&mut self, change: impl FnOnce(&mut Faults, &Atlas) -> T) -> T {
        let changed = change(&mut self.faults, &self.atlas);
        let hosts = self.atlas.hosts.len();
        for from in 0..hosts {
            for to in 0..hosts {
                self.walls[from * hosts + to] = self.faults.wall(&self.atlas, from, to);
            }
        }
        changed
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        self.faults.describe(&self.atlas)
    }

    /// Shapes the way from one site to another, or from one host to another, which from then on has a pipe of its own.
    pub(crate) fn shape(&mut self, from: Place, to: Place, shape: Shape) -> Result<(), LabError> {
        shape.check()?;
        let index = match (from, to) {
            (Place::Site(a), Place::Site(b)) => a * self.atlas.sites.len() + b,
            (Place::Host(a), Place::Host(b)) => {
                let (next, link) = (self.pipes.len(), self.atlas.link(from, to));
                let index = *self.own.entry((a, b)).or_insert(next);
                if index == next {
                    self.pipes.push(Pipe::new(link, shape));
                }
                index
            }
            (Place::Site(_), Place::Host(_)) | (Place::Host(_), Place::Site(_)) => {
                let name = |place| self.atlas.name(place).to_owned();
                return Err(LabError::Mixed(name(from), name(to)));
            }
        };
        self.pipes[index].shape = shape;
        Ok(())
    }

    /// Puts every shape back to the plan's. Pipes of single hosts stay, for the sake of their counters.
    pub(crate) fn unshape(&mut self) {
        for (pipe, shape) in self.pipes.iter_mut().zip(&self.planned) {
            pipe.shape = *shape;
        }
        let sites = self.atlas.sites.len();
        for (&(from, to), &index) in &self.own {
            let (a, b) = (self.atlas.hosts[from].site, self.atlas.hosts[to].site);
            self.pipes[index].shape = self.planned[a * sites + b];
        }
    }

    /// The shape that packets meet now from one place to another.
    pub(crate) fn shape_of(&self, from: Place, to: Place) -> Shape {
        self.pipes[self.between(from, to)].shape
    }

    /// What the pipe from one place to another counted. Of two hosts without one of their own, it is that of their sites.
    pub(crate) fn counters(&self, from: Place, to: Place) -> Counters {
        self.pipes[self.between(from, to)].counters
    }

    /// Every pipe: where from, where to, its shape and what it counted.
    pub(crate) fn links(&self) -> Vec<(Place, Place, Shape, Counters)> {
        let sites = self.atlas.sites.len();
        let of_sites =
            (0..sites * sites).map(|at| (Place::Site(at / sites), Place::Site(at % sites), at));
        let of_hosts = self.own.iter().map(|(&(a, b), &at)| (Place::Host(a), Place::Host(b), at));
        let whole = of_sites.chain(of_hosts);
        whole.map(|(a, b, at)| (a, b, self.pipes[at].shape, self.pipes[at].counters)).collect()
    }

    pub(crate) fn punctuality(&self) -> Punctuality {
        self.punctuality
    }

    pub(crate) fn strays(&self) -> u64 {
        self.strays
    }

    fn between(&self, from: Place, to: Place) -> usize {
        let site = |place| match place {
            Place::Site(site) => site,
            Place::Host(host) => self.atlas.hosts[host].site,
        };
        match (from, to) {
            (Place::Host(a), Place::Host(b)) => self.pipe(a, b),
            _ => site(from) * self.atlas.sites.len() + site(to),
        }
    }

    fn pipe(&self, from: usize, to: usize) -> usize {
        let hosts = &self.atlas.hosts;
        let of_sites = || hosts[from].site * self.atlas.sites.len() + hosts[to].site;
        self.own.get(&(from, to)).copied().unwrap_or_else(of_sites)
    }

    fn wall(&self, from: usize, to: usize) -> Option<Wall> {
        self.walls[from * self.atlas.hosts.len() + to]
    }
}

fn stop(counters: &mut Counters, wall: Wall) {
    match wall {
        Wall::Cut => counters.cut += 1,
        Wall::BlackHole => counters.black_hole += 1,
    }
}

/// Where an IP packet wants to (RFC 791 §3.1, RFC 8200 §3); nothing when it is too short or of another version.
fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => {
            let address: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            Some(Ipv4Addr::from(address).into())
        }
        6 => {
            let address: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            Some(Ipv6Addr::from(address).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    fn packet(to: &str, tag: u8) -> Vec<u8> {
        let mut packet = vec![0; 60];
        match to.parse().unwrap() {
            IpAddr::V4(address) => {
                packet[0] = 0x45;
                packet[16..20].copy_from_slice(&address.octets());
            }
            IpAddr::V6(address) => {
                packet[0] = 0x60;
                packet[24..40].copy_from_slice(&address.octets());
            }
        }
        packet[59] = tag;
        packet
    }

    struct World {
        wan: Wan,
        eu: usize,
        us: usize,
    }

    /// eu and us, 40 ms apart one way.
    fn world() -> World {
        let wan = Wan::new(&Plan::flat(ms(80)));
        let host = |name| wan.atlas().host(name).unwrap();
        World { eu: host("eu.db"), us: host("us.db"), wan }
    }

    impl World {
        fn place(&self, name: &str) -> Place {
            self.wan.atlas().place(name).unwrap()
        }

        /// Tags of what was handed over by then, with the host.
        fn until(&mut self, now: Duration) -> Vec<(usize, u8)> {
            let mut got = Vec::new();
            while let Some(Delivery { to, packet }) = self.wan.give(now) {
                got.push((to, packet[59]));
                self.wan.spare(packet);
            }
            got
        }
    }

    #[test]
    fn packets_of_both_versions_arrive_when_they_are_due() {
        let mut world = world();
        world.wan.take(ms(0), world.eu, &packet("198.18.2.1", 1));
        world.wan.take(ms(1), world.eu, &packet("2001:2:0:2::1", 2));
        assert_eq!(world.wan.wake_at(), Some(ms(40)));
        assert_eq!(world.until(ms(39)), []);
        assert_eq!(world.until(ms(40)), [(world.us, 1)]);
        assert_eq!(world.until(ms(50)), [(world.us, 2)]);
        assert_eq!(world.wan.wake_at(), None);
        let counters = world.wan.counters(world.place("eu"), world.place("us"));
        assert_eq!((counters.sent, counters.delivered, counters.delivered_bytes), (2, 2, 120));
        assert_eq!(world.wan.punctuality().within_10_ms, 1, "the second came 9 ms late");
    }

    #[test]
    fn what_nobody_here_is_meant_by_goes_nowhere_and_has_no_number() {
        let mut world = world();
        for stray in [packet("198.18.9.9", 0), packet("ff02::2", 0), vec![], vec![0x45; 19]] {
            world.wan.take(ms(0), world.eu, &stray);
        }
        assert_eq!(world.wan.strays(), 4);
        assert_eq!(world.wan.counters(world.place("eu"), world.place("us")).sent, 0);
    }

    #[test]
    fn a_cut_takes_what_is_in_the_line_too() {
        let mut world = world();
        let (eu, us) = (world.place("eu"), world.place("us"));
        world.wan.take(ms(0), world.eu, &packet("198.18.2.1", 1));
        world.wan.fault(|faults, _| faults.cut(eu, us));
        world.wan.take(ms(1), world.eu, &packet("198.18.2.1", 2));
        world.wan.take(ms(1), world.us, &packet("198.18.1.1", 3));
        assert_eq!(world.until(ms(100)), [(world.eu, 3)]);
        assert_eq!(world.wan.counters(eu, us).cut, 2);
        assert_eq!(world.wan.fault(|faults, atlas| faults.heal(atlas, us, eu)), 1);
        world.wan.take(ms(200), world.eu, &packet("198.18.2.1", 4));
        assert_eq!(world.until(ms(240)), [(world.us, 4)]);
    }

    #[test]
    fn two_hosts_may_have_a_pipe_of_their_own() {
        let mut world = world();
        let (from, to) = (world.place("eu.db"), world.place("us.db"));
        world.wan.shape(from, to, Shape::one_way_ms(300.0)).unwrap();
        world.wan.take(ms(0), world.eu, &packet("198.18.2.1", 1));
        world.wan.take(ms(0), world.eu, &packet("198.18.2.10", 2));
        assert_eq!(world.until(ms(299)).len(), 1);
        assert_eq!(world.until(ms(300)), [(world.us, 1)]);
        assert_eq!(world.wan.counters(from, to).sent, 1);
        let mixed = world.wan.shape(from, world.place("us"), Shape::default()).unwrap_err();
        assert!(mixed.to_string().contains("two sites or of two hosts"), "{mixed}");
        world.wan.unshape();
        assert_eq!(world.wan.shape_of(from, to), Shape::one_way_ms(40.0));
    }

    proptest! {
        /// Every packet is accounted for, and the same seed and packets give the same deliveries.
        #[test]
        fn nothing_is_lost_that_is_not_counted(
            loss in 0.0..0.5, duplicate in 0.0..0.5, jitter in 0u64..30, cut_at in 0u64..200, seed: u64,
        ) {
            let run = || {
                let mut world = world();
                world.wan.seed = seed;
                let (eu, us) = (world.place("eu"), world.place("us"));
                let shape = Shape {
                    loss, duplicate, jitter: ms(jitter), overtaking: true, ..Shape::one_way_ms(40.0)
                };
                world.wan.shape(eu, us, shape).unwrap();
                let mut got = Vec::new();
                for at in 0..200 {
                    if at == cut_at {
                        world.wan.fault(|faults, _| faults.cut(eu, us));
                    }
                    world.wan.take(ms(at), world.eu, &packet("198.18.2.1", at as u8));
                    got.extend(world.until(ms(at)));
                }
                got.extend(world.until(ms(1000)));
                (got, world.wan.counters(eu, us))
            };
            let (got, counters) = run();
            prop_assert_eq!(counters.sent, 200);
            prop_assert_eq!(counters.delivered, got.len() as u64);
            prop_assert_eq!(counters.sent + counters.duplicated, counters.delivered + counters.dropped());
            prop_assert_eq!(run(), (got, counters));
        }
    }
}
