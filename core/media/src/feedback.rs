//! The seam for congestion control (issue E): what was sent to one peer under which transport-wide number, and what
//! became of it. There is no estimator here yet, and nothing paces.

use std::time::Duration;

use outlast_model::Time;

use crate::srtp::window::extend;
use crate::twcc::Feedback;

/// Packets remembered, at 1.5 Mbit/s about 10 s; feedback comes every 50 to 100 ms.
const SENT_MAX: u64 = 2_048;

/// One sent packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sent {
    at: Time,
    bytes: u16,
    /// Feedback has spoken of it.
    told: bool,
}

/// Totals of what a peer's feedback said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) arrived_packets: u64,
    pub(crate) arrived_bytes: u64,
    pub(crate) lost_packets: u64,
    /// Send to arrival of the newest packet of the last feedback, on two clocks: only its changes mean something.
    pub(crate) delay: Option<Duration>,
}

/// The send log of one peer.
#[derive(Default)]
pub(crate) struct SendLog {
    next: u64,
    /// By number modulo [`SENT_MAX`]; grows as packets are sent.
    sent: Vec<Sent>,
    pub(crate) fate: Fate,
}

impl SendLog {
    /// The transport-wide number of the next packet.
    pub(crate) fn number(&self) -> u16 {
        self.next as u16
    }

    /// Notes that the packet with [`SendLog::number`] was sent, and moves on to the next.
    pub(crate) fn record(&mut self, now: Time, bytes: usize) {
        let at = (self.next % SENT_MAX) as usize;
        let bytes = u16::try_from(bytes).unwrap_or(u16::MAX);
        let entry = Sent { at: now, bytes, told: false };
        match self.sent.get_mut(at) {
            Some(slot) => *slot = entry,
            None => self.sent.push(entry),
        }
        self.next += 1;
    }

    /// Folds in what the receiver says. Each packet counts once, as what it was told to be first.
    pub(crate) fn on_feedback(&mut self, feedback: Feedback<'_>) {
        let Some(newest) = self.next.checked_sub(1) else { return };
        let mut delay = None;
        feedback.for_each(|number, arrived| {
            let number = extend(newest, number);
            if number > newest || newest - number >= SENT_MAX {
                return;
            }
            let Some(sent) = self.sent.get_mut((number % SENT_MAX) as usize) else { return };
            if let Some(arrived) = arrived {
                let left = Duration::from_nanos(sent.at.as_nanos());
                delay = Some(arrived.saturating_sub(left));
            }
            if std::mem::replace(&mut sent.told, true) {
                return;
            }
            match arrived {
                Some(_) => {
                    self.fate.arrived_packets += 1;
                    self.fate.arrived_bytes += u64::from(sent.bytes);
                }
                None => self.fate.lost_packets += 1,
            }
        });
        self.fate.delay = delay.or(self.fate.delay);
    }

    /// Bits per second that the path carries. Always `None` until issue E brings an estimator: everything wanted is
    /// sent.
    pub(crate) fn estimate(&self) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtcp::{Compound, Packet};
    use crate::twcc::Recorder;

    #[test]
    fn every_packet_has_one_fate() {
        let mut log = SendLog::default();
        let mut recorder = Recorder::default();
        for number in 0..10_u64 {
            let now = Time::from_millis(100 + number);
            assert_eq!(u64::from(log.number()), number);
            log.record(now, 1_000);
            if number % 3 != 2 {
                recorder.record(now + Duration::from_millis(30), number as u16);
            }
        }
        let mut bytes = Vec::new();
        recorder.write(&mut bytes, 1, 2);
        for _ in 0..2 {
            let feedback = Compound(&bytes).find_map(|packet| match packet {
                Packet::Twcc(feedback) => Some(feedback),
                _ => None,
            });
            log.on_feedback(feedback.expect("written above"));
        }
        let fate = log.fate;
        assert_eq!((fate.arrived_packets, fate.arrived_bytes, fate.lost_packets), (7, 7_000, 3));
        assert_eq!(fate.delay, Some(Duration::from_millis(30)));
        assert_eq!(log.estimate(), None);
    }
}
