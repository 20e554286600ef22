//! Who is where: the plan's sites and hosts, numbered, and found by the names that people use.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::{error::LabError, fate::LinkId, plan::Plan};

/// A site or a single host: what a fault or a shape is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Site(usize),
    Host(usize),
}

/// A network namespace with addresses.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// `site.host`.
    pub(crate) name: String,
    pub(crate) site: usize,
    pub(crate) addresses: Vec<IpAddr>,
    /// The last part of its first address.
    last: u8,
}

#[derive(Clone, Debug)]
pub(crate) struct Atlas {
    /// Name, number and name servers of each site.
    pub(crate) sites: Vec<(String, u8, Vec<IpAddr>)>,
    pub(crate) hosts: Vec<Host>,
    places: BTreeMap<String, Place>,
}

impl Atlas {
    /// Of a plan that was checked.
    pub(crate) fn of(plan: &Plan) -> Self {
        let mut atlas = Atlas { sites: Vec::new(), hosts: Vec::new(), places: BTreeMap::new() };
        for (site, (name, entry)) in plan.site.iter().enumerate() {
            atlas.sites.push((name.clone(), entry.number, entry.dns.clone()));
            atlas.places.insert(name.clone(), Place::Site(site));
            for (host, lasts) in &entry.hosts {
                let name = format!("{name}.{host}");
                atlas.places.insert(name.clone(), Place::Host(atlas.hosts.len()));
                let addresses = lasts.iter().flat_map(|last| addresses(entry.number, *last));
                let addresses = addresses.collect();
                let last = lasts.first().copied().unwrap_or_default();
                atlas.hosts.push(Host { name, site, addresses, last });
            }
        }
        atlas
    }

    pub(crate) fn place(&self, name: &str) -> Result<Place, LabError> {
        self.places.get(name).copied().ok_or_else(|| LabError::Unknown {
            name: name.to_owned(),
            known: self.places.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        })
    }

    /// The host of that name. A site with a single one will do for it.
    pub(crate) fn host(&self, name: &str) -> Result<usize, LabError> {
        let place = self.place(name)?;
        let mut hosts = (0..self.hosts.len()).filter(|host| self.holds(place, *host));
        match (hosts.next(), hosts.next()) {
            (Some(host), None) => Ok(host),
            _ => Err(LabError::NoHost(name.to_owned())),
        }
    }

    pub(crate) fn name(&self, place: Place) -> &str {
        match place {
            Place::Site(site) => &self.sites[site].0,
            Place::Host(host) => &self.hosts[host].name,
        }
    }

    /// Whether the host is that place, or in it.
    pub(crate) fn holds(&self, place: Place, host: usize) -> bool {
        match place {
            Place::Site(site) => self.hosts[host].site == site,
            Place::Host(one) => one == host,
        }
    }

    /// Whether the one is the other, or in it.
    pub(crate) fn covers(&self, whole: Place, part: Place) -> bool {
        match part {
            Place::Host(host) => self.holds(whole, host),
            Place::Site(_) => whole == part,
        }
    }

    /// By the numbers of the plan: other sites and hosts beside them change nothing.
    pub(crate) fn link(&self, from: Place, to: Place) -> LinkId {
        let number = |place| match place {
            Place::Site(site) => u64::from(self.sites[site].1) << 8,
            Place::Host(host) => {
                let Host { site, last, .. } = self.hosts[host];
                u64::from(self.sites[site].1) << 8 | u64::from(last)
            }
        };
        LinkId(number(from) << 32 | number(to))
    }
}

/// Of both families, in the ranges for benchmarks (RFC 2544, RFC 5180). The IPv6 one reads like the other, so its digits
/// are decimal ones.
fn addresses(number: u8, last: u8) -> [IpAddr; 2] {
    let reads_like = |number: u8| {
        u16::from(number / 100) << 8 | u16::from(number / 10 % 10) << 4 | u16::from(number % 10)
    };
    let long = [0x2001, 2, 0, reads_like(number), 0, 0, 0, reads_like(last)];
    [Ipv4Addr::new(198, 18, number, last).into(), Ipv6Addr::from(long).into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_read_alike() {
        let text = addresses(3, 153).map(|address| address.to_string());
        assert_eq!(text, ["198.18.3.153", "2001:2:0:3::153"]);
    }

    #[test]
    fn names_lead_to_places_and_strangers_are_told_who_is_there() {
        let atlas = Atlas::of(&Plan::three_regions());
        let host = atlas.host("us.db").unwrap();
        assert_eq!(atlas.hosts[host].addresses[0].to_string(), "198.18.2.1");
        assert_eq!(atlas.hosts[atlas.host("near-us").unwrap()].name, "near-us.client");
        assert!(matches!(atlas.host("us"), Err(LabError::NoHost(_))));
        let said = atlas.place("usa").unwrap_err().to_string();
        assert!(
            said.starts_with("there is no \"usa\" in this lab; it has ap, ap.client,"),
            "{said}"
        );
    }

    #[test]
    fn each_direction_of_each_pair_is_a_link_of_its_own() {
        let atlas = Atlas::of(&Plan::three_regions());
        let mut places: Vec<Place> = (0..atlas.sites.len()).map(Place::Site).collect();
        places.extend((0..atlas.hosts.len()).map(Place::Host));
        let mut links: Vec<LinkId> =
            places.iter().flat_map(|a| places.iter().map(|b| atlas.link(*a, *b))).collect();
        links.sort_unstable();
        links.dedup();
        assert_eq!(links.len(), places.len() * places.len());
    }
}
