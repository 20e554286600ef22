//! Datagrams in: opened, bound to a layer, repaired, kept in its ring and staged for the next flush.

use outlast_model::Time;

use super::{Peer, Plane, Publication, forward::Staged, steer};
use crate::codec::{self, KeyFrame, vp8};
use crate::config::{Kind, MediaCodec, PeerKey, PlaneEvent, PublicationKey};
use crate::counters::Counters;
use crate::incoming::{Incoming, Role};
use crate::ring::Meta;
use crate::rtp::{Extensions, Header, Passed};
use crate::speakers;
use crate::timers::{Timer, Timers};

/// Most SSRCs one peer may send from: 20 tracks of 3 layers with retransmissions, twice.
const INCOMING_MAX: usize = 256;
/// Feedback goes out this long after the first packet it speaks of.
const FEEDBACK_AFTER: std::time::Duration = std::time::Duration::from_millis(60);

/// A packet's place, once it is known.
struct Arrival {
    publication: PublicationKey,
    layer: u8,
    /// Extended sequence number.
    index: u64,
    /// Highest before this one.
    highest: Option<u64>,
    pt: u8,
}

impl Plane {
    /// Takes one SRTP or SRTCP datagram of `peer`, which is opened in place. Media is staged until [`Plane::flush`].
    /// Says whether the peer sent it: `false` for what is malformed, forged or replayed.
    pub fn receive(&mut self, now: Time, peer: PeerKey, datagram: &mut [u8]) -> bool {
        self.now = self.now.max(now);
        // RFC 5761 §4: RTCP's packet types lie where no payload type with its marker may.
        match datagram {
            [first, 192..=223, ..] if *first >> 6 == 2 => self.receive_rtcp(now, peer, datagram),
            [first, ..] if *first >> 6 == 2 => self.receive_rtp(now, peer, datagram),
            _ => {
                self.counters.dropped.malformed += 1;
                false
            }
        }
    }

    fn receive_rtp(&mut self, now: Time, key: PeerKey, datagram: &mut [u8]) -> bool {
        let Some(peer) = self.peers.get_mut(key) else { return false };
        let Some(header) = Header::parse(datagram) else {
            self.counters.dropped.malformed += 1;
            return false;
        };
        let Some((at, index, highest, end)) = open(peer, &header, datagram, &mut self.counters)
        else {
            return false;
        };
        self.counters.packets_in += 1;
        self.counters.bytes_in += datagram.len() as u64;
        let packet = &datagram[..end];
        let extensions = Extensions::read(header.elements(packet), &peer.ids);
        if let Some(number) = extensions.transport_cc {
            peer.arrivals.record(now, number);
            peer.last_media = header.ssrc;
            if !peer.feedback_armed {
                peer.feedback_armed = true;
                self.timers.set(now + FEEDBACK_AFTER, Timer::Feedback(key));
            }
        }
        let Some(role) = self.role(key, at, &header, &extensions) else {
            self.counters.dropped.unknown_ssrc += 1;
            return true;
        };
        let Some(publication) = self.publications.get(role.publication()) else { return true };
        let peer = &mut self.peers[key];
        let clock_rate = clock_rate(publication, header.pt);
        peer.incoming[at].received(now, index, header.timestamp, clock_rate);
        super::arm_reports(&mut self.timers, peer, key, now);
        let Some(payload) = header.payload(packet) else {
            self.counters.dropped.malformed += 1;
            return true;
        };
        match role {
            Role::Media { publication, layer } => {
                let arrival = Arrival { publication, layer, index, highest, pt: header.pt };
                self.arrived(now, key, at, &arrival);
                self.keep(now, &arrival, &header, &extensions.passed, payload);
            }
            Role::Rtx { publication, layer } => {
                let Some((original, payload)) = payload.split_first_chunk::<2>() else {
                    return true;
                };
                let original = u16::from_be_bytes(*original);
                if let Some(arrival) = self.repair(now, key, publication, layer, &header, original)
                {
                    self.keep(now, &arrival, &header, &extensions.passed, payload);
                }
            }
        }
        true
    }

    /// What the SSRC of incoming stream `at` carries, bound now if it was not.
    fn role(
        &mut self,
        key: PeerKey,
        at: usize,
        header: &Header,
        extensions: &Extensions<'_>,
    ) -> Option<Role> {
        let peer = &mut self.peers[key];
        if let Some(role) = peer.incoming[at].role {
            return Some(role);
        }
        let publications = &mut self.publications;
        let by_ssrc = peer.publications.iter().find_map(|publication| {
            let here = publications.get(*publication)?;
            role_by_ssrc(*publication, here, header.ssrc)
        });
        let role = by_ssrc.or_else(|| {
            let mid = extensions.mid?;
            let of_mid = |publication: &&PublicationKey| {
                publications.get(**publication).is_some_and(|here| here.mid.as_bytes() == mid)
            };
            let publication = *peer.publications.iter().find(of_mid)?;
            role_by_ids(publication, publications.get(publication)?, header.pt, extensions)
        })?;
        match role {
            Role::Media { publication, layer } => {
                let layer = &mut publications[publication].layers[usize::from(layer)];
                // A stream that comes after another counts on its own.
                if layer.heard.is_some() {
                    layer.start_over(header.ssrc);
                }
                layer.ssrc = Some(header.ssrc);
            }
            Role::Rtx { publication, layer } => {
                let layer = &mut publications[publication].layers[usize::from(layer)];
                layer.rtx_ssrc = Some(header.ssrc);
            }
        }
        let before = peer.incoming.iter_mut().filter(|i| i.role == Some(role));
        before.for_each(Incoming::unbind);
        peer.incoming[at].role = Some(role);
        Some(role)
    }

    /// Notes gaps before a packet, or that it filled one.
    fn arrived(&mut self, now: Time, key: PeerKey, at: usize, arrival: &Arrival) {
        let Some(publication) = self.publications.get_mut(arrival.publication) else { return };
        if !publication.nack {
            return;
        }
        let peer = &mut self.peers[key];
        let missing = &mut peer.incoming[at].missing;
        if !missing.arrived(now, arrival.highest, arrival.index) {
            lost(&mut self.timers, publication, arrival, now);
        }
        if !peer.nack_armed
            && let Some(due) = missing.wake_at()
        {
            peer.nack_armed = true;
            self.timers.set(due, Timer::Nack(key));
        }
    }

    /// Finds the place of a retransmission of packet `original`; `None` when it is here already.
    fn repair(
        &mut self,
        now: Time,
        key: PeerKey,
        publication: PublicationKey,
        layer: u8,
        header: &Header,
        original: u16,
    ) -> Option<Arrival> {
        let here = self.publications.get(publication)?;
        let Some(pt) = here.codecs.iter().find(|c| c.rtx_pt == Some(header.pt)).map(|c| c.pt)
        else {
            self.counters.dropped.unknown_pt += 1;
            return None;
        };
        let ssrc = here.layers.get(usize::from(layer))?.ssrc?;
        let peer = &mut self.peers[key];
        let at = peer.incoming(ssrc).ok()?;
        let incoming = &mut peer.incoming[at];
        let highest = incoming.window.highest();
        let index = incoming.window.estimate(original);
        if highest.is_none() || !incoming.window.accept(index) {
            self.counters.dropped.duplicate += 1;
            return None;
        }
        self.counters.repaired += 1;
        let arrival = Arrival { publication, layer, index, highest, pt };
        self.arrived(now, key, at, &arrival);
        Some(arrival)
    }

    /// Stores a packet in its layer's ring and stages it.
    fn keep(
        &mut self,
        now: Time,
        arrival: &Arrival,
        header: &Header,
        passed: &Passed<'_>,
        payload: &[u8],
    ) {
        let key = arrival.publication;
        let Some(here) = self.publications.get_mut(key) else { return };
        let Some(codec) = here.codecs.iter().find(|codec| codec.pt == arrival.pt).copied() else {
            self.counters.dropped.unknown_pt += 1;
            return;
        };
        if !here.heard {
            here.heard = true;
            self.events.push(PlaneEvent::FirstPacket(key));
            self.timers.set(now, Timer::Events);
        }
        if here.kind == Kind::Audio
            && let Some(level) = passed.audio_level
        {
            here.level.observe(level, header.timestamp, codec.clock_rate);
            if !self.speakers_armed {
                self.speakers_armed = true;
                self.timers.set(speakers::window_end(now), Timer::Speakers);
            }
        }
        let layer = &mut here.layers[usize::from(arrival.layer)];
        let first = || {
            let before = arrival.index.checked_sub(1).and_then(|before| layer.ring.get(before));
            before.is_some_and(|before| before.meta.timestamp != header.timestamp)
        };
        let key_frame = match codec::key_frame(codec.codec, payload, passed.dependency) {
            KeyFrame::Starts => true,
            KeyFrame::StartsIfFirst => first(),
            KeyFrame::No => false,
        };
        let vp8 = (codec.codec == MediaCodec::Vp8)
            .then(|| vp8::Descriptor::parse(payload))
            .flatten()
            .map(|(descriptor, _)| descriptor);
        let meta = Meta {
            pt: arrival.pt,
            marker: header.marker,
            key: key_frame,
            timestamp: header.timestamp,
            vp8,
        };
        if !layer.ring.put(arrival.index, meta, passed, payload) {
            self.counters.dropped.late += 1;
            return;
        }
        layer.heard = Some(now);
        if key_frame && here.kind == Kind::Video {
            layer.key_frame_came();
        }
        here.packets += 1;
        here.bytes += payload.len() as u64;
        if !layer.active {
            layer.active = true;
            steer(&mut self.timers, here, key, now);
        }
        if here.staged.is_empty() {
            self.dirty.push(key);
        }
        let epoch = here.layers[usize::from(arrival.layer)].epoch;
        let staged = Staged { layer: arrival.layer, epoch, index: arrival.index, padding: 0 };
        here.staged.push(staged);
    }
}

/// Opens a packet and marks it as seen; returns the incoming stream, the extended sequence number, the highest before
/// it, and the end of the plain packet.
fn open(
    peer: &mut Peer,
    header: &Header,
    datagram: &mut [u8],
    counters: &mut Counters,
) -> Option<(usize, u64, Option<u64>, usize)> {
    let Some(opener) = &peer.opener else {
        counters.dropped.no_keys += 1;
        return None;
    };
    let known = peer.incoming.binary_search_by_key(&header.ssrc, |incoming| incoming.ssrc);
    let window = known.ok().map(|at| &peer.incoming[at].window);
    let index = window.map_or(header.sequence.into(), |window| window.estimate(header.sequence));
    if window.is_some_and(|window| !window.fresh(index)) {
        counters.dropped.replayed += 1;
        return None;
    }
    let Some(end) = opener.rtp(header.ssrc, index, datagram, header.length) else {
        counters.dropped.forged += 1;
        return None;
    };
    let at = match known {
        Ok(at) => at,
        Err(_) => {
            if peer.incoming.len() >= INCOMING_MAX && !give_way(&mut peer.incoming) {
                counters.dropped.too_many_ssrcs += 1;
                return None;
            }
            let at = peer.incoming.partition_point(|incoming| incoming.ssrc < header.ssrc);
            peer.incoming.insert(at, Incoming::new(header.ssrc));
            at
        }
    };
    let window = &mut peer.incoming[at].window;
    let highest = window.highest();
    window.accept(index);
    Some((at, index, highest, end))
}

/// Drops the stream of no publication that was silent longest; false when all belong to one.
fn give_way(incoming: &mut Vec<Incoming>) -> bool {
    let oldest = (0..incoming.len())
        .filter(|at| incoming[*at].role.is_none())
        .min_by_key(|at| incoming[*at].heard);
    oldest.map(|at| incoming.remove(at)).is_some()
}

/// A gap that retransmission will not fill: a key frame must.
fn lost(timers: &mut Timers, here: &mut Publication, arrival: &Arrival, now: Time) {
    if here.kind == Kind::Video && !here.subscriptions.is_empty() {
        here.layers[usize::from(arrival.layer)].broke();
        steer(timers, here, arrival.publication, now);
    }
}

fn clock_rate(here: &Publication, pt: u8) -> u32 {
    let of = here.codecs.iter().find(|codec| codec.pt == pt || codec.rtx_pt == Some(pt));
    of.or(here.codecs.first()).map_or(90_000, |codec| codec.clock_rate)
}

fn role_by_ssrc(publication: PublicationKey, here: &Publication, ssrc: u32) -> Option<Role> {
    let position = |of: fn(&crate::layer::Layer) -> Option<u32>| {
        here.layers.iter().position(|layer| of(layer) == Some(ssrc)).map(|layer| layer as u8)
    };
    if let Some(layer) = position(|layer| layer.ssrc) {
        return Some(Role::Media { publication, layer });
    }
    position(|layer| layer.rtx_ssrc).map(|layer| Role::Rtx { publication, layer })
}

/// By rid or repaired rid (RFC 8852); a lone layer needs neither.
fn role_by_ids(
    publication: PublicationKey,
    here: &Publication,
    pt: u8,
    extensions: &Extensions<'_>,
) -> Option<Role> {
    let named = |rid: &[u8]| {
        let is = |layer: &crate::layer::Layer| {
            layer.rid.as_ref().is_some_and(|known| known.as_bytes() == rid)
        };
        here.layers.iter().position(is).map(|layer| layer as u8)
    };
    if let Some(rid) = extensions.repaired_rid {
        return named(rid).map(|layer| Role::Rtx { publication, layer });
    }
    let is_rtx = here.codecs.iter().any(|codec| codec.rtx_pt == Some(pt));
    let layer = match extensions.rid {
        Some(rid) => named(rid)?,
        None if here.layers.len() == 1 => 0,
        None => return None,
    };
    Some(if is_rtx { Role::Rtx { publication, layer } } else { Role::Media { publication, layer } })
}
