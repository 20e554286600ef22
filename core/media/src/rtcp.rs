//! RTCP: reading compounds from hostile bytes, writing ours (RFC 3550 §6, RFC 4585, RFC 5104, REMB).
//! Transport-wide feedback has its own file, [`crate::twcc`].

use crate::twcc;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const BYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;
const FMT_NACK: u8 = 1;
const FMT_TWCC: u8 = 15;
const FMT_PLI: u8 = 1;
const FMT_FIR: u8 = 4;
const FMT_APPLICATION: u8 = 15;
const BLOCK_BYTES: usize = 24;
/// Most report blocks of one packet; more start a new one (RFC 3550 §6.4.1).
pub(crate) const BLOCKS_MAX: usize = 31;

/// One packet of a compound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packet<'a> {
    SenderReport {
        ssrc: u32,
        ntp: u64,
        timestamp: u32,
        blocks: Blocks<'a>,
    },
    ReceiverReport {
        blocks: Blocks<'a>,
    },
    Nack {
        media: u32,
        pairs: NackPairs<'a>,
    },
    Pli {
        media: u32,
    },
    Fir {
        entries: FirEntries<'a>,
    },
    Twcc(twcc::Feedback<'a>),
    Remb {
        bits_per_second: u64,
    },
    Bye {
        sources: Words<'a>,
    },
    /// Nothing that this server acts on.
    Other,
}

/// The packets of a plain compound (or reduced-size) RTCP packet; ends at the first that does not fit.
pub(crate) struct Compound<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Compound<'a> {
    type Item = Packet<'a>;

    fn next(&mut self) -> Option<Packet<'a>> {
        let head = self.0.first_chunk::<4>()?;
        let length = 4 + 4 * usize::from(u16::from_be_bytes([head[2], head[3]]));
        if head[0] >> 6 != 2 || self.0.len() < length {
            self.0 = &[];
            return None;
        }
        let (mut packet, rest) = self.0.split_at(length);
        if head[0] & 0x20 != 0 {
            let kept = packet.len() - usize::from(packet[packet.len() - 1]).min(packet.len() - 4);
            packet = &packet[..kept];
        }
        self.0 = rest;
        Some(parse(head[1], head[0] & 0x1f, &packet[4..]).unwrap_or(Packet::Other))
    }
}

fn parse(kind: u8, count: u8, body: &[u8]) -> Option<Packet<'_>> {
    let word = |at: usize| {
        body.get(at..at + 4).map(|b| u32::from_be_bytes(b.try_into().expect("four bytes")))
    };
    let blocks = |at: usize| {
        let bytes = body.get(at..at + BLOCK_BYTES * usize::from(count));
        bytes.map(Blocks)
    };
    Some(match (kind, count) {
        (SENDER_REPORT, _) => Packet::SenderReport {
            ssrc: word(0)?,
            ntp: u64::from(word(4)?) << 32 | u64::from(word(8)?),
            timestamp: word(12)?,
            blocks: blocks(24)?,
        },
        (RECEIVER_REPORT, _) => Packet::ReceiverReport { blocks: blocks(4)? },
        (BYE, _) => Packet::Bye { sources: Words(body.get(..4 * usize::from(count))?) },
        (TRANSPORT_FEEDBACK, FMT_NACK) => {
            Packet::Nack { media: word(4)?, pairs: NackPairs(body.get(8..)?) }
        }
        (TRANSPORT_FEEDBACK, FMT_TWCC) => Packet::Twcc(twcc::Feedback::parse(body.get(8..)?)?),
        (PAYLOAD_FEEDBACK, FMT_PLI) => Packet::Pli { media: word(4)? },
        (PAYLOAD_FEEDBACK, FMT_FIR) => Packet::Fir { entries: FirEntries(body.get(8..)?) },
        (PAYLOAD_FEEDBACK, FMT_APPLICATION) => {
            if body.get(8..12)? != b"REMB" {
                return None;
            }
            let packed = word(12)?;
            let exponent = packed >> 18 & 0x3f;
            let mantissa = u64::from(packed & 0x3_ffff);
            // An exponent that overflows is a client's way to say "unlimited".
            let bits_per_second =
                mantissa.checked_shl(exponent).filter(|b| b >> exponent == mantissa);
            Packet::Remb { bits_per_second: bits_per_second.unwrap_or(u64::MAX) }
        }
        _ => return None,
    })
}

/// One report block (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) ssrc: u32,
    /// Of 256, since the last report.
    pub(crate) fraction_lost: u8,
    /// 24 bits, signed.
    pub(crate) lost: i32,
    pub(crate) highest: u32,
    /// In timestamp units.
    pub(crate) jitter: u32,
    /// Middle 32 bits of the last sender report's NTP time; 0: none came.
    pub(crate) last_report: u32,
    /// Since then, in 1/65536 s.
    pub(crate) delay: u32,
}

/// Iterates report blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocks<'a>(&'a [u8]);

impl Iterator for Blocks<'_> {
    type Item = Block;

    fn next(&mut self) -> Option<Block> {
        let (bytes, rest) = self.0.split_first_chunk::<BLOCK_BYTES>()?;
        self.0 = rest;
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four"));
        Some(Block {
            ssrc: word(0),
            fraction_lost: bytes[4],
            lost: (word(4) << 8) as i32 >> 8,
            highest: word(8),
            jitter: word(12),
            last_report: word(16),
            delay: word(20),
        })
    }
}

/// Iterates the sequence numbers of a NACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NackPairs<'a>(&'a [u8]);

impl NackPairs<'_> {
    /// Calls `each` with every sequence number asked for.
    pub(crate) fn for_each(self, mut each: impl FnMut(u16)) {
        for pair in self.0.chunks_exact(4) {
            let first = u16::from_be_bytes([pair[0], pair[1]]);
            let mask = u16::from_be_bytes([pair[2], pair[3]]);
            each(first);
            for bit in (0..16).filter(|bit| mask >> bit & 1 == 1) {
                each(first.wrapping_add(bit + 1));
            }
        }
    }
}

/// Iterates the media SSRCs of a FIR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FirEntries<'a>(&'a [u8]);

impl Iterator for FirEntries<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (entry, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u32::from_be_bytes([entry[0], entry[1], entry[2], entry[3]]))
    }
}

/// Iterates 32-bit words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Words<'a>(&'a [u8]);

impl Iterator for Words<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (word, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*word))
    }
}

fn begin(out: &mut Vec<u8>, count: u8, kind: u8) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0x80 | count, kind, 0, 0]);
    start
}

fn word(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Fills in the length of the packet that began at `start`; what was written is a multiple of four bytes.
pub(crate) fn end(out: &mut [u8], start: usize) {
    let words = ((out.len() - start) / 4 - 1) as u16;
    out[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
}

/// Appends a sender report without blocks, and a source description with `cname`.
pub(crate) fn write_sender_report(out: &mut Vec<u8>, report: &SenderReport, cname: &str) {
    let start = begin(out, 0, SENDER_REPORT);
    word(out, report.ssrc);
    word(out, (report.ntp >> 32) as u32);
    word(out, report.ntp as u32);
    word(out, report.timestamp);
    word(out, report.packets);
    word(out, report.octets);
    end(out, start);

    let start = begin(out, 1, SOURCE_DESCRIPTION);
    word(out, report.ssrc);
    let cname = &cname.as_bytes()[..cname.len().min(255)];
    out.extend_from_slice(&[1, cname.len() as u8]);
    out.extend_from_slice(cname);
    // At least one null byte ends the chunk (RFC 3550 §6.5).
    let unpadded = out.len() - start;
    out.resize(start + (unpadded + 4) / 4 * 4, 0);
    end(out, start);
}

/// What a sender report says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SenderReport {
    pub(crate) ssrc: u32,
    pub(crate) ntp: u64,
    pub(crate) timestamp: u32,
    pub(crate) packets: u32,
    pub(crate) octets: u32,
}

/// Appends a receiver report; at most [`BLOCKS_MAX`] blocks.
pub(crate) fn write_receiver_report(out: &mut Vec<u8>, sender: u32, blocks: &[Block]) {
    let start = begin(out, blocks.len().min(BLOCKS_MAX) as u8, RECEIVER_REPORT);
    word(out, sender);
    for block in blocks.iter().take(BLOCKS_MAX) {
        word(out, block.ssrc);
        let lost = block.lost.clamp(-0x80_0000, 0x7f_ffff) as u32 & 0xff_ffff;
        word(out, u32::from(block.fraction_lost) << 24 | lost);
        word(out, block.highest);
        word(out, block.jitter);
        word(out, block.last_report);
        word(out, block.delay);
    }
    end(out, start);
}

/// Appends a picture loss indication (RFC 4585 §6.3.1).
pub(crate) fn write_pli(out: &mut Vec<u8>, sender: u32, media: u32) {
    let start = begin(out, FMT_PLI, PAYLOAD_FEEDBACK);
    word(out, sender);
    word(out, media);
    end(out, start);
}

/// Appends a NACK for ascending `sequences` (RFC 4585 §6.2.1); nothing when there are none.
pub(crate) fn write_nack(
    out: &mut Vec<u8>,
    sender: u32,
    media: u32,
    sequences: impl Iterator<Item = u16>,
) {
    let mut sequences = sequences.peekable();
    if sequences.peek().is_none() {
        return;
    }
    let start = begin(out, FMT_NACK, TRANSPORT_FEEDBACK);
    word(out, sender);
    word(out, media);
    while let Some(first) = sequences.next() {
        let mut mask = 0_u16;
        while let Some(next) = sequences.peek() {
            let ahead = next.wrapping_sub(first);
            if !(1..=16).contains(&ahead) {
                break;
            }
            mask |= 1 << (ahead - 1);
            sequences.next();
        }
        out.extend_from_slice(&first.to_be_bytes());
        out.extend_from_slice(&mask.to_be_bytes());
    }
    end(out, start);
}

/// Appends the head of transport-wide feedback; the caller writes the rest and calls [`end`] with what is returned.
pub(crate) fn begin_twcc(out: &mut Vec<u8>, sender: u32, media: u32) -> usize {
    let start = begin(out, FMT_TWCC, TRANSPORT_FEEDBACK);
    word(out, sender);
    word(out, media);
    start
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_it_writes() {
        let report =
            SenderReport { ssrc: 9, ntp: 1 << 40 | 5, timestamp: 77, packets: 3, octets: 4 };
        let block = Block {
            ssrc: 5,
            fraction_lost: 12,
            lost: -3,
            highest: 0x1_0004,
            jitter: 8,
            last_report: 6,
            delay: 7,
        };
        let mut out = vec![0xff];
        write_sender_report(&mut out, &report, "outlast");
        write_receiver_report(&mut out, 1, &[block, block]);
        write_pli(&mut out, 1, 2);
        let lost = [65_530, 65_535, 0, 9, 10, 500];
        write_nack(&mut out, 1, 3, lost.into_iter());
        write_nack(&mut out, 1, 3, std::iter::empty());
        let bytes = out.split_off(1);
        let packets: Vec<Packet<'_>> = Compound(&bytes).collect();
        assert_eq!(packets.len(), 5);
        assert!(matches!(packets[0], Packet::SenderReport { ssrc: 9, ntp, timestamp: 77, .. }
            if ntp == report.ntp));
        assert_eq!(packets[1], Packet::Other);
        let Packet::ReceiverReport { blocks } = packets[2] else { panic!("a report") };
        assert_eq!(blocks.collect::<Vec<_>>(), [block, block]);
        assert_eq!(packets[3], Packet::Pli { media: 2 });
        let Packet::Nack { media: 3, pairs } = packets[4] else { panic!("a nack") };
        let mut asked = Vec::new();
        pairs.for_each(|sequence| asked.push(sequence));
        assert_eq!(asked, lost);
    }

    #[test]
    fn reads_remb_and_fir() {
        let bytes = [
            0x8f, 206, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, b'R', b'E', b'M', b'B', 1, 0x0b, 0xd0, 0x90,
            0, 0, 0, 9, 0x84, 206, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 42, 7, 0, 0, 0,
        ];
        let packets: Vec<Packet<'_>> = Compound(&bytes).collect();
        assert_eq!(packets[0], Packet::Remb { bits_per_second: 0x3_d090 << 2 });
        let Packet::Fir { mut entries } = packets[1] else { panic!("a FIR") };
        assert_eq!((entries.next(), entries.next()), (Some(42), None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(
            kind in 198u8..210,
            count in 0u8..32,
            body in prop::collection::vec(any::<u8>(), 0..120),
            flags: u8,
        ) {
            let mut bytes = vec![0x80 | count | flags & 0x20, kind, 0, (body.len() / 4) as u8];
            bytes.extend_from_slice(&body);
            for packet in Compound(&bytes) {
                match packet {
                    Packet::SenderReport { blocks, .. } | Packet::ReceiverReport { blocks } => {
                        prop_assert!(blocks.count() <= BLOCKS_MAX);
                    }
                    Packet::Nack { pairs, .. } => pairs.for_each(|_| ()),
                    Packet::Fir { entries } => prop_assert!(entries.count() <= 16),
                    Packet::Twcc(feedback) => feedback.for_each(|_, _| ()),
                    Packet::Bye { sources } => prop_assert!(sources.count() <= 31),
                    Packet::Pli { .. } | Packet::Remb { .. } | Packet::Other => (),
                }
            }
        }
    }
}
