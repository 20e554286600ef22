//! One SSRC that a peer sends: its replay window, what it is for, and what a receiver report says of it (RFC 3550
//! A.3, A.8).

use outlast_model::Time;

use crate::config::PublicationKey;
use crate::missing::Missing;
use crate::rtcp::Block;
use crate::srtp::window::Window;

/// What an SSRC carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Media {
        publication: PublicationKey,
        layer: u8,
    },
    /// Retransmissions (RFC 4588) of that layer.
    Rtx {
        publication: PublicationKey,
        layer: u8,
    },
}

impl Role {
    pub(crate) fn publication(self) -> PublicationKey {
        match self {
            Role::Media { publication, .. } | Role::Rtx { publication, .. } => publication,
        }
    }
}

/// One authenticated SSRC.
pub(crate) struct Incoming {
    pub(crate) ssrc: u32,
    pub(crate) role: Option<Role>,
    pub(crate) window: Window,
    pub(crate) missing: Missing,
    pub(crate) heard: Time,
    /// Middle bits of the NTP time of the last sender report, and when it came.
    pub(crate) report: Option<(u32, Time)>,
    reception: Reception,
}

#[derive(Default)]
struct Reception {
    first: Option<u64>,
    received: u64,
    /// Expected and received at the last report.
    before: (u64, u64),
    /// In 1/16 timestamp units.
    jitter: u32,
    transit: Option<u32>,
    /// Timestamp of the last packet measured: packets of one frame share one.
    timestamp: u32,
}

impl Incoming {
    pub(crate) fn new(ssrc: u32) -> Incoming {
        Incoming {
            ssrc,
            role: None,
            window: Window::default(),
            missing: Missing::default(),
            heard: Time::ZERO,
            report: None,
            reception: Reception::default(),
        }
    }

    /// Its layer is gone or another stream's; it may be bound again.
    pub(crate) fn unbind(&mut self) {
        self.role = None;
        self.missing.clear();
    }

    /// Notes a packet that came from the network (not repaired).
    pub(crate) fn received(&mut self, now: Time, index: u64, timestamp: u32, clock_rate: u32) {
        self.heard = now;
        let reception = &mut self.reception;
        reception.first = Some(reception.first.map_or(index, |first| first.min(index)));
        reception.received += 1;
        let here = (now.as_nanos() / 1_000 * u64::from(clock_rate) / 1_000_000) as u32;
        let transit = here.wrapping_sub(timestamp);
        if let Some(last) = reception.transit {
            // Packets of one frame leave in a row: their spread is pacing, not jitter.
            if timestamp != reception.timestamp {
                let change = (transit.wrapping_sub(last) as i32).unsigned_abs().min(1 << 24);
                reception.jitter = reception.jitter - ((reception.jitter + 8) >> 4) + change;
            }
        }
        reception.transit = Some(transit);
        reception.timestamp = timestamp;
    }

    /// Packets expected and not received, so far.
    pub(crate) fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.reception.received)
    }

    fn expected(&self) -> u64 {
        match (self.reception.first, self.window.highest()) {
            (Some(first), Some(highest)) => highest + 1 - first,
            _ => 0,
        }
    }

    /// The report block since the last one; `None` when nothing came since.
    pub(crate) fn report_block(&mut self, now: Time) -> Option<Block> {
        let expected = self.expected();
        let lost = self.lost();
        let reception = &mut self.reception;
        let (expected_before, received_before) = reception.before;
        if reception.received == received_before {
            return None;
        }
        reception.before = (expected, reception.received);
        let expected_now = expected.saturating_sub(expected_before);
        let lost_now = expected_now.saturating_sub(reception.received - received_before);
        let fraction = (lost_now * 256).checked_div(expected_now).unwrap_or(0).min(255);
        let (last_report, delay) = match self.report {
            Some((ntp, at)) => (ntp, (now.since(at).as_micros() * 65_536 / 1_000_000) as u32),
            None => (0, 0),
        };
        Some(Block {
            ssrc: self.ssrc,
            fraction_lost: fraction as u8,
            lost: lost.min(0x7f_ffff) as i32,
            highest: self.window.highest()? as u32,
            jitter: reception.jitter >> 4,
            last_report,
            delay,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_tells_loss_since_the_last_one() {
        let mut incoming = Incoming::new(7);
        for index in (0..100_u64).filter(|index| index % 4 != 3) {
            incoming.window.accept(index);
            incoming.received(Time::from_millis(20 * index), index, 960 * index as u32, 48_000);
        }
        incoming.report = Some((0x1234, Time::from_millis(1_000)));
        let block = incoming.report_block(Time::from_millis(2_000)).expect("packets came");
        assert_eq!((block.ssrc, block.lost, block.highest), (7, 24, 98));
        assert_eq!(u64::from(block.fraction_lost), 24 * 256 / 99);
        assert_eq!((block.jitter, block.last_report, block.delay), (0, 0x1234, 65_536));
        assert_eq!(incoming.report_block(Time::from_millis(2_100)), None);
        for index in 100..110 {
            incoming.window.accept(index);
            incoming.received(Time::from_millis(20 * index), index, 960 * index as u32, 48_000);
        }
        let block = incoming.report_block(Time::from_millis(3_000)).expect("packets came");
        assert_eq!((block.lost, block.fraction_lost), (25, 23));
    }

    #[test]
    fn jitter_follows_the_spread_of_arrivals() {
        let mut incoming = Incoming::new(7);
        for index in 0..200_u64 {
            let late = if index % 2 == 0 { 10 } else { 0 };
            incoming.window.accept(index);
            let now = Time::from_millis(20 * index + late);
            incoming.received(now, index, 960 * index as u32, 48_000);
        }
        let block = incoming.report_block(Time::from_millis(9_000)).expect("packets came");
        assert!((430..=480).contains(&block.jitter), "{}", block.jitter);
    }
}
