//! Datagrams between processes: beats, echoes, outlooks, probes. Values as `core/wire` has them, in the sender's version; sealing
//! is the shell's, but what it refuses (replayed and late ones) is refused here as well.

use outlast_model::Epoch;
use outlast_wire::{Beat, Echo, Outlook, Probed};

/// One datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    /// Processes.
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) epoch: Epoch,
    pub(crate) sequence: u64,
    pub(crate) content: Content,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Content {
    Beat(Beat),
    Echo(Echo),
    Outlook(Outlook),
    /// The number of the question, and of the room.
    Probe(u64, usize),
    Probed(Probed),
}

/// What was heard last of each process, as the opener of sealed datagrams keeps it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(Vec<(Epoch, u64)>);

impl Heard {
    /// Whether the datagram is new.
    pub(crate) fn accepts(&mut self, packet: &Packet) -> bool {
        if self.0.len() <= packet.from {
            self.0.resize(packet.from + 1, (Epoch(0), 0));
        }
        let last = &mut self.0[packet.from];
        let new = (packet.epoch, packet.sequence);
        let fresh = new > *last;
        if fresh {
            *last = new;
        }
        fresh
    }
}

/// The message as it is after it has passed a process of the version before: without the newest fields, if at all.
pub(crate) fn aged(content: Content) -> Option<Content> {
    Some(match content {
        Content::Beat(beat) => Content::Beat(Beat {
            full: false,
            lease_ms: 0,
            joins_admitted: 0,
            joins_connected: 0,
            joins_per_second: 0,
            ..beat
        }),
        Content::Outlook(outlook) => Content::Outlook(Outlook { flapping: 0, ..outlook }),
        Content::Echo(_) => content,
        Content::Probe(..) | Content::Probed(_) => return None,
    })
}
