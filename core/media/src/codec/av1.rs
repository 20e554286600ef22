//! AV1 in RTP (AOM's RTP specification 1.0), as far as key frames need it.

/// The aggregation header's N bit: a coded video sequence starts with this packet.
pub(super) fn sequence_starts(payload: &[u8]) -> bool {
    payload.len() > 1 && payload[0] & 0x08 != 0
}

/// The dependency descriptor starts a frame and brings a template structure, which only key frames do. Readable also
/// when the payload is encrypted end to end.
pub(super) fn structure_starts(descriptor: &[u8]) -> bool {
    descriptor.len() > 3 && descriptor[0] & 0x80 != 0 && descriptor[3] & 0x80 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_frames_are_seen_with_and_without_the_payload() {
        assert!(sequence_starts(&[0x18, 0x0a]));
        assert!(!sequence_starts(&[0x10, 0x0a]));
        assert!(!sequence_starts(&[0x18]));
        assert!(structure_starts(&[0x80, 0, 1, 0x80]));
        assert!(!structure_starts(&[0x80, 0, 1]));
        assert!(!structure_starts(&[0x00, 0, 1, 0x80]));
        assert!(!structure_starts(&[0x80, 0, 1, 0x00]));
    }
}
