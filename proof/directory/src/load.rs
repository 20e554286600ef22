//! A load that makes histories worth checking: gateways of several regions race for the same rooms, replace, end and look
//! up, and ask again when they are told nothing.

mod announce;
mod region;
mod watch;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use outlast_directory::{Reply, Request, RoomKey};
use outlast_engines::{Engine, Partition};
use outlast_runtime::Clock;

use crate::history::Operation;

pub(crate) use announce::{announce, is_region, read_all};
pub(crate) use region::Region;
pub(crate) use watch::{Watched, follow, misbeliefs};

/// Partitions that a load uses, spread over those that there are.
const PARTITIONS_USED: u64 = 6;

/// What is done, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// What all choices are drawn from.
    pub(crate) seed: u64,
    /// Regions with gateways.
    pub(crate) regions: usize,
    /// New rooms each second, in every region the same ones.
    pub(crate) places_per_second: u32,
    /// For how long rooms are placed.
    pub(crate) span: Duration,
}

/// Everything that was asked and told, and where rooms are.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) clock: Clock,
    /// Rooms' keys begin at a random one.
    pub(crate) salt: u64,
    operations: Arc<Mutex<Vec<Operation>>>,
}

impl Desk {
    pub(crate) fn new(clock: Clock, salt: u64) -> Desk {
        Desk { clock, salt, operations: Arc::default() }
    }

    pub(crate) fn room(&self, number: u64) -> RoomKey {
        RoomKey((u128::from(self.salt) << 64) | u128::from(number))
    }

    /// The number of a room.
    pub(crate) fn number(&self, room: RoomKey) -> u64 {
        // The lower half.
        room.0 as u64
    }

    /// Where a room is asked for.
    pub(crate) fn partition(engine: &dyn Engine, number: u64) -> Partition {
        let all = u64::from(engine.partitions().get());
        let used = all.min(PARTITIONS_USED);
        let at = (number % used) * all / used;
        Partition(u16::try_from(at).expect("a partition's number is below their count"))
    }

    /// The partitions that are asked.
    pub(crate) fn partitions(engine: &dyn Engine) -> Vec<Partition> {
        (0..PARTITIONS_USED.min(engine.partitions().get().into()))
            .map(|number| Desk::partition(engine, number))
            .collect()
    }

    /// Asks, and keeps what was told.
    pub(crate) async fn ask(
        &self,
        engine: &Arc<dyn Engine>,
        client: u32,
        number: u64,
        request: Request,
    ) -> Reply {
        let start = self.clock.now();
        let reply = engine.ask(Desk::partition(engine.as_ref(), number), request.clone()).await;
        let end = self.clock.now();
        let told = reply.clone();
        let operation = Operation { client, start, end, request, reply: told };
        self.operations.lock().unwrap_or_else(PoisonError::into_inner).push(operation);
        reply
    }

    /// All of it so far.
    pub(crate) fn operations(&self) -> Vec<Operation> {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
