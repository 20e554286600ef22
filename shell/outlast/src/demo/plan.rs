//! What the demo consists of: regions, processes, ports, and the configuration file of each. Pure text and numbers.

use std::fmt::Write;

/// Distance between the port blocks of two regions.
const REGION_STEP: u16 = 100;
/// Distance between the port blocks of two nodes of a region.
const NODE_STEP: u16 = 10;
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
}

impl Role {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Role::Gateway => "gateway",
            Role::Node => "node",
        }
    }
}

/// One process: its name, and its ports on 127.0.0.1.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) id: String,
    pub(super) region: &'static str,
    pub(super) role: Role,
    /// Public HTTP of a gateway, internal HTTPS of a node (TCP).
    pub(super) listen: u16,
    /// Health and metrics (TCP).
    pub(super) admin: u16,
    /// Beats (UDP).
    pub(super) beat: u16,
    /// Media of a node (UDP); a gateway has none.
    pub(super) media: Option<u16>,
}

impl Planned {
    fn at(id: String, region: &'static str, role: Role, base: u16) -> Planned {
        let media = (role == Role::Node).then_some(base + 3);
        Planned { id, region, role, listen: base, admin: base + 1, beat: base + 2, media }
    }
}

/// The demo's own port, for the page's buttons.
pub(super) fn control_port(base: u16) -> u16 {
    base - 1
}

/// All nine processes. `base` is the first gateway's port, at most [`BASE_PORT_MAX`] and not zero.
pub(super) fn processes(base: u16) -> Vec<Planned> {
    let mut all = Vec::new();
    for (region, block) in REGIONS.iter().zip((base..).step_by(usize::from(REGION_STEP))) {
        let gateway = format!("{}-gateway", region.name);
        all.push(Planned::at(gateway, region.name, Role::Gateway, block));
        for number in 1..=NODES_PER_REGION {
            let node = format!("{}-{number}", region.name);
            all.push(Planned::at(node, region.name, Role::Node, block + number * NODE_STEP));
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

/// The configuration file of `one`, to stand beside the cluster's secret, the certificates and the page.
pub(super) fn config(one: &Planned, all: &[Planned], key: &ApiKey) -> String {
    let id = &one.id;
    let mut text = format!(
        "region = \"{}\"\nroles = [\"{}\"]\n\n[keys]\n\"{}\" = \"{}\"\n\n\
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
    for peer in all.iter().filter(|peer| peer.id != one.id) {
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

    #[test]
    fn no_port_is_used_twice() {
        for base in [2, 7880, BASE_PORT_MAX] {
            let all = processes(base);
            assert_eq!(all.len(), 9);
            let mut ports = BTreeSet::from([control_port(base)]);
            for one in &all {
                for port in [Some(one.listen), Some(one.admin), Some(one.beat), one.media] {
                    assert!(port.is_none_or(|port| ports.insert(port)), "{base}: {one:?}");
                }
            }
        }
    }

    #[test]
    fn a_process_knows_all_others_and_not_itself() {
        let all = processes(7880);
        let key = ApiKey { name: "k".into(), secret: "s".into() };
        let text = config(&all[1], &all, &key);
        assert_eq!(text.matches("[[peers]]").count(), 8);
        assert_eq!(text.matches("id = \"eu-1\"").count(), 1);
        assert!(text.contains("media_ports = 7893\n"));
        assert_eq!(gateway_origin(&all, "ap"), "http://127.0.0.1:8080");
    }
}
