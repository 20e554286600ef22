//! Which names there are, and what is always said of them: the service's own name, one for each region, and those of the
//! name servers. Everything else does not exist (RFC 8020), and nothing outside is known here.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use hickory_proto::rr::{LowerName, Name, RData, Record, rdata};
use outlast_model::RegionName;

/// Most name servers: their names and addresses fit into one datagram.
pub const SERVERS_MAX: usize = 13;

/// How long the name servers and their addresses may be kept. They are in the parent zone, too, and change with a deployment.
const SERVERS_TTL: Duration = Duration::from_secs(3_600);

/// A name server of the zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameServer {
    /// Its id in the configuration; its name is `ID.ns.ZONE`.
    pub id: String,
    /// Where it is asked.
    pub addresses: Vec<IpAddr>,
}

/// Why a zone cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZoneError {
    /// Not a name, or too long a one: 63 bytes a label, 255 in all.
    #[error("{0:?} is no domain name")]
    Name(String),
    /// The root and a top-level domain are nobody's service.
    #[error("{0:?} is not below a domain")]
    Short(String),
    /// A region's name and a name server's meet, or two of them differ in case alone.
    #[error("the name {0} would stand for two things")]
    Twice(String),
    /// A zone without name servers cannot be delegated.
    #[error("there is no name server")]
    NoServer,
    /// More than [`SERVERS_MAX`].
    #[error("there are {0} name servers, more than {SERVERS_MAX}")]
    Servers(usize),
}

/// What a name of the zone stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stands {
    /// The service: gateways of the regions that are nearest.
    Service,
    /// The service, in one region as long as that lives.
    Region(RegionName),
    /// A name server.
    Server(usize),
    /// Nothing itself; there are names below it (RFC 4592, section 2.2.2).
    Between,
}

/// Where a name is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    Here(&'a Stands),
    /// In the zone, and there is no such name.
    Nothing,
    Outside,
}

/// The zone.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    apex: LowerName,
    names: BTreeMap<LowerName, Stands>,
    servers: Vec<(Name, Vec<IpAddr>)>,
    pub(crate) soa: Record,
    pub(crate) ttl: u32,
}

/// Whether a zone can be.
///
/// # Errors
/// See [`ZoneError`].
pub fn check(apex: &str, regions: &[RegionName], servers: &[NameServer]) -> Result<(), ZoneError> {
    Zone::new(apex, regions, servers, Duration::ZERO).map(|_| ())
}

impl Zone {
    pub(crate) fn new(
        apex: &str,
        regions: &[RegionName],
        servers: &[NameServer],
        ttl: Duration,
    ) -> Result<Zone, ZoneError> {
        let apex = absolute(apex)?;
        if apex.num_labels() < 2 {
            return Err(ZoneError::Short(apex.to_string()));
        }
        if servers.is_empty() {
            return Err(ZoneError::NoServer);
        }
        if servers.len() > SERVERS_MAX {
            return Err(ZoneError::Servers(servers.len()));
        }
        let below = |name: &str| absolute(&format!("{name}.{apex}"));
        let mut names = BTreeMap::from([(LowerName::from(&apex), Stands::Service)]);
        let mut add = |name: &Name, stands| match names.insert(name.into(), stands) {
            None => Ok(()),
            Some(_) => Err(ZoneError::Twice(name.to_string())),
        };
        for region in regions {
            add(&below(region.as_str())?, Stands::Region(region.clone()))?;
        }
        let mut named = Vec::new();
        for (index, NameServer { id, addresses }) in servers.iter().enumerate() {
            let name = below(&format!("{id}.ns"))?;
            add(&name, Stands::Server(index))?;
            named.push((name, addresses.clone()));
        }
        for name in names.keys().cloned().collect::<Vec<_>>() {
            let mut name = Name::from(name);
            while name.num_labels() > apex.num_labels() {
                name = name.base_name();
                names.entry((&name).into()).or_insert(Stands::Between);
            }
        }
        let ttl = u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX);
        let hour = 3_600;
        // There are no transfers, so nobody compares serial numbers; they are the same at every server, as tools expect.
        let soa = rdata::SOA::new(
            named[0].0.clone(),
            below("hostmaster")?,
            1,
            hour,
            600,
            7 * 24 * hour,
            ttl,
        );
        let soa = Record::from_rdata(apex.clone(), ttl, RData::SOA(soa));
        Ok(Zone { apex: (&apex).into(), names, servers: named, soa, ttl })
    }

    pub(crate) fn find(&self, name: &LowerName) -> Found<'_> {
        if !self.apex.zone_of(name) {
            return Found::Outside;
        }
        self.names.get(name).map_or(Found::Nothing, Found::Here)
    }

    /// Where a name server is asked.
    pub(crate) fn addresses(&self, server: usize) -> &[IpAddr] {
        self.servers.get(server).map_or(&[], |(_, addresses)| addresses)
    }

    /// The NS records of the apex, which is written as `owner`.
    pub(crate) fn servers<'a>(&'a self, owner: &'a Name) -> impl Iterator<Item = Record> + 'a {
        let ttl = servers_ttl();
        self.servers.iter().map(move |(name, _)| {
            Record::from_rdata(owner.clone(), ttl, RData::NS(rdata::NS(name.clone())))
        })
    }

    /// The name servers' addresses.
    pub(crate) fn glue(&self) -> impl Iterator<Item = Record> + '_ {
        let all = self.servers.iter();
        let all = all.flat_map(|(name, addresses)| addresses.iter().map(move |it| (name, *it)));
        all.map(|(name, address)| address_record(name, servers_ttl(), address))
    }
}

pub(crate) fn servers_ttl() -> u32 {
    u32::try_from(SERVERS_TTL.as_secs()).unwrap_or(u32::MAX)
}

/// An A or AAAA record.
pub(crate) fn address_record(owner: &Name, ttl: u32, address: IpAddr) -> Record {
    let data = match address {
        IpAddr::V4(address) => RData::A(address.into()),
        IpAddr::V6(address) => RData::AAAA(address.into()),
    };
    Record::from_rdata(owner.clone(), ttl, data)
}

fn absolute(text: &str) -> Result<Name, ZoneError> {
    let wrong = || ZoneError::Name(text.to_owned());
    let mut name = Name::from_ascii(text).map_err(|_| wrong())?;
    name.set_fqdn(true);
    // Characters that need no escape in a master file, and that browsers take.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let fits = name.iter().all(|label| label.iter().all(|byte| plain(*byte)));
    (fits && !text.is_empty()).then_some(name).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(ids: &[&str]) -> Vec<NameServer> {
        let server =
            |id: &&str| NameServer { id: (*id).into(), addresses: vec![[192, 0, 2, 1].into()] };
        ids.iter().map(server).collect()
    }

    fn zone(apex: &str, regions: &[&str], ids: &[&str]) -> Result<Zone, ZoneError> {
        let regions: Vec<_> = regions.iter().map(|name| RegionName::from(*name)).collect();
        Zone::new(apex, &regions, &servers(ids), Duration::from_secs(5))
    }

    #[test]
    fn a_name_is_the_service_a_region_a_server_between_or_nothing() {
        let zone = zone("API.example.net", &["eu", "us.east"], &["eu-dns"]).unwrap();
        let find = |name: &str| zone.find(&Name::from_ascii(name).unwrap().into());
        assert_eq!(find("api.EXAMPLE.net."), Found::Here(&Stands::Service));
        assert_eq!(find("Eu.api.example.net."), Found::Here(&Stands::Region("eu".into())));
        assert_eq!(
            find("us.east.api.example.net."),
            Found::Here(&Stands::Region("us.east".into()))
        );
        assert_eq!(find("eu-dns.ns.api.example.net."), Found::Here(&Stands::Server(0)));
        for between in ["ns.api.example.net.", "east.api.example.net."] {
            assert_eq!(find(between), Found::Here(&Stands::Between));
        }
        assert_eq!(find("_443._https.api.example.net."), Found::Nothing);
        assert_eq!(find("x.eu.api.example.net."), Found::Nothing);
        for outside in ["example.net.", "net.", ".", "xapi.example.net.", "api.example.org."] {
            assert_eq!(find(outside), Found::Outside, "{outside}");
        }
    }

    #[test]
    fn zones_that_cannot_be_are_refused() {
        let error =
            |apex: &str, regions: &[&str], ids: &[&str]| zone(apex, regions, ids).unwrap_err();
        let long = format!("{}.example.net", "a".repeat(64));
        for apex in ["", "exa mple.net", "a..b", &long] {
            assert!(matches!(error(apex, &[], &["a"]), ZoneError::Name(_)), "{apex}");
        }
        for apex in [".", "net"] {
            assert!(matches!(error(apex, &[], &["a"]), ZoneError::Short(_) | ZoneError::Name(_)));
        }
        assert_eq!(error("a.net", &["ns"], &[]), ZoneError::NoServer);
        assert_eq!(error("a.net", &[], &["x"; 14]), ZoneError::Servers(14));
        for (regions, ids) in
            [(&["a.ns"][..], &["a"][..]), (&["eu", "EU"], &["a"]), (&[], &["a", "A"])]
        {
            assert!(matches!(error("a.net", regions, ids), ZoneError::Twice(_)));
        }
    }
}
