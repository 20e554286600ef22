//! What the demo consists of: regions, processes, ports, and the configuration file of each. Pure text and numbers.

use std::fmt::Write;

use super::database::Kind;

/// Distance between the port blocks of two regions.
const REGION_STEP: u16 = 100;
/// Distance between the port blocks of two processes of a region.
const STEP: u16 = 10;
/// Highest base port whose blocks still fit below 65,536.
pub(super) const BASE_PORT_MAX: u16 = 65_000;

/// One region of the demo.
pub(super) struct Region {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
}

/// The regions, in the order of their port blocks.
pub(super) const REGIONS: [Region; 3] = [
    Region { name: "eu", label: "Europe" },
    Region { name: "us", label: "America" },
    Region { name: "ap", label: "Asia" },
];
const NODES_PER_REGION: u16 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Gateway,
    Node,
    /// A member of etcd.
    Etcd,
    /// A Redis; in a cluster a primary, to begin with.
    Redis,
    /// A Redis in a cluster that is a replica, to begin with.
    Replica,
    /// Redis' Sentinel.
    Sentinel,
}

impl Role {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Role::Gateway => "gateway",
            Role::Node => "node",
            Role::Etcd => "etcd",
            Role::Redis => "redis",
            Role::Replica => "replica",
            Role::Sentinel => "sentinel",
        }
    }

    /// Whether it is this program.
    pub(super) fn is_ours(self) -> bool {
        matches!(self, Role::Gateway | Role::Node)
    }
}

/// One process: its name, and its ports on 127.0.0.1.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) id: String,
    pub(super) region: &'static str,
    pub(super) role: Role,
    /// Public HTTP of a gateway, internal HTTPS of a node, clients of a database (TCP).
    pub(super) listen: u16,
    /// Health and metrics (TCP); of a database that is `listen`.
    pub(super) admin: u16,
    /// Beats (UDP); what a database says to its like (TCP).
    pub(super) beat: u16,
    /// Media of a node (UDP); a gateway has none.
    pub(super) media: Option<u16>,
}

impl Planned {
    fn at(id: String, region: &'static str, role: Role, base: u16) -> Planned {
        let media = (role == Role::Node).then_some(base + 3);
        let (admin, beat) = if role.is_ours() { (base + 1, base + 2) } else { (base, base + 1) };
        Planned { id, region, role, listen: base, admin, beat, media }
    }
}

/// The demo's own port, for the page's buttons.
pub(super) fn control_port(base: u16) -> u16 {
    base - 1
}

/// All processes: nine, and the directory's servers. `base` is the first gateway's port, at most [`BASE_PORT_MAX`] and not
/// zero.
pub(super) fn processes(base: u16, directory: Kind) -> Vec<Planned> {
    let mut all = Vec::new();
    for (region, block) in REGIONS.iter().zip((base..).step_by(usize::from(REGION_STEP))) {
        let gateway = format!("{}-gateway", region.name);
        all.push(Planned::at(gateway, region.name, Role::Gateway, block));
        for number in 1..=NODES_PER_REGION {
            let node = format!("{}-{number}", region.name);
            all.push(Planned::at(node, region.name, Role::Node, block + number * STEP));
        }
        let blocks = (block + (NODES_PER_REGION + 1) * STEP..).step_by(usize::from(STEP));
        for (role, block) in directory.roles().iter().zip(blocks) {
            let id = format!("{}-{}", region.name, role.as_str());
            all.push(Planned::at(id, region.name, *role, block));
        }
    }
    all
}

/// The HTTP origin of a region's gateway.
pub(super) fn gateway_origin(all: &[Planned], region: &str) -> String {
    let gateway = all.iter().find(|one| one.region == region && one.role == Role::Gateway);
    format!("http://127.0.0.1:{}", gateway.expect("every region has a gateway").listen)
}

/// The API key that tokens of this demo are signed with.
pub(super) struct ApiKey {
    pub(super) name: String,
    pub(super) secret: String,
}

/// The configuration file of `one`, a gateway or a node, to stand beside the cluster's secret, the certificates and the page.
pub(super) fn config(one: &Planned, all: &[Planned], key: &ApiKey, directory: Kind) -> String {
    let id = &one.id;
    let address = directory.address(all, one.region);
    let mut text = format!(
        "region = \"{}\"\nroles = [\"{}\"]\ndirectory = \"{address}\"\n\n[keys]\n\"{}\" = \"{}\"\n\n\
         [cluster]\nsecret_file = \"secret\"\nca = \"ca.pem\"\ncert = \"{id}.pem\"\nkey = \"{id}.key\"\n\n[admin]\nlisten = \"127.0.0.1:{}\"\n\n",
        one.region,
        one.role.as_str(),
        key.name,
        key.secret,
        one.admin,
    );
    let _ = write!(
        text,
        "[{}]\nid = \"{id}\"\nlisten = \"127.0.0.1:{}\"\nbeat = \"127.0.0.1:{}\"\n",
        one.role.as_str(),
        one.listen,
        one.beat,
    );
    match one.media {
        None => text.push_str("page_dir = \"page\"\n"),
        // One shard each: six nodes share this machine's cores.
        Some(port) => {
            let _ = writeln!(
                text,
                "media_ports = {port}\nshards = 1\nbind = [\"127.0.0.1\"]\n\
                 advertise = [\"127.0.0.1\"]\ncapacity = 100",
            );
        }
    }
    let others = all.iter().filter(|other| other.role.is_ours() && other.id != *id);
    for peer in others {
        let (role, port) = (peer.role.as_str(), peer.beat);
        let _ = write!(
            text,
            "\n[[peers]]\nrole = \"{role}\"\nid = \"{}\"\nregion = \"{}\"\nbeat = \"127.0.0.1:{port}\"\n",
            peer.id, peer.region,
        );
        if peer.role == Role::Node {
            let _ = writeln!(text, "address = \"127.0.0.1:{}\"\ncapacity = 100", peer.listen);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Distance from the base port to the last one, as the help of `--base-port` says it.
    const SPAN: u16 = 241;

    #[test]
    fn no_port_is_used_twice() {
        let bases = [2, 7880, BASE_PORT_MAX];
        let directories =
            [(Kind::Embedded, 9), (Kind::Etcd, 12), (Kind::Sentinel, 15), (Kind::Cluster, 15)];
        for (base, (directory, count)) in
            bases.iter().flat_map(|base| directories.map(|one| (*base, one)))
        {
            let all = processes(base, directory);
            assert_eq!(all.len(), count);
            let mut ports = BTreeSet::from([control_port(base)]);
            for one in &all {
                let admin = one.role.is_ours().then_some(one.admin);
                for port in [Some(one.listen), admin, Some(one.beat), one.media] {
                    assert!(port.is_none_or(|port| ports.insert(port)), "{base}: {one:?}");
                }
            }
            assert!(ports.last() <= Some(&(base + SPAN)), "{ports:?}");
        }
    }

    #[test]
    fn a_process_knows_all_others_and_not_itself() {
        let all = processes(7880, Kind::Etcd);
        let key = ApiKey { name: "k".into(), secret: "s".into() };
        let text = config(&all[1], &all, &key, Kind::Etcd);
        assert_eq!(text.matches("[[peers]]").count(), 8);
        assert_eq!(text.matches("id = \"eu-1\"").count(), 1);
        assert!(text.contains("media_ports = 7893\n"));
        assert_eq!(gateway_origin(&all, "ap"), "http://127.0.0.1:8080");
    }
}
