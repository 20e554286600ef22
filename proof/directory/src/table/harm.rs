//! What is broken, and how it is made and taken back.

use std::{fmt, str::FromStr, time::Duration};

use outlast_lab::{Lab as Network, Shape};

use crate::servers::{Lab, REGIONS, wan};

use super::verdict::Engine;

/// One row of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Harm {
    /// Nothing: what goes wrong then goes wrong without a fault.
    #[default]
    None,
    /// The process of the server that decides is killed, and started again at the heal.
    Kill,
    /// It is frozen.
    Pause,
    /// The host of its region's database hears nobody, and nobody hears it.
    BlackHole,
    /// Its whole region, gateway and nodes included.
    Region,
    /// Its region's database is 800 ms (round trip) away from all other regions.
    Slow,
    /// All servers are killed, and come back with what they had.
    AllKilled,
    /// All servers are killed, and come back empty.
    AllWiped,
    /// The clients' gateway reaches no server.
    OwnCut,
    /// All servers are killed, and the clients' gateway is killed and started again meanwhile.
    GatewayRestart,
    /// Nothing is broken: gateways began with the embedded directory, and are restarted one by one with this one.
    Move,
}

/// All, by name.
const NAMES: [(&str, Harm); 11] = [
    ("none", Harm::None),
    ("kill", Harm::Kill),
    ("pause", Harm::Pause),
    ("black-hole", Harm::BlackHole),
    ("region", Harm::Region),
    ("slow", Harm::Slow),
    ("all-killed", Harm::AllKilled),
    ("all-wiped", Harm::AllWiped),
    ("own-cut", Harm::OwnCut),
    ("gateway-restart", Harm::GatewayRestart),
    ("move", Harm::Move),
];
/// A slow region's round trip.
const SLOW: Duration = Duration::from_millis(800);

impl Harm {
    /// All that make sense for `engine`.
    pub fn all(engine: Engine) -> Vec<Harm> {
        let fits = |harm: &Harm| {
            engine != Engine::Embedded
                || matches!(harm, Harm::None | Harm::Region | Harm::GatewayRestart)
        };
        NAMES.iter().map(|(_, harm)| *harm).filter(fits).collect()
    }

    /// Whether gateways are started again on purpose.
    pub(crate) fn restarts_gateways(self) -> bool {
        matches!(self, Harm::GatewayRestart | Harm::Move)
    }

    /// Whether the engine has to come back by itself: one server is gone, and the others are enough.
    pub(crate) fn loses_one_server(self) -> bool {
        matches!(self, Harm::Kill | Harm::Pause | Harm::BlackHole | Harm::Region)
    }
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, harm)| harm == self).map_or("?", |(name, _)| name);
        f.write_str(name)
    }
}

impl FromStr for Harm {
    type Err = String;

    fn from_str(text: &str) -> Result<Harm, String> {
        let found = NAMES.iter().find(|(name, _)| *name == text);
        let names = NAMES.map(|(name, _)| name).join(", ");
        found
            .map(|(_, harm)| *harm)
            .ok_or_else(|| format!("faults are {names}, or all of them: all"))
    }
}

/// Whom it hits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Victim {
    /// The server.
    pub(crate) server: usize,
    /// Its region.
    pub(crate) region: usize,
    /// Where the clients are; another region.
    pub(crate) clients: usize,
}

/// Makes `harm` happen to what is the database's and the network's.
///
/// # Errors
/// When servers or the laboratory cannot do it.
pub(crate) fn make(
    harm: Harm,
    victim: Victim,
    servers: &mut dyn Lab,
    network: &Network,
) -> anyhow::Result<()> {
    match harm {
        Harm::None | Harm::Move => {}
        Harm::Kill => servers.kill(victim.server)?,
        Harm::Pause => servers.pause(victim.server)?,
        Harm::BlackHole => network.black_hole(&wan::database(victim.region))?,
        Harm::Region => network.black_hole(&wan::site(victim.region))?,
        Harm::Slow => distance(victim, network, wan::far(SLOW))?,
        Harm::AllKilled | Harm::AllWiped | Harm::GatewayRestart => {
            for server in 0..servers.servers() {
                servers.kill(server)?;
            }
        }
        Harm::OwnCut => {
            for region in 0..REGIONS {
                network.cut(&wan::gateway(victim.clients), &wan::database(region))?;
            }
        }
    }
    Ok(())
}

/// Takes it back; regions are `usual` apart then.
///
/// # Errors
/// As for `make`.
pub(crate) fn heal(
    harm: Harm,
    victim: Victim,
    servers: &mut dyn Lab,
    network: &Network,
    usual: Shape,
) -> anyhow::Result<()> {
    match harm {
        Harm::None | Harm::Move => {}
        Harm::Kill => servers.start(victim.server)?,
        Harm::Pause => servers.resume(victim.server)?,
        Harm::BlackHole | Harm::Region | Harm::OwnCut => {
            network.heal_all();
        }
        Harm::Slow => distance(victim, network, usual)?,
        Harm::AllKilled | Harm::GatewayRestart => {
            for server in 0..servers.servers() {
                servers.start(server)?;
            }
        }
        Harm::AllWiped => servers.wipe()?,
    }
    Ok(())
}

/// Puts the victim's database as far from the other regions' databases and gateways as `shape` says.
fn distance(victim: Victim, network: &Network, shape: Shape) -> anyhow::Result<()> {
    let own = wan::database(victim.region);
    for region in (0..REGIONS).filter(|region| *region != victim.region) {
        network.shape(&own, &wan::database(region), shape)?;
        network.shape(&own, &wan::gateway(region), shape)?;
    }
    Ok(())
}

/// What the network did to packets because of `harm`, in words; `None` when it did nothing.
pub(crate) fn trace(harm: Harm, victim: Victim, network: &Network) -> Option<String> {
    let dropped: u64 =
        network.links().iter().map(|link| link.counters.black_hole + link.counters.cut).sum();
    match harm {
        Harm::BlackHole | Harm::Region | Harm::OwnCut => {
            (dropped > 0).then(|| format!("{dropped} packets dropped"))
        }
        Harm::Slow => {
            let other = wan::database((victim.region + 1) % REGIONS);
            let counted = network.counters(&wan::database(victim.region), &other).ok()?;
            (counted.sent > 0).then(|| format!("{} packets on a slow way", counted.sent))
        }
        _ => None,
    }
}
