//! VP9's payload descriptor (RFC 9628 §4.2), as far as key frames need it.

/// Whether the first packet of a key picture's lowest spatial layer is here.
pub(super) fn key_frame_starts(payload: &[u8]) -> bool {
    starts(payload).unwrap_or(false)
}

fn starts(payload: &[u8]) -> Option<bool> {
    let first = *payload.first()?;
    let bit = |mask: u8| first & mask != 0;
    let (has_picture, inter, has_layers, begins) = (bit(0x80), bit(0x40), bit(0x20), bit(0x08));
    if inter || !begins {
        return Some(false);
    }
    let mut at = 1;
    if has_picture {
        at += if payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
    }
    if has_layers {
        let spatial = payload.get(at)? >> 1 & 7;
        return Some(spatial == 0);
    }
    Some(payload.len() > at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_spatial_layer_starts_the_picture() {
        assert!(key_frame_starts(&[0x88, 0x81, 0x02, 0x00]));
        assert!(key_frame_starts(&[0xa8, 0x01, 0x00, 0x00]));
        assert!(!key_frame_starts(&[0xa8, 0x01, 0x02, 0x00]));
        assert!(!key_frame_starts(&[0xc8, 0x01, 0x00]));
        assert!(!key_frame_starts(&[0x80, 0x01, 0x00]));
        assert!(!key_frame_starts(&[0x88, 0x81]));
        assert!(!key_frame_starts(&[]));
    }
}
