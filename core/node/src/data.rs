//! Data packets: relayed as the bytes that came, with the sender stamped on. Only the fields that routing needs are
//! read, so that what newer SDKs put in is not lost.

use std::{collections::VecDeque, time::Duration};

use outlast_livekit::{self as proto, Message as _};
use outlast_media::Channel;
use outlast_model::Time;
use proto::{UserPacket, data_packet};

use crate::{door::Out, participant::ParticipantKey, room::RoomKey, shard::Shard};

/// How long reliable packets are kept for those who resume or whose channel is not open yet (LiveKit's server: 2 s).
const REPLAY_SPAN: Duration = Duration::from_secs(2);
/// Most bytes kept so in one room.
const REPLAY_BYTES_MAX: usize = 512 * 1024;
/// A lossy packet is dropped for a receiver that has so many bytes waiting.
const LOSSY_WAITING_BYTES_MAX: usize = 64 * 1024;

/// Recent reliable packets of a room.
#[derive(Default)]
pub(crate) struct Replay {
    packets: VecDeque<Kept>,
    bytes: usize,
}

#[derive(Clone)]
struct Kept {
    at: Time,
    sender: ParticipantKey,
    sender_sid: String,
    sequence: u32,
    to: Vec<String>,
    metrics: bool,
    packet: Vec<u8>,
}

impl Replay {
    fn keep(&mut self, kept: Kept) {
        self.bytes += kept.packet.len();
        self.packets.push_back(kept);
        while self.bytes > REPLAY_BYTES_MAX {
            self.drop_oldest();
        }
    }

    pub(crate) fn forget(&mut self, now: Time) {
        while self.packets.front().is_some_and(|kept| now.since(kept.at) > REPLAY_SPAN) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(kept) = self.packets.pop_front() {
            self.bytes -= kept.packet.len();
        }
    }
}

/// What routing reads of a packet. Field numbers are those of `livekit.DataPacket`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Routing {
    /// `participant_identity`, as the client wrote it.
    pub(crate) identity: Option<String>,
    /// `destination_identities`; empty is everybody.
    pub(crate) to: Vec<String>,
    pub(crate) sequence: u32,
    /// Field number of the `value` oneof; 0 when there is none.
    pub(crate) value: u32,
}

const FIELD_IDENTITY: u32 = 4;
const FIELD_DESTINATIONS: u32 = 5;
const FIELD_SEQUENCE: u32 = 16;
const FIELD_SID: u32 = 17;
const VALUE_USER: u32 = 2;
const VALUE_METRICS: u32 = 8;
const VALUES: [std::ops::RangeInclusive<u32>; 3] = [2..=3, 6..=15, 18..=64];
/// Values in which an agent may speak for another identity: transcription, chat, text streams.
const AGENTS_MAY: [u32; 5] = [7, 9, 13, 14, 15];
/// Length of a nonce by which user packets are told apart, and how many a room remembers (LiveKit's server: 100).
const NONCE_BYTES: usize = 16;
const NONCES_MAX: usize = 100;
/// Most receivers that one packet may name.
const DESTINATIONS_MAX: usize = 1_000;

/// Walks the top level of an encoded packet; `None` when it is not well formed.
pub(crate) fn routing(mut bytes: &[u8]) -> Option<Routing> {
    let mut found = Routing::default();
    while !bytes.is_empty() {
        let (tag, rest) = varint(bytes)?;
        let field = u32::try_from(tag >> 3).ok()?;
        let (number, value, rest) = match tag & 7 {
            0 => varint(rest).map(|(number, rest)| (number, &[][..], rest))?,
            1 => rest.split_at_checked(8).map(|(value, rest)| (0, value, rest))?,
            2 => {
                let (length, rest) = varint(rest)?;
                let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                (0, value, rest)
            }
            5 => rest.split_at_checked(4).map(|(value, rest)| (0, value, rest))?,
            _ => return None,
        };
        match field {
            FIELD_DESTINATIONS if found.to.len() < DESTINATIONS_MAX => {
                found.to.push(std::str::from_utf8(value).ok()?.to_owned());
            }
            FIELD_DESTINATIONS => return None,
            FIELD_IDENTITY => found.identity = Some(std::str::from_utf8(value).ok()?.to_owned()),
            FIELD_SEQUENCE => found.sequence = u32::try_from(number).ok()?,
            field if VALUES.iter().any(|values| values.contains(&field)) => found.value = field,
            _ => {}
        }
        bytes = rest;
    }
    Some(found)
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0_u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7f).checked_shl(7 * u32::try_from(index).ok()?)?;
        if byte & 0x80 == 0 {
            return Some((number, &bytes[index + 1..]));
        }
    }
    None
}

/// Appends the sender's sid and identity: of a scalar field that occurs twice the last value holds, so this overrules
/// whatever the client wrote.
pub(crate) fn stamp(packet: &[u8], sid: &str, identity: &str) -> Vec<u8> {
    let mut stamped = Vec::with_capacity(packet.len() + sid.len() + identity.len() + 12);
    stamped.extend_from_slice(packet);
    for (field, text) in [(FIELD_IDENTITY, identity), (FIELD_SID, sid)] {
        put_varint(&mut stamped, u64::from(field << 3 | 2));
        put_varint(&mut stamped, text.len() as u64);
        stamped.extend_from_slice(text.as_bytes());
    }
    stamped
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

impl Shard {
    pub(crate) fn data_message(
        &mut self,
        now: Time,
        key: ParticipantKey,
        channel: Channel,
        bytes: &[u8],
        out: &mut Out,
    ) {
        let Some(participant) = self.participants.get_mut(key) else { return };
        if !participant.permission.can_publish_data {
            return;
        }
        if participant.channels.data_track == Some(channel) {
            self.data_frame(now, key, bytes, out);
            return;
        }
        let reliable = participant.channels.reliable == Some(channel);
        if !reliable && participant.channels.lossy != Some(channel) {
            return;
        }
        let Some(routing) = routing(bytes) else { return };
        if routing.sequence > 0 && reliable {
            if routing.sequence <= participant.data_sequence {
                return;
            }
            participant.data_sequence = routing.sequence;
        }
        let hidden = participant.permission.hidden;
        let speaks_for_others = participant.permission.agent && AGENTS_MAY.contains(&routing.value);
        let sid = participant.sid.to_string();
        let identity = if hidden { String::new() } else { participant.identity.to_string() };
        let identity = match routing.identity {
            Some(other) if speaks_for_others && !other.is_empty() => other,
            _ => identity,
        };
        let shown_sid = if hidden { "" } else { sid.as_str() };
        let room = participant.room;
        let legacy = Legacy::read(bytes, routing.value);
        if self.is_repeated(room, &legacy.nonce) {
            return;
        }
        let mut to = routing.to;
        if to.is_empty() {
            to = legacy.identities;
            let named = self.identities_of(room, &legacy.sids);
            if to.is_empty() && named.is_empty() && !legacy.sids.is_empty() {
                return;
            }
            to.extend(named);
        }
        let kept = Kept {
            at: now,
            sender: key,
            sender_sid: sid.clone(),
            sequence: routing.sequence,
            to,
            metrics: routing.value == VALUE_METRICS,
            packet: stamp(
                &legacy_stamp(bytes, routing.value, shown_sid, &identity),
                shown_sid,
                &identity,
            ),
        };
        self.relay(now, room, kept, reliable, out);
    }

    /// Identities of the participants with these sids.
    fn identities_of(&self, room: RoomKey, sids: &[String]) -> Vec<String> {
        let members = self.rooms.get(room).into_iter().flat_map(|room| room.members.values());
        let named = members.filter_map(|member| self.participants.get(*member));
        let named = named.filter(|member| sids.iter().any(|sid| sid == member.sid.as_str()));
        named.map(|member| member.identity.to_string()).collect()
    }

    /// Whether a user packet with this nonce has been relayed; packets without one are never repeated.
    fn is_repeated(&mut self, room: RoomKey, nonce: &[u8]) -> bool {
        let Some(room) = self.rooms.get_mut(room).filter(|_| nonce.len() == NONCE_BYTES) else {
            return false;
        };
        if room.nonces.iter().any(|known| known == nonce) {
            return true;
        }
        room.nonces.push_back(nonce.to_vec());
        if room.nonces.len() > NONCES_MAX {
            room.nonces.pop_front();
        }
        false
    }

    /// `SendData`: from the server to the room, unsequenced.
    pub(crate) fn send_data(
        &mut self,
        now: Time,
        room: RoomKey,
        request: proto::SendDataRequest,
        out: &mut Out,
    ) {
        let by_sid = request.destination_sids;
        let mut to = request.destination_identities;
        to.extend(self.identities_of(room, &by_sid));
        if self.is_repeated(room, &request.nonce) {
            return;
        }
        if to.is_empty() && !by_sid.is_empty() {
            return;
        }
        let reliable = request.kind == i32::from(data_packet::Kind::Reliable);
        let user = UserPacket {
            payload: request.data,
            topic: request.topic,
            nonce: request.nonce,
            ..Default::default()
        };
        let packet = proto::DataPacket {
            destination_identities: to.clone(),
            value: Some(data_packet::Value::User(user)),
            ..Default::default()
        };
        let kept = Kept {
            at: now,
            sender: ParticipantKey::default(),
            sender_sid: String::new(),
            sequence: 0,
            to,
            metrics: false,
            packet: packet.encode_to_vec(),
        };
        self.relay(now, room, kept, reliable, out);
    }

    fn relay(&mut self, now: Time, room: RoomKey, kept: Kept, reliable: bool, out: &mut Out) {
        let Some(home) = self.rooms.get(room) else { return };
        let members: Vec<_> = home.members.values().copied().collect();
        for member in members {
            if self.receives(member, &kept) {
                // A receiver whose association is broken costs itself, not the sender.
                self.isolated(member, out, |shard, out| {
                    shard.deliver(now, member, &kept.packet, reliable, out);
                });
            }
        }
        if reliable && let Some(home) = self.rooms.get_mut(room) {
            home.replay.keep(kept);
        }
    }

    fn receives(&self, member: ParticipantKey, kept: &Kept) -> bool {
        let Some(other) = self.participants.get(member) else { return false };
        let named = kept.to.is_empty() || kept.to.iter().any(|to| to == other.identity.as_str());
        member != kept.sender && named && (!kept.metrics || other.permission.can_subscribe_metrics)
    }

    fn deliver(
        &mut self,
        now: Time,
        member: ParticipantKey,
        packet: &[u8],
        reliable: bool,
        out: &mut Out,
    ) {
        let Some(participant) = self.participants.get(member) else { return };
        let channels = &participant.channels;
        let (reliably, lossily) = (channels.reliable, channels.lossy);
        if !reliable {
            if let Some(channel) = lossily {
                self.write_lossy(now, member, channel, packet, out);
            }
            return;
        }
        // Not open yet: what is recent is replayed when it opens.
        let Some(channel) = reliably else { return };
        if !self.write_channel(now, member, channel, packet, &mut out.batch) {
            // A receiver that has not taken a whole buffer of reliable data can only start anew: it would miss some.
            let reason = proto::DisconnectReason::StateMismatch;
            self.send_away(member, reason, out);
            self.remove(member, reason, out);
        }
    }

    /// Writes what may be lost, unless the receiver is behind.
    pub(crate) fn write_lossy(
        &mut self,
        now: Time,
        member: ParticipantKey,
        channel: Channel,
        packet: &[u8],
        out: &mut Out,
    ) {
        let Some(link) = self.participants.get_mut(member).and_then(|p| p.link.as_mut()) else {
            return;
        };
        if link.transport.waiting(channel) < LOSSY_WAITING_BYTES_MAX {
            self.write_channel(now, member, channel, packet, &mut out.batch);
        }
    }

    /// A receiver's channel has opened: what came since it joined is sent.
    pub(crate) fn replay(&mut self, now: Time, key: ParticipantKey, out: &mut Out) {
        let Some(participant) = self.participants.get(key) else { return };
        let joined_at = participant.joined_at;
        self.replay_where(now, key, |kept| kept.at >= joined_at, out);
    }

    /// A client that resumed says what it has; what came later is sent again.
    pub(crate) fn replay_after(
        &mut self,
        key: ParticipantKey,
        have: &[proto::DataChannelReceiveState],
        out: &mut Out,
    ) {
        let missed = |kept: &Kept| {
            have.iter().any(|state| {
                state.publisher_sid == kept.sender_sid && kept.sequence > state.last_seq
            })
        };
        self.replay_where(self.clock, key, missed, out);
    }

    fn replay_where(
        &mut self,
        now: Time,
        key: ParticipantKey,
        wanted: impl Fn(&Kept) -> bool,
        out: &mut Out,
    ) {
        let room = self.participants.get(key).and_then(|p| self.rooms.get(p.room));
        let Some(room) = room else { return };
        let packets = room.replay.packets.iter().filter(|kept| wanted(kept));
        let packets: Vec<_> = packets.filter(|kept| self.receives(key, kept)).cloned().collect();
        for kept in packets {
            self.deliver(now, key, &kept.packet, true, out);
        }
    }
}

/// What older SDKs say inside their user packet.
#[derive(Default)]
struct Legacy {
    identities: Vec<String>,
    sids: Vec<String>,
    nonce: Vec<u8>,
}

impl Legacy {
    fn read(bytes: &[u8], value: u32) -> Legacy {
        let packet = (value == VALUE_USER).then(|| proto::DataPacket::decode(bytes).ok());
        match packet.flatten().and_then(|packet| packet.value) {
            Some(data_packet::Value::User(user)) => Legacy {
                identities: user.destination_identities,
                sids: user.destination_sids,
                nonce: user.nonce,
            },
            _ => Legacy::default(),
        }
    }
}

/// A user packet carries its sender a second time, inside, for older SDKs. Protobuf merges a message field that occurs
/// twice, so that the stamp is a second, partial user packet at the end.
fn legacy_stamp(bytes: &[u8], value: u32, sid: &str, identity: &str) -> Vec<u8> {
    let mut stamped = bytes.to_vec();
    if value != VALUE_USER {
        return stamped;
    }
    let inner = UserPacket {
        participant_sid: sid.to_owned(),
        participant_identity: identity.to_owned(),
        ..Default::default()
    }
    .encode_to_vec();
    put_varint(&mut stamped, u64::from(VALUE_USER << 3 | 2));
    put_varint(&mut stamped, inner.len() as u64);
    stamped.extend(inner);
    stamped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn user(payload: &[u8]) -> proto::DataPacket {
        proto::DataPacket {
            sequence: 7,
            destination_identities: vec!["bob".into()],
            participant_identity: "forged".into(),
            participant_sid: "PA_forged".into(),
            value: Some(data_packet::Value::User(UserPacket {
                payload: payload.to_vec(),
                ..Default::default()
            })),
            ..Default::default()
        }
    }

    #[test]
    fn routing_is_read_without_decoding_the_rest() {
        let found = routing(&user(b"hello").encode_to_vec()).expect("well formed");
        let routed = Routing {
            identity: Some("forged".into()),
            to: vec!["bob".into()],
            sequence: 7,
            value: VALUE_USER,
        };
        assert_eq!(found, routed);
    }

    #[test]
    fn the_stamp_overrules_what_the_client_wrote() {
        let bytes = user(b"hello").encode_to_vec();
        let stamped = stamp(&legacy_stamp(&bytes, VALUE_USER, "PA_1", "alice"), "PA_1", "alice");
        let seen = proto::DataPacket::decode(&stamped[..]).expect("still a packet");
        assert_eq!((&*seen.participant_identity, &*seen.participant_sid), ("alice", "PA_1"));
        let Some(data_packet::Value::User(user)) = seen.value else {
            panic!("still a user packet")
        };
        assert_eq!(user.payload, b"hello");
        let inner = user.participant_identity;
        assert_eq!(inner, "alice");
    }

    #[test]
    fn fields_that_this_server_does_not_know_are_kept() {
        let mut bytes = user(b"hello").encode_to_vec();
        put_varint(&mut bytes, 900 << 3 | 2);
        put_varint(&mut bytes, 3);
        bytes.extend(b"new");
        let stamped = stamp(&bytes, "PA_1", "alice");
        assert!(stamped.windows(3).any(|window| window == b"new"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            routing(&bytes);
        }
    }
}
