//! RTCP in: what publishers report of their clocks, and what subscribers ask for.

use std::time::Duration;

use outlast_model::Time;

use super::{Peer, Plane, steer};
use crate::config::{Kind, PeerKey, SubscriptionKey};
use crate::incoming::Role;
use crate::layer::Anchor;
use crate::rtcp::{Block, Blocks, Compound, NackPairs, Packet};
use crate::srtp::OpenError;

/// Most sequence numbers of one peer that may wait for a flush: a client cannot make the plane hold more, nor take the
/// turn of the others. Half of what a layer's ring holds.
const ASKED_MAX: usize = 256;
/// A round trip above this is a receiver's mistake.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(5);

impl Plane {
    pub(super) fn receive_rtcp(&mut self, now: Time, key: PeerKey, datagram: &mut [u8]) -> bool {
        let Some(peer) = self.peers.get_mut(key) else { return false };
        let Some(opener) = &mut peer.opener else {
            self.counters.dropped.no_keys += 1;
            return false;
        };
        let length = match opener.rtcp(datagram) {
            Ok(length) => length,
            Err(OpenError::Forged) => {
                self.counters.dropped.forged += 1;
                return false;
            }
            Err(OpenError::Replayed) => {
                self.counters.dropped.replayed += 1;
                return false;
            }
        };
        self.counters.rtcp_in += 1;
        for packet in Compound(&datagram[..length]) {
            self.control(now, key, packet);
        }
        true
    }

    fn control(&mut self, now: Time, key: PeerKey, packet: Packet<'_>) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        match packet {
            Packet::SenderReport { ssrc, ntp, timestamp, blocks } => {
                let anchor = Anchor { ntp, timestamp, arrived: now };
                self.anchor(key, ssrc, anchor);
                self.reported(now, key, blocks);
            }
            Packet::ReceiverReport { blocks } => self.reported(now, key, blocks),
            Packet::Nack { media, pairs } => {
                if let Some(subscription) = peer.subscription(media) {
                    self.asked_again(subscription, pairs);
                }
            }
            Packet::Pli { media } => {
                if let Some(subscription) = peer.subscription(media) {
                    self.key_frame_asked(now, subscription);
                }
            }
            Packet::Fir { entries } => {
                for media in entries {
                    let subscription = self.peers[key].subscription(media);
                    subscription.into_iter().for_each(|found| self.key_frame_asked(now, found));
                }
            }
            Packet::Twcc(feedback) => {
                self.counters.feedback_received += 1;
                peer.log.on_feedback(feedback);
            }
            Packet::Bye { sources } => {
                for ssrc in sources {
                    self.said_bye(now, key, ssrc);
                }
            }
            // REMB is the receiver's guess; issue E estimates from transport-wide feedback.
            Packet::Remb { .. } | Packet::Other => (),
        }
    }

    /// A subscriber lost packets; they go out at the next flush.
    fn asked_again(&mut self, key: SubscriptionKey, pairs: NackPairs<'_>) {
        let Some(here) = self.subscriptions.get(key) else { return };
        let Some(peer) = self.peers.get_mut(here.peer) else { return };
        if peer.asked_before != self.flushes {
            (peer.asked_before, peer.asked) = (self.flushes, 0);
        }
        let (asked, counters) = (&mut self.asked, &mut self.counters);
        pairs.for_each(|sequence| {
            counters.nacks_received += 1;
            if !here.config.nack {
                return;
            }
            if peer.asked == ASKED_MAX {
                counters.dropped.retransmission_limit += 1;
                return;
            }
            peer.asked += 1;
            asked.push((key, here.extended(sequence)));
        });
    }

    fn media_role(peer: &Peer, ssrc: u32) -> Option<Role> {
        peer.incoming(ssrc).ok().and_then(|at| peer.incoming[at].role)
    }

    /// A publisher's sender report.
    fn anchor(&mut self, key: PeerKey, ssrc: u32, anchor: Anchor) {
        let peer = &mut self.peers[key];
        let Ok(at) = peer.incoming(ssrc) else { return };
        let incoming = &mut peer.incoming[at];
        incoming.report = Some(((anchor.ntp >> 16) as u32, anchor.arrived));
        if let Some(Role::Media { publication, layer }) = incoming.role
            && let Some(here) = self.publications.get_mut(publication)
        {
            here.layers[usize::from(layer)].anchor = Some(anchor);
        }
    }

    /// A receiver's report blocks on what we send.
    fn reported(&mut self, now: Time, key: PeerKey, blocks: Blocks<'_>) {
        let peer = &mut self.peers[key];
        for block in blocks {
            let Some(subscription) = peer.subscription(block.ssrc) else { continue };
            let Some(here) = self.subscriptions.get_mut(subscription) else { continue };
            here.fraction_lost = block.fraction_lost;
            here.lost = block.lost;
            if let Some(round_trip) = round_trip(now, here.report.last, &block) {
                here.round_trip = Some(round_trip);
                peer.round_trip = round_trip;
            }
        }
    }

    /// A subscriber lost its picture.
    fn key_frame_asked(&mut self, now: Time, key: SubscriptionKey) {
        self.counters.plis_received += 1;
        let Some(here) = self.subscriptions.get(key) else { return };
        let Some(source) = self.publications.get_mut(here.publication) else { return };
        if source.kind != Kind::Video || source.muted || !here.wanted.enabled {
            return;
        }
        let layer = here.layer().unwrap_or(here.target);
        if let Some(layer) = source.layers.get_mut(layer) {
            layer.broke();
            steer(&mut self.timers, source, here.publication, now);
        }
    }

    /// A publisher ends a stream: its layer is silent from now on.
    fn said_bye(&mut self, now: Time, key: PeerKey, ssrc: u32) {
        let Some(role) = Self::media_role(&self.peers[key], ssrc) else { return };
        if let Role::Media { publication, layer } = role
            && let Some(here) = self.publications.get_mut(publication)
        {
            here.layers[usize::from(layer)].active = false;
            steer(&mut self.timers, here, publication, now);
        }
    }
}

/// RFC 3550 §6.4.1, on our own clock.
fn round_trip(now: Time, sent: Option<(u32, Time)>, block: &Block) -> Option<Duration> {
    let (report, at) = sent?;
    // Some clients keep the report's time in a clock of their own and are a unit off when they turn it back.
    let off = (block.last_report.wrapping_sub(report) as i32).unsigned_abs();
    if block.last_report == 0 || off > 1 {
        return None;
    }
    let held = Duration::from_nanos(u64::from(block.delay) * 1_000_000_000 / 65_536);
    // The delay is rounded: on a short path it may exceed the whole.
    Some(now.since(at).saturating_sub(held)).filter(|span| *span <= ROUND_TRIP_MAX)
}
