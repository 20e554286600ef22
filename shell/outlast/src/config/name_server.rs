//! Rules of the role dns, and of where clients are.

use std::{path::Path, time::Duration};

use outlast_dns_core::{NameServer, ZoneError};
use outlast_locate::Locations;
use outlast_model::RegionName;

use super::{
    rules::Rules,
    settings::{Dns, Locate, Peer, PeerRole},
};

/// This process, as far as name servers are concerned.
pub(crate) struct Own<'a> {
    pub(crate) id: String,
    pub(crate) region: &'a str,
}

impl Rules<'_> {
    /// The name server of this process, and the mistakes in what it needs.
    pub(crate) fn name_server(&mut self, own: Own<'_>, peers: &[Peer]) -> Option<Dns> {
        let regions = regions(own.region, peers);
        if !self.has_role("dns") {
            return None;
        }
        if self.values.absent("dns.zone") {
            let remedy = "Write zone = \"api.example.net\" under [dns], the name that clients dial";
            self.wrong("dns.zone", "the name server has no zone", remedy);
        }
        if self.values.absent("dns.public") {
            let what = "resolvers would not find this name server by its name";
            let remedy = "Write public = [\"...\"] under [dns], its public addresses";
            self.wrong("dns.public", what, remedy);
        }
        if self.has_role("gateway") && self.values.absent("gateway.public") {
            let what = "the name server would not know where clients reach the gateway beside it";
            let remedy = "Write public = [\"...\"] under [gateway], its public addresses";
            self.wrong("gateway.public", what, remedy);
        }
        let values = self.values;
        let dns = Dns {
            id: own.id,
            zone: values.text("dns.zone").to_owned(),
            listen: values.sockets("dns.listen").to_vec(),
            public: values.addresses("dns.public").to_vec(),
            beat: values.socket("dns.beat"),
            ttl: Duration::from_secs(values.integer("dns.ttl_s")),
            answers_per_second: values.integer("dns.answers_per_s"),
        };
        if values.written("dns.zone") {
            let checked = outlast_dns_core::check(&dns.zone, &regions, &servers(&dns, peers));
            if let Err(error) = checked {
                let remedy = match error {
                    ZoneError::Name(_) | ZoneError::Short(_) => {
                        "Write \"api.example.net\" or the like"
                    }
                    ZoneError::Twice(_) => "Give the region or the name server another name",
                    ZoneError::NoServer | ZoneError::Servers(_) => "Keep 1 to 13 of them",
                };
                self.wrong("dns.zone", error.to_string(), remedy);
            }
        }
        Some(dns)
    }

    /// Where clients are; its files are read to see whether they can be.
    pub(crate) fn locate(&mut self, regions: &[RegionName]) -> Locate {
        let path = |key| self.values.written(key).then(|| self.path(key));
        let crossed = self.values.text("locate.order") == "crossed";
        let locate = Locate { file: path("locate.file"), database: path("locate.mmdb"), crossed };
        if let Err((key, what)) = locations(&locate, regions) {
            self.wrong(key, what, "docs/dns.md tells what it is to hold");
        }
        locate
    }
}

/// Every region of the cluster in which nodes or gateways are, sorted.
pub(crate) fn regions(own: &str, peers: &[Peer]) -> Vec<RegionName> {
    let others = peers.iter().filter(|peer| peer.role != PeerRole::Dns);
    let names = others.map(|peer| peer.region.as_str()).chain([own]);
    let mut names: Vec<_> = names.filter(|name| !name.is_empty()).map(RegionName::from).collect();
    names.sort();
    names.dedup();
    names
}

/// Every name server, in the same order at each.
pub(crate) fn servers(own: &Dns, peers: &[Peer]) -> Vec<NameServer> {
    let others = peers.iter().filter(|peer| peer.role == PeerRole::Dns);
    let others =
        others.map(|peer| NameServer { id: peer.id.clone(), addresses: peer.public.clone() });
    let own = NameServer { id: own.id.clone(), addresses: own.public.clone() };
    let mut servers: Vec<_> = others.chain([own]).collect();
    servers.sort_by(|a, b| a.id.cmp(&b.id));
    servers
}

/// What is known of where clients are, from the files of `locate.file` and `locate.mmdb`.
///
/// # Errors
/// The key that is wrong, and what is.
pub(crate) fn locations(
    locate: &Locate,
    regions: &[RegionName],
) -> Result<Locations, (&'static str, String)> {
    let unreadable =
        |path: &Path, error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let text = locate.file.as_deref().map_or(Ok(String::new()), |path| {
        std::fs::read_to_string(path).map_err(|error| ("locate.file", unreadable(path, error)))
    })?;
    let parsed = Locations::parse(&text, regions);
    let locations = parsed.map_err(|error| ("locate.file", error.to_string()))?;
    let Some(path) = &locate.database else { return Ok(locations) };
    let bytes = std::fs::read(path).map_err(|error| ("locate.mmdb", unreadable(path, error)))?;
    locations.with_database(bytes).map_err(|error| ("locate.mmdb", error.to_string()))
}
