//! The packet plane of one shard: who is here, who publishes what, who receives it. Steering comes in here; packets
//! come in through [`receive`], go out through [`forward`], and what time brings is in [`wake`].

mod control;
mod forward;
mod receive;
mod wake;

use std::time::Duration;

use outlast_model::Time;
use slotmap::{Key, SlotMap};

use crate::config::{
    CodecSpec, ExtensionIds, Kind, LAYERS_MAX, Path, PeerKey, PlaneEvent, PublicationConfig,
    PublicationKey, SubscriptionConfig, SubscriptionKey, Wanted,
};
use crate::counters::{Counters, PublicationStats, SubscriptionStats};
use crate::feedback::SendLog;
use crate::incoming::Incoming;
use crate::layer::Layer;
use crate::rtcp::Block;
use crate::speakers::Level;
use crate::srtp::{KeyError, Opener, Sealer, SrtpKeys};
use crate::subscription::Subscription;
use crate::timers::{Timer, Timers};
use crate::twcc::Recorder;

/// Round trip assumed before a peer's reports tell.
const ROUND_TRIP_DEFAULT: Duration = Duration::from_millis(100);

/// The packet plane of one shard. Nothing in it blocks, locks or reads a clock.
pub struct Plane {
    peers: SlotMap<PeerKey, Peer>,
    publications: SlotMap<PublicationKey, Publication>,
    subscriptions: SlotMap<SubscriptionKey, Subscription>,
    timers: Timers,
    counters: Counters,
    random: u64,
    /// Publications with staged packets.
    dirty: Vec<PublicationKey>,
    /// Sequence numbers that subscribers asked for again.
    asked: Vec<(SubscriptionKey, u64)>,
    /// How many there were.
    flushes: u64,
    events: Vec<PlaneEvent>,
    speakers_armed: bool,
    /// Newest time seen: steering that takes no time uses it.
    now: Time,
    /// Reused for a NACK's sequence numbers.
    sequences: Vec<u16>,
    /// Reused for a receiver report's blocks.
    blocks: Vec<Block>,
}

/// One peer connection.
struct Peer {
    path: Option<Path>,
    ids: ExtensionIds,
    sealer: Option<Sealer>,
    opener: Option<Opener>,
    /// The SSRC that our feedback comes from.
    ssrc: u32,
    /// Ascending by SSRC.
    incoming: Vec<Incoming>,
    publications: Vec<PublicationKey>,
    /// Our media SSRCs, ascending.
    subscriptions: Vec<(u32, SubscriptionKey)>,
    arrivals: Recorder,
    /// The SSRC that feedback names.
    last_media: u32,
    log: SendLog,
    /// How many numbers it has asked for again since flush `asked_before`.
    asked: usize,
    asked_before: u64,
    round_trip: Duration,
    nack_armed: bool,
    feedback_armed: bool,
    reports_armed: bool,
    /// Speech level last told.
    level: f32,
}

impl Peer {
    fn incoming(&self, ssrc: u32) -> Result<usize, usize> {
        self.incoming.binary_search_by_key(&ssrc, |incoming| incoming.ssrc)
    }

    fn subscription(&self, ssrc: u32) -> Option<SubscriptionKey> {
        let at = self.subscriptions.binary_search_by_key(&ssrc, |(ssrc, _)| *ssrc).ok()?;
        Some(self.subscriptions[at].1)
    }

    fn reachable(&self) -> bool {
        self.path.is_some() && self.sealer.is_some()
    }
}

/// One published track.
struct Publication {
    peer: PeerKey,
    kind: Kind,
    mid: String,
    codecs: Vec<CodecSpec>,
    nack: bool,
    /// Lowest first.
    layers: Vec<Layer>,
    muted: bool,
    subscriptions: Vec<SubscriptionKey>,
    /// Packets to forward at the next flush.
    staged: Vec<forward::Staged>,
    level: Level,
    heard: bool,
    steer_at: Option<Time>,
    /// When a key frame was asked for last, of any layer.
    key_frame_asked: Option<Time>,
    packets: u64,
    bytes: u64,
}

impl Plane {
    /// A plane whose SSRCs and first numbers are drawn from `seed`.
    pub fn new(seed: u64) -> Plane {
        Plane {
            peers: SlotMap::with_key(),
            publications: SlotMap::with_key(),
            subscriptions: SlotMap::with_key(),
            timers: Timers::default(),
            counters: Counters::default(),
            random: seed,
            dirty: Vec::new(),
            asked: Vec::new(),
            flushes: 0,
            events: Vec::new(),
            speakers_armed: false,
            now: Time::ZERO,
            sequences: Vec::new(),
            blocks: Vec::new(),
        }
    }

    /// Adds a peer that has neither keys nor path yet.
    pub fn add_peer(&mut self) -> PeerKey {
        let ssrc = self.draw_ssrc();
        self.peers.insert(Peer {
            path: None,
            ids: ExtensionIds::default(),
            sealer: None,
            opener: None,
            ssrc,
            incoming: Vec::new(),
            publications: Vec::new(),
            subscriptions: Vec::new(),
            arrivals: Recorder::default(),
            last_media: 0,
            log: SendLog::default(),
            asked: 0,
            asked_before: 0,
            round_trip: ROUND_TRIP_DEFAULT,
            nack_armed: false,
            feedback_armed: false,
            reports_armed: false,
            level: 0.0,
        })
    }

    /// Removes a peer with its publications, their subscriptions, and its own subscriptions.
    pub fn remove_peer(&mut self, peer: PeerKey) {
        let Some(here) = self.peers.get_mut(peer) else { return };
        let publications = std::mem::take(&mut here.publications);
        let subscriptions = std::mem::take(&mut here.subscriptions);
        for publication in publications {
            self.unpublish(publication);
        }
        for (_, subscription) in subscriptions {
            self.unsubscribe(subscription);
        }
        self.peers.remove(peer);
    }

    /// Installs the keys of the peer's DTLS association; to be called once for each association, as numbering starts
    /// anew for SRTCP. What comes in under the old keys is dropped from here on.
    ///
    /// # Errors
    /// [`KeyError::Length`]: nothing is changed.
    pub fn set_keys(&mut self, peer: PeerKey, keys: SrtpKeys) -> Result<(), KeyError> {
        let sealer = Sealer::new(keys.profile, &keys.ours)?;
        let opener = Opener::new(keys.profile, &keys.theirs)?;
        if let Some(here) = self.peers.get_mut(peer) {
            here.sealer = Some(sealer);
            here.opener = Some(opener);
            here.incoming.clear();
        }
        self.peer_changed(peer);
        Ok(())
    }

    /// Sets the header extension ids of the peer's connection.
    pub fn set_extensions(&mut self, peer: PeerKey, ids: ExtensionIds) {
        let Some(here) = self.peers.get_mut(peer).filter(|here| here.ids != ids) else { return };
        here.ids = ids;
        for (_, key) in &here.subscriptions {
            if let Some(subscription) = self.subscriptions.get_mut(*key) {
                subscription.headers_changed();
            }
        }
    }

    /// Sets where the peer is reached. `None`: nothing is sent; its subscriptions go on at a key frame once there is
    /// a path.
    pub fn set_path(&mut self, peer: PeerKey, path: Option<Path>) {
        let Some(here) = self.peers.get_mut(peer) else { return };
        let changed = here.path.is_some() != path.is_some();
        here.path = path;
        if changed {
            self.peer_changed(peer);
        }
    }

    /// The peer became reachable or stopped to be: its subscriptions start over at a key frame.
    fn peer_changed(&mut self, peer: PeerKey) {
        let Some(here) = self.peers.get(peer) else { return };
        for (_, key) in &here.subscriptions {
            let Some(subscription) = self.subscriptions.get_mut(*key) else { continue };
            subscription.pause();
            subscription.headers_changed();
            let publication = subscription.publication;
            if let Some(publication_here) = self.publications.get_mut(publication) {
                steer(&mut self.timers, publication_here, publication, self.now);
            }
        }
    }

    /// Adds a publication of the peer; a peer that is gone gets a key that means nothing.
    pub fn publish(&mut self, peer: PeerKey, config: PublicationConfig) -> PublicationKey {
        let Some(here) = self.peers.get_mut(peer) else { return PublicationKey::null() };
        let PublicationConfig { kind, mid, codecs, layers, nack } = config;
        let layers: Vec<Layer> =
            layers.into_iter().take(LAYERS_MAX).map(|config| Layer::new(kind, config)).collect();
        let key = self.publications.insert(Publication {
            peer,
            kind,
            mid,
            codecs,
            nack,
            layers,
            muted: false,
            subscriptions: Vec::new(),
            staged: Vec::new(),
            level: Level::default(),
            heard: false,
            steer_at: None,
            key_frame_asked: None,
            packets: 0,
            bytes: 0,
        });
        here.publications.push(key);
        key
    }

    /// Stops or resumes forwarding. Subscribers of video go on at a key frame.
    pub fn set_publication_muted(&mut self, publication: PublicationKey, muted: bool) {
        let Some(here) = self.publications.get_mut(publication) else { return };
        if std::mem::replace(&mut here.muted, muted) == muted {
            return;
        }
        for key in &here.subscriptions {
            if let Some(subscription) = self.subscriptions.get_mut(*key) {
                subscription.pause();
            }
        }
        steer(&mut self.timers, here, publication, self.now);
    }

    /// Removes a publication and all subscriptions to it.
    pub fn unpublish(&mut self, publication: PublicationKey) {
        let Some(here) = self.publications.remove(publication) else { return };
        for subscription in here.subscriptions {
            self.forget(subscription);
        }
        if let Some(peer) = self.peers.get_mut(here.peer) {
            peer.publications.retain(|key| *key != publication);
            peer.incoming
                .iter_mut()
                .filter(|i| i.role.is_some_and(|role| role.publication() == publication))
                .for_each(Incoming::unbind);
        }
    }

    /// Begins a subscription, wanting the highest layer; a peer or publication that is gone yields a key that means
    /// nothing.
    pub fn subscribe(
        &mut self,
        now: Time,
        subscriber: PeerKey,
        publication: PublicationKey,
        config: SubscriptionConfig,
    ) -> SubscriptionKey {
        self.now = self.now.max(now);
        let ssrc = self.draw_ssrc();
        let rtx_ssrc = (config.nack && !config.rtx_pts.is_empty()).then(|| self.draw_ssrc());
        let first = self.draw() as u16;
        let Some(peer) = self.peers.get_mut(subscriber) else { return SubscriptionKey::null() };
        let Some(source) = self.publications.get_mut(publication) else {
            return SubscriptionKey::null();
        };
        let clock_rate = source.codecs.first().map_or(90_000, |codec| codec.clock_rate);
        let key = self.subscriptions.insert(Subscription::new(
            subscriber,
            publication,
            source.kind,
            (ssrc, rtx_ssrc),
            (first, clock_rate),
            config,
        ));
        source.subscriptions.push(key);
        let at = peer.subscriptions.partition_point(|(other, _)| *other < ssrc);
        peer.subscriptions.insert(at, (ssrc, key));
        steer(&mut self.timers, source, publication, self.now);
        arm_reports(&mut self.timers, peer, subscriber, self.now);
        key
    }

    /// The SSRCs of media and of retransmissions, for the SDP; zeros when the key means nothing.
    pub fn subscription_ssrcs(&self, key: SubscriptionKey) -> (u32, Option<u32>) {
        self.subscriptions.get(key).map_or((0, None), |found| (found.ssrc, found.rtx_ssrc))
    }

    /// Sets what the subscriber wants to see.
    pub fn set_wanted(&mut self, now: Time, key: SubscriptionKey, wanted: Wanted) {
        self.now = self.now.max(now);
        let Some(here) = self.subscriptions.get_mut(key) else { return };
        if here.wanted == wanted {
            return;
        }
        if !wanted.enabled {
            here.pause();
        }
        here.wanted = wanted;
        let publication = here.publication;
        if let Some(source) = self.publications.get_mut(publication) {
            steer(&mut self.timers, source, publication, self.now);
        }
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, key: SubscriptionKey) {
        let Some(publication) = self.subscriptions.get(key).map(|here| here.publication) else {
            return;
        };
        if let Some(source) = self.publications.get_mut(publication) {
            source.subscriptions.retain(|other| *other != key);
        }
        self.forget(key);
    }

    fn forget(&mut self, key: SubscriptionKey) {
        let Some(here) = self.subscriptions.remove(key) else { return };
        if let Some(peer) = self.peers.get_mut(here.peer) {
            peer.subscriptions.retain(|(_, other)| *other != key);
            if let Some(sealer) = &mut peer.sealer {
                sealer.forget(here.ssrc);
                here.rtx_ssrc.into_iter().for_each(|ssrc| sealer.forget(ssrc));
            }
        }
    }

    /// Totals since the plane was made.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// One publication's figures; `None` when it is gone.
    pub fn publication_stats(&self, key: PublicationKey) -> Option<PublicationStats> {
        let here = self.publications.get(key)?;
        let peer = self.peers.get(here.peer)?;
        let of_here = |incoming: &&Incoming| {
            matches!(incoming.role, Some(crate::incoming::Role::Media { publication, .. })
                if publication == key)
        };
        Some(PublicationStats {
            packets: here.packets,
            bytes: here.bytes,
            lost: peer.incoming.iter().filter(of_here).map(Incoming::lost).sum(),
            layers_active: here.layers.iter().filter(|layer| layer.active).count(),
        })
    }

    /// One subscription's figures; `None` when it is gone.
    pub fn subscription_stats(&self, key: SubscriptionKey) -> Option<SubscriptionStats> {
        self.subscriptions.get(key).map(|here| SubscriptionStats {
            packets: here.packets,
            bytes: here.bytes,
            retransmitted: here.retransmitted,
            lost: here.lost,
            fraction_lost: here.fraction_lost,
            round_trip: here.round_trip,
            layer: here.layer(),
        })
    }

    /// Bits per second that the path to the peer carries, as congestion control estimates; `None`: it does not know.
    pub fn estimate(&self, peer: PeerKey) -> Option<u64> {
        self.peers.get(peer).and_then(|here| here.log.estimate())
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): numbers that need to differ, not to be secret.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A non-zero SSRC. One generator over a full period makes a collision within a shard as likely as RFC 3550 8.1
    /// says: not at the sizes of a room.
    fn draw_ssrc(&mut self) -> u32 {
        loop {
            let ssrc = self.draw() as u32;
            if ssrc != 0 {
                return ssrc;
            }
        }
    }
}

/// Has the publication's layers looked at soon.
fn steer(timers: &mut Timers, here: &mut Publication, key: PublicationKey, at: Time) {
    if here.steer_at.is_none_or(|armed| at < armed) {
        here.steer_at = Some(at);
        timers.set(at, Timer::Steer(key));
    }
}

/// Has reports sent to the peer from now on.
fn arm_reports(timers: &mut Timers, here: &mut Peer, key: PeerKey, now: Time) {
    if !here.reports_armed {
        here.reports_armed = true;
        timers.set(now + wake::REPORTS_EVERY, Timer::Reports(key));
    }
}

#[cfg(test)]
mod tests;
