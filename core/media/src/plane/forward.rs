//! Packets out: what was staged goes to each subscriber in turn, so that its packets lie side by side and form GSO
//! runs; then the retransmissions that subscribers asked for.

use outlast_model::Time;

use super::{Peer, Plane, Publication};
use crate::batch::Batch;
use crate::config::{PublicationKey, SubscriptionKey};
use crate::counters::Counters;
use crate::ring::Stored;
use crate::rtp::{Outgoing, write_header};
use crate::subscription::{Renumbered, Resend, Subscription, Verdict};

/// Encoders cut a frame into packets that differ by a byte or so; up to this many bytes of padding make them one GSO
/// run.
const EVEN_MAX: usize = 4;

/// A packet to forward.
#[derive(Clone, Copy)]
pub(super) struct Staged {
    pub(super) layer: u8,
    /// The layer's: numbers of another SSRC mean other packets.
    pub(super) epoch: u32,
    /// Extended sequence number.
    pub(super) index: u64,
    /// Bytes that make it as long as its neighbours.
    pub(super) padding: u8,
}

/// How a packet goes out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// For the first time.
    Fresh,
    /// As payload of a retransmission stream (RFC 4588), with this payload type and SSRC.
    Rtx { pt: u8, ssrc: u32 },
    /// Once more, bit for bit.
    Again,
}

impl Plane {
    /// Forwards everything that was staged since the last flush, and answers retransmission requests.
    pub fn flush(&mut self, now: Time, out: &mut Batch) {
        self.now = self.now.max(now);
        self.flushes += 1;
        let mut dirty = std::mem::take(&mut self.dirty);
        for publication in dirty.drain(..) {
            self.forward(now, publication, out);
        }
        self.dirty = dirty;
        let mut asked = std::mem::take(&mut self.asked);
        for (subscription, index) in asked.drain(..) {
            self.resend(now, subscription, index, out);
        }
        self.asked = asked;
    }

    fn forward(&mut self, now: Time, key: PublicationKey, out: &mut Batch) {
        let Some(source) = self.publications.get_mut(key) else { return };
        let mut staged = std::mem::take(&mut source.staged);
        let source = &self.publications[key];
        for frame in staged.chunk_by_mut(|a, b| source.timestamp(a) == source.timestamp(b)) {
            even_out(source, frame);
        }
        for subscription in source.subscriptions.iter().filter(|_| !source.muted) {
            let Some(here) = self.subscriptions.get_mut(*subscription) else { continue };
            let Some(peer) = self.peers.get_mut(here.peer) else { continue };
            if !here.wanted.enabled || !peer.reachable() {
                continue;
            }
            for staged in &staged {
                one(now, source, staged, (here, peer), &mut self.counters, out);
            }
        }
        staged.clear();
        if let Some(source) = self.publications.get_mut(key) {
            source.staged = staged;
        }
    }

    fn resend(&mut self, now: Time, key: SubscriptionKey, index: u64, out: &mut Batch) {
        let Some(here) = self.subscriptions.get_mut(key) else { return };
        let Some(peer) = self.peers.get_mut(here.peer) else { return };
        let Some(source) = self.publications.get(here.publication) else { return };
        if !peer.reachable() || !here.wanted.enabled {
            return;
        }
        let Some((layer, epoch, kept, shift, vp8)) = here.find(index) else { return };
        let Some(layer) = source.layers.get(layer).filter(|layer| layer.epoch == epoch) else {
            return;
        };
        let Some(stored) = layer.ring.get(kept) else { return };
        let Some((pt, payload)) = here.payload(&stored, &source.codecs) else { return };
        let how = match here.rtx_ssrc {
            Some(ssrc) => here.rtx_pt(pt).map(|pt| How::Rtx { pt, ssrc }),
            None => here.repeatable(index).then_some(How::Again),
        };
        let Some(how) = how else { return };
        match here.may_resend(now, index, payload.len()) {
            Resend::Yes => (),
            Resend::JustSent => return,
            Resend::OverLimit => {
                self.counters.dropped.retransmission_limit += 1;
                return;
            }
        }
        let timestamp = stored.meta.timestamp.wrapping_add(shift);
        let numbers = Renumbered { index, timestamp, vp8 };
        let packet = Packet { pt, payload, padding: 0, stored, numbers, how };
        if write(now, peer, here, &packet, &mut self.counters, out) {
            here.retransmitted += 1;
            self.counters.retransmitted += 1;
        }
    }
}

/// A packet about to be written.
struct Packet<'a> {
    pt: u8,
    payload: &'a [u8],
    padding: u8,
    stored: Stored<'a>,
    numbers: Renumbered,
    how: How,
}

impl Publication {
    fn stored(&self, staged: &Staged) -> Option<Stored<'_>> {
        let layer = &self.layers[usize::from(staged.layer)];
        layer.ring.get(staged.index).filter(|_| layer.epoch == staged.epoch)
    }

    fn timestamp(&self, staged: &Staged) -> Option<(u8, u32)> {
        self.stored(staged).map(|stored| (staged.layer, stored.meta.timestamp))
    }
}

/// Gives the packets of one frame the padding that makes nearly equal ones equal.
fn even_out(source: &Publication, frame: &mut [Staged]) {
    let length = |staged: &Staged| source.stored(staged).map_or(0, |s| s.payload.len());
    let longest = frame.iter().map(length).max().unwrap_or(0);
    for staged in frame {
        let short = longest - length(staged);
        staged.padding = if short <= EVEN_MAX { short as u8 } else { 0 };
    }
}

/// Forwards one staged packet of `source` to one subscriber, if it is for it.
fn one(
    now: Time,
    source: &Publication,
    staged: &Staged,
    (here, peer): (&mut Subscription, &mut Peer),
    counters: &mut Counters,
    out: &mut Batch,
) {
    let Some(stored) = source.stored(staged) else {
        counters.dropped.overrun += 1;
        return;
    };
    let chosen = here.payload(&stored, &source.codecs);
    // What the subscriber cannot take is left out like padding.
    let seen = Stored { payload: chosen.map_or(&[], |(_, payload)| payload), ..stored };
    let numbers = match here.admit(now, staged.layer.into(), &source.layers, staged.index, &seen) {
        Verdict::Forward(numbers) => numbers,
        Verdict::Skip => return,
        Verdict::Late => {
            counters.dropped.late += 1;
            return;
        }
    };
    let Some((pt, payload)) = chosen else { return };
    // Without a retransmission stream a packet must be repeatable from the ring alone.
    let padding = if here.numbered() { staged.padding } else { 0 };
    let packet = Packet { pt, payload, padding, stored, numbers, how: How::Fresh };
    if write(now, peer, here, &packet, counters, out) {
        here.count(payload.len());
    }
}

/// Writes one packet into the batch and seals it in place. False, and nothing is written, without path and keys, or
/// when its number is used up.
fn write(
    now: Time,
    peer: &mut Peer,
    here: &mut Subscription,
    packet: &Packet<'_>,
    counters: &mut Counters,
    out: &mut Batch,
) -> bool {
    let Some(path) = peer.path else { return false };
    let Some(sealer) = &mut peer.sealer else { return false };
    let Packet { stored, numbers, .. } = packet;
    let (pt, ssrc, index) = match packet.how {
        How::Fresh | How::Again => (packet.pt, here.ssrc, numbers.index),
        How::Rtx { pt, ssrc } => {
            here.rtx_next += 1;
            (pt, ssrc, here.rtx_next - 1)
        }
    };
    let numbered = here.numbered() && peer.ids.transport_cc.is_some();
    // A packet of padding only came too late to be left out: it fills its place.
    let padding = if packet.payload.is_empty() { 1 } else { packet.padding };
    let arena = out.arena();
    let start = arena.len();
    let header = Outgoing {
        marker: stored.meta.marker,
        padded: padding > 0,
        pt,
        sequence: index as u16,
        timestamp: numbers.timestamp,
        ssrc,
        transport_cc: numbered.then(|| peer.log.number()),
        passed: stored.passed,
    };
    let header = write_header(arena, &header, &peer.ids);
    if let How::Rtx { .. } = packet.how {
        arena.extend_from_slice(&(numbers.index as u16).to_be_bytes());
    }
    let payload = arena.len();
    arena.extend_from_slice(packet.payload);
    if padding > 0 {
        arena.resize(arena.len() + usize::from(padding) - 1, 0);
        arena.push(padding);
    }
    if let Some(descriptor) = stored.meta.vp8 {
        descriptor.rewrite(&mut arena[payload..], numbers.vp8);
    }
    match packet.how {
        How::Fresh | How::Rtx { .. } => {
            if !sealer.rtp(ssrc, index, arena, start, header) {
                counters.dropped.number_used += 1;
                arena.truncate(start);
                return false;
            }
        }
        How::Again => sealer.rtp_again(ssrc, index, arena, start, header),
    }
    let length = arena.len() - start;
    if numbered {
        peer.log.record(now, length);
    }
    out.commit(path, start);
    counters.packets_out += 1;
    counters.bytes_out += length as u64;
    true
}
