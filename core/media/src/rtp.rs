//! RTP headers: reading them from hostile bytes (RFC 3550 §5.1, RFC 8285) and writing ours.

use crate::config::ExtensionIds;

/// Bytes of a header without CSRCs and extensions.
pub(crate) const FIXED_HEADER: usize = 12;
const ONE_BYTE: u16 = 0xbede;
/// RFC 8285 §4.3; the low four bits are the application's.
const TWO_BYTE: u16 = 0x1000;

/// The fixed part of a header, and where the rest lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) marker: bool,
    pub(crate) pt: u8,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
    /// The P bit: the last byte of the plain packet counts its padding.
    pub(crate) padded: bool,
    /// Extension profile, and the extension's bytes in the packet.
    extension: Option<(u16, usize, usize)>,
    /// Bytes before the payload.
    pub(crate) length: usize,
}

impl Header {
    /// Reads the header of an RTP packet; `None` when it does not fit its own lengths.
    pub(crate) fn parse(packet: &[u8]) -> Option<Header> {
        let fixed = packet.first_chunk::<FIXED_HEADER>()?;
        if fixed[0] >> 6 != 2 {
            return None;
        }
        let mut length = FIXED_HEADER + 4 * usize::from(fixed[0] & 0x0f);
        let mut extension = None;
        if fixed[0] & 0x10 != 0 {
            let head = packet.get(length..length + 4)?;
            let start = length + 4;
            let words = usize::from(u16::from_be_bytes([head[2], head[3]]));
            length = start + 4 * words;
            extension = Some((u16::from_be_bytes([head[0], head[1]]), start, length));
        }
        if packet.len() < length {
            return None;
        }
        Some(Header {
            marker: fixed[1] & 0x80 != 0,
            pt: fixed[1] & 0x7f,
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            padded: fixed[0] & 0x20 != 0,
            extension,
            length,
        })
    }

    /// The payload of the plain `packet` without its padding; `None` when the padding count lies.
    pub(crate) fn payload<'a>(&self, packet: &'a [u8]) -> Option<&'a [u8]> {
        let payload = packet.get(self.length..)?;
        if !self.padded {
            return Some(payload);
        }
        let count = usize::from(*payload.last()?);
        if count == 0 {
            return None;
        }
        payload.get(..payload.len().checked_sub(count)?)
    }

    /// The header extension elements of `packet`, which this header was read from.
    pub(crate) fn elements<'a>(&self, packet: &'a [u8]) -> Elements<'a> {
        let (profile, bytes) = match self.extension {
            Some((profile, start, end)) => (profile, packet.get(start..end).unwrap_or(&[])),
            None => (0, &[][..]),
        };
        let two_byte = profile & 0xfff0 == TWO_BYTE;
        if !two_byte && profile != ONE_BYTE {
            return Elements { bytes: &[], two_byte: false };
        }
        Elements { bytes, two_byte }
    }
}

/// Iterates header extension elements as (id, value).
pub(crate) struct Elements<'a> {
    bytes: &'a [u8],
    two_byte: bool,
}

impl<'a> Iterator for Elements<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        loop {
            let (&first, rest) = self.bytes.split_first()?;
            if first == 0 {
                self.bytes = rest;
                continue;
            }
            let (id, length, rest) = if self.two_byte {
                let (&length, rest) = rest.split_first()?;
                (first, usize::from(length), rest)
            } else {
                (first >> 4, usize::from(first & 0x0f) + 1, rest)
            };
            // RFC 8285 §4.2: id 15 ends one-byte processing, id 0 with a length is skipped.
            if !self.two_byte && id == 15 {
                self.bytes = &[];
                return None;
            }
            let Some((value, rest)) = rest.split_at_checked(length) else {
                self.bytes = &[];
                return None;
            };
            self.bytes = rest;
            if id != 0 {
                return Some((id, value));
            }
        }
    }
}

/// The extension values that this server reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extensions<'a> {
    pub(crate) mid: Option<&'a [u8]>,
    pub(crate) rid: Option<&'a [u8]>,
    pub(crate) repaired_rid: Option<&'a [u8]>,
    pub(crate) transport_cc: Option<u16>,
    pub(crate) passed: Passed<'a>,
}

/// The extension values that travel on to subscribers unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed<'a> {
    /// RFC 6464: voice flag and level.
    pub(crate) audio_level: Option<u8>,
    pub(crate) orientation: Option<u8>,
    pub(crate) playout_delay: Option<[u8; 3]>,
    /// 8 or 16 bytes.
    pub(crate) capture_time: Option<&'a [u8]>,
    pub(crate) dependency: Option<&'a [u8]>,
}

impl<'a> Extensions<'a> {
    /// Picks the values that `ids` name out of `elements`.
    pub(crate) fn read(elements: Elements<'a>, ids: &ExtensionIds) -> Extensions<'a> {
        let mut found = Extensions::default();
        for (id, value) in elements {
            let is = |known: Option<u8>| known == Some(id);
            if is(ids.transport_cc) {
                found.transport_cc = value.first_chunk().map(|b| u16::from_be_bytes(*b));
            } else if is(ids.audio_level) {
                found.passed.audio_level = value.first().copied();
            } else if is(ids.abs_capture_time) {
                found.passed.capture_time = Some(value).filter(|v| matches!(v.len(), 8 | 16));
            } else if is(ids.dependency_descriptor) {
                found.passed.dependency = Some(value).filter(|v| !v.is_empty());
            } else if is(ids.video_orientation) {
                found.passed.orientation = value.first().copied();
            } else if is(ids.playout_delay) {
                found.passed.playout_delay = value.first_chunk().copied();
            } else if is(ids.mid) {
                found.mid = Some(value);
            } else if is(ids.rid) {
                found.rid = Some(value);
            } else if is(ids.repaired_rid) {
                found.repaired_rid = Some(value);
            }
        }
        found
    }
}

/// One header to write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) marker: bool,
    pub(crate) padded: bool,
    pub(crate) pt: u8,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
    pub(crate) transport_cc: Option<u16>,
    pub(crate) passed: Passed<'a>,
}

/// Appends the header with the extensions that `ids` name; returns its length.
pub(crate) fn write_header(out: &mut Vec<u8>, header: &Outgoing<'_>, ids: &ExtensionIds) -> usize {
    let start = out.len();
    let mut fixed = [0; FIXED_HEADER];
    fixed[0] = 0x80 | u8::from(header.padded) << 5;
    fixed[1] = u8::from(header.marker) << 7 | header.pt;
    fixed[2..4].copy_from_slice(&header.sequence.to_be_bytes());
    fixed[4..8].copy_from_slice(&header.timestamp.to_be_bytes());
    fixed[8..12].copy_from_slice(&header.ssrc.to_be_bytes());
    out.extend_from_slice(&fixed);

    let number = header.transport_cc.map(u16::to_be_bytes);
    let passed = &header.passed;
    let level = passed.audio_level.map(|b| [b]);
    let orientation = passed.orientation.map(|b| [b]);
    let values: [(Option<u8>, Option<&[u8]>); 6] = [
        (ids.transport_cc, number.as_ref().map(|b| &b[..])),
        (ids.audio_level, level.as_ref().map(|b| &b[..])),
        (ids.video_orientation, orientation.as_ref().map(|b| &b[..])),
        (ids.playout_delay, passed.playout_delay.as_ref().map(|b| &b[..])),
        (ids.abs_capture_time, passed.capture_time),
        (ids.dependency_descriptor, passed.dependency),
    ];
    let mut two_byte = false;
    let mut any = false;
    for (id, value) in &values {
        if let (Some(id), Some(value)) = (id, value) {
            any = true;
            two_byte |= *id > 14 || value.len() > 16;
        }
    }
    if !any {
        return FIXED_HEADER;
    }
    out[start] |= 0x10;
    let head = out.len();
    out.extend_from_slice(&if two_byte { TWO_BYTE } else { ONE_BYTE }.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    for (id, value) in values {
        let (Some(id), Some(value)) = (id, value) else { continue };
        // A descriptor longer than 255 bytes cannot come in and so never goes out.
        let length = value.len() as u8;
        if two_byte {
            out.extend_from_slice(&[id, length]);
        } else {
            out.push(id << 4 | (length - 1));
        }
        out.extend_from_slice(value);
    }
    let bytes = out.len() - head - 4;
    let words = bytes.div_ceil(4);
    out.resize(head + 4 + 4 * words, 0);
    out[head + 2..head + 4].copy_from_slice(&(words as u16).to_be_bytes());
    out.len() - start
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids() -> ExtensionIds {
        ExtensionIds {
            mid: Some(1),
            audio_level: Some(2),
            transport_cc: Some(3),
            abs_capture_time: Some(4),
            dependency_descriptor: Some(5),
            video_orientation: Some(6),
            playout_delay: Some(7),
            ..ExtensionIds::default()
        }
    }

    fn check(passed: Passed<'_>, transport_cc: Option<u16>) -> Vec<u8> {
        let mut out = vec![0xee; 3];
        let header = Outgoing {
            marker: true,
            padded: false,
            pt: 96,
            sequence: 4,
            timestamp: 5,
            ssrc: 6,
            transport_cc,
            passed,
        };
        let length = write_header(&mut out, &header, &ids());
        let packet = out.split_off(3);
        let read = Header::parse(&packet).expect("parses");
        assert_eq!((read.length, packet.len()), (length, length));
        assert_eq!((read.marker, read.pt, read.sequence), (true, 96, 4));
        assert_eq!((read.timestamp, read.ssrc), (5, 6));
        let found = Extensions::read(read.elements(&packet), &ids());
        assert_eq!(found.passed, passed);
        assert_eq!(found.transport_cc, transport_cc);
        packet
    }

    #[test]
    fn writes_what_it_reads() {
        assert_eq!(check(Passed::default(), None).len(), 12);
        assert_eq!(check(Passed::default(), Some(7)).len(), 20);
        let passed = Passed {
            audio_level: Some(0x8f),
            orientation: Some(1),
            playout_delay: Some([1, 2, 3]),
            capture_time: Some(&[9; 16]),
            dependency: Some(&[7; 3]),
        };
        check(passed, Some(0xfffe));
        // Too long for the one-byte form.
        check(Passed { dependency: Some(&[7; 90]), ..passed }, Some(0xfffe));
    }

    #[test]
    fn padding_is_counted_from_the_end() {
        let mut packet = vec![0xa0, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 5, 6, 0, 2];
        let header = Header::parse(&packet).unwrap();
        assert_eq!(header.payload(&packet), Some(&[5, 6][..]));
        packet[15] = 5;
        assert_eq!(header.payload(&packet), None);
        packet[15] = 0;
        assert_eq!(header.payload(&packet), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(mut bytes in prop::collection::vec(any::<u8>(), 0..200), extension: bool) {
            if let Some(first) = bytes.first_mut() {
                *first = 0x80 | (*first & 0x2f) | u8::from(extension) << 4;
            }
            if let Some(header) = Header::parse(&bytes) {
                prop_assert!(header.length <= bytes.len());
                Extensions::read(header.elements(&bytes), &ids());
                header.payload(&bytes);
            }
        }

        #[test]
        fn any_elements_are_survived(body in prop::collection::vec(any::<u8>(), 0..80), two_byte: bool) {
            let mut bytes = vec![0x90, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1];
            bytes.extend_from_slice(if two_byte { &[0x10, 0] } else { &[0xbe, 0xde] });
            bytes.extend_from_slice(&[0, (body.len() / 4) as u8]);
            bytes.extend_from_slice(&body);
            let header = Header::parse(&bytes).expect("lengths fit");
            let total: usize = header.elements(&bytes).map(|(_, value)| value.len()).sum();
            prop_assert!(total <= body.len());
        }
    }
}
