//! The session level of an offer: limits first, then groups and credentials. Sections are read in `section.rs`.

use std::collections::BTreeSet;

use outlast_model::SDP_BYTES_MAX;

use crate::{
    lines::{Attribute, Session},
    offer::{Direction, Fingerprint, Offer, OfferError, Section, SectionKind, Setup},
    section,
};

/// Reads an offer. Unknown attributes are skipped; work and memory grow with the text's length and no faster.
///
/// # Errors
///
/// Any [`OfferError`]; the limits are 256 KiB, 200 sections and, in each section, 64 codecs, 64 extensions, 32 sources
/// and 8 layers.
pub fn parse_offer(text: &str) -> Result<Offer, OfferError> {
    if text.len() > SDP_BYTES_MAX {
        return Err(OfferError::TooLong);
    }
    let session = Session::parse(text)?;
    if session.medias.is_empty() {
        return Err(OfferError::Empty);
    }
    let direction = session
        .attributes
        .iter()
        .find_map(|attribute| Direction::parse(attribute.name))
        .unwrap_or(Direction::SendRecv);
    let mut sections = session
        .medias
        .iter()
        .enumerate()
        .map(|(index, media)| section::parse(index, media, direction))
        .collect::<Result<Vec<_>, _>>()?;

    let bundle = bundle(&session.attributes, &sections);
    reject_unbundled(&bundle, &mut sections);
    check_mids(&sections)?;

    // The transport is that of the first live section; what it leaves out holds for the whole session.
    let media_level = session
        .medias
        .iter()
        .zip(&sections)
        .filter(|(_, section)| !section.rejected)
        .map(|(media, _)| media.attributes.as_slice());
    let levels: Vec<&[Attribute<'_>]> =
        media_level.chain([session.attributes.as_slice()]).collect();
    let (ufrag, pwd) = ice(&levels)?;
    Ok(Offer {
        ufrag,
        pwd,
        fingerprint: fingerprint(&levels)?,
        setup: setup(&levels)?,
        extmap_allow_mixed: levels.iter().any(|level| has(level, "extmap-allow-mixed")),
        sections,
        bundle,
    })
}

pub(crate) fn value<'a>(attributes: &[Attribute<'a>], name: &str) -> Option<&'a str> {
    attributes.iter().find(|attribute| attribute.name == name).map(|attribute| attribute.value)
}

pub(crate) fn has(attributes: &[Attribute<'_>], name: &str) -> bool {
    value(attributes, name).is_some()
}

fn bundle(attributes: &[Attribute<'_>], sections: &[Section]) -> Vec<String> {
    let mids: BTreeSet<&str> = sections
        .iter()
        .filter(|section| !section.rejected)
        .map(|section| section.mid.as_str())
        .collect();
    let group = attributes
        .iter()
        .filter(|attribute| attribute.name == "group")
        .filter_map(|attribute| attribute.value.strip_prefix("BUNDLE "))
        .next()
        .unwrap_or_default();
    let mut seen = BTreeSet::new();
    group
        .split_ascii_whitespace()
        .filter(|mid| mids.contains(mid) && seen.insert(*mid))
        .map(str::to_owned)
        .collect()
}

/// There is one transport: the group's, or without a group the first live section's.
fn reject_unbundled(bundle: &[String], sections: &mut [Section]) {
    let group: BTreeSet<&str> = bundle.iter().map(String::as_str).collect();
    let mut alone_taken = false;
    for section in sections.iter_mut().filter(|section| !section.rejected) {
        if group.is_empty() {
            section.rejected = alone_taken;
            alone_taken = true;
        } else {
            section.rejected = !group.contains(section.mid.as_str());
        }
    }
}

fn check_mids(sections: &[Section]) -> Result<(), OfferError> {
    let mut seen = BTreeSet::new();
    for (index, section) in sections.iter().enumerate() {
        if section.rejected {
            continue;
        }
        if !seen.insert(section.mid.as_str()) {
            return Err(OfferError::MidRepeated { index });
        }
    }
    Ok(())
}

fn ice(levels: &[&[Attribute<'_>]]) -> Result<(String, String), OfferError> {
    let (ufrag, pwd) = levels
        .iter()
        .find_map(|level| Some((value(level, "ice-ufrag")?, value(level, "ice-pwd")?)))
        .ok_or(OfferError::Ice)?;
    let well_formed = |text: &str, shortest: usize| {
        (shortest..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if !well_formed(ufrag, 4) || !well_formed(pwd, 22) {
        return Err(OfferError::Ice);
    }
    Ok((ufrag.to_owned(), pwd.to_owned()))
}

fn fingerprint(levels: &[&[Attribute<'_>]]) -> Result<Fingerprint, OfferError> {
    let level =
        levels.iter().find(|level| has(level, "fingerprint")).ok_or(OfferError::Fingerprint)?;
    let offered = level
        .iter()
        .filter(|attribute| attribute.name == "fingerprint")
        .map(|attribute| read_fingerprint(attribute.value))
        .collect::<Option<Vec<_>>>()
        .ok_or(OfferError::Fingerprint)?;
    // Several digests of one certificate: SHA-256 is what every DTLS stack can check.
    let best =
        offered.iter().find(|fingerprint| fingerprint.algorithm == "sha-256").or(offered.first());
    best.cloned().ok_or(OfferError::Fingerprint)
}

fn read_fingerprint(text: &str) -> Option<Fingerprint> {
    let (algorithm, digest) = text.split_once(' ')?;
    let bytes = digest
        .trim()
        .split(':')
        .map(|pair| {
            let hexadecimal = pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
            hexadecimal.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
        })
        .take(65)
        .collect::<Option<Vec<u8>>>()?;
    let algorithm = algorithm.to_ascii_lowercase();
    let length = match algorithm.as_str() {
        "sha-1" => 20,
        "sha-224" => 28,
        "sha-256" => 32,
        "sha-384" => 48,
        "sha-512" => 64,
        _ => return None,
    };
    (bytes.len() == length).then_some(Fingerprint { algorithm, bytes })
}

fn setup(levels: &[&[Attribute<'_>]]) -> Result<Setup, OfferError> {
    match levels.iter().find_map(|level| value(level, "setup")) {
        // Without the attribute the offerer is `active` (RFC 4145 §4.1).
        None | Some("active") => Ok(Setup::Active),
        Some("actpass") => Ok(Setup::ActPass),
        Some(_) => Err(OfferError::Setup),
    }
}

/// `true` when the section's own data can be answered at all, apart from its grouping.
pub(crate) fn speaks(kind: SectionKind, protocol: &str, format: &str) -> bool {
    match kind {
        SectionKind::Audio | SectionKind::Video => {
            matches!(protocol, "UDP/TLS/RTP/SAVPF" | "TCP/TLS/RTP/SAVPF" | "RTP/SAVPF")
        }
        SectionKind::Application => {
            matches!(protocol, "UDP/DTLS/SCTP" | "TCP/DTLS/SCTP") && format == "webrtc-datachannel"
        }
        SectionKind::Other => false,
    }
}
