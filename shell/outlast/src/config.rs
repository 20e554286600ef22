//! The configuration: flags over environment over file; read whole, so that all mistakes are told at once.

mod directory;
mod document;
mod mistake;
mod name_server;
mod peers;
mod rules;
mod schema;
mod settings;
mod values;

use std::{collections::BTreeMap, path::Path, time::Duration};

use outlast_engines::{Access, Address};
use outlast_token::ApiKeys;

pub(crate) use directory::is_about as is_about_directory;
pub(crate) use mistake::{At, Mistake};
pub(crate) use name_server::{locations, regions, servers};
pub(crate) use schema::{KEYS, Key};
pub(crate) use settings::{Cluster, Dns, Gateway, Node, PeerRole, Secret, Settings};

use rules::Rules;
use values::Values;

/// A key's path, where its value comes from, and the value.
pub(crate) type Override = (&'static str, At, String);

/// Reads the configuration in `text`, whose relative paths start in `folder`, with `overrides` put over it (later
/// ones win). `cores` is how many shards `node.shards = 0` means.
///
/// # Errors
/// All mistakes, in the order of their lines; what is merely missing comes first.
pub(crate) fn read(
    text: &str,
    folder: &Path,
    overrides: &[Override],
    cores: usize,
) -> Result<Settings, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let mut document = document::parse(text, &mut mistakes);
    document::put_over(&mut document, overrides);
    let values = Values::read(KEYS, "", &document.entries, &mut mistakes);
    let mut rules = Rules { values: &values, folder, mistakes: &mut mistakes };
    let shards = match values.integer("node.shards") {
        0 => cores.max(1),
        shards => shards,
    };
    rules.roles();
    rules.ports(shards);
    let keys = rules.keys(&document.keys);
    let region = values.text("region").to_owned();
    let gateway_id = match values.text("gateway.id") {
        "" => format!("gateway-{region}"),
        id => id.to_owned(),
    };
    let dns_id = match values.text("dns.id") {
        "" => format!("dns-{region}"),
        id => id.to_owned(),
    };
    let own = peers::Own {
        gateway: if rules.has_role("gateway") { &gateway_id } else { "" },
        dns: if rules.has_role("dns") { &dns_id } else { "" },
        node: if rules.has_role("node") { values.text("node.id") } else { "" },
        region: &region,
    };
    let peers = peers::read(&mut rules, &document.peers, &own);
    let secret = rules.cluster(!peers.is_empty());
    // A name server of a region without nodes and gateways is no reason to count that region.
    let counts = rules.has_role("gateway") || rules.has_role("node");
    let own = name_server::Own { id: dns_id.clone(), region: if counts { &region } else { "" } };
    let locate = rules.locate(&regions(own.region, &peers));
    let dns = rules.name_server(own, &peers);
    let (directory, access) = rules.directory();
    let settings = Settings {
        keys: keys.into_iter().map(|(name, secret)| (name, Secret(secret))).collect(),
        cluster: (!peers.is_empty()).then(|| Cluster {
            secret: Secret(secret),
            ca: rules.path("cluster.ca"),
            cert: rules.path("cluster.cert"),
            key: rules.path("cluster.key"),
        }),
        gateway: rules.has_role("gateway").then(|| gateway(&rules, gateway_id.clone())),
        node: rules.has_role("node").then(|| node(&values, shards)),
        dns,
        locate,
        region,
        directory,
        access,
        admin: values.socket("admin.listen"),
        ping_interval: Duration::from_secs(values.integer("signal.ping_interval_s")),
        ping_timeout: Duration::from_secs(values.integer("signal.ping_timeout_s")),
        drain_per_second: values.integer("drain.participants_per_s"),
        drain_timeout: Duration::from_secs(values.integer("drain.timeout_s")),
        log_json: values.text("log.format") == "json",
        log_filter: values.text("log.filter").to_owned(),
        peers,
    };
    if mistakes.is_empty() {
        return Ok(settings);
    }
    mistakes.sort();
    mistakes.dedup();
    Err(mistakes)
}

/// Reads only where the directory is and what opens its door, as [`read`] does: whoever asks the directory alone need not have
/// the certificates of a gateway.
///
/// # Errors
/// All mistakes in these keys, and whatever is no configuration at all.
pub(crate) fn directory_of(
    text: &str,
    folder: &Path,
    overrides: &[Override],
) -> Result<(Address, Access), Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let mut document = document::parse(text, &mut mistakes);
    document::put_over(&mut document, overrides);
    let mut others = Vec::new();
    let values = Values::read(KEYS, "", &document.entries, &mut others);
    let found = Rules { values: &values, folder, mistakes: &mut others }.directory();
    mistakes.extend(others.into_iter().filter(|mistake| directory::is_about(&mistake.key)));
    if mistakes.is_empty() {
        return Ok(found);
    }
    mistakes.sort();
    mistakes.dedup();
    Err(mistakes)
}

fn gateway(rules: &Rules<'_>, id: String) -> Gateway {
    let values = rules.values;
    Gateway {
        id,
        listen: values.socket("gateway.listen"),
        tls: values
            .written("gateway.tls_cert")
            .then(|| (rules.path("gateway.tls_cert"), rules.path("gateway.tls_key"))),
        beat: values.socket("gateway.beat"),
        public: values.addresses("gateway.public").to_vec(),
        url: values.written("gateway.url").then(|| values.text("gateway.url").to_owned()),
        trusted_proxies: values.addresses("gateway.trusted_proxies").to_vec(),
        reconnects_per_second: values.integer("gateway.reconnects_per_s"),
        page_dir: values.written("gateway.page_dir").then(|| rules.path("gateway.page_dir")),
        state_dir: values.written("gateway.state_dir").then(|| rules.path("gateway.state_dir")),
        wipe_hook: values.flag("debug.panic_hook"),
    }
}

fn node(values: &Values, shards: usize) -> Node {
    Node {
        id: values.text("node.id").to_owned(),
        listen: values.socket("node.listen"),
        beat: values.socket("node.beat"),
        media_ports: values.integer("node.media_ports"),
        shards,
        bind: values.addresses("node.bind").to_vec(),
        advertise: values.addresses("node.advertise").to_vec(),
        participants_max: values.integer("node.participants_max"),
        capacity: values.integer("node.capacity"),
        lease: Duration::from_secs(values.integer("node.lease_s")),
        joins_per_second: values.integer("node.joins_per_s"),
        joins_burst: values.integer("node.joins_burst"),
        panic_hook: values.flag("debug.panic_hook"),
    }
}

impl Settings {
    /// The API keys as the roles want them.
    ///
    /// # Errors
    /// When the checked keys are refused after all.
    pub(crate) fn api_keys(&self) -> Result<ApiKeys, outlast_token::KeysError> {
        let keys: &BTreeMap<String, Secret> = &self.keys;
        ApiKeys::new(keys.iter().map(|(name, secret)| (name.as_str(), secret.0.as_str())))
    }
}

#[cfg(test)]
mod tests;
