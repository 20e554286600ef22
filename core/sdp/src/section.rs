//! One media section of an offer. Every list in it has a limit, every look-up goes through an index: a hostile section
//! costs what its length costs.

use crate::{
    lines::Media,
    offer::{
        CODECS_MAX, Codec, Direction, EXTENSIONS_MAX, Extension, FEEDBACK_MAX, Msid, OfferError,
        RIDS_MAX, SSRCS_MAX, Section, SectionKind,
    },
    parse::{has, speaks, value},
    words::{Word, lower, word},
};

/// Characters of a mid or of a rid: both travel in header extensions, where more than 16 bytes need the two-byte form.
const NAME_BYTES_MAX: usize = 64;

/// Reads the section at `index` of the offer; `direction` holds where the section names none.
pub(crate) fn parse(
    index: usize,
    media: &Media<'_>,
    direction: Direction,
) -> Result<Section, OfferError> {
    let attributes = media.attributes.as_slice();
    let kind = match media.media {
        "audio" => SectionKind::Audio,
        "video" => SectionKind::Video,
        "application" => SectionKind::Application,
        _ => SectionKind::Other,
    };
    let format = media.fmt.split_ascii_whitespace().next().unwrap_or("0");
    let stopped = media.port == 0 && !has(attributes, "bundle-only");
    let rejected = stopped || !speaks(kind, media.proto, format);
    let mid = value(attributes, "mid").map(str::trim).unwrap_or_default();
    if !rejected && !is_name(mid) {
        return Err(OfferError::Mid { index });
    }
    let mut section = Section {
        mid: if is_name(mid) { mid.to_owned() } else { String::new() },
        kind,
        direction,
        rejected,
        codecs: Vec::new(),
        extensions: Vec::new(),
        msid: None,
        ssrcs: Vec::new(),
        rtx_pairs: Vec::new(),
        sim_ssrcs: Vec::new(),
        send_rids: Vec::new(),
        sctp_port: None,
        max_message_size: None,
        rtcp_rsize: false,
        media: word(media.media),
        protocol: word(media.proto),
        format: word(format),
    };
    if !rejected {
        let mut reader = Reader::new(index, &mut section);
        if kind != SectionKind::Application {
            reader.payload_types(media.fmt)?;
        }
        for attribute in attributes {
            reader.attribute(attribute.name, attribute.value)?;
        }
        reader.finish();
    }
    Ok(section)
}

/// A token that can stand between the separators of `a=group` and `a=simulcast`.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= NAME_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b",;~".contains(&byte))
}

struct Reader<'a> {
    index: usize,
    section: &'a mut Section,
    /// Payload type to position in `section.codecs`.
    places: [Option<u8>; 128],
    /// Rids declared by `a=rid:... send`.
    declared: Vec<String>,
    simulcast: Vec<String>,
    /// The track as old clients name it, at a source.
    source_msid: Option<Msid>,
}

impl<'a> Reader<'a> {
    fn new(index: usize, section: &'a mut Section) -> Reader<'a> {
        Reader {
            index,
            section,
            places: [None; 128],
            declared: Vec::new(),
            simulcast: Vec::new(),
            source_msid: None,
        }
    }

    fn too_many(&self, what: &'static str, limit: usize) -> OfferError {
        OfferError::TooMany { index: self.index, what, limit }
    }

    fn payload_types(&mut self, formats: &str) -> Result<(), OfferError> {
        for format in formats.split_ascii_whitespace() {
            let pt = format.parse().ok().filter(|pt| *pt <= 127);
            let pt: u8 = pt.ok_or(OfferError::PayloadType { index: self.index })?;
            if self.section.codecs.len() >= CODECS_MAX {
                return Err(self.too_many("payload types", CODECS_MAX));
            }
            let place = &mut self.places[usize::from(pt)];
            if place.is_some() {
                return Err(OfferError::PayloadTypeRepeated { index: self.index, pt });
            }
            *place = Some(u8::try_from(self.section.codecs.len()).expect("at most CODECS_MAX"));
            self.section.codecs.push(static_codec(pt));
        }
        Ok(())
    }

    fn attribute(&mut self, name: &str, value: &str) -> Result<(), OfferError> {
        match name {
            "rtpmap" => self.rtpmap(value),
            "fmtp" => self.fmtp(value),
            "rtcp-fb" => return self.feedback(value),
            "extmap" => return self.extmap(value),
            "ssrc" => return self.ssrc(value),
            "ssrc-group" => return self.ssrc_group(value),
            "rid" => return self.rid(value),
            "simulcast" => return self.simulcast(value),
            "msid" if self.section.msid.is_none() => self.section.msid = read_msid(value),
            "rtcp-rsize" => self.section.rtcp_rsize = true,
            "sctp-port" => self.section.sctp_port = value.trim().parse().ok(),
            "max-message-size" => self.section.max_message_size = value.trim().parse().ok(),
            _ => {
                if let Some(direction) = Direction::parse(name) {
                    self.section.direction = direction;
                }
            }
        }
        Ok(())
    }

    fn codec(&mut self, pt: &str) -> Option<&mut Codec> {
        let pt: u8 = pt.parse().ok()?;
        let place = (*self.places.get(usize::from(pt))?)?;
        self.section.codecs.get_mut(usize::from(place))
    }

    fn rtpmap(&mut self, value: &str) {
        let Some((pt, encoding)) = halves(value) else { return };
        let mut parts = encoding.trim().split('/');
        let name = parts.next().map(lower).unwrap_or_default();
        let clock_rate = parts.next().and_then(|rate| rate.parse().ok()).unwrap_or(0);
        let channels = parts.next().map_or(Some(1), |channels| channels.parse().ok());
        if let (Some(codec), Some(channels), 1..) = (self.codec(pt), channels, clock_rate) {
            (codec.name, codec.clock_rate, codec.channels) = (name, clock_rate, channels);
        }
    }

    fn fmtp(&mut self, value: &str) {
        let Some((pt, parameters)) = halves(value) else { return };
        if let Some(codec) = self.codec(pt).filter(|codec| codec.fmtp.is_empty()) {
            codec.fmtp = word(parameters.trim());
        }
    }

    fn feedback(&mut self, value: &str) -> Result<(), OfferError> {
        let Some((pt, feedback)) = halves(value) else { return Ok(()) };
        let feedback = feedback.trim();
        let mut full = false;
        let mut add = |codec: &mut Codec| {
            if codec.feedback.iter().any(|known| known == feedback) {
                return;
            }
            full |= codec.feedback.len() >= FEEDBACK_MAX;
            if !full {
                codec.feedback.push(word(feedback));
            }
        };
        if pt == "*" {
            self.section.codecs.iter_mut().for_each(add);
        } else if let Some(codec) = self.codec(pt) {
            add(codec);
        }
        if full { Err(self.too_many("feedback types of a codec", FEEDBACK_MAX)) } else { Ok(()) }
    }

    fn extmap(&mut self, value: &str) -> Result<(), OfferError> {
        let mut words = value.split_ascii_whitespace();
        let (Some(id), Some(uri)) = (words.next(), words.next()) else { return Ok(()) };
        let id = id.split('/').next().unwrap_or_default();
        // Ids from 4096 ask the answerer to choose one (RFC 8285 §6); nobody sends them to us.
        let Some(id) = id.parse().ok().filter(|id| *id > 0) else { return Ok(()) };
        if self.section.extensions.len() >= EXTENSIONS_MAX {
            return Err(self.too_many("header extensions", EXTENSIONS_MAX));
        }
        let known = &mut self.section.extensions;
        if !known.iter().any(|extension| extension.id == id || extension.uri == uri) {
            known.push(Extension { id, uri: word(uri) });
        }
        Ok(())
    }

    fn ssrc(&mut self, value: &str) -> Result<(), OfferError> {
        let (ssrc, attribute) = value.split_once(' ').unwrap_or((value, ""));
        let Ok(ssrc) = ssrc.parse() else { return Ok(()) };
        if self.source_msid.is_none() {
            self.source_msid = attribute.strip_prefix("msid:").and_then(read_msid);
        }
        if !self.section.ssrcs.contains(&ssrc) {
            if self.section.ssrcs.len() >= SSRCS_MAX {
                return Err(self.too_many("sources", SSRCS_MAX));
            }
            self.section.ssrcs.push(ssrc);
        }
        Ok(())
    }

    fn ssrc_group(&mut self, value: &str) -> Result<(), OfferError> {
        let (semantics, members) = value.split_once(' ').unwrap_or((value, ""));
        let ssrcs: Vec<u32> = members
            .split_ascii_whitespace()
            .map_while(|ssrc| ssrc.parse().ok())
            .take(SSRCS_MAX)
            .collect();
        match (semantics, ssrcs.as_slice()) {
            ("FID", [media, rtx]) if self.section.rtx_pairs.len() < SSRCS_MAX => {
                self.section.rtx_pairs.push((*media, *rtx));
            }
            ("FID", [_, _]) => return Err(self.too_many("source groups", SSRCS_MAX)),
            ("SIM", _) if self.section.sim_ssrcs.is_empty() => self.section.sim_ssrcs = ssrcs,
            _ => {}
        }
        Ok(())
    }

    fn rid(&mut self, value: &str) -> Result<(), OfferError> {
        let mut words = value.split_ascii_whitespace();
        let (Some(rid), Some("send")) = (words.next(), words.next()) else { return Ok(()) };
        if !is_name(rid) || self.declared.iter().any(|known| known == rid) {
            return Ok(());
        }
        if self.declared.len() >= RIDS_MAX {
            return Err(self.too_many("layers", RIDS_MAX));
        }
        self.declared.push(rid.to_owned());
        Ok(())
    }

    fn simulcast(&mut self, value: &str) -> Result<(), OfferError> {
        let mut words = value.split_ascii_whitespace().skip_while(|word| *word != "send").skip(1);
        let Some(list) = words.next() else { return Ok(()) };
        for layer in list.split(';') {
            // Of alternatives the first; a paused layer is a layer (RFC 8853 §5.1).
            let rid = layer.split(',').next().unwrap_or_default().trim_start_matches('~');
            if self.simulcast.len() >= RIDS_MAX {
                return Err(self.too_many("layers", RIDS_MAX));
            }
            if !self.simulcast.iter().any(|known| known == rid) {
                self.simulcast.push(rid.to_owned());
            }
        }
        Ok(())
    }

    fn finish(self) {
        let Reader { section, declared, mut simulcast, source_msid, .. } = self;
        simulcast.retain(|rid| declared.contains(rid));
        section.send_rids = simulcast;
        section.msid = section.msid.take().or(source_msid);
        section.codecs.retain(|codec| !codec.name.is_empty());
        link_retransmissions(&mut section.codecs);
    }
}

/// What stands before and after the first space; `str::split_once` takes longer for texts this short.
fn halves(text: &str) -> Option<(&str, &str)> {
    let space = text.bytes().position(|byte| byte == b' ')?;
    Some((&text[..space], &text[space + 1..]))
}

fn read_msid(text: &str) -> Option<Msid> {
    let mut words = text.split_ascii_whitespace();
    let stream = words.next()?.to_owned();
    Some(Msid { stream, track: words.next().unwrap_or_default().to_owned() })
}

/// A payload type before its `rtpmap`; only static ones have a name then (RFC 3551 §6).
fn static_codec(pt: u8) -> Codec {
    let name = match pt {
        0 => "pcmu",
        8 => "pcma",
        9 => "g722",
        13 => "cn",
        _ => "",
    };
    Codec {
        pt,
        name: name.into(),
        clock_rate: 8000,
        channels: 1,
        fmtp: Word::default(),
        feedback: Vec::new(),
        rtx_pt: None,
    }
}

/// Gives each codec the first `rtx` that names it; one that names an unknown payload type stays alone.
fn link_retransmissions(codecs: &mut [Codec]) {
    let pairs: Vec<(u8, u8)> = codecs
        .iter()
        .filter(|codec| codec.name == "rtx")
        .filter_map(|rtx| Some((rtx.parameter("apt")?.parse().ok()?, rtx.pt)))
        .collect();
    for (apt, rtx_pt) in pairs {
        let media = codecs.iter_mut().find(|codec| codec.pt == apt && codec.name != "rtx");
        if let Some(codec) = media.filter(|codec| codec.rtx_pt.is_none()) {
            codec.rtx_pt = Some(rtx_pt);
        }
    }
}
