//! VP8's payload descriptor (RFC 7741 §4.2): read once, and rewritten so that the numbers in it go on across layers.

/// Where the descriptor's running numbers lie, and their values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// Offset and value; 15 bits when `long`, else 7.
    pub(crate) picture: Option<(u8, u16)>,
    long: bool,
    /// Offset and value of TL0PICIDX.
    pub(crate) base_layer: Option<(u8, u8)>,
}

/// What is added to the descriptor's numbers, modulo their width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shift {
    pub(crate) picture: u16,
    pub(crate) base_layer: u8,
}

impl Descriptor {
    /// Reads a payload's descriptor, and whether a key frame starts in it; `None` when it is cut short.
    pub(crate) fn parse(payload: &[u8]) -> Option<(Descriptor, bool)> {
        let first = *payload.first()?;
        let mut found = Descriptor::default();
        let mut at = 1_u8;
        if first & 0x80 != 0 {
            let flags = *payload.get(1)?;
            at = 2;
            if flags & 0x80 != 0 {
                let (picture, long) = picture(payload.get(usize::from(at)..)?)?;
                found.picture = Some((at, picture));
                found.long = long;
                at += 1 + u8::from(long);
            }
            if flags & 0x40 != 0 {
                found.base_layer = Some((at, *payload.get(usize::from(at))?));
                at += 1;
            }
            if flags & 0x30 != 0 {
                at += 1;
            }
        }
        let frame = *payload.get(usize::from(at))?;
        // Start of partition 0, and the frame tag's inverse key frame bit (RFC 6386 §9.1).
        let key = first & 0x17 == 0x10 && frame & 1 == 0;
        Some((found, key))
    }

    /// Writes the shifted numbers into a copy of the payload that this was read from.
    pub(crate) fn rewrite(&self, payload: &mut [u8], shift: Shift) {
        if let Some((at, picture)) = self.picture {
            let at = usize::from(at);
            let picture = picture.wrapping_add(shift.picture);
            if self.long {
                let bytes = (picture | 0x8000).to_be_bytes();
                payload[at..at + 2].copy_from_slice(&bytes);
            } else {
                payload[at] = (picture & 0x7f) as u8;
            }
        }
        if let Some((at, base_layer)) = self.base_layer {
            payload[usize::from(at)] = base_layer.wrapping_add(shift.base_layer);
        }
    }
}

/// The picture id that stands first in `bytes`, and whether it takes two of them.
fn picture(bytes: &[u8]) -> Option<(u16, bool)> {
    let high = *bytes.first()?;
    if high & 0x80 == 0 {
        return Some((high.into(), false));
    }
    Some((u16::from_be_bytes([high & 0x7f, *bytes.get(1)?]), true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_frame_starts_in_partition_zero() {
        let check = |payload: &[u8]| Descriptor::parse(payload).map(|(_, key)| key);
        assert_eq!(check(&[0x10, 0x00]), Some(true));
        assert_eq!(check(&[0x10, 0x01]), Some(false));
        assert_eq!(check(&[0x00, 0x00]), Some(false));
        assert_eq!(check(&[0x11, 0x00]), Some(false));
        assert_eq!(check(&[0x90, 0xf0, 0x81, 0x02, 0x03, 0x00, 0x00]), Some(true));
        assert_eq!(check(&[0x90, 0x80, 0x81]), None);
        assert_eq!(check(&[0x10]), None);
    }

    #[test]
    fn numbers_are_shifted_in_their_width() {
        let payload = [0x90, 0xe0, 0xff, 0xff, 0xfe, 0x20, 0x00];
        let (descriptor, _) = Descriptor::parse(&payload).unwrap();
        assert_eq!(descriptor.picture, Some((2, 0x7fff)));
        assert_eq!(descriptor.base_layer, Some((4, 0xfe)));
        let mut copy = payload;
        descriptor.rewrite(&mut copy, Shift { picture: 3, base_layer: 4 });
        assert_eq!(copy, [0x90, 0xe0, 0x80, 0x02, 0x02, 0x20, 0x00]);
        let short = [0x90, 0x80, 0x7f, 0x00];
        let (descriptor, _) = Descriptor::parse(&short).unwrap();
        let mut copy = short;
        descriptor.rewrite(&mut copy, Shift { picture: 2, base_layer: 0 });
        assert_eq!(copy, [0x90, 0x80, 0x01, 0x00]);
    }

    proptest! {
        #[test]
        fn what_parses_rewrites(mut payload in prop::collection::vec(any::<u8>(), 0..10), picture: u16) {
            if let Some((descriptor, key)) = Descriptor::parse(&payload) {
                descriptor.rewrite(&mut payload, Shift { picture, base_layer: 1 });
                prop_assert_eq!(Descriptor::parse(&payload).map(|(_, key)| key), Some(key));
            }
        }
    }
}
