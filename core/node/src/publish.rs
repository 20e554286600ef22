//! Publishing: `add_track` meets its media section, in either order, and the track is told to the others.

use outlast_livekit as proto;
use outlast_media::{CodecSpec, Kind, LayerConfig, MediaCodec, PublicationConfig};
use outlast_model::TrackSid;
use outlast_sdp::{Codec, Section, SectionKind, choose::CodecPolicy};
use proto::{
    AudioTrackFeature, TrackSource, TrackType, request_response::Reason, signal_response::Message,
};

use crate::{
    announce::Reach,
    door::Out,
    participant::{
        Bound, Parked, Participant, ParticipantKey, SectionUse, TRACKS_MAX, TRACKS_PENDING_MAX,
        Track,
    },
    shard::Shard,
};

impl Shard {
    /// Announces a track: answered at once, shown to others when its section is negotiated.
    pub(crate) fn add_track(
        &mut self,
        key: ParticipantKey,
        request: proto::AddTrackRequest,
        out: &mut Out,
    ) {
        let Some(participant) = self.participants.get(key) else { return };
        if let Some(reason) = refusal(participant, &request) {
            let response = proto::RequestResponse {
                reason: reason.into(),
                request: Some(proto::request_response::Request::AddTrack(request)),
                ..Default::default()
            };
            self.tell(key, Message::RequestResponse(response), out);
            return;
        }
        let source = TrackSource::try_from(request.source).unwrap_or(TrackSource::Unknown);
        let prefix = match (request.r#type(), source) {
            (TrackType::Audio, TrackSource::ScreenShareAudio) => "TR_As",
            (TrackType::Audio, _) => "TR_AM",
            (_, TrackSource::ScreenShare) => "TR_VS",
            _ => "TR_VC",
        };
        let sid = TrackSid::from(self.fresh_id(prefix));
        let info = track_info(&sid, source, &request);
        let cid = request.cid;
        let response =
            proto::TrackPublishedResponse { cid: cid.clone(), track: Some(info.clone()) };
        let Some(participant) = self.participants.get_mut(key) else { return };
        participant.tracks.push(Track {
            sid,
            cid,
            info,
            bound: None,
            added_at: self.clock,
            live: false,
            heard: false,
        });
        self.answer_track(key, response, out);
        self.bind_parked(key, false);
        self.settle_tracks(key, out);
    }

    /// How to answer a sending section: by what its `add_track`, if it has come, asked for.
    pub(crate) fn codec_policy(&self, key: ParticipantKey, section: &Section) -> CodecPolicy {
        let Some(participant) = self.participants.get(key) else { return CodecPolicy::default() };
        let bound = match participant.negotiation.uses.get(&section.mid) {
            Some(SectionUse::Publishes(sid)) => participant.track(sid.as_str()),
            _ => matching(participant, section, true).and_then(|at| participant.tracks.get(at)),
        };
        let Some(track) = bound else { return CodecPolicy::default() };
        let has = |feature: AudioTrackFeature| track.info.audio_features.contains(&feature.into());
        let mime = &track.info.mime_type;
        CodecPolicy {
            preferred: (!mime.is_empty()).then(|| mime.clone()),
            disable_red: track.info.disable_red,
            stereo: track.info.stereo || has(AudioTrackFeature::TfStereo),
            dtx: !(track.info.disable_dtx || has(AudioTrackFeature::TfNoDtx)),
        }
    }

    /// Whether a section now carries another track than the one it was bound to.
    pub(crate) fn is_replaced(
        &self,
        key: ParticipantKey,
        sid: &TrackSid,
        section: &Section,
    ) -> bool {
        let Some(participant) = self.participants.get(key) else { return false };
        let Some(track) = participant.track(sid.as_str()) else { return true };
        let Some(msid) = &section.msid else { return false };
        let names = |other: &Track| other.cid == msid.track || other.cid == msid.stream;
        // Clients may rename what they send; only another announced track takes the section over.
        !names(track)
            && participant.tracks.iter().any(|other| other.bound.is_none() && names(other))
    }

    /// Binds parked sections to announced tracks: to those that they name, or, for SDKs whose SDP has other ids, to any
    /// that waits (`unnamed`).
    pub(crate) fn bind_parked(&mut self, key: ParticipantKey, unnamed: bool) {
        let Some(participant) = self.participants.get_mut(key) else { return };
        let uses = std::mem::take(&mut participant.negotiation.uses);
        for (mid, used) in uses {
            let used = match used {
                SectionUse::Parked(parked) => match matching(participant, &parked.section, unnamed)
                {
                    Some(at) => {
                        let track = &mut participant.tracks[at];
                        let config = publication(track, &parked);
                        let publication = self.plane.publish(participant.peer, config);
                        self.plane.set_publication_muted(publication, track.info.muted);
                        bind(track, *parked, publication);
                        SectionUse::Publishes(track.sid.clone())
                    }
                    None => SectionUse::Parked(parked),
                },
                used => used,
            };
            participant.negotiation.uses.insert(mid, used);
        }
    }

    /// Shows tracks that have become complete: bound, and their publisher's media is up. No packet is waited for, or
    /// a track that is published muted would never appear.
    pub(crate) fn settle_tracks(&mut self, key: ParticipantKey, out: &mut Out) {
        let Some(participant) = self.participants.get_mut(key) else { return };
        if !participant.is_connected() {
            return;
        }
        let mut fresh = Vec::new();
        for track in &mut participant.tracks {
            if track.bound.is_some() && !track.live {
                track.live = true;
                fresh.push(track.sid.clone());
            }
        }
        if fresh.is_empty() {
            return;
        }
        self.announce(key, Reach::Others, out);
        for sid in fresh {
            self.subscribe_all(key, &sid);
        }
    }

    /// ICE and DTLS are up: the participant is active.
    pub(crate) fn connected(&mut self, key: ParticipantKey, out: &mut Out) {
        let Some(participant) = self.participants.get_mut(key) else { return };
        let Some(link) = &mut participant.link else { return };
        if std::mem::replace(&mut link.connected, true) {
            return;
        }
        participant.hush.up(self.clock);
        self.stats.connected += 1;
        self.announce(key, Reach::All, out);
        self.settle_tracks(key, out);
    }

    /// Ends a published track.
    pub(crate) fn unpublish(&mut self, key: ParticipantKey, sid: &TrackSid, out: &mut Out) {
        let Some(participant) = self.participants.get_mut(key) else { return };
        let Some(at) = participant.tracks.iter().position(|track| track.sid == *sid) else {
            return;
        };
        let track = participant.tracks.remove(at);
        if let Some(bound) = track.bound {
            participant.negotiation.uses.remove(&bound.mid);
            self.plane.unpublish(bound.publication);
        }
        self.end_subscriptions(sid);
        if track.live {
            self.announce(key, Reach::Others, out);
        }
    }

    /// Mutes or unmutes; media stops or goes on by itself, the others are told.
    pub(crate) fn mute(
        &mut self,
        key: ParticipantKey,
        sid: &str,
        muted: bool,
        out: &mut Out,
    ) -> bool {
        let Some(participant) = self.participants.get_mut(key) else { return false };
        let Some(track) = participant.track_mut(sid) else { return false };
        track.info.muted = muted;
        if let Some(bound) = &track.bound {
            self.plane.set_publication_muted(bound.publication, muted);
        }
        if track.live {
            self.announce(key, Reach::Others, out);
        }
        true
    }
}

/// Why a track may not be announced.
fn refusal(participant: &Participant, request: &proto::AddTrackRequest) -> Option<Reason> {
    let permission = &participant.permission;
    let sources = &permission.can_publish_sources;
    if !permission.can_publish || !(sources.is_empty() || sources.contains(&request.source)) {
        return Some(Reason::NotAllowed);
    }
    if TrackType::try_from(request.r#type) == Ok(TrackType::Data) {
        return Some(Reason::UnsupportedType);
    }
    let pending = participant.tracks.iter().filter(|track| track.bound.is_none()).count();
    if pending >= TRACKS_PENDING_MAX || participant.tracks.len() >= TRACKS_MAX {
        return Some(Reason::LimitExceeded);
    }
    // A `sid` asks for a second codec of a track; nobody is asked for one, since no codec is switched off by us.
    (!request.sid.is_empty()).then_some(Reason::NotFound)
}

fn track_info(
    sid: &TrackSid,
    source: TrackSource,
    request: &proto::AddTrackRequest,
) -> proto::TrackInfo {
    let primary = request.simulcast_codecs.first();
    let audio = request.r#type() == TrackType::Audio;
    let mime = match primary.map(|codec| codec.codec.as_str()) {
        Some(codec) if codec.contains('/') => codec.to_owned(),
        Some(codec) if !codec.is_empty() => mime_type(audio, codec),
        _ if audio => mime_type(true, if request.disable_red { "opus" } else { "red" }),
        _ => String::new(),
    };
    let layers = match primary {
        Some(codec) if !codec.layers.is_empty() => codec.layers.clone(),
        _ => request.layers.clone(),
    };
    let stream = match (request.stream.as_str(), source) {
        ("", TrackSource::Camera | TrackSource::Microphone) => "camera",
        ("", TrackSource::ScreenShare | TrackSource::ScreenShareAudio) => "screen",
        ("", TrackSource::Unknown) => "unknown",
        (named, _) => named,
    };
    let codecs = (!audio).then(|| proto::SimulcastCodecInfo {
        mime_type: mime.clone(),
        cid: request.cid.clone(),
        layers: layers.clone(),
        video_layer_mode: primary.map_or(0, |codec| codec.video_layer_mode),
        ..Default::default()
    });
    proto::TrackInfo {
        sid: sid.to_string(),
        r#type: request.r#type,
        name: request.name.clone(),
        muted: request.muted,
        width: request.width,
        height: request.height,
        simulcast: layers.len() > 1,
        disable_dtx: request.disable_dtx,
        source: request.source,
        layers,
        mime_type: mime,
        codecs: codecs.into_iter().collect(),
        stereo: request.stereo,
        disable_red: request.disable_red,
        encryption: request.encryption,
        stream: stream.to_owned(),
        audio_features: request.audio_features.clone(),
        backup_codec_policy: request.backup_codec_policy,
        packet_trailer_features: request.packet_trailer_features.clone(),
        ..Default::default()
    }
}

/// `video/VP8`, as LiveKit's servers spell MIME types.
fn mime_type(audio: bool, codec: &str) -> String {
    match codec.to_ascii_lowercase().as_str() {
        name @ ("opus" | "red") => format!("audio/{name}"),
        name if audio => format!("audio/{name}"),
        name => format!("video/{}", name.to_ascii_uppercase()),
    }
}

/// The announced track that a section carries: by its ids, else (`unnamed`) the oldest of its kind that waits.
fn matching(participant: &Participant, section: &Section, unnamed: bool) -> Option<usize> {
    let audio = section.kind == SectionKind::Audio;
    let waits =
        |track: &Track| track.bound.is_none() && (track.info.r#type() == TrackType::Audio) == audio;
    let position = |named: &dyn Fn(&Track) -> bool| {
        participant.tracks.iter().position(|track| waits(track) && named(track))
    };
    section
        .msid
        .as_ref()
        .and_then(|msid| {
            position(&|track| track.cid == msid.track)
                .or_else(|| position(&|track| track.cid == msid.stream))
        })
        .or_else(|| position(&|_| unnamed))
}

fn bind(track: &mut Track, parked: Parked, publication: outlast_media::PublicationKey) {
    let audio = parked.section.kind == SectionKind::Audio;
    let mime = parked.codecs.first().map(|codec| mime_type(audio, &codec.name)).unwrap_or_default();
    track.info.mid = parked.section.mid.clone();
    track.info.mime_type = mime.clone();
    if let Some(codec) = track.info.codecs.first_mut() {
        codec.mime_type = mime;
        codec.mid = parked.section.mid.clone();
        codec.sdp_cid = parked.section.msid.map(|msid| msid.track).unwrap_or_default();
    }
    track.bound = Some(Bound { mid: parked.section.mid, codecs: parked.codecs, publication });
}

fn publication(track: &Track, parked: &Parked) -> PublicationConfig {
    let section = &parked.section;
    let spec = |codec: &Codec| {
        Some(CodecSpec {
            pt: codec.pt,
            rtx_pt: codec.rtx_pt,
            codec: media_codec(&codec.name)?,
            clock_rate: codec.clock_rate,
        })
    };
    let nacks = |codec: &Codec| codec.feedback.iter().any(|feedback| feedback == "nack");
    PublicationConfig {
        kind: if section.kind == SectionKind::Audio { Kind::Audio } else { Kind::Video },
        mid: section.mid.clone(),
        codecs: parked.codecs.iter().filter_map(spec).collect(),
        layers: layers(&track.info, section),
        nack: parked.codecs.iter().any(nacks),
    }
}

fn media_codec(name: &str) -> Option<MediaCodec> {
    Some(match name {
        "opus" => MediaCodec::Opus,
        "red" => MediaCodec::Red,
        "vp8" => MediaCodec::Vp8,
        "h264" => MediaCodec::H264,
        "vp9" => MediaCodec::Vp9,
        "av1" => MediaCodec::Av1,
        _ => return None,
    })
}

/// The encodings of a section, lowest first, with the sizes that `add_track` named.
fn layers(info: &proto::TrackInfo, section: &Section) -> Vec<LayerConfig> {
    if section.send_rids.is_empty() {
        let ssrc = section.ssrcs.first().copied();
        let pair = section.rtx_pairs.iter().find(|(primary, _)| Some(*primary) == ssrc);
        let rtx_ssrc = pair.map(|(_, rtx)| *rtx);
        let (width, height) = (info.width, info.height);
        return vec![LayerConfig { rid: None, ssrc, rtx_ssrc, width, height }];
    }
    let rids = section.layers();
    let mut sizes: Vec<(u32, u32)> =
        info.layers.iter().map(|layer| (layer.width, layer.height)).collect();
    sizes.sort_unstable();
    let top = rids.len().saturating_sub(1);
    let size = |at: usize| match sizes.get(at) {
        Some(size) if sizes.len() == rids.len() => *size,
        _ => (info.width >> (top - at).min(4), info.height >> (top - at).min(4)),
    };
    let layer = |(at, rid): (usize, &&str)| {
        let (width, height) = size(at);
        LayerConfig { rid: Some((*rid).to_owned()), ssrc: None, rtx_ssrc: None, width, height }
    };
    rids.iter().enumerate().map(layer).collect()
}
