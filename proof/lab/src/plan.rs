//! What a lab consists of: sites, their hosts, and the links between. Read from TOML or built; checked before anything is
//! made of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::shape::{Shape, ShapeError};

/// Sites that a plan may have.
pub const SITES_MAX: usize = 16;
/// Hosts that a plan may have, over all sites: each is a namespace and a device.
pub const HOSTS_MAX: usize = 64;
/// Addresses of each family that a host may have.
pub const ADDRESSES_MAX: usize = 16;
/// Letters that a name may have.
const NAME_MAX: usize = 20;
/// Smallest MTU: IPv6's least (RFC 8200 §5).
const MTU_MIN: u16 = 1280;
/// Longest way from a site to the one that it is near.
const NEAR_MS_MAX: f64 = 1000.0;
/// One way between two hosts of a site: two machines in neighbouring halls.
const LOCAL_MS: f64 = 0.1;

/// A lab as it shall be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// All chance comes from it.
    pub seed: u64,
    /// Of every device, bytes.
    #[serde(default = "ethernet")]
    pub mtu: u16,
    /// Places by name.
    pub site: BTreeMap<String, Site>,
    /// What is between them.
    #[serde(default)]
    pub link: Vec<Link>,
}

/// A region, or where clients are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// N of its addresses, 198.18.N.0/24 and 2001:2:0:N::/64, from 1 to 254.
    pub number: u8,
    /// Hosts by name. Each number, from 1 to 254, is the last part of an address of either family: 10 is 198.18.N.10 and
    /// 2001:2:0:N::10.
    pub hosts: BTreeMap<String, Vec<u8>>,
    /// Its links are those of another site, and this much longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub near: Option<Near>,
    /// Between its own hosts.
    #[serde(default = "hall")]
    pub local: Shape,
    /// Name servers of commands that are run here; none leaves this machine's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
}

/// A site's distance to the one that it is near.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Near {
    /// The other.
    pub site: String,
    /// One way, milliseconds.
    pub delay_ms: f64,
}

/// Both directions between two sites.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The two.
    pub between: [String; 2],
    /// Each direction by itself.
    pub shape: Shape,
}

/// Why a plan cannot be.
#[derive(Debug, Error, PartialEq)]
pub enum PlanError {
    /// It is not TOML of this form.
    #[error("not a plan: {0}")]
    Unread(String),
    /// More than the lab takes, or nothing.
    #[error("{0}")]
    Limit(String),
    /// A name that a namespace cannot have.
    #[error("{0:?} is no name: 1 to {NAME_MAX} of a-z, 0-9 and -")]
    Name(String),
    /// An address that is taken.
    #[error("{0} and {1} have the same address")]
    Taken(String, String),
    /// Sites of the same number.
    #[error("the sites {0} and {1} have the same number")]
    Number(String, String),
    /// A link to nowhere.
    #[error("there is no site {0:?}")]
    NoSite(String),
    /// Said twice.
    #[error("the link between {0} and {1} is there twice, or leads nowhere")]
    Twice(String, String),
    /// Not said at all.
    #[error("nothing is said of the link between {0} and {1}")]
    Unlinked(String, String),
    /// A link cannot be so.
    #[error("{0}: {1}")]
    Shape(String, ShapeError),
}

impl Plan {
    /// Three regions with databases, gateways, nodes, name servers and clients, 80, 150 and 220 ms apart (round trip), and
    /// a site of clients 10 ms from each: what the region drill needs.
    #[must_use]
    pub fn three_regions() -> Self {
        Self::read(include_str!("../plans/three-regions.toml")).expect("our own plan is one")
    }

    /// Three regions with a database and a client each, any two of them `round_trip` apart: what tests of databases need.
    #[must_use]
    pub fn flat(round_trip: Duration) -> Self {
        let shape = Shape { delay: round_trip / 2, ..Shape::default() };
        let hosts = [("db", 1), ("client", 10)];
        Self::new(1)
            .site("eu", 1, &hosts)
            .site("us", 2, &hosts)
            .site("ap", 3, &hosts)
            .link("eu", "us", shape)
            .link("eu", "ap", shape)
            .link("us", "ap", shape)
    }

    /// A plan of nothing, to be built upon.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Plan { seed, mtu: ethernet(), site: BTreeMap::new(), link: Vec::new() }
    }

    /// With another site: its number, and its hosts with the last part of their address.
    #[must_use]
    pub fn site(mut self, name: &str, number: u8, hosts: &[(&str, u8)]) -> Self {
        let hosts = hosts.iter().map(|(host, last)| ((*host).to_owned(), vec![*last])).collect();
        let site = Site { number, hosts, near: None, local: hall(), dns: Vec::new() };
        self.site.insert(name.to_owned(), site);
        self
    }

    /// With another link, both directions alike.
    #[must_use]
    pub fn link(mut self, a: &str, b: &str, shape: Shape) -> Self {
        self.link.push(Link { between: [a.to_owned(), b.to_owned()], shape });
        self
    }

    /// A plan from TOML, checked.
    ///
    /// # Errors
    /// When it is not one, with the place.
    pub fn read(text: &str) -> Result<Self, PlanError> {
        let plan: Plan =
            toml::from_str(text).map_err(|error| PlanError::Unread(error.to_string()))?;
        plan.check()?;
        Ok(plan)
    }

    /// Whether a lab can be made of it.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), PlanError> {
        self.check_sites()?;
        let mut said = BTreeSet::new();
        for Link { between: [a, b], shape } in &self.link {
            for name in [a, b] {
                if !self.site.contains_key(name) {
                    return Err(PlanError::NoSite(name.clone()));
                }
            }
            if a == b || !said.insert(if a < b { [a, b] } else { [b, a] }) {
                return Err(PlanError::Twice(a.clone(), b.clone()));
            }
            let wrong = |error| PlanError::Shape(format!("link between {a} and {b}"), error);
            shape.check().map_err(wrong)?;
        }
        for a in self.site.keys() {
            for b in self.site.keys().filter(|b| a < *b) {
                let shape =
                    self.between(a, b).ok_or_else(|| PlanError::Unlinked(a.clone(), b.clone()))?;
                let wrong = |error| PlanError::Shape(format!("from {a} to {b}"), error);
                shape.check().map_err(wrong)?;
            }
        }
        Ok(())
    }

    /// The shape of the way from one site to another, or within one: what is said of it, or else what follows from what the
    /// two are near.
    pub(crate) fn between(&self, a: &str, b: &str) -> Option<Shape> {
        if a == b {
            return self.site.get(a).map(|site| site.local);
        }
        let said = self.link.iter().find(|link| {
            let [one, other] = &link.between;
            (one == a && other == b) || (one == b && other == a)
        });
        if let Some(link) = said {
            return Some(link.shape);
        }
        let near = |name: &str| self.site.get(name).and_then(|site| site.near.clone());
        // Only what is near nothing itself can be near to: so this ends.
        let (near, rest) = match (near(a), near(b)) {
            (Some(near), _) => (near, b),
            (None, Some(near)) => (near, a),
            (None, None) => return None,
        };
        let more = Shape::one_way_ms(near.delay_ms).delay;
        if near.site == rest {
            return Some(Shape { delay: more, ..Shape::default() });
        }
        let far = self.between(&near.site, rest)?;
        Some(Shape { delay: far.delay.saturating_add(more), ..far })
    }

    fn check_sites(&self) -> Result<(), PlanError> {
        let limit = |text: String| Err(PlanError::Limit(text));
        let hosts: usize = self.site.values().map(|site| site.hosts.len()).sum();
        if hosts == 0 || self.site.len() > SITES_MAX || hosts > HOSTS_MAX {
            let sites = self.site.len();
            return limit(format!(
                "{sites} sites and {hosts} hosts: at least one host, at most {SITES_MAX} and {HOSTS_MAX}"
            ));
        }
        if self.mtu < MTU_MIN {
            return limit(format!("an MTU of {}: at least {MTU_MIN}", self.mtu));
        }
        let mut numbers: BTreeMap<u8, &str> = BTreeMap::new();
        for (name, site) in &self.site {
            check_name(name)?;
            if !(1..=254).contains(&site.number) {
                return limit(format!("{name} is number {}: from 1 to 254", site.number));
            }
            if let Some(other) = numbers.insert(site.number, name) {
                return Err(PlanError::Number(other.to_owned(), name.clone()));
            }
            site.check(name)?;
            let Some(near) = &site.near else { continue };
            let other = self.site.get(&near.site);
            let other = other.ok_or_else(|| PlanError::NoSite(near.site.clone()))?;
            if other.near.is_some() || near.site == *name {
                return limit(format!(
                    "{name} is near {}, which is near another itself",
                    near.site
                ));
            }
            if !(0.0..=NEAR_MS_MAX).contains(&near.delay_ms) {
                return limit(format!(
                    "{name} is {} ms from {}: from 0 to {NEAR_MS_MAX}",
                    near.delay_ms, near.site
                ));
            }
        }
        Ok(())
    }
}

impl Site {
    fn check(&self, name: &str) -> Result<(), PlanError> {
        let mut taken: BTreeMap<u8, &str> = BTreeMap::new();
        for (host, addresses) in &self.hosts {
            check_name(host)?;
            let fits = addresses.iter().all(|last| (1..=254).contains(last));
            if addresses.is_empty() || addresses.len() > ADDRESSES_MAX || !fits {
                return Err(PlanError::Limit(format!(
                    "{name}.{host} has the addresses {addresses:?}: 1 to {ADDRESSES_MAX}, each from 1 to 254"
                )));
            }
            for last in addresses {
                if let Some(other) = taken.insert(*last, host) {
                    return Err(PlanError::Taken(
                        format!("{name}.{other}"),
                        format!("{name}.{host}"),
                    ));
                }
            }
        }
        self.local.check().map_err(|error| PlanError::Shape(format!("within {name}"), error))
    }
}

fn check_name(name: &str) -> Result<(), PlanError> {
    let fits =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    let is_name = (1..=NAME_MAX).contains(&name.len()) && name.chars().all(fits);
    if is_name && !name.starts_with('-') { Ok(()) } else { Err(PlanError::Name(name.to_owned())) }
}

fn ethernet() -> u16 {
    1500
}

fn hall() -> Shape {
    Shape::one_way_ms(LOCAL_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip_ms(plan: &Plan, a: &str, b: &str) -> f64 {
        let delay = |a, b| plan.between(a, b).unwrap().delay.as_secs_f64() * 1000.0;
        delay(a, b) + delay(b, a)
    }

    #[test]
    fn three_regions_are_as_far_apart_as_promised() {
        let plan = Plan::three_regions();
        for (a, b, promised) in [
            ("eu", "us", 80.0),
            ("ap", "us", 150.0),
            ("eu", "ap", 220.0),
            ("eu", "eu", 0.2),
            ("near-eu", "eu", 10.0),
            ("near-eu", "us", 90.0),
            ("near-eu", "near-ap", 240.0),
        ] {
            let got = round_trip_ms(&plan, a, b);
            assert!((got - promised).abs() < 1e-6, "{a} and {b}: {got} ms");
        }
        let flat = Plan::flat(Duration::from_millis(100));
        flat.check().unwrap();
        assert_eq!(round_trip_ms(&flat, "ap", "us"), 100.0);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let plan = Plan::three_regions();
        assert_eq!(Plan::read(&toml::to_string(&plan).unwrap()), Ok(plan));
    }

    #[test]
    fn a_plan_that_cannot_be_is_refused_in_words() {
        let two = || Plan::new(1).site("eu", 1, &[("a", 1)]).site("us", 2, &[("a", 1)]);
        let wire = Shape::default();
        for (plan, said) in [
            (Plan::new(1), "0 sites and 0 hosts: at least one host, at most 16 and 64"),
            (two(), "nothing is said of the link between eu and us"),
            (two().site("us", 1, &[("a", 1)]), "the sites eu and us have the same number"),
            (two().site("us", 0, &[]), "us is number 0: from 1 to 254"),
            (two().site("US", 3, &[]), "\"US\" is no name: 1 to 20 of a-z, 0-9 and -"),
            (two().link("eu", "fr", wire), "there is no site \"fr\""),
            (
                two().link("eu", "us", wire).link("us", "eu", wire),
                "the link between us and eu is there twice, or leads nowhere",
            ),
            (two().site("us", 2, &[("a", 1), ("b", 1)]), "us.a and us.b have the same address"),
            (
                two().site("us", 2, &[("a", 255)]),
                "us.a has the addresses [255]: 1 to 16, each from 1 to 254",
            ),
            (
                two().link("eu", "us", Shape { loss: 2.0, ..wire }),
                "link between eu and us: loss is 2: a probability is from 0 to 1",
            ),
        ] {
            assert_eq!(plan.check().unwrap_err().to_string(), said);
        }
        let text = "seed = 1\nsites = 2";
        assert!(Plan::read(text).unwrap_err().to_string().contains("unknown field `sites`"));
    }

    #[test]
    fn nearness_does_not_go_round_in_circles() {
        let near = |site: &str| Some(Near { site: site.to_owned(), delay_ms: 1.0 });
        let mut plan = Plan::new(1).site("eu", 1, &[("a", 1)]).site("us", 2, &[]);
        plan.site.get_mut("eu").unwrap().near = near("us");
        plan.check().unwrap();
        plan.site.get_mut("us").unwrap().near = near("eu");
        let said = plan.check().unwrap_err().to_string();
        assert_eq!(said, "eu is near us, which is near another itself");
    }
}
