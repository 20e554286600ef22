//! The embedded directory: a table in this process, which nobody has to install and which dies with it.

use std::io;

use aws_lc_rs::hmac;
use outlast_directory::{InstanceId, Reply, Request, RoomKeyer, Table};
use outlast_model::Time;
use outlast_runtime::entropy;

/// What the keys of rooms are for, so that nothing else that is made of the cluster's secret is ever the same.
const LABEL: &[u8] = b"outlast directory room keys, version 1";

/// Makes rooms' keys from the cluster's secret: the first half of HMAC-SHA256 of a label under it is the key that names are
/// hashed with, so that whoever reads a directory learns no names.
pub fn room_keyer(cluster_secret: &[u8]) -> RoomKeyer {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, cluster_secret), LABEL);
    let (key, _) = tag.as_ref().split_first_chunk().expect("a tag has 32 bytes");
    RoomKeyer::new(*key)
}

/// The directory of one gateway.
pub(crate) struct Embedded {
    table: Table,
}

impl Embedded {
    /// An empty directory.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub(crate) fn new() -> io::Result<Embedded> {
        Ok(Embedded { table: Table::new(InstanceId(u128::from_le_bytes(entropy::bytes()?))) })
    }

    /// Answers at once.
    pub(crate) fn apply(&mut self, now: Time, request: &Request) -> Reply {
        self.table.apply(now, request)
    }

    /// Forgets everything, and is another directory from now on.
    pub(crate) fn wipe(&mut self) {
        let before = self.table.instance();
        let instance = entropy::bytes().map_or(before.0.wrapping_add(1), u128::from_le_bytes);
        self.table = Table::new(InstanceId(instance));
    }

    /// Rooms that are held.
    pub(crate) fn rooms(&self) -> usize {
        self.table.rooms()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wiped_directory_is_another_one() {
        let mut directory = Embedded::new().unwrap();
        let mut instance = || directory.apply(Time::ZERO, &Request::Instance);
        let (first, again) = (instance(), instance());
        assert_eq!(first, again);
        directory.wipe();
        assert_ne!(directory.apply(Time::ZERO, &Request::Instance), first);
    }

    #[test]
    fn keys_hang_on_the_secret_and_stay_what_they_are() {
        let key = |secret: &[u8]| room_keyer(secret).key(&"standup".into());
        assert_eq!(key(b"one"), key(b"one"));
        assert_ne!(key(b"one"), key(b"two"));
        // The same at every gateway of every version: HMAC-SHA256 by Python's hmac, then SipHash-2-4-128.
        assert_eq!(
            key(b"0123456789abcdef0123456789abcdef").to_string(),
            "133cba43e3686c4937c8487050b35f97"
        );
    }
}
