//! What a gateway keeps on disk for its next start, and how it begins with it.

use std::time::Duration;

use outlast_model::Time;
use outlast_wire::{ClusterTag, Snapshot, SnapshotWriter};

use crate::world::World;

/// Span between two snapshots.
const INTERVAL: Duration = Duration::from_secs(5);
/// Rooms of one piece.
const PIECE: usize = 100;
const CLUSTER: ClusterTag = ClusterTag(1);

/// The snapshot of one gateway, whatever becomes of its process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    written_at: Time,
    bytes: Vec<u8>,
}

impl World {
    /// The gateway writes what it knows, if it is time and it knows enough.
    pub(crate) fn look_at_disk(&mut self, gateway: usize) {
        let local = self.processes[gateway].clock.local(self.now);
        let disk = &mut self.disks[gateway];
        if self.now.since(disk.written_at) < INTERVAL {
            return;
        }
        let Some(role) = self.gateways[gateway].role().filter(|role| role.settled(local)) else {
            return;
        };
        let mut writer = SnapshotWriter::new(CLUSTER, 0);
        let mut from = None;
        while let Some(next) = role.remember(from.take(), PIECE, &mut writer) {
            from = Some(next);
        }
        *disk = Disk { written_at: self.now, bytes: writer.finish() };
    }

    /// The gateway has just been started, and reads what it has left behind.
    pub(crate) fn read_disk(&mut self, gateway: usize, local: Time) {
        let Disk { written_at, bytes } = &self.disks[gateway];
        let Ok(snapshot) = Snapshot::decode(bytes, CLUSTER) else { return };
        let age = self.now.since(*written_at);
        if let Some(role) = &mut self.gateways[gateway].role {
            role.restore(local, snapshot, age);
        }
    }
}
