//! The plane's edges, with clients that are no more than their keys.

use super::*;
use crate::batch::Batch;
use crate::config::{LayerConfig, MediaCodec};
use crate::rtcp;
use crate::rtp::Header;
use crate::srtp::{MasterKey, SrtpProfile};
use proptest::prelude::*;

mod streams;

const OPUS: u8 = 111;
const RED: u8 = 63;

fn master(byte: u8) -> MasterKey {
    MasterKey { key: vec![byte; 16], salt: vec![byte ^ 0x5a; 12] }
}

/// One client: seals what it sends, opens what it gets.
struct Client {
    peer: PeerKey,
    sealer: Sealer,
    opener: Opener,
    sequence: u64,
}

struct Scene {
    plane: Plane,
    now: Time,
    batch: Batch,
    events: Vec<PlaneEvent>,
}

fn path(number: u8) -> Path {
    Path { socket: 0, address: ([10, 0, 0, number], 5_000).into() }
}

fn ids() -> ExtensionIds {
    ExtensionIds { mid: Some(1), audio_level: Some(2), ..ExtensionIds::default() }
}

fn scene() -> Scene {
    Scene {
        plane: Plane::new(3),
        now: Time::from_millis(10_000),
        batch: Batch::new(),
        events: Vec::new(),
    }
}

impl Scene {
    fn join(&mut self, number: u8) -> Client {
        let peer = self.plane.add_peer();
        let (ours, theirs) = (master(number), master(number + 100));
        let profile = SrtpProfile::Aes128Gcm;
        let sealer = Sealer::new(profile, &theirs).unwrap();
        let opener = Opener::new(profile, &ours).unwrap();
        self.plane.set_keys(peer, SrtpKeys { profile, ours, theirs }).unwrap();
        self.plane.set_extensions(peer, ids());
        self.plane.set_path(peer, Some(path(number)));
        Client { peer, sealer, opener, sequence: 100 }
    }

    fn microphone(&mut self, client: &Client) -> PublicationKey {
        let codec = |pt, codec| CodecSpec { pt, rtx_pt: None, codec, clock_rate: 48_000 };
        self.plane.publish(
            client.peer,
            PublicationConfig {
                kind: Kind::Audio,
                mid: "mic".into(),
                codecs: vec![codec(OPUS, MediaCodec::Opus), codec(RED, MediaCodec::Red)],
                layers: vec![LayerConfig { ssrc: Some(77), ..LayerConfig::default() }],
                nack: false,
            },
        )
    }

    fn listen(&mut self, client: &Client, publication: PublicationKey) -> SubscriptionKey {
        let config = SubscriptionConfig { pt_map: vec![(OPUS, 96)], ..Default::default() };
        self.plane.subscribe(self.now, client.peer, publication, config)
    }

    /// 20 ms of sound from SSRC 77.
    fn speak(&mut self, client: &mut Client, level: u8) {
        self.now = self.now + Duration::from_millis(20);
        let sequence = client.sequence;
        let mut packet = audio(77, sequence, level);
        client.sealer.rtp(77, sequence, &mut packet, 0, 20);
        client.sequence += 1;
        self.plane.receive(self.now, client.peer, &mut packet);
        self.tick();
    }

    fn tick(&mut self) {
        self.plane.flush(self.now, &mut self.batch);
        self.plane.wake(self.now, &mut self.batch, &mut self.events);
    }

    /// `client` asks for packets of our stream `ssrc` again.
    fn ask(&mut self, client: &mut Client, ssrc: u32, sequences: impl Iterator<Item = u16>) {
        let mut compound = Vec::new();
        rtcp::write_nack(&mut compound, 9, ssrc, sequences);
        assert!(client.sealer.rtcp(&mut compound, 0));
        self.plane.receive(self.now, client.peer, &mut compound);
    }

    /// Media (or all else) that went to client `number`, as it is on the wire.
    fn datagrams(&self, number: u8, media: bool) -> Vec<Vec<u8>> {
        let runs = self.batch.runs().filter(|run| run.path == path(number));
        let datagrams = runs.flat_map(|run| run.bytes.chunks(run.segment));
        datagrams
            .filter(|datagram| (192..=223).contains(&datagram[1]) != media)
            .map(<[u8]>::to_vec)
            .collect()
    }

    /// SSRC and number of the media that went to client `number`; the batch is emptied.
    fn sent(&mut self, number: u8) -> Vec<(u32, u16)> {
        let header = |datagram: &Vec<u8>| Header::parse(datagram).expect("a header");
        let sent = self.datagrams(number, true);
        self.batch.clear();
        sent.iter().map(header).map(|header| (header.ssrc, header.sequence)).collect()
    }

    /// Payloads of the media that went to client `number`; the batch is emptied.
    fn heard(&mut self, client: &Client, number: u8) -> Vec<Vec<u8>> {
        let mut heard = Vec::new();
        for mut packet in self.datagrams(number, true) {
            let header = Header::parse(&packet).expect("a header");
            let index = header.sequence.into();
            let end = client.opener.rtp(header.ssrc, index, &mut packet, header.length);
            heard.push(packet[header.length..end.expect("authentic")].to_vec());
        }
        self.batch.clear();
        heard
    }
}

fn audio(ssrc: u32, sequence: u64, level: u8) -> Vec<u8> {
    let mut packet = vec![0x90, OPUS];
    packet.extend_from_slice(&(sequence as u16).to_be_bytes());
    packet.extend_from_slice(&(960 * sequence as u32).to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(&[0xbe, 0xde, 0, 1, 0x20, level, 0, 0]);
    packet.extend_from_slice(b"sound");
    packet
}

#[test]
fn sound_is_forwarded_and_the_speaker_told() {
    let mut scene = scene();
    let mut alice = scene.join(1);
    let bob = scene.join(2);
    let microphone = scene.microphone(&alice);
    scene.listen(&bob, microphone);
    for _ in 0..45 {
        scene.speak(&mut alice, 10);
    }
    assert_eq!(scene.heard(&bob, 2), vec![b"sound".to_vec(); 45]);
    assert_eq!(scene.events[0], PlaneEvent::FirstPacket(microphone));
    let PlaneEvent::Speakers { levels } = &scene.events[1] else { panic!("speakers") };
    assert_eq!(levels.len(), 1);
    assert!(levels[0].0 == alice.peer && levels[0].1 > 0.0);
    scene.events.clear();
    for _ in 0..80 {
        scene.speak(&mut alice, 127);
    }
    let last = scene.events.last().expect("she stopped");
    assert_eq!(*last, PlaneEvent::Speakers { levels: vec![(alice.peer, 0.0)] });
}

#[test]
fn nothing_is_sent_without_path_or_keys_or_while_muted() {
    let mut scene = scene();
    let mut alice = scene.join(1);
    let bob = scene.join(2);
    let microphone = scene.microphone(&alice);
    let subscription = scene.listen(&bob, microphone);
    let mut check = |scene: &mut Scene, expect: usize| {
        scene.speak(&mut alice, 127);
        assert_eq!(scene.heard(&bob, 2).len(), expect);
    };
    check(&mut scene, 1);
    scene.plane.set_path(bob.peer, None);
    check(&mut scene, 0);
    // Not even reports.
    scene.now = scene.now + Duration::from_secs(3);
    scene.tick();
    assert!(scene.batch.runs().all(|run| run.path != path(2)));
    scene.plane.set_path(bob.peer, Some(path(2)));
    check(&mut scene, 1);
    scene.plane.set_publication_muted(microphone, true);
    check(&mut scene, 0);
    scene.plane.set_publication_muted(microphone, false);
    check(&mut scene, 1);
    scene.plane.set_wanted(scene.now, subscription, Wanted { enabled: false, width: 0, height: 0 });
    check(&mut scene, 0);
    scene.plane.set_wanted(scene.now, subscription, Wanted::default());
    check(&mut scene, 1);
    let keyless = scene.plane.add_peer();
    scene.plane.set_path(keyless, Some(path(2)));
    let config = SubscriptionConfig { pt_map: vec![(OPUS, 96)], ..Default::default() };
    scene.plane.subscribe(scene.now, keyless, microphone, config);
    check(&mut scene, 1);
}

#[test]
fn those_who_leave_take_everything_with_them() {
    let mut scene = scene();
    let mut alice = scene.join(1);
    let bob = scene.join(2);
    let microphone = scene.microphone(&alice);
    let subscription = scene.listen(&bob, microphone);
    scene.speak(&mut alice, 127);
    scene.plane.remove_peer(alice.peer);
    assert_eq!(scene.plane.subscription_ssrcs(subscription), (0, None));
    assert_eq!(scene.plane.publication_stats(microphone), None);
    assert_eq!(scene.plane.peers[bob.peer].subscriptions, []);
    scene.speak(&mut alice, 127);
    scene.now = scene.now + Duration::from_secs(100);
    scene.tick();
    scene.plane.remove_peer(bob.peer);
    assert!(scene.plane.peers.is_empty() && scene.plane.subscriptions.is_empty());
    let gone = scene.plane.subscribe(scene.now, bob.peer, microphone, Default::default());
    assert!(gone.is_null());
    scene.plane.unsubscribe(gone);
    scene.plane.unpublish(microphone);
}

#[test]
fn ssrcs_of_one_peer_are_bounded() {
    let mut scene = scene();
    let mut alice = scene.join(1);
    for ssrc in 1_000..2_000 {
        let mut packet = audio(ssrc, 1, 127);
        alice.sealer.rtp(ssrc, 1, &mut packet, 0, 20);
        scene.plane.receive(scene.now, alice.peer, &mut packet);
    }
    assert_eq!(scene.plane.peers[alice.peer].incoming.len(), 256);
    assert_eq!(scene.plane.counters().dropped.unknown_ssrc, 1_000);
    // Strangers give way to a publication.
    let microphone = scene.microphone(&alice);
    scene.speak(&mut alice, 127);
    assert_eq!(scene.plane.publication_stats(microphone).map(|stats| stats.packets), Some(1));
    assert_eq!(scene.plane.peers[alice.peer].incoming.len(), 256);
}

#[test]
fn an_unauthentic_packet_teaches_nothing() {
    let mut scene = scene();
    let mut alice = scene.join(1);
    let microphone = scene.microphone(&alice);
    let mut packet = audio(77, 40_000, 10);
    packet.extend_from_slice(&[0; 16]);
    scene.plane.receive(scene.now, alice.peer, &mut packet);
    assert_eq!(scene.plane.counters().dropped.forged, 1);
    assert!(scene.plane.peers[alice.peer].incoming.is_empty());
    scene.speak(&mut alice, 127);
    assert_eq!(scene.plane.publication_stats(microphone).map(|stats| stats.packets), Some(1));
}

#[test]
fn one_peer_asks_for_256_packets_a_flush_and_takes_nobodys_turn() {
    let mut scene = scene();
    let mut alice = scene.join(1);
    let mut bob = scene.join(2);
    let mut carol = scene.join(3);
    let microphone = scene.microphone(&alice);
    let config = SubscriptionConfig { pt_map: vec![(OPUS, 96)], nack: true, ..Default::default() };
    let subscription = scene.plane.subscribe(scene.now, bob.peer, microphone, config);
    let (ssrc, _) = scene.plane.subscription_ssrcs(subscription);
    let config = SubscriptionConfig { pt_map: vec![(OPUS, 96)], nack: true, ..Default::default() };
    let other = scene.plane.subscribe(scene.now, carol.peer, microphone, config);
    let (other, _) = scene.plane.subscription_ssrcs(other);
    for _ in 0..20 {
        scene.speak(&mut alice, 127);
    }
    let numbers: Vec<u16> = scene.sent(3).into_iter().map(|(_, sequence)| sequence).collect();
    assert_eq!(numbers.len(), 20);
    for round in 1..=3 {
        for _ in 0..100 {
            scene.ask(&mut bob, ssrc, 0..1_000);
        }
        scene.ask(&mut carol, other, numbers[5..15].iter().copied());
        assert_eq!(scene.plane.asked.len(), 256 + 10);
        let counters = scene.plane.counters();
        assert_eq!(counters.nacks_received, round * 100_010);
        assert_eq!(counters.dropped.retransmission_limit, round * (100_000 - 256));
        scene.now = scene.now + Duration::from_millis(20);
        scene.tick();
        assert!(scene.plane.asked.is_empty());
        let again: Vec<u16> = scene.sent(3).into_iter().map(|(_, sequence)| sequence).collect();
        assert_eq!(again, numbers[5..15]);
    }
}

proptest! {
    #[test]
    fn any_datagrams_are_survived(
        datagrams in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..100), any::<bool>()), 0..40),
    ) {
        let mut scene = scene();
        let mut alice = scene.join(1);
        let bob = scene.join(2);
        let microphone = scene.microphone(&alice);
        scene.listen(&bob, microphone);
        for (index, (mut bytes, control)) in datagrams.into_iter().enumerate() {
            scene.plane.receive(scene.now, alice.peer, &mut bytes.clone());
            // The same, but authentic.
            if control && bytes.len() >= 8 {
                bytes.truncate(bytes.len() / 4 * 4);
                bytes[0] = 0x80 | bytes[0] & 0x3f;
                bytes[1] = 200 + bytes[1] % 7;
                alice.sealer.rtcp(&mut bytes, 0);
            } else {
                let mut packet = audio(77, 50 + index as u64, 5);
                packet[0] |= 0x20;
                packet.extend_from_slice(&bytes);
                alice.sealer.rtp(77, 50 + index as u64, &mut packet, 0, 20);
                bytes = packet;
            }
            scene.plane.receive(scene.now, alice.peer, &mut bytes);
            scene.now = scene.now + Duration::from_millis(300);
            scene.tick();
        }
        prop_assert_eq!(scene.plane.counters().dropped.replayed, 0);
    }
}
