//! Three regions in the laboratory: in each a database, a gateway, nodes and clients, and an operator near all of them.

use std::time::Duration;

use outlast_lab::{Lab, Plan, Shape};

use super::REGIONS;

/// Last part of a database's address.
pub(crate) const DATABASE: u8 = 1;
/// Of a gateway's.
pub(crate) const GATEWAY: u8 = 2;
/// Of the first node's; the second's is the next.
pub(crate) const NODE: u8 = 3;
/// Most nodes of a region.
pub(crate) const NODES_MAX: usize = 2;
/// Of clients'.
pub(crate) const CLIENT: u8 = 10;
/// Where servers are started from and asked how they are.
pub(crate) const OPERATOR: &str = "ops.desk";
/// The operator's site and its number.
const OPERATOR_SITE: (&str, u8) = ("ops", 9);

/// Regions `r1` to `r3` with the hosts `db`, `gateway`, `node1`, `node2` and `client`, `round_trip` apart, and the operator.
pub fn plan(seed: u64, round_trip: Duration) -> Plan {
    let hosts = [
        ("db", DATABASE),
        ("gateway", GATEWAY),
        ("node1", NODE),
        ("node2", NODE + 1),
        ("client", CLIENT),
    ];
    let (ops, number) = OPERATOR_SITE;
    let mut plan = Plan::new(seed).site(ops, number, &[("desk", CLIENT)]);
    for region in 0..REGIONS {
        plan = plan.site(&site(region), region as u8 + 1, &hosts);
        plan = plan.link(ops, &site(region), Shape::default());
        for other in 0..region {
            plan = plan.link(&site(other), &site(region), far(round_trip));
        }
    }
    plan
}

/// A way that is half of `round_trip`.
pub(crate) fn far(round_trip: Duration) -> Shape {
    Shape { delay: round_trip / 2, ..Shape::default() }
}

/// The site of `region`.
pub(crate) fn site(region: usize) -> String {
    format!("r{}", region + 1)
}

/// The host of its database.
pub(crate) fn database(region: usize) -> String {
    site(region) + ".db"
}

/// The host of its gateway.
pub(crate) fn gateway(region: usize) -> String {
    site(region) + ".gateway"
}

/// The host of one of its nodes.
pub(crate) fn node(region: usize, number: usize) -> String {
    format!("{}.node{}", site(region), number + 1)
}

/// The host of its clients.
pub(crate) fn client(region: usize) -> String {
    site(region) + ".client"
}

/// The address of the host of `region` whose last part is `last`, as the laboratory numbers them (`docs/lab.md`).
pub(crate) fn address(region: usize, last: u8) -> String {
    format!("198.18.{}.{last}", region + 1)
}

/// `command` as it is run at `host`.
pub(crate) fn inside(lab: &Lab, host: &str, command: Vec<String>) -> Vec<String> {
    let mut words = command.into_iter();
    let program = words.next().unwrap_or_default();
    let entered = lab.command(host, &program).expect("the plan has that host");
    let start = std::iter::once(entered.get_program()).chain(entered.get_args());
    start.map(|word| word.to_string_lossy().into_owned()).chain(words).collect()
}
