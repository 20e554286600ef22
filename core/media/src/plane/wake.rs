//! What time brings: NACKs, transport-wide feedback, reports, the choice of layers, key frame requests, speech levels.

use std::time::Duration;

use outlast_model::Time;

use super::{Peer, Plane, Publication, steer};
use crate::batch::Batch;
use crate::config::{CNAME, Kind, PeerKey, PlaneEvent, PublicationKey};
use crate::counters::Counters;
use crate::incoming::Role;
use crate::layer::{KEY_FRAME_SPACING, Layer, ask, choose, needs_key_frame};
use crate::rtcp::{
    BLOCKS_MAX, SenderReport, write_nack, write_pli, write_receiver_report, write_sender_report,
};
use crate::speakers;
use crate::timers::Timer;

/// Span between two receiver reports to a peer.
pub(super) const REPORTS_EVERY: Duration = Duration::from_secs(1);
/// Span between two sender reports of one SSRC: LiveKit's 3 s make lips late to sync after a switch.
const SENDER_REPORT_EVERY: Duration = Duration::from_millis(1_900);
/// Span between two looks at a publication's layers.
const STEER_EVERY: Duration = Duration::from_millis(500);
/// An RTCP compound is closed beyond this length.
const COMPOUND_BYTES: usize = 1_100;

impl Plane {
    /// When [`Plane::wake`] has something to do; `None`: not before the next call of something else.
    pub fn wake_at(&self) -> Option<Time> {
        self.timers.wake_at()
    }

    /// Does everything that is due at `now`.
    pub fn wake(&mut self, now: Time, out: &mut Batch, events: &mut Vec<PlaneEvent>) {
        self.now = self.now.max(now);
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Nack(peer) => self.nack(now, peer, out),
                Timer::Feedback(peer) => self.feedback(peer, out),
                Timer::Reports(peer) => self.reports(now, peer, out),
                Timer::Steer(publication) => self.steer(now, publication, out),
                Timer::Speakers => self.speakers(now, events),
                Timer::Events => events.append(&mut self.events),
            }
        }
    }

    fn nack(&mut self, now: Time, key: PeerKey, out: &mut Batch) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.nack_armed = false;
        let start = out.arena().len();
        let mut next = None;
        for at in 0..peer.incoming.len() {
            let incoming = &mut peer.incoming[at];
            self.sequences.clear();
            let outcome = incoming.missing.due(now, peer.round_trip, &mut self.sequences);
            next = next.into_iter().chain(incoming.missing.wake_at()).min();
            self.counters.nacks_sent += outcome.asked;
            self.counters.given_up += outcome.given_up;
            let asked = self.sequences.iter().copied();
            write_nack(out.arena(), peer.ssrc, incoming.ssrc, asked);
            if outcome.given_up > 0
                && let Some(Role::Media { publication, layer }) = incoming.role
                && let Some(here) = self.publications.get_mut(publication)
                && here.kind == Kind::Video
                && !here.subscriptions.is_empty()
            {
                here.layers[usize::from(layer)].broke();
                steer(&mut self.timers, here, publication, now);
            }
        }
        if let Some(next) = next {
            peer.nack_armed = true;
            self.timers.set(next, Timer::Nack(key));
        }
        self.counters.rtcp_out += seal(peer, out, start);
    }

    fn feedback(&mut self, key: PeerKey, out: &mut Batch) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.feedback_armed = false;
        while peer.arrivals.pending() {
            let start = out.arena().len();
            peer.arrivals.write(out.arena(), peer.ssrc, peer.last_media);
            self.counters.feedback_sent += 1;
            self.counters.rtcp_out += seal(peer, out, start);
        }
    }

    fn reports(&mut self, now: Time, key: PeerKey, out: &mut Batch) {
        if !self.peers.contains_key(key) {
            return;
        }
        let start = self.sender_reports(now, key, out);
        self.receiver_reports(now, key, start, out);
        self.timers.set(now + REPORTS_EVERY, Timer::Reports(key));
    }

    /// Writes a report for each of our SSRCs that has sent since its last; returns where the compound begins that is
    /// still open.
    fn sender_reports(&mut self, now: Time, key: PeerKey, out: &mut Batch) -> usize {
        let peer = &mut self.peers[key];
        let mut start = out.arena().len();
        for at in 0..peer.subscriptions.len() {
            let (_, subscription) = peer.subscriptions[at];
            let Some(here) = self.subscriptions.get_mut(subscription) else { continue };
            let Some(source) = self.publications.get(here.publication) else { continue };
            let due = here.report.last.is_none_or(|(_, at)| at + SENDER_REPORT_EVERY <= now);
            if !due || here.report.packets == here.packets || !peer.reachable() {
                continue;
            }
            let Some((ntp, timestamp)) = here.clock(now, &source.layers) else { continue };
            let report = SenderReport {
                ssrc: here.ssrc,
                ntp,
                timestamp,
                packets: here.packets as u32,
                octets: here.bytes as u32,
            };
            write_sender_report(out.arena(), &report, CNAME);
            here.report.last = Some(((ntp >> 16) as u32, now));
            here.report.packets = here.packets;
            if out.arena().len() - start > COMPOUND_BYTES {
                self.counters.rtcp_out += seal(peer, out, start);
                start = out.arena().len();
            }
        }
        start
    }

    /// Writes reports on everything the peer sends, behind what the compound that began at `start` holds already.
    fn receiver_reports(&mut self, now: Time, key: PeerKey, mut start: usize, out: &mut Batch) {
        let peer = &mut self.peers[key];
        self.blocks.clear();
        for incoming in &mut peer.incoming {
            if incoming.role.is_some() {
                self.blocks.extend(incoming.report_block(now));
            }
        }
        for blocks in self.blocks.chunks(BLOCKS_MAX) {
            write_receiver_report(out.arena(), peer.ssrc, blocks);
            if out.arena().len() - start > COMPOUND_BYTES / 2 {
                self.counters.rtcp_out += seal(peer, out, start);
                start = out.arena().len();
            }
        }
        self.counters.rtcp_out += seal(peer, out, start);
    }

    /// Finds silent layers, chooses each subscriber's, and asks for the key frames that are needed and may be asked
    /// for.
    fn steer(&mut self, now: Time, key: PublicationKey, out: &mut Batch) {
        let Some(source) = self.publications.get_mut(key) else { return };
        // An earlier timer may have replaced this one.
        if source.steer_at.is_none_or(|at| at > now) {
            return;
        }
        source.steer_at = None;
        for layer in &mut source.layers {
            layer.active &= !layer.silent(now);
            layer.count_need();
        }
        if source.kind != Kind::Video || source.subscriptions.is_empty() || source.muted {
            return;
        }
        let any_active = source.layers.iter().any(|layer| layer.active);
        let mut anyone_waits = false;
        for subscription in &source.subscriptions {
            let Some(here) = self.subscriptions.get_mut(*subscription) else { continue };
            let reachable = self.peers.get(here.peer).is_some_and(Peer::reachable);
            let ladder = source.layers.iter().map(|layer| (layer.width, layer.active));
            let Some(target) = choose(ladder, here.wanted) else { continue };
            here.target = target;
            // A shared screen that stands still is silent on all layers: who joins then needs a key frame too.
            let waits =
                if any_active { here.layer() != Some(target) } else { here.layer().is_none() };
            if !here.wanted.enabled || !reachable {
                continue;
            }
            let seen = here.layer().and_then(|layer| source.layers.get_mut(layer));
            let blind = seen.as_ref().is_none_or(|layer| !layer.active);
            seen.into_iter().for_each(Layer::seen);
            if waits && source.layers[target].heard.is_some() {
                source.layers[target].awaited(blind);
                anyone_waits = true;
            }
        }
        let again = match self.peers.get_mut(source.peer) {
            Some(publisher) => ask_for_key_frame(now, publisher, source, &mut self.counters, out),
            None => None,
        };
        let regular = (any_active || anyone_waits).then_some(now + STEER_EVERY);
        if let Some(next) = again.into_iter().chain(regular).min() {
            steer(&mut self.timers, source, key, next);
        }
    }

    fn speakers(&mut self, now: Time, events: &mut Vec<PlaneEvent>) {
        // A peer may publish several microphones: its loudest counts.
        let mut loud: Vec<(PeerKey, f32)> = Vec::new();
        for (_, here) in self.publications.iter_mut().filter(|(_, p)| p.kind == Kind::Audio) {
            let level = here.level.close();
            if level > 0.0 && !here.muted {
                loud.push((here.peer, level));
            }
        }
        let mut levels = Vec::new();
        let mut anyone = false;
        for (key, peer) in &mut self.peers {
            let of_peer = loud.iter().filter(|(speaker, _)| *speaker == key);
            let level = of_peer.map(|(_, level)| *level).fold(0.0, f32::max);
            anyone |= level > 0.0;
            if peer.level != level {
                peer.level = level;
                levels.push((key, level));
            }
        }
        if !levels.is_empty() {
            events.push(PlaneEvent::Speakers { levels });
        }
        // With nobody speaking, the next audio packet starts the next window.
        self.speakers_armed = anyone;
        if anyone {
            self.timers.set(speakers::window_end(now), Timer::Speakers);
        }
    }
}

/// Asks for the key frame that is needed most, if the last request was long enough ago; returns when to ask for what
/// remains.
fn ask_for_key_frame(
    now: Time,
    publisher: &mut Peer,
    source: &mut Publication,
    counters: &mut Counters,
    out: &mut Batch,
) -> Option<Time> {
    if !publisher.reachable() || !needs_key_frame(&source.layers) {
        return None;
    }
    let due = source.key_frame_asked.map_or(now, |asked| asked + KEY_FRAME_SPACING);
    if now < due {
        return Some(due);
    }
    let (ssrc, left) = ask(&mut source.layers)?;
    let start = out.arena().len();
    write_pli(out.arena(), publisher.ssrc, ssrc);
    counters.plis_sent += 1;
    counters.rtcp_out += seal(publisher, out, start);
    source.key_frame_asked = Some(now);
    left.then_some(now + KEY_FRAME_SPACING)
}

/// Seals the compound that began at `start` and makes it a datagram; returns how many that were. Nothing remains of
/// it when the peer has no path or keys.
fn seal(peer: &mut Peer, out: &mut Batch, start: usize) -> u64 {
    if out.arena().len() == start {
        return 0;
    }
    if let (Some(path), Some(sealer)) = (peer.path, &mut peer.sealer)
        && sealer.rtcp(out.arena(), start)
    {
        out.commit(path, start);
        return 1;
    }
    out.arena().truncate(start);
    0
}
