//! Offer and answer: which section carries what. The client always offers; when a track waits for a section, it is
//! asked to offer again.

use std::collections::BTreeMap;

use outlast_livekit as proto;
use outlast_media::{Credentials, ExtensionIds, SubscriptionConfig, Transport};
use outlast_model::{Time, TrackSid};
use outlast_sdp::{
    AnswerSection, Codec, Direction, Extension, Local, Msid, Offer, Section, SectionKind, Sending,
    choose, extension,
};
use proto::{DisconnectReason, SubscriptionError, leave_request::Action, signal_response::Message};
use rand::RngExt as _;

use crate::{
    door::Out,
    participant::{Link, Parked, ParticipantKey, SectionUse, SendingUse},
    shard::Shard,
};

/// Random characters of an ICE username fragment and password; 5.95 bits each (RFC 8445 §5.3 asks for 24 and 128).
const UFRAG_CHARS: usize = 16;
const PWD_CHARS: usize = 32;

impl Shard {
    /// Handles an offer that came in a signalling message.
    pub(crate) fn offer_message(
        &mut self,
        now: Time,
        key: ParticipantKey,
        description: &proto::SessionDescription,
        out: &mut Out,
    ) {
        match outlast_sdp::parse_offer(&description.sdp) {
            Ok(offer) => self.offer(now, key, offer, description.id, out),
            // A client whose offers cannot be read would wait for an answer for ever.
            Err(_) => self.offer_refused(key, out),
        }
    }

    fn offer_refused(&mut self, key: ParticipantKey, out: &mut Out) {
        let reason = DisconnectReason::MediaFailure;
        self.tell_leave(key, Action::Disconnect, reason, out);
        self.remove(key, reason, out);
    }

    /// Answers an offer.
    pub(crate) fn offer(
        &mut self,
        now: Time,
        key: ParticipantKey,
        offer: Offer,
        id: u32,
        out: &mut Out,
    ) {
        if !self.prepare_link(now, key, &offer) {
            self.offer_refused(key, out);
            return;
        }
        let Some(participant) = self.participants.get_mut(key) else { return };
        let first = !std::mem::replace(&mut participant.negotiation.answered, true);
        participant.negotiation.asked = false;
        participant.negotiation.unproven = false;
        participant.negotiation.version += 1;
        self.plane.set_extensions(participant.peer, extension_ids(&offer));
        self.release_sections(key, &offer, out);
        let sections: Vec<AnswerSection> = offer
            .sections
            .iter()
            .map(|section| self.answer_section(now, key, section, out))
            .collect();
        let answer = proto::SessionDescription {
            r#type: "answer".to_owned(),
            sdp: outlast_sdp::write_answer(&offer, &self.local(key), &sections),
            id,
            mid_to_track_id: self.sent_tracks(key),
        };
        self.tell(key, Message::Answer(answer), out);
        if let Some(participant) = self.participants.get_mut(key) {
            participant.negotiation.count_free(&offer);
            participant.negotiation.unproven &= !first;
        }
        self.schedule(now, key);
        self.settle_tracks(key, out);
        self.unsettled.push(key);
    }

    /// Makes the transport at the first offer, restarts ICE when the client's credentials are new.
    fn prepare_link(&mut self, now: Time, key: ParticipantKey, offer: &Offer) -> bool {
        let remote = Credentials { ufrag: offer.ufrag.clone(), pwd: offer.pwd.clone() };
        let known = self.participants.get(key).and_then(|participant| participant.link.as_ref());
        if known.is_some_and(|link| link.remote == remote) {
            return true;
        }
        let local = self.fresh_credentials();
        let Some(participant) = self.participants.get_mut(key) else { return false };
        if let Some(link) = &mut participant.link {
            link.transport.restart_ice(now, &local, &remote);
            self.by_ufrag.remove(&link.local.ufrag);
            link.local = local.clone();
            link.remote = remote;
        } else {
            let digest = (offer.fingerprint.algorithm.as_str(), &offer.fingerprint.bytes[..]);
            let made = Transport::new(&self.context, now, &local, &remote, digest);
            let Ok(transport) = made else { return false };
            participant.link = Some(Link {
                transport,
                local: local.clone(),
                remote,
                connected: false,
                path: None,
                validated: Vec::new(),
                timer_at: None,
            });
        }
        self.by_ufrag.insert(local.ufrag, key);
        true
    }

    fn fresh_credentials(&mut self) -> Credentials {
        let mut text = |length| -> String {
            let letter = |_| char::from(self.rng.sample(rand::distr::Alphanumeric));
            (0..length).map(letter).collect()
        };
        Credentials { ufrag: text(UFRAG_CHARS), pwd: text(PWD_CHARS) }
    }

    fn local(&self, key: ParticipantKey) -> Local {
        let participant = &self.participants[key];
        let link = participant.link.as_ref().expect("an answer is written for a prepared link");
        let candidates = self.context.advertise().iter().zip(1_u32..).map(|(address, number)| {
            // RFC 8445 §5.1.2.1: type preference 126 for host; earlier addresses are preferred.
            let priority = (126_u32 << 24) | ((65_536 - number) << 8) | 255;
            let (ip, port) = (address.ip(), address.port());
            format!("candidate:{number} 1 udp {priority} {ip} {port} typ host")
        });
        Local {
            ufrag: link.local.ufrag.clone(),
            pwd: link.local.pwd.clone(),
            fingerprint: outlast_sdp::Fingerprint {
                algorithm: "sha-256".to_owned(),
                bytes: self.context.fingerprint().to_vec(),
            },
            candidates: candidates.collect(),
            session_id: participant.negotiation.session_id >> 1,
            session_version: participant.negotiation.version,
        }
    }

    /// Ends what the client has stopped to send.
    fn release_sections(&mut self, key: ParticipantKey, offer: &Offer, out: &mut Out) {
        for section in &offer.sections {
            let Some(participant) = self.participants.get(key) else { return };
            let sends = section.direction.sends() && !section.rejected;
            match participant.negotiation.uses.get(&section.mid) {
                Some(SectionUse::Parked(_)) if !sends => {
                    self.participants[key].negotiation.uses.remove(&section.mid);
                }
                Some(SectionUse::Publishes(sid))
                    if !sends || self.is_replaced(key, sid, section) =>
                {
                    let sid = sid.clone();
                    self.participants[key].negotiation.uses.remove(&section.mid);
                    self.unpublish(key, &sid, out);
                }
                Some(SectionUse::Sends(sid)) if sends => {
                    let sid = sid.clone();
                    self.requeue(key, &sid);
                }
                Some(SectionUse::Sends(sid))
                    if section.rejected || !section.direction.receives() =>
                {
                    let sid = sid.clone();
                    self.unsubscribe(key, &sid);
                }
                _ => {}
            }
        }
    }

    fn answer_section(
        &mut self,
        now: Time,
        key: ParticipantKey,
        section: &Section,
        out: &mut Out,
    ) -> AnswerSection {
        let idle = |direction, (codecs, extensions): (Vec<Codec>, Vec<Extension>)| AnswerSection {
            mid: section.mid.clone(),
            direction,
            rejected: section.rejected || section.kind == SectionKind::Other,
            codecs,
            extensions,
            send: None,
            recv_rids: Vec::new(),
        };
        if section.rejected || matches!(section.kind, SectionKind::Application | SectionKind::Other)
        {
            return idle(Direction::Inactive, (Vec::new(), Vec::new()));
        }
        if section.direction.sends() {
            let policy = self.codec_policy(key, section);
            let chosen = choose::receive(section, &policy);
            let codecs = chosen.0.clone();
            let mut answer = idle(Direction::RecvOnly, chosen);
            if codecs.is_empty() {
                answer.rejected = true;
                return answer;
            }
            answer.recv_rids = section.send_rids.clone();
            self.publish_section(key, section, codecs);
            return answer;
        }
        if section.direction.receives()
            && let Some(answer) = self.send_section(now, key, section, out)
        {
            return answer;
        }
        idle(Direction::Inactive, choose::receive(section, &choose::CodecPolicy::default()))
    }

    /// The answer to a section that we send in, or `None` when it stays free.
    fn send_section(
        &mut self,
        now: Time,
        key: ParticipantKey,
        section: &Section,
        out: &mut Out,
    ) -> Option<AnswerSection> {
        let hushed = self.is_hushed(key);
        let participant = self.participants.get_mut(key)?;
        let sid = match participant.negotiation.uses.get(&section.mid) {
            Some(SectionUse::Sends(sid)) => sid.clone(),
            Some(SectionUse::Ended) => {
                participant.negotiation.uses.remove(&section.mid);
                return None;
            }
            Some(SectionUse::Parked(_) | SectionUse::Publishes(_)) => return None,
            None if hushed => return None,
            None => self.take_section(now, key, section, out)?,
        };
        let participant = self.participants.get(key)?;
        let subscription = participant.subscriptions.get(&sid)?;
        let sending = subscription.sending.as_ref()?;
        let (ssrc, rtx_ssrc) = self.plane.subscription_ssrcs(sending.key);
        Some(AnswerSection {
            mid: section.mid.clone(),
            direction: Direction::SendOnly,
            codecs: sending.codecs.clone(),
            extensions: sending.extensions.clone(),
            send: Some(Sending {
                msid: Msid {
                    stream: format!("{}|{sid}", sending.publisher_sid),
                    track: sid.to_string(),
                },
                cname: outlast_media::CNAME.to_owned(),
                ssrc,
                rtx_ssrc: rtx_ssrc.filter(|_| sending.codecs.iter().any(|c| c.rtx_pt.is_some())),
            }),
            recv_rids: Vec::new(),
            rejected: false,
        })
    }

    /// Gives a free section to the first subscription that waits for one of its kind.
    fn take_section(
        &mut self,
        now: Time,
        key: ParticipantKey,
        section: &Section,
        out: &mut Out,
    ) -> Option<TrackSid> {
        let audio = section.kind == SectionKind::Audio;
        loop {
            let participant = self.participants.get(key)?;
            let (sid, publisher) = participant
                .subscriptions
                .iter()
                .find(|(_, subscription)| {
                    subscription.sending.is_none() && subscription.audio == audio
                })
                .map(|(sid, subscription)| (sid.clone(), subscription.publisher))?;
            let source = self.participants.get(publisher);
            let track = source.and_then(|publisher| publisher.track(sid.as_str()));
            let bound = track.and_then(|track| track.bound.as_ref());
            let (Some(source), Some(bound)) = (source, bound) else {
                self.unsubscribe(key, &sid);
                continue;
            };
            let choice = choose::send(section, &bound.codecs);
            if choice.codecs.is_empty() {
                self.unsubscribe(key, &sid);
                let response = proto::SubscriptionResponse {
                    track_sid: sid.to_string(),
                    err: SubscriptionError::SeCodecUnsupported.into(),
                };
                self.tell(key, Message::SubscriptionResponse(response), out);
                continue;
            }
            let rtx = |codec: &Codec| Some((codec.pt, codec.rtx_pt?));
            let nacks = |codec: &Codec| codec.feedback.iter().any(|feedback| feedback == "nack");
            let config = SubscriptionConfig {
                pt_map: choice.pt_map,
                rtx_pts: choice.codecs.iter().filter_map(rtx).collect(),
                nack: choice.codecs.iter().any(nacks),
            };
            let publisher_sid = source.sid.clone();
            let publication = bound.publication;
            let participant = self.participants.get_mut(key)?;
            let plane_key = self.plane.subscribe(now, participant.peer, publication, config);
            let subscription = participant.subscriptions.get_mut(&sid)?;
            self.plane.set_wanted(now, plane_key, subscription.wanted);
            subscription.sending = Some(SendingUse {
                mid: section.mid.clone(),
                key: plane_key,
                codecs: choice.codecs,
                extensions: choice.extensions,
                publisher_sid,
            });
            participant.negotiation.unproven = true;
            participant
                .negotiation
                .uses
                .insert(section.mid.clone(), SectionUse::Sends(sid.clone()));
            self.first_heard(publisher, &sid, out);
            return Some(sid);
        }
    }

    /// Keeps a sending section whose track is not announced yet, or binds it to its track.
    fn publish_section(&mut self, key: ParticipantKey, section: &Section, codecs: Vec<Codec>) {
        let Some(participant) = self.participants.get_mut(key) else { return };
        let uses = &mut participant.negotiation.uses;
        if let Some(SectionUse::Publishes(_)) = uses.get(&section.mid) {
            return;
        }
        let parked = Parked { section: section.clone(), codecs };
        uses.insert(section.mid.clone(), SectionUse::Parked(Box::new(parked)));
        self.bind_parked(key, false);
    }

    /// Which track each section carries to the client; Rust-core SDKs subscribe by this map alone.
    fn sent_tracks(&self, key: ParticipantKey) -> std::collections::HashMap<String, String> {
        let Some(participant) = self.participants.get(key) else { return Default::default() };
        let sent = participant.negotiation.uses.iter().filter_map(|(mid, section)| match section {
            SectionUse::Sends(sid) => Some((mid.clone(), sid.to_string())),
            _ => None,
        });
        sent.collect()
    }

    /// Asks for an offer when a subscription waits for a section, an ended one has to be said, or it is to be known that the
    /// last answer was applied.
    pub(crate) fn settle(&mut self, key: ParticipantKey, out: &mut Out) {
        if self.is_hushed(key) {
            return;
        }
        let Some(participant) = self.participants.get_mut(key) else { return };
        if !participant.negotiation.answered
            || participant.negotiation.asked
            || participant.session.is_none()
        {
            return;
        }
        let mut waiting: BTreeMap<bool, u32> = BTreeMap::new();
        for subscription in participant.subscriptions.values() {
            if subscription.sending.is_none() {
                *waiting.entry(subscription.audio).or_default() += 1;
            }
        }
        let uses = &participant.negotiation.uses;
        let ended = uses.values().any(|section| matches!(section, SectionUse::Ended));
        let prove = participant.negotiation.unproven && participant.hush.holds();
        if waiting.is_empty() && !ended && !prove {
            return;
        }
        let missing = |audio: bool| {
            let free = participant.negotiation.free(audio);
            waiting.get(&audio).copied().unwrap_or(0).saturating_sub(free)
        };
        let requirement = proto::MediaSectionsRequirement {
            num_audios: missing(true),
            num_videos: missing(false),
        };
        participant.negotiation.asked = true;
        self.tell(key, Message::MediaSectionsRequirement(requirement), out);
    }
}

/// Header extension ids of an offer; BUNDLE makes them the same in all sections (RFC 8843 §8).
fn extension_ids(offer: &Offer) -> ExtensionIds {
    let id = |uri: &str| {
        let all = offer.sections.iter().flat_map(|section| &section.extensions);
        all.into_iter().find(|extension| extension.uri == uri).map(|extension| extension.id)
    };
    ExtensionIds {
        mid: id(extension::MID),
        rid: id(extension::RID),
        repaired_rid: id(extension::REPAIRED_RID),
        audio_level: id(extension::AUDIO_LEVEL),
        transport_cc: id(extension::TRANSPORT_CC),
        abs_send_time: id(extension::ABS_SEND_TIME),
        abs_capture_time: id(extension::ABS_CAPTURE_TIME),
        dependency_descriptor: id(extension::DEPENDENCY_DESCRIPTOR),
        video_orientation: id(extension::VIDEO_ORIENTATION),
        playout_delay: id(extension::PLAYOUT_DELAY),
    }
}
