//! The little that forwarding must know of what packets carry: where key frames start.

pub(crate) mod red;
pub(crate) mod vp8;

mod av1;
mod h264;
mod vp9;

use crate::config::MediaCodec;

/// How a packet stands to key frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyFrame {
    /// One starts here.
    Starts,
    /// One starts here if this is the first packet of its frame.
    StartsIfFirst,
    /// None starts here.
    No,
}

/// Whether a key frame starts with this packet. Audio needs none, so every packet is a start.
pub(crate) fn key_frame(codec: MediaCodec, payload: &[u8], dependency: Option<&[u8]>) -> KeyFrame {
    let starts = match codec {
        MediaCodec::Opus | MediaCodec::Red | MediaCodec::OtherAudio | MediaCodec::OtherVideo => {
            true
        }
        MediaCodec::Vp8 => vp8::Descriptor::parse(payload).is_some_and(|(_, key)| key),
        MediaCodec::Vp9 => vp9::key_frame_starts(payload),
        MediaCodec::H264 => return h264::key_frame(payload),
        MediaCodec::Av1 => match dependency {
            Some(dependency) => av1::structure_starts(dependency),
            None => av1::sequence_starts(payload),
        },
    };
    if starts { KeyFrame::Starts } else { KeyFrame::No }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_survived(
            payload in prop::collection::vec(any::<u8>(), 0..60),
            dependency in prop::option::of(prop::collection::vec(any::<u8>(), 0..8)),
        ) {
            for codec in [
                MediaCodec::Opus,
                MediaCodec::Red,
                MediaCodec::Vp8,
                MediaCodec::Vp9,
                MediaCodec::H264,
                MediaCodec::Av1,
            ] {
                key_frame(codec, &payload, dependency.as_deref());
            }
            red::primary(&payload);
        }
    }
}
