//! One peer's receipt of one publication: which packets it gets, and what they are called there. One continuous stream,
//! whatever layer it comes from.

use std::time::Duration;

use outlast_model::Time;

use crate::codec::{red, vp8::Shift};
use crate::config::{
    CodecSpec, Kind, MediaCodec, PeerKey, PublicationKey, SubscriptionConfig, Wanted,
};
use crate::layer::{Anchor, Layer, ticks};
use crate::ring::Stored;
use crate::segment::Segments;

/// Span from a switch of layers that shared clocks may tell; more is taken for a clock that jumped.
const ALIGN_MAX: Duration = Duration::from_secs(2);
/// Share of what was forwarded that may be sent once more: 1/4, like the better receivers' own limits.
const RESEND_SHARE: u64 = 4;
/// Retransmission credit in bytes at the start and at most: about 100 ms of 2.5 Mbit/s.
const RESEND_CREDIT_MAX: u64 = 64_000;
/// A packet is not sent again within this span: the second NACK crossed the first answer.
const RESEND_SPACING: Duration = Duration::from_millis(15);
const RESENT_SLOTS: usize = 64;

/// One subscription's state.
pub(crate) struct Subscription {
    pub(crate) peer: PeerKey,
    pub(crate) publication: PublicationKey,
    pub(crate) kind: Kind,
    pub(crate) ssrc: u32,
    pub(crate) rtx_ssrc: Option<u32>,
    pub(crate) config: SubscriptionConfig,
    pub(crate) wanted: Wanted,
    /// The layer that should be forwarded.
    pub(crate) target: usize,
    clock_rate: u32,
    /// The layer that is forwarded, with its epoch; `None`: nothing is until a key frame comes.
    current: Option<(u8, u32)>,
    /// Highest extended sequence number of the current layer that was looked at.
    highest: u64,
    segments: Segments,
    /// Extended sequence number of the next packet, above all that were given or kept for late packets; starts below
    /// 2^16 as receivers assume.
    next_out: u64,
    /// First number that may be sent again as it was: nothing in its header has changed since.
    plain_from: u64,
    last: Last,
    pub(crate) rtx_next: u64,
    resend_credit: u64,
    resent: Vec<(u64, Time)>,
    pub(crate) report: SentReport,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) retransmitted: u64,
    pub(crate) lost: i32,
    pub(crate) fraction_lost: u8,
    pub(crate) round_trip: Option<Duration>,
}

/// The newest packet as the subscriber knows it.
#[derive(Clone, Copy, Default)]
struct Last {
    at: Time,
    timestamp: u32,
    picture: Option<u16>,
    base_layer: Option<u8>,
}

/// Our last sender report.
#[derive(Clone, Copy, Default)]
pub(crate) struct SentReport {
    /// Middle bits of its NTP time, and when it went; `None`: none did.
    pub(crate) last: Option<(u32, Time)>,
    /// How many packets it spoke of.
    pub(crate) packets: u64,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Forward(Renumbered),
    /// Not for this subscriber now.
    Skip,
    /// Its place is taken or forgotten.
    Late,
}

/// A packet's numbers at the subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Renumbered {
    /// Extended sequence number.
    pub(crate) index: u64,
    pub(crate) timestamp: u32,
    pub(crate) vp8: Shift,
}

impl Subscription {
    pub(crate) fn new(
        peer: PeerKey,
        publication: PublicationKey,
        kind: Kind,
        (ssrc, rtx_ssrc): (u32, Option<u32>),
        (first, clock_rate): (u16, u32),
        config: SubscriptionConfig,
    ) -> Subscription {
        // Far from a roll-over on either side: a receiver that misses the first packets guesses right.
        let first = u64::from(first & 0x3fff) + 0x1000;
        Subscription {
            peer,
            publication,
            kind,
            ssrc,
            rtx_ssrc,
            config,
            wanted: Wanted::default(),
            target: 0,
            clock_rate,
            current: None,
            highest: 0,
            segments: Segments::default(),
            next_out: first,
            plain_from: first,
            last: Last::default(),
            rtx_next: first,
            resend_credit: RESEND_CREDIT_MAX,
            resent: Vec::new(),
            report: SentReport::default(),
            packets: 0,
            bytes: 0,
            retransmitted: 0,
            lost: 0,
            fraction_lost: 0,
            round_trip: None,
        }
    }

    /// Index of the layer that is forwarded.
    pub(crate) fn layer(&self) -> Option<usize> {
        self.current.map(|(layer, _)| layer.into())
    }

    /// Stops forwarding until the next key frame; numbers go on from here.
    pub(crate) fn pause(&mut self) {
        self.current = None;
    }

    /// What headers look like has changed: packets sent before cannot be repeated bit for bit.
    pub(crate) fn headers_changed(&mut self) {
        self.plain_from = self.next_out;
    }

    /// Whether packets carry the transport-wide number: not where a plain resend must repeat the header.
    pub(crate) fn numbered(&self) -> bool {
        self.kind == Kind::Video && (self.rtx_ssrc.is_some() || !self.config.nack)
    }

    /// Whether `out` may be sent again under its own number.
    pub(crate) fn repeatable(&self, out: u64) -> bool {
        self.rtx_ssrc.is_none() && out >= self.plain_from
    }

    /// Decides on packet `index` of layer `from`, which is one of `layers`.
    pub(crate) fn admit(
        &mut self,
        now: Time,
        from: usize,
        layers: &[Layer],
        index: u64,
        stored: &Stored<'_>,
    ) -> Verdict {
        let here = (from as u8, layers[from].epoch);
        if self.current == Some(here) {
            return self.follow(now, here, index, stored);
        }
        let may_switch = from == self.target || self.current.is_none();
        if may_switch && stored.meta.key && !stored.payload.is_empty() {
            return Verdict::Forward(self.switch(now, here, layers, index, stored));
        }
        match self.segments.outward(here.0, here.1, index) {
            Some((out, segment)) if self.current.is_some() => Verdict::Forward(Renumbered {
                index: out,
                timestamp: stored.meta.timestamp.wrapping_add(segment.timestamp),
                vp8: segment.vp8,
            }),
            _ => Verdict::Skip,
        }
    }

    fn follow(&mut self, now: Time, here: (u8, u32), index: u64, stored: &Stored<'_>) -> Verdict {
        let newest = index > self.highest;
        if newest {
            self.highest = index;
            if stored.payload.is_empty() {
                // What is lost before it keeps its number, whatever begins next.
                let next = self.segments.skip(index);
                self.next_out = self.next_out.max(next.unwrap_or(0));
                return Verdict::Skip;
            }
        }
        let Some((out, segment)) = self.segments.outward(here.0, here.1, index) else {
            return Verdict::Late;
        };
        let numbers = Renumbered {
            index: out,
            timestamp: stored.meta.timestamp.wrapping_add(segment.timestamp),
            vp8: segment.vp8,
        };
        if newest {
            self.went(now, numbers, stored);
        }
        Verdict::Forward(numbers)
    }

    fn switch(
        &mut self,
        now: Time,
        here: (u8, u32),
        layers: &[Layer],
        index: u64,
        stored: &Stored<'_>,
    ) -> Renumbered {
        let timestamp = self.timestamp_shift(now, here, layers, stored.meta.timestamp);
        let vp8 = self.vp8_shift(stored);
        let closed_at = self.highest + 1;
        self.segments.begin(here, index, self.next_out, (timestamp, vp8), closed_at);
        self.current = Some(here);
        self.highest = index;
        let numbers = Renumbered {
            index: self.next_out,
            timestamp: stored.meta.timestamp.wrapping_add(timestamp),
            vp8,
        };
        self.went(now, numbers, stored);
        numbers
    }

    /// What to add to the new layer's timestamps so that they go on from what the subscriber has seen.
    fn timestamp_shift(&self, now: Time, here: (u8, u32), layers: &[Layer], timestamp: u32) -> u32 {
        let Some(before) = self.segments.last() else { return 0 };
        if (before.layer, before.epoch) == here {
            return before.timestamp;
        }
        let elapsed = ticks(now.since(self.last.at), self.clock_rate);
        let guess = self.last.timestamp.wrapping_add(elapsed.max(1));
        let anchor = |(layer, epoch): (u8, u32)| -> Option<Anchor> {
            layers.get(usize::from(layer)).filter(|l| l.epoch == epoch)?.anchor
        };
        let old = anchor((before.layer, before.epoch));
        let told = anchor(here).zip(old).map(|(new, old)| {
            new.translate(timestamp, &old, self.clock_rate).wrapping_add(before.timestamp)
        });
        let limit = ticks(ALIGN_MAX, self.clock_rate);
        let close = |told: u32| (told.wrapping_sub(guess) as i32).unsigned_abs() <= limit;
        let aligned = match told.filter(|told| close(*told)) {
            // The frames before may have been the newer ones, but time never goes back.
            Some(told) if told.wrapping_sub(self.last.timestamp) as i32 <= 0 => {
                self.last.timestamp.wrapping_add(1)
            }
            Some(told) => told,
            None => guess,
        };
        aligned.wrapping_sub(timestamp)
    }

    fn vp8_shift(&self, stored: &Stored<'_>) -> Shift {
        let Some(descriptor) = stored.meta.vp8 else { return Shift::default() };
        let mut shift = Shift::default();
        if let (Some(last), Some((_, here))) = (self.last.picture, descriptor.picture) {
            shift.picture = last.wrapping_add(1).wrapping_sub(here);
        }
        if let (Some(last), Some((_, here))) = (self.last.base_layer, descriptor.base_layer) {
            shift.base_layer = last.wrapping_add(1).wrapping_sub(here);
        }
        shift
    }

    fn went(&mut self, now: Time, numbers: Renumbered, stored: &Stored<'_>) {
        self.next_out = numbers.index + 1;
        self.last.at = now;
        self.last.timestamp = numbers.timestamp;
        if let Some(descriptor) = stored.meta.vp8 {
            let picture = descriptor.picture.map(|(_, p)| p.wrapping_add(numbers.vp8.picture));
            let base = descriptor.base_layer.map(|(_, b)| b.wrapping_add(numbers.vp8.base_layer));
            self.last.picture = picture;
            self.last.base_layer = base;
        }
    }

    /// The payload type and bytes that the subscriber takes for `stored`: RED as it comes if it may, else its primary
    /// block.
    pub(crate) fn payload<'a>(
        &self,
        stored: &Stored<'a>,
        codecs: &[CodecSpec],
    ) -> Option<(u8, &'a [u8])> {
        let map = |pt: u8| {
            self.config.pt_map.iter().find(|(theirs, _)| *theirs == pt).map(|(_, ours)| *ours)
        };
        if let Some(pt) = map(stored.meta.pt) {
            return Some((pt, stored.payload));
        }
        let codec = codecs.iter().find(|codec| codec.pt == stored.meta.pt)?;
        if codec.codec != MediaCodec::Red {
            return None;
        }
        let (primary, payload) = red::primary(stored.payload)?;
        map(primary).map(|pt| (pt, payload))
    }

    /// The retransmission payload type that goes with our `pt`.
    pub(crate) fn rtx_pt(&self, pt: u8) -> Option<u8> {
        self.config.rtx_pts.iter().find(|(media, _)| *media == pt).map(|(_, rtx)| *rtx)
    }

    /// The extended number that the subscriber means by `sequence`.
    pub(crate) fn extended(&self, sequence: u16) -> u64 {
        crate::srtp::window::extend(self.next_out.saturating_sub(1), sequence)
    }

    /// Where the packet that the subscriber knows as `out` is kept: layer, epoch, publisher's index and its numbers.
    pub(crate) fn find(&self, out: u64) -> Option<(usize, u32, u64, u32, Shift)> {
        if out >= self.next_out {
            return None;
        }
        let (index, segment) = self.segments.inward(out)?;
        Some((segment.layer.into(), segment.epoch, index, segment.timestamp, segment.vp8))
    }

    /// Whether `out` may be sent again now; takes `bytes` off the credit if so.
    pub(crate) fn may_resend(&mut self, now: Time, out: u64, bytes: usize) -> Resend {
        let at = (out % RESENT_SLOTS as u64) as usize;
        if self.resent.len() <= at {
            self.resent.resize(at + 1, (0, Time::ZERO));
        }
        let (last_out, last_at) = self.resent[at];
        if last_out == out && now < last_at + RESEND_SPACING {
            return Resend::JustSent;
        }
        let Some(credit) = self.resend_credit.checked_sub(bytes as u64) else {
            return Resend::OverLimit;
        };
        self.resend_credit = credit;
        self.resent[at] = (out, now);
        Resend::Yes
    }

    /// Counts a forwarded packet.
    pub(crate) fn count(&mut self, payload: usize) {
        self.packets += 1;
        self.bytes += payload as u64;
        self.resend_credit =
            (self.resend_credit + payload as u64 / RESEND_SHARE).min(RESEND_CREDIT_MAX);
    }

    /// NTP and timestamp of now, for a sender report; `None` until the publisher has sent one and something is
    /// forwarded.
    pub(crate) fn clock(&self, now: Time, layers: &[Layer]) -> Option<(u64, u32)> {
        let (layer, epoch) = self.current?;
        let segment = self.segments.last()?;
        let layer = layers.get(usize::from(layer)).filter(|layer| layer.epoch == epoch)?;
        let (ntp, timestamp) = layer.anchor?.at(now, self.clock_rate);
        Some((ntp, timestamp.wrapping_add(segment.timestamp)))
    }
}

/// Whether a packet may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resend {
    Yes,
    JustSent,
    OverLimit,
}

#[cfg(test)]
mod tests;
