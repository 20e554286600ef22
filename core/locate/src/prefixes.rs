//! Networks and their regions; the longest prefix that an address is in counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

/// Networks, each with an index into somebody's list of regions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prefixes {
    networks: BTreeMap<IpNet, usize>,
    /// Lengths that occur, of both families.
    lengths: BTreeSet<u8>,
}

impl Prefixes {
    /// Returns `false` when the network has a region already.
    pub(crate) fn insert(&mut self, network: IpNet, region: usize) -> bool {
        self.lengths.insert(network.prefix_len());
        self.networks.insert(network.trunc(), region).is_none()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// One look for each length that occurs.
    pub(crate) fn region(&self, address: IpAddr) -> Option<usize> {
        self.lengths.iter().rev().find_map(|length| {
            let network = IpNet::new(address, *length).ok()?.trunc();
            self.networks.get(&network).copied()
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefixes(networks: &[(&str, usize)]) -> Prefixes {
        let mut prefixes = Prefixes::default();
        for (network, region) in networks {
            assert!(prefixes.insert(network.parse().unwrap(), *region));
        }
        prefixes
    }

    #[test]
    fn the_longest_prefix_counts() {
        let prefixes = prefixes(&[
            ("10.0.0.0/8", 0),
            ("10.1.0.0/16", 1),
            ("10.1.2.3/32", 2),
            ("2001:db8::/32", 3),
            ("::/0", 4),
        ]);
        let region = |address: &str| prefixes.region(address.parse().unwrap());
        assert_eq!(region("10.2.0.1"), Some(0));
        assert_eq!(region("10.1.0.1"), Some(1));
        assert_eq!(region("10.1.2.3"), Some(2));
        assert_eq!(region("11.0.0.1"), None, "the other family's default is not this one's");
        assert_eq!(region("2001:db8::1"), Some(3));
        assert_eq!(region("fe80::1"), Some(4));
    }

    #[test]
    fn a_network_has_one_region_however_it_is_written() {
        let mut prefixes = prefixes(&[("10.1.0.0/16", 0)]);
        assert!(!prefixes.insert("10.1.255.1/16".parse().unwrap(), 1));
    }

    proptest! {
        #[test]
        fn it_finds_what_looking_at_all_of_them_finds(
            networks in prop::collection::btree_map((any::<u8>(), 0..=32_u8), 0..9_usize, 0..20),
            address in any::<u8>(),
        ) {
            // Few addresses, so that they meet.
            let ip = |byte: u8| IpAddr::from([10, byte >> 4, byte << 4, byte]);
            let networks: BTreeMap<_, _> = networks
                .into_iter()
                .map(|((byte, length), region)| (IpNet::new(ip(byte), length).unwrap().trunc(), region))
                .collect();
            let mut prefixes = Prefixes::default();
            for (network, region) in &networks {
                prefixes.insert(*network, *region);
            }
            let found = networks
                .iter()
                .filter(|(network, _)| network.contains(&ip(address)))
                .max_by_key(|(network, _)| network.prefix_len());
            prop_assert_eq!(prefixes.region(ip(address)), found.map(|(_, region)| *region));
        }
    }
}
