//! H.264 in RTP (RFC 6184 §5), as far as key frames need it.

use super::KeyFrame;

const IDR: u8 = 5;
const SPS: u8 = 7;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// A parameter set starts a key frame; so does an IDR slice, if nothing of its frame came before.
pub(super) fn key_frame(payload: &[u8]) -> KeyFrame {
    let Some((&first, rest)) = payload.split_first() else { return KeyFrame::No };
    match first & 0x1f {
        STAP_A => aggregate(rest),
        FU_A => match rest.first() {
            Some(head) if head & 0x80 != 0 => unit(head & 0x1f),
            _ => KeyFrame::No,
        },
        kind => unit(kind),
    }
}

fn unit(kind: u8) -> KeyFrame {
    match kind {
        SPS => KeyFrame::Starts,
        IDR => KeyFrame::StartsIfFirst,
        _ => KeyFrame::No,
    }
}

fn aggregate(mut units: &[u8]) -> KeyFrame {
    let mut found = KeyFrame::No;
    while let Some((length, rest)) = units.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        let Some((nal, rest)) = rest.split_at_checked(length) else { break };
        match nal.first().map_or(KeyFrame::No, |first| unit(first & 0x1f)) {
            KeyFrame::Starts => return KeyFrame::Starts,
            KeyFrame::StartsIfFirst => found = KeyFrame::StartsIfFirst,
            KeyFrame::No => (),
        }
        units = rest;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_sets_and_idr_slices_start_key_frames() {
        assert_eq!(key_frame(&[0x67, 1]), KeyFrame::Starts);
        assert_eq!(key_frame(&[0x65, 1]), KeyFrame::StartsIfFirst);
        assert_eq!(key_frame(&[0x41, 1]), KeyFrame::No);
        assert_eq!(key_frame(&[0x78, 0, 1, 0x68, 0, 2, 0x67, 9]), KeyFrame::Starts);
        assert_eq!(key_frame(&[0x78, 0, 1, 0x68, 0, 2, 0x65, 9]), KeyFrame::StartsIfFirst);
        assert_eq!(key_frame(&[0x78, 0, 9, 0x67]), KeyFrame::No);
        assert_eq!(key_frame(&[0x7c, 0x85, 1]), KeyFrame::StartsIfFirst);
        assert_eq!(key_frame(&[0x7c, 0x45, 1]), KeyFrame::No);
        assert_eq!(key_frame(&[0x7c]), KeyFrame::No);
    }
}
