//! The form of SDP (RFC 8866 §5): lines, attributes and where sections begin. Everything is borrowed from the text,
//! since each join reads some 500 lines; what a line means is read elsewhere. Fields that no answer depends on are
//! skipped unread.

use outlast_model::SDP_SECTIONS_MAX;

use crate::offer::OfferError;

/// Attributes that clients write in a section of video; room for them is made at once.
const ATTRIBUTES_USUAL: usize = 64;

/// A description: what stands before the first section, and the sections.
pub(crate) struct Session<'a> {
    pub(crate) attributes: Vec<Attribute<'a>>,
    pub(crate) medias: Vec<Media<'a>>,
}

/// A section, from its `m=` line on.
pub(crate) struct Media<'a> {
    pub(crate) media: &'a str,
    pub(crate) port: u16,
    pub(crate) proto: &'a str,
    /// Everything after the protocol.
    pub(crate) fmt: &'a str,
    pub(crate) attributes: Vec<Attribute<'a>>,
}

/// `a=name:value`; an attribute without a value has an empty one.
pub(crate) struct Attribute<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: &'a str,
}

impl<'a> Session<'a> {
    /// Reads a description that begins with `v=0`; lines end with LF or CRLF, empty ones are skipped.
    pub(crate) fn parse(text: &'a str) -> Result<Session<'a>, OfferError> {
        let mut session = Session { attributes: Vec::new(), medias: Vec::new() };
        let (mut versioned, mut rest, mut number) = (false, text, 0);
        while !rest.is_empty() {
            number += 1;
            let wrong = OfferError::Syntax { line: number };
            let Some((line, after)) = cut_line(rest) else { return Err(wrong) };
            rest = after;
            if line.is_empty() {
                continue;
            }
            let Some((key, value)) = field(line) else { return Err(wrong) };
            match key {
                b'v' if !versioned && value == "0" => versioned = true,
                _ if !versioned => return Err(wrong),
                b'm' if session.medias.len() >= SDP_SECTIONS_MAX => {
                    return Err(OfferError::TooManySections);
                }
                b'm' => session.medias.push(Media::parse(value).ok_or(wrong)?),
                b'a' => {
                    let colon = value.bytes().position(|byte| byte == b':');
                    let halves = colon.map(|at| (&value[..at], &value[at + 1..]));
                    let (name, value) = halves.unwrap_or((value, ""));
                    let level = session.medias.last_mut().map(|media| &mut media.attributes);
                    level.unwrap_or(&mut session.attributes).push(Attribute { name, value });
                }
                _ => {}
            }
        }
        if versioned { Ok(session) } else { Err(OfferError::Syntax { line: 1 }) }
    }
}

impl<'a> Media<'a> {
    fn parse(value: &'a str) -> Option<Media<'a>> {
        let mut words = value.splitn(4, ' ');
        let (media, port, proto) = (words.next()?, words.next()?, words.next()?);
        let port = port.split('/').next().unwrap_or_default().parse().ok()?;
        let attributes = Vec::with_capacity(ATTRIBUTES_USUAL);
        Some(Media { media, port, proto, fmt: words.next()?, attributes })
    }
}

/// The first line and what follows it. `None` when the line holds a NUL or a lone carriage return, which would end it
/// for some readers and not for others. Bytes are looked at once: `str::split` takes twice as long for short lines.
fn cut_line(text: &str) -> Option<(&str, &str)> {
    let end = text.bytes().position(|byte| matches!(byte, b'\n' | b'\r' | 0));
    let Some(end) = end else { return Some((text, "")) };
    let (line, rest) = text.split_at(end);
    let rest = rest.strip_prefix('\n').or_else(|| rest.strip_prefix("\r\n"))?;
    Some((line, rest))
}

/// The two halves of `x=...`.
fn field(line: &str) -> Option<(u8, &str)> {
    let (key, value) = line.split_at_checked(1)?;
    Some((key.as_bytes()[0], value.strip_prefix('=')?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERS: [&str; 3] = [
        include_str!("../tests/fixtures/chromium-first.sdp"),
        include_str!("../tests/fixtures/chromium-republished.sdp"),
        include_str!("../tests/fixtures/python-mic-camera.sdp"),
    ];

    type Attributes = Vec<(String, String)>;

    fn ours(attributes: &[Attribute<'_>]) -> Attributes {
        attributes.iter().map(|a| (a.name.to_owned(), a.value.to_owned())).collect()
    }

    fn theirs(attributes: &[sdp_types::Attribute]) -> Attributes {
        let value = |a: &sdp_types::Attribute| a.value.clone().unwrap_or_default();
        attributes.iter().map(|a| (a.attribute.clone(), value(a))).collect()
    }

    #[test]
    fn a_library_reads_the_same() {
        for offer in OFFERS {
            let session = Session::parse(offer).expect("recorded from a client");
            let other = sdp_types::Session::parse(offer.as_bytes()).expect("recorded");
            assert_eq!(ours(&session.attributes), theirs(&other.attributes));
            assert_eq!(session.medias.len(), other.medias.len());
            for (media, other) in session.medias.iter().zip(&other.medias) {
                assert_eq!((media.media, media.port), (other.media.as_str(), other.port));
                assert_eq!((media.proto, media.fmt), (other.proto.as_str(), other.fmt.as_str()));
                assert_eq!(ours(&media.attributes), theirs(&other.attributes));
            }
        }
    }

    #[test]
    fn what_is_no_line_is_named() {
        let wrong = |text: &str| match Session::parse(text) {
            Err(OfferError::Syntax { line }) => line,
            _ => 0,
        };
        for (text, line) in [
            ("", 1),
            ("s=-\r\n", 1),
            ("v=1\r\n", 1),
            ("v=0\r\nv=0\r\n", 0),
            ("v=0\n\na=x\n", 0),
            ("v=0\r\nnonsense\r\n", 2),
            ("v=0\r\n=x\r\n", 2),
            ("v=0\r\n\u{e9}=x\r\n", 2),
            ("v=0\r\na=x\ry\r\n", 2),
            ("v=0\r\na=x\0\r\n", 2),
            ("v=0\r\nm=audio 9 RTP\r\n", 2),
            ("v=0\r\nm=audio 65536 RTP 0\r\n", 2),
            ("v=0\r\nm=audio 9/2 RTP 0 8\r\n", 0),
        ] {
            assert_eq!(wrong(text), line, "{text:?}");
        }
    }
}
