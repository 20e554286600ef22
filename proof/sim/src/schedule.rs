//! What a run is: the shape of the world and the faults that befall it. Everything else follows from the seed.

use std::time::Duration;

use outlast_model::Time;
use serde::{Deserialize, Serialize};

/// A whole run, as a seed draws it or a scenario file tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Schedule {
    /// What it shows, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) story: String,
    /// Draws latencies, phases, people's ways: whatever is not written here.
    pub(crate) seed: u64,
    /// Simulated seconds.
    #[serde(default = "seconds")]
    pub(crate) seconds: u64,
    pub(crate) world: Shape,
    /// In any order.
    #[serde(default, rename = "fault")]
    pub(crate) faults: Vec<Fault>,
}

/// The world without its faults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shape {
    /// Names of cities; see `geography.rs`.
    pub(crate) regions: Vec<String>,
    /// Gateways of each region.
    pub(crate) gateways: Vec<usize>,
    /// Nodes of each region.
    pub(crate) nodes: Vec<usize>,
    pub(crate) clients: usize,
    pub(crate) rooms: usize,
    /// Whether there is a directory that arbitrates.
    #[serde(default = "yes")]
    pub(crate) directory: bool,
    /// Whether each gateway has a table of its own instead, which arbitrates nothing: the directory called `embedded`.
    #[serde(default)]
    pub(crate) embedded: bool,
    /// Datagrams lost on every path, of a thousand.
    #[serde(default)]
    pub(crate) loss_permille: u16,
    /// Clocks are fast or slow by at most so much.
    #[serde(default)]
    pub(crate) clock_ppm: i64,
    /// Whether some processes speak the version before.
    #[serde(default)]
    pub(crate) mixed_versions: bool,
    /// Whether people come and go; else they come once and stay.
    #[serde(default = "yes")]
    pub(crate) restless: bool,
    /// Whether operators change what people may do.
    #[serde(default)]
    pub(crate) rulings: bool,
}

/// One fault: from when, for how long, what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fault {
    /// Seconds from the start.
    pub(crate) at: f64,
    /// Seconds until it heals.
    #[serde(default, rename = "for")]
    pub(crate) lasts: f64,
    #[serde(flatten)]
    pub(crate) what: What,
}

impl Fault {
    /// From when until when, as the world's clock goes.
    pub(crate) fn span(&self) -> (Time, Time) {
        let at = Time::from_millis((self.at * 1_000.0) as u64);
        (at, at + Duration::from_secs_f64(self.lasts))
    }
}

/// A process is called after its region, as in `tokyo-n1` and `tokyo-g1`; the people around a region `people-of-tokyo`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub(crate) enum What {
    /// 1: `kill -9`, then restarted. Its sockets are reset.
    Dies { who: String },
    /// 1: the machine loses power. Nothing answers for it.
    PowerLoss { who: String },
    /// 2, 18: SIGSTOP, then SIGCONT.
    Freezes { who: String },
    /// 2: one media shard of a node hangs.
    ShardHangs { who: String },
    /// 3, 18: nothing gets into a region or out of it.
    RegionDark { region: String },
    /// 3: all machines of a region lose power.
    RegionDies { region: String },
    /// 4: a region and the others do not hear each other; people reach all of them.
    RegionAlone { region: String },
    /// 5: nothing gets from one place to another; the way back is open.
    OneWay { from: String, to: String },
    /// Nothing gets from one place to another or back.
    Cut { from: String, to: String },
    /// 5: a machine hears nothing.
    Deaf { who: String },
    /// 5: nothing that a machine sends arrives.
    Mute { who: String },
    /// 14: a share of all datagrams is lost between two places.
    Lossy { from: String, to: String, permille: u16 },
    /// Everything from one place to another arrives late, all at once.
    Clog { from: String, to: String },
    /// People's access network is gone.
    Offline { people: String },
    /// 16: all sockets of the people around a region are reset at once.
    Herd { people: String },
    /// 7: the directory fails over, and the last writes are lost.
    DirectoryFailover,
    /// 8: the directory is gone.
    DirectoryDown,
    /// 9: the directory is slow.
    DirectorySlow { seconds: f64 },
    /// 10: the directory is empty.
    DirectoryWiped,
    /// 11: names are not resolved.
    NamesDown,
    /// 12: a wall clock jumps.
    ClockJumps { who: String, seconds: i64 },
    /// 12: a clock runs fast or slow.
    ClockDrifts { who: String, ppm: i64 },
    /// 13: a process's certificate has expired.
    CertificateExpires { who: String },
    /// 17: a node has no processor time to spare.
    Overload { who: String },
    /// 19: a region goes dark and comes back, again and again.
    RegionFlaps { region: String, period: f64 },
    /// 19: a node falls silent and comes back, again and again.
    Flaps { who: String, period: f64 },
    /// 20: an operator drains a process; when the time is over it is back, or restarted.
    Drain { who: String, restart: bool },
    /// 20, 21: a process is replaced by the other version.
    Upgrade { who: String },
    /// 26: a node accepts people, and no media gets through.
    Gray { who: String },
}

fn seconds() -> u64 {
    300
}

fn yes() -> bool {
    true
}

impl What {
    /// Every kind, for counts; in the order of [`What::kind`].
    pub(crate) const KINDS: [&str; 29] = [
        "dies",
        "power-loss",
        "freezes",
        "shard-hangs",
        "region-dark",
        "region-dies",
        "region-alone",
        "one-way",
        "cut",
        "deaf",
        "mute",
        "lossy",
        "clog",
        "offline",
        "herd",
        "directory-failover",
        "directory-down",
        "directory-slow",
        "directory-wiped",
        "names-down",
        "clock-jumps",
        "clock-drifts",
        "certificate-expires",
        "overload",
        "region-flaps",
        "flaps",
        "drain",
        "upgrade",
        "gray",
    ];

    /// Whether it befalls the directory that all gateways share.
    pub(crate) fn is_of_the_directory(&self) -> bool {
        use What::{DirectoryDown, DirectoryFailover, DirectorySlow, DirectoryWiped};
        matches!(self, DirectoryFailover | DirectoryDown | DirectorySlow { .. } | DirectoryWiped)
    }

    /// Its place in [`What::KINDS`].
    pub(crate) fn kind(&self) -> usize {
        match self {
            What::Dies { .. } => 0,
            What::PowerLoss { .. } => 1,
            What::Freezes { .. } => 2,
            What::ShardHangs { .. } => 3,
            What::RegionDark { .. } => 4,
            What::RegionDies { .. } => 5,
            What::RegionAlone { .. } => 6,
            What::OneWay { .. } => 7,
            What::Cut { .. } => 8,
            What::Deaf { .. } => 9,
            What::Mute { .. } => 10,
            What::Lossy { .. } => 11,
            What::Clog { .. } => 12,
            What::Offline { .. } => 13,
            What::Herd { .. } => 14,
            What::DirectoryFailover => 15,
            What::DirectoryDown => 16,
            What::DirectorySlow { .. } => 17,
            What::DirectoryWiped => 18,
            What::NamesDown => 19,
            What::ClockJumps { .. } => 20,
            What::ClockDrifts { .. } => 21,
            What::CertificateExpires { .. } => 22,
            What::Overload { .. } => 23,
            What::RegionFlaps { .. } => 24,
            What::Flaps { .. } => 25,
            What::Drain { .. } => 26,
            What::Upgrade { .. } => 27,
            What::Gray { .. } => 28,
        }
    }
}

impl Schedule {
    /// Reads a scenario file's text.
    ///
    /// # Errors
    /// When it is no such file, or names what its world does not have.
    pub(crate) fn read(text: &str) -> anyhow::Result<Schedule> {
        let schedule: Schedule = toml::from_str(text)?;
        let shape = &schedule.world;
        let regions = shape.regions.len();
        anyhow::ensure!(regions > 0, "a world needs regions");
        anyhow::ensure!(
            shape.gateways.len() == regions && shape.nodes.len() == regions,
            "gateways and nodes are told for each region"
        );
        for region in &shape.regions {
            anyhow::ensure!(crate::geography::city(region).is_some(), "no city {region} is known");
        }
        for fault in &schedule.faults {
            schedule.check(fault)?;
        }
        Ok(schedule)
    }

    fn check(&self, fault: &Fault) -> anyhow::Result<()> {
        let names = Names::of(&self.world);
        let process = |who: &String| {
            anyhow::ensure!(names.process(who).is_some(), "there is no process {who}");
            Ok(())
        };
        let zone = |name: &String| {
            anyhow::ensure!(names.zone(name).is_some(), "there is no place {name}");
            Ok(())
        };
        match &fault.what {
            What::Dies { who }
            | What::PowerLoss { who }
            | What::Freezes { who }
            | What::ShardHangs { who }
            | What::Deaf { who }
            | What::Mute { who }
            | What::ClockJumps { who, .. }
            | What::ClockDrifts { who, .. }
            | What::CertificateExpires { who }
            | What::Overload { who }
            | What::Flaps { who, .. }
            | What::Drain { who, .. }
            | What::Upgrade { who }
            | What::Gray { who } => process(who),
            What::RegionDark { region }
            | What::RegionDies { region }
            | What::RegionAlone { region }
            | What::RegionFlaps { region, .. }
            | What::Offline { people: region }
            | What::Herd { people: region } => zone(region),
            What::OneWay { from, to }
            | What::Cut { from, to }
            | What::Lossy { from, to, .. }
            | What::Clog { from, to } => zone(from).and_then(|()| zone(to)),
            What::DirectoryFailover
            | What::DirectoryDown
            | What::DirectorySlow { .. }
            | What::DirectoryWiped
            | What::NamesDown => Ok(()),
        }
    }

    /// The file's text.
    pub(crate) fn write(&self) -> String {
        toml::to_string(self).expect("a schedule is made of what TOML knows")
    }
}

/// Names of processes and places, and their numbers.
pub(crate) struct Names {
    pub(crate) regions: Vec<String>,
    /// Gateways first, then nodes, each region by region.
    pub(crate) processes: Vec<(String, usize)>,
    pub(crate) gateways: usize,
}

impl Names {
    pub(crate) fn of(shape: &Shape) -> Names {
        let mut processes = Vec::new();
        for (kind, counts) in [("g", &shape.gateways), ("n", &shape.nodes)] {
            for (region, count) in counts.iter().enumerate() {
                for n in 1..=*count {
                    processes.push((format!("{}-{kind}{n}", shape.regions[region]), region));
                }
            }
        }
        let gateways = shape.gateways.iter().sum();
        Names { regions: shape.regions.clone(), processes, gateways }
    }

    /// The number of a process: gateways first.
    pub(crate) fn process(&self, name: &str) -> Option<usize> {
        self.processes.iter().position(|(known, _)| known == name)
    }

    /// The number of a place: regions first, then the people around each.
    pub(crate) fn zone(&self, name: &str) -> Option<usize> {
        let (city, offset) = match name.strip_prefix("people-of-") {
            Some(city) => (city, self.regions.len()),
            None => (name, 0),
        };
        Some(self.regions.iter().position(|region| region == city)? + offset)
    }
}
