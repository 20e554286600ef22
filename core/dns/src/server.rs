//! The machine: words of gateways and questions come in, answers and news go out.

use std::{net::IpAddr, time::Duration};

use outlast_control::RegionHealth;
use outlast_locate::Locations;
use outlast_model::{GatewayId, RegionName, Time};
use outlast_wire::Outlook;

use crate::{
    GatewayFacts, NameServer, Order, ZoneError,
    answer::{self, Head, Kind, Outcome},
    fleet::{Fleet, Standing, Turn},
    limit::{Allowed, Limiter},
    zone::Zone,
};

/// Longest question, in bytes; nobody honest comes near.
pub const QUESTION_BYTES_MAX: usize = 1_024;
/// Longest answer over UDP, in bytes: no path breaks it into fragments (DNS flag day 2020).
pub const UDP_ANSWER_BYTES_MAX: u16 = 1_232;

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram, from an address that may be somebody else's.
    Udp,
    /// Over a connection.
    Tcp,
}

/// What a name server is told when it starts.
#[derive(Debug)]
pub struct ServerConfig {
    /// The service's name: `api.example.net`.
    pub zone: String,
    /// This server's region.
    pub region: RegionName,
    /// Every region in which nodes or gateways are configured.
    pub regions: Vec<RegionName>,
    /// Every gateway.
    pub gateways: Vec<GatewayFacts>,
    /// Every name server, this one with them.
    pub servers: Vec<NameServer>,
    /// How long addresses of gateways may be kept; whole seconds.
    pub ttl: Duration,
    /// Which region comes first.
    pub order: Order,
    /// Answers a second over UDP for each network (/24, /56); 0: no limit.
    pub answers_per_second: u32,
    /// Where clients are.
    pub locations: Locations,
}

/// Something to write into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A verdict on a region.
    Region {
        /// Which.
        region: RegionName,
        /// What is believed of it now.
        health: RegionHealth,
    },
    /// Clients are sent to a gateway, or no longer.
    Gateway {
        /// Which.
        id: GatewayId,
        /// Before.
        from: &'static str,
        /// Now.
        to: &'static str,
    },
}

/// What has been done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answers by [`Counts::KINDS`].
    pub answers: [u64; Kind::ALL.len()],
    /// Questions over a network's share: not answered.
    pub dropped: u64,
    /// Over a network's share, and told to come by TCP.
    pub truncated: u64,
    /// What was no question at all.
    pub ignored: u64,
}

impl Counts {
    /// The kinds of answers, for metrics.
    pub const KINDS: [&'static str; Kind::ALL.len()] = {
        let mut names = [""; Kind::ALL.len()];
        let mut at = 0;
        while at < names.len() {
            names[at] = Kind::ALL[at].name();
            at += 1;
        }
        names
    };
}

/// A name server.
pub struct Server {
    zone: Zone,
    region: RegionName,
    fleet: Fleet,
    limiter: Limiter,
    locations: Locations,
    counts: Counts,
}

impl Server {
    /// A name server that has heard nothing yet, and takes everybody to be well.
    ///
    /// # Errors
    /// See [`ZoneError`].
    pub fn new(config: ServerConfig) -> Result<Server, ZoneError> {
        let zone = Zone::new(&config.zone, &config.regions, &config.servers, config.ttl)?;
        Ok(Server {
            zone,
            region: config.region,
            fleet: Fleet::new(&config.regions, config.gateways, config.order),
            limiter: Limiter::new(config.answers_per_second),
            locations: config.locations,
            counts: Counts::default(),
        })
    }

    /// `gateway` has said what it sees.
    pub fn hear(&mut self, now: Time, gateway: &GatewayId, outlook: &Outlook) {
        self.fleet.hear(now, gateway, outlook);
    }

    /// Judges all gateways anew: to be called some ten times a second, since answers rest on the last judgement.
    pub fn wake(&mut self, now: Time, out: &mut Vec<News>) {
        let mut turns = Vec::new();
        self.fleet.wake(now, &mut turns);
        out.extend(turns.into_iter().map(|turn| match turn {
            Turn::Region(change) => News::Region { region: change.region, health: change.to },
            Turn::Gateway { id, from, to } => News::Gateway { id, from: name(from), to: name(to) },
        }));
    }

    /// The answer to `question`, a DNS message as it came; `None`: say nothing.
    pub fn answer(
        &mut self,
        now: Time,
        question: &[u8],
        from: IpAddr,
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let Some(head) = Head::read(question) else {
            self.counts.ignored += 1;
            return None;
        };
        let allowed = match transport {
            Transport::Udp => self.limiter.take(now, from),
            Transport::Tcp => Allowed::Yes,
        };
        match allowed {
            Allowed::Yes => {}
            Allowed::Truncated => {
                self.counts.truncated += 1;
                return answer::truncated(&head, question);
            }
            Allowed::No => {
                self.counts.dropped += 1;
                return None;
            }
        }
        let world = answer::World {
            zone: &self.zone,
            fleet: &mut self.fleet,
            locations: &self.locations,
            region: &self.region,
        };
        let Outcome { kind, bytes } = answer::answer(world, &head, question, from, transport);
        self.counts.answers[kind as usize] += 1;
        bytes
    }

    /// What has been done so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many gateways serve, serve again after their region was down, refuse, and are silent.
    pub fn standings(&self) -> [usize; 4] {
        self.fleet.standings()
    }

    /// What the numbers of [`Server::standings`] are called.
    pub const STANDINGS: [&'static str; 4] = ["serves", "returns", "refuses", "silent"];
}

fn name(standing: Standing) -> &'static str {
    Server::STANDINGS[standing as usize]
}
