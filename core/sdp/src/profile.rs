//! When two payload types of two clients mean the same codec: numbers differ between clients, profiles must not.

use crate::offer::Codec;

/// `true` when a packet of `left` may be forwarded as `right`: same encoding, clock and channels, and for video the same
/// profile (H.264 also packetization mode). Levels are not compared: SDKs offer 3.1 and send what the network bears.
pub fn same_codec(left: &Codec, right: &Codec) -> bool {
    left.name == right.name
        && left.clock_rate == right.clock_rate
        && left.channels == right.channels
        && match &*left.name {
            "h264" => {
                H264Profile::of(left) == H264Profile::of(right)
                    && number(left, "packetization-mode", 0)
                        == number(right, "packetization-mode", 0)
            }
            "vp9" => number(left, "profile-id", 0) == number(right, "profile-id", 0),
            "av1" => number(left, "profile", 0) == number(right, "profile", 0),
            "h265" => {
                number(left, "profile-id", 1) == number(right, "profile-id", 1)
                    && number(left, "tier-flag", 0) == number(right, "tier-flag", 0)
            }
            _ => true,
        }
}

/// The H.264 that every browser decodes: Constrained Baseline in packetization mode 1 (RFC 7742 §6.2).
pub(crate) fn is_common_h264(codec: &Codec) -> bool {
    codec.name == "h264"
        && H264Profile::of(codec) == Some(H264Profile::ConstrainedBaseline)
        && number(codec, "packetization-mode", 0) == Some(1)
}

fn number(codec: &Codec, parameter: &str, absent: u32) -> Option<u32> {
    codec.parameter(parameter).map_or(Some(absent), |value| value.parse().ok())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum H264Profile {
    ConstrainedBaseline,
    Baseline,
    Main,
    ConstrainedHigh,
    High,
    High444,
    /// Profile and constraint bytes of anything else: equal only to itself.
    Other(u8, u8),
}

impl H264Profile {
    /// By RFC 6184 §8.1 and its table 5; without the parameter it is Baseline.
    fn of(codec: &Codec) -> Option<H264Profile> {
        let Some(text) = codec.parameter("profile-level-id") else {
            return Some(H264Profile::Baseline);
        };
        if text.len() != 6 {
            return None;
        }
        let [_, profile, constraints, _] = u32::from_str_radix(text, 16).ok()?.to_be_bytes();
        let set = |bits: u8| constraints & bits == bits;
        Some(match (profile, constraints & 0x0f) {
            (0x42, 0) if set(0x40) => H264Profile::ConstrainedBaseline,
            (0x4d, 0) if set(0x80) => H264Profile::ConstrainedBaseline,
            (0x58, 0) if set(0xc0) => H264Profile::ConstrainedBaseline,
            (0x42, 0) => H264Profile::Baseline,
            (0x58, 0) if set(0x80) => H264Profile::Baseline,
            (0x4d, 0) if !set(0x20) => H264Profile::Main,
            (0x64, 0) if constraints == 0 => H264Profile::High,
            (0x64, 0x0c) if constraints == 0x0c => H264Profile::ConstrainedHigh,
            (0xf4, 0) if constraints == 0 => H264Profile::High444,
            _ => H264Profile::Other(profile, constraints),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(left: &str, right: &str, same: bool) {
        let codec = |text: &str| {
            let (name, fmtp) = text.split_once(' ').unwrap_or((text, ""));
            Codec {
                pt: 96,
                name: name.to_owned().into(),
                clock_rate: 90_000,
                channels: 1,
                fmtp: fmtp.to_owned().into(),
                feedback: Vec::new(),
                rtx_pt: None,
            }
        };
        assert_eq!(same_codec(&codec(left), &codec(right)), same, "{left} and {right}");
        assert_eq!(same_codec(&codec(right), &codec(left)), same, "{right} and {left}");
    }

    #[test]
    fn levels_do_not_matter_and_profiles_do() {
        let h264 = |profile: &str, mode: &str| {
            format!("h264 level-asymmetry-allowed=1{mode};profile-level-id={profile}")
        };
        let one = ";packetization-mode=1";
        check(&h264("42e01f", one), &h264("42e034", one), true);
        check(&h264("42e01f", one), &h264("4d801f", one), true);
        check(&h264("42e01f", one), &h264("42001f", one), false);
        check(&h264("42e01f", one), &h264("4d001f", one), false);
        check(&h264("64001f", one), &h264("640032", one), true);
        check(&h264("64001f", one), &h264("640c1f", one), false);
        check(&h264("42e01f", one), &h264("42e01f", ""), false);
        check(&h264("42e01f", ";packetization-mode=0"), &h264("42e01f", ""), true);
        check("h264", &h264("42001f", ""), true);
        check(&h264("none", ""), &h264("42001f", ""), false);
    }

    #[test]
    fn absent_profiles_are_the_default_ones() {
        check("vp9", "vp9 profile-id=0", true);
        check("vp9 profile-id=2", "vp9 profile-id=0", false);
        check("av1", "av1 level-idx=5;profile=0;tier=0", true);
        check("av1 profile=1", "av1", false);
        check("h265 level-id=180;profile-id=1;tier-flag=0;tx-mode=SRST", "h265", true);
        check("vp8", "vp9", false);
        check("vp8 x=1", "vp8", true);
    }
}
