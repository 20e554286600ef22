//! A lab that is up: what can be done in it and to it, and what was counted.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex, MutexGuard},
};

use serde::{Deserialize, Serialize};
use tun_rs::SyncDevice;

use crate::{
    atlas::{Atlas, Place},
    berth::{self, Berth},
    counters::{Counters, Punctuality},
    emulator::{self, Emulator, Priority},
    error::LabError,
    namespace,
    plan::Plan,
    rights,
    shape::Shape,
    wan::Wan,
};

/// A lab. It goes down when it is dropped; when its process is killed, its network ends at once, and its namespaces, with
/// what still runs in them, are swept when the next lab comes up.
///
/// Places are named as in the plan: a site (`eu`) or a host (`eu.db`).
#[derive(Debug)]
pub struct Lab {
    // Dropped first: a namespace lives for as long as a device of it is held.
    emulator: Emulator,
    berth: Berth,
    wan: Arc<Mutex<Wan>>,
    atlas: Atlas,
    /// Of each site that has its own name servers.
    resolvers: BTreeMap<usize, PathBuf>,
}

/// A host, as others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostView {
    /// `site.host`.
    pub name: String,
    /// For `ip netns exec`.
    pub namespace: String,
    /// All of them, of both families.
    pub addresses: Vec<IpAddr>,
    /// The file that names its name servers, when they are not the machine's.
    pub resolv: Option<PathBuf>,
}

impl HostView {
    /// The file of its namespace, for `setns` and `nsenter --net`.
    #[must_use]
    pub fn namespace_path(&self) -> PathBuf {
        namespace::path(&self.namespace)
    }
}

/// One direction of a link, as others see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkView {
    /// Where packets come from.
    pub from: String,
    /// Where they go.
    pub to: String,
    /// What they meet.
    pub shape: Shape,
    /// What became of them.
    pub counters: Counters,
}

impl Lab {
    /// Brings a lab up, after sweeping what dead ones left.
    ///
    /// # Errors
    /// When the plan is none, when this process may not (with what to do), or when the system refuses. Then nothing is left.
    pub fn up(plan: &Plan) -> Result<Self, LabError> {
        plan.check()?;
        rights::check()?;
        berth::sweep()?;
        let berth = Berth::new()?;
        let wan = Wan::new(plan);
        let atlas = wan.atlas().clone();
        let devices = devices(&atlas, &berth, plan.mtu)?;
        let resolvers = resolvers(&atlas, &berth)?;
        let wan = Arc::new(Mutex::new(wan));
        let emulator = Emulator::start(devices, Arc::clone(&wan))
            .map_err(LabError::io("starting the emulator"))?;
        Ok(Lab { emulator, berth, wan, atlas, resolvers })
    }

    /// The process and which of its labs this is, as in `4711-1`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.berth.id
    }

    /// Where it keeps its files, which go with it.
    #[must_use]
    pub fn directory(&self) -> &std::path::Path {
        &self.berth.directory
    }

    /// All hosts, by name.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostView> {
        (0..self.atlas.hosts.len()).map(|host| self.view(host)).collect()
    }

    /// One host. A site that has a single one may stand for it.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn host(&self, name: &str) -> Result<HostView, LabError> {
        Ok(self.view(self.atlas.host(name)?))
    }

    /// The first IPv4 address of a host.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn address(&self, name: &str) -> Result<IpAddr, LabError> {
        self.address_of(name, IpAddr::is_ipv4)
    }

    /// The first IPv6 address of a host.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn address6(&self, name: &str) -> Result<IpAddr, LabError> {
        self.address_of(name, IpAddr::is_ipv6)
    }

    /// A command that runs `program` at a host, with the name servers of its site. The caller adds arguments, environment
    /// and pipes, and spawns it: that process becomes `program`, so signals and exit codes are its own. What still runs when
    /// the lab goes down is killed.
    ///
    /// # Errors
    /// When there is no such host.
    pub fn command(&self, host: &str, program: &str) -> Result<Command, LabError> {
        let view = self.host(host)?;
        Ok(namespace::inside_command(&view.namespace, view.resolv.as_deref(), program))
    }

    /// Runs `work` at a host, on a thread of its own. Sockets that it opens stay there, wherever they are used afterwards: so
    /// one test may have sockets in three regions.
    ///
    /// # Errors
    /// When there is no such host, or it cannot be entered.
    pub fn within<T: Send>(
        &self,
        host: &str,
        work: impl FnOnce() -> T + Send,
    ) -> Result<T, LabError> {
        let view = self.host(host)?;
        namespace::within(&namespace::path(&view.namespace), work)
    }

    /// Cuts two places off each other, both ways. Packets that are under way are lost too.
    ///
    /// # Errors
    /// When there is no such place.
    pub fn cut(&self, a: &str, b: &str) -> Result<(), LabError> {
        self.cut_one_way(a, b)?;
        self.cut_one_way(b, a)
    }

    /// Cuts one direction: `to` no longer hears `from`, but `from` hears `to`.
    ///
    /// # Errors
    /// When there is no such place.
    pub fn cut_one_way(&self, from: &str, to: &str) -> Result<(), LabError> {
        let (from, to) = (self.atlas.place(from)?, self.atlas.place(to)?);
        self.wan().fault(|faults, _| faults.cut(from, to));
        Ok(())
    }

    /// Makes a place a black hole: everything to and from it vanishes, and nobody is told. The hosts within a site still hear
    /// each other.
    ///
    /// # Errors
    /// When there is no such place.
    pub fn black_hole(&self, place: &str) -> Result<(), LabError> {
        let place = self.atlas.place(place)?;
        self.wan().fault(|faults, _| faults.black_hole(place));
        Ok(())
    }

    /// Lifts every cut between two places, and between hosts in them.
    ///
    /// # Errors
    /// When there is no such place, or no such cut: one of whole sites is lifted by the sites' names.
    pub fn heal(&self, a: &str, b: &str) -> Result<(), LabError> {
        let (one, other) = (self.atlas.place(a)?, self.atlas.place(b)?);
        let healed = self.wan().fault(|faults, atlas| faults.heal(atlas, one, other));
        self.at_least_one(healed, format!("{a} and {b}"))
    }

    /// Lifts the black hole at a place, and those of hosts in it.
    ///
    /// # Errors
    /// When there is no such place, or no black hole there.
    pub fn heal_black_hole(&self, place: &str) -> Result<(), LabError> {
        let whole = self.atlas.place(place)?;
        let healed = self.wan().fault(|faults, atlas| faults.heal_black_hole(atlas, whole));
        self.at_least_one(healed, place.to_owned())
    }

    /// Lifts all faults. Returns how many there were.
    pub fn heal_all(&self) -> usize {
        self.wan().fault(|faults, _| faults.heal_all())
    }

    /// Gives both directions between two sites, or between two hosts, that shape.
    ///
    /// # Errors
    /// When there is no such place, when one is a site and the other a host, or when no link can be so.
    pub fn shape(&self, a: &str, b: &str, shape: Shape) -> Result<(), LabError> {
        self.shape_one_way(a, b, shape)?;
        self.shape_one_way(b, a, shape)
    }

    /// Gives one direction that shape. Of two hosts, it counts more than their sites' from then on.
    ///
    /// # Errors
    /// As of `shape`.
    pub fn shape_one_way(&self, from: &str, to: &str, shape: Shape) -> Result<(), LabError> {
        let (from, to) = (self.atlas.place(from)?, self.atlas.place(to)?);
        self.wan().shape(from, to, shape)
    }

    /// What packets meet now in that direction.
    ///
    /// # Errors
    /// When there is no such place.
    pub fn shape_of(&self, from: &str, to: &str) -> Result<Shape, LabError> {
        let (from, to) = (self.atlas.place(from)?, self.atlas.place(to)?);
        Ok(self.wan().shape_of(from, to))
    }

    /// Puts all shapes back to the plan's.
    pub fn unshape(&self) {
        self.wan().unshape();
    }

    /// What one direction counted since the lab came up: between two sites, or between two hosts that were given a shape.
    ///
    /// # Errors
    /// When there is no such place.
    pub fn counters(&self, from: &str, to: &str) -> Result<Counters, LabError> {
        let (from, to) = (self.atlas.place(from)?, self.atlas.place(to)?);
        Ok(self.wan().counters(from, to))
    }

    /// Every direction.
    #[must_use]
    pub fn links(&self) -> Vec<LinkView> {
        let name = |place: Place| self.atlas.name(place).to_owned();
        let links = self.wan().links().into_iter();
        links
            .map(|(from, to, shape, counters)| LinkView {
                from: name(from),
                to: name(to),
                shape,
                counters,
            })
            .collect()
    }

    /// The faults that are there, in words.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        self.wan().faults()
    }

    /// How late packets were against their plan.
    #[must_use]
    pub fn punctuality(&self) -> Punctuality {
        self.wan().punctuality()
    }

    /// Packets to nobody here: multicast, wrong addresses.
    #[must_use]
    pub fn strays(&self) -> u64 {
        self.wan().strays()
    }

    /// How the emulator is scheduled.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.emulator.priority
    }

    /// Number of the emulator's thread, as the system has it: for measuring what it takes.
    #[must_use]
    pub fn emulator_thread(&self) -> i32 {
        self.emulator.thread_id
    }

    fn wan(&self) -> MutexGuard<'_, Wan> {
        emulator::lock(&self.wan)
    }

    fn view(&self, host: usize) -> HostView {
        let entry = &self.atlas.hosts[host];
        HostView {
            name: entry.name.clone(),
            namespace: self.berth.prefix() + &entry.name,
            addresses: entry.addresses.clone(),
            resolv: self.resolvers.get(&entry.site).cloned(),
        }
    }

    fn address_of(&self, name: &str, fits: fn(&IpAddr) -> bool) -> Result<IpAddr, LabError> {
        let host = self.atlas.host(name)?;
        let mut addresses = self.atlas.hosts[host].addresses.iter();
        Ok(*addresses.find(|address| fits(address)).expect("a host has addresses of both families"))
    }

    fn at_least_one(&self, healed: usize, what: String) -> Result<(), LabError> {
        if healed > 0 {
            return Ok(());
        }
        let there = self.faults();
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        Err(LabError::NothingToHeal(what, there))
    }
}

/// Makes the hosts' namespaces, each with its device.
fn devices(atlas: &Atlas, berth: &Berth, mtu: u16) -> Result<Vec<SyncDevice>, LabError> {
    let names: Vec<String> = atlas.hosts.iter().map(|host| berth.prefix() + &host.name).collect();
    namespace::add(&names)?;
    let hosts = atlas.hosts.iter().zip(&names);
    hosts
        .map(|(host, name)| {
            // A device stays in the namespace in which it is made, and its owner holds it from anywhere.
            let make = || {
                let device = emulator::device()?;
                namespace::configure(&host.addresses, mtu)?;
                Ok(device)
            };
            namespace::within(&namespace::path(name), make)?
        })
        .collect()
}

/// Writes the file of each site that has its own name servers.
fn resolvers(atlas: &Atlas, berth: &Berth) -> Result<BTreeMap<usize, PathBuf>, LabError> {
    let mut resolvers = BTreeMap::new();
    for (site, (name, _, servers)) in atlas.sites.iter().enumerate() {
        if !servers.is_empty() {
            let path = berth.directory.join(format!("{name}.resolv.conf"));
            let lines = servers.iter().map(|server| format!("nameserver {server}\n"));
            fs::write(&path, lines.collect::<String>()).map_err(LabError::at(&path))?;
            resolvers.insert(site, path);
        }
    }
    Ok(resolvers)
}
