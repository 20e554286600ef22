//! Rules about `[[peers]]`: the other processes of the cluster.

use std::collections::BTreeMap;

use super::{
    document::PeerTable,
    mistake::At,
    mistake::Mistake,
    rules::Rules,
    schema::PEER_KEYS,
    settings::{Peer, PeerRole},
    values::Values,
};

/// What this process is called in each of its roles; empty where it has none.
pub(crate) struct Own<'a> {
    pub(crate) gateway: &'a str,
    pub(crate) node: &'a str,
    pub(crate) dns: &'a str,
    pub(crate) region: &'a str,
}

impl Own<'_> {
    fn is(&self, peer: &Peer) -> bool {
        let own = match peer.role {
            PeerRole::Gateway => self.gateway,
            PeerRole::Node => self.node,
            PeerRole::Dns => self.dns,
        };
        peer.id == own
    }
}

/// The peers without this process itself, which may stand in the list so that all processes can share it.
pub(crate) fn read(rules: &mut Rules<'_>, tables: &[PeerTable], own: &Own<'_>) -> Vec<Peer> {
    let mut peers: Vec<Peer> = Vec::new();
    let mut seen: BTreeMap<(PeerRole, String), usize> = BTreeMap::new();
    let mut addresses: BTreeMap<(bool, String), usize> = BTreeMap::new();
    for (index, table) in tables.iter().enumerate() {
        let prefix = format!("peers[{index}].");
        let values = Values::read(PEER_KEYS, &prefix, &table.entries, rules.mistakes);
        let peer = peer(rules, table, &values);
        let mut wrong = |key: &str, what: String, remedy: &str| {
            let at = if values.written(key) { values.at(key) } else { At::Line(table.line) };
            rules.mistakes.push(Mistake::new(at, values.name(key), what, remedy));
        };
        if !peer.id.is_empty()
            && let Some(line) = seen.insert((peer.role, peer.id.clone()), table.line)
        {
            let what = format!("{:?} is also the id of the peer in line {line}", peer.id);
            wrong("id", what, "Give every process a name of its own");
        }
        for (key, address, is_udp) in
            [("address", &peer.address, false), ("beat", &peer.beat, true)]
        {
            if !address.is_empty()
                && let Some(line) = addresses.insert((is_udp, address.clone()), table.line)
            {
                let what = format!("{address} is also that of the peer in line {line}");
                wrong(key, what, "Correct one of them");
            }
        }
        if own.is(&peer) && !own.region.is_empty() && peer.region != own.region {
            let what = format!(
                "{:?} is this process's own name, and it runs in {:?}",
                peer.id, own.region
            );
            wrong("id", what, "Give every process a name of its own");
        }
        rules.region(values.at("region"), &values.name("region"), &peer.region);
        if !own.is(&peer) {
            peers.push(peer);
        }
    }
    counterparts(rules, &peers);
    peers
}

fn peer(rules: &mut Rules<'_>, table: &PeerTable, values: &Values) -> Peer {
    let role = match values.text("role") {
        "node" => PeerRole::Node,
        "dns" => PeerRole::Dns,
        _ => PeerRole::Gateway,
    };
    let mut wanted = vec!["role", "id", "region", "beat"];
    let mut foreign = Vec::new();
    match role {
        PeerRole::Node => {
            wanted.push("address");
            foreign.extend(["public", "url"]);
        }
        PeerRole::Dns => {
            wanted.push("public");
            foreign.extend(["address", "capacity", "url"]);
        }
        PeerRole::Gateway => {
            // Nobody else hands it out.
            if rules.has_role("dns") {
                wanted.push("public");
            }
            foreign.extend(["address", "capacity"]);
        }
    }
    for key in wanted {
        // A value that was written wrongly has its own mistake.
        if !table.entries.contains_key(key) {
            let remedy = format!("Write {key} = \"...\" in this [[peers]] table");
            let what = format!("the peer has no {key}");
            rules.mistakes.push(Mistake::new(At::Line(table.line), values.name(key), what, remedy));
        }
    }
    let has_role = values.written("role");
    for key in foreign.into_iter().filter(|key| has_role && values.written(key)) {
        let what = format!("a {} has no {key}", values.text("role"));
        let mistake = Mistake::new(values.at(key), values.name(key), what, "Remove it");
        rules.mistakes.push(mistake);
    }
    let is_node = role == PeerRole::Node;
    Peer {
        role,
        id: values.text("id").to_owned(),
        region: values.text("region").to_owned(),
        address: if is_node { values.text("address").to_owned() } else { String::new() },
        beat: values.text("beat").to_owned(),
        public: values.addresses("public").to_vec(),
        url: values.written("url").then(|| values.text("url").to_owned()),
        capacity: values.integer("capacity"),
    }
}

/// A gateway without nodes, or a node or name server without gateways, has nothing to do.
fn counterparts(rules: &mut Rules<'_>, peers: &[Peer]) {
    for (role, other, counterpart) in [
        ("gateway", "node", PeerRole::Node),
        ("node", "gateway", PeerRole::Gateway),
        ("dns", "gateway", PeerRole::Gateway),
    ] {
        let found = rules.has_role(other) || peers.iter().any(|peer| peer.role == counterpart);
        if rules.has_role(role) && !found {
            let what = format!("this {role} knows no {other}");
            let remedy = format!("Add a [[peers]] table for each {other}, or the role {other}");
            rules.mistakes.push(Mistake::new(At::Missing, "peers", what, remedy));
        }
    }
}
