//! Words that stand in every offer: they are borrowed, so that reading and answering them allocates nothing. An offer of six
//! sections has a thousand of them.

use std::borrow::Cow;

/// A word of an offer, borrowed when it is one of the usual ones.
pub type Word = Cow<'static, str>;

/// `text`, without a copy if it is usual.
pub(crate) fn word(text: &str) -> Word {
    let known = KNOWN.iter().find(|group| group.0 == text.len());
    let known = known.and_then(|(_, words)| words.iter().find(|known| **known == text));
    known.map_or_else(|| Cow::Owned(text.to_owned()), |known| Cow::Borrowed(*known))
}

/// As [`word`], of the text in lower case.
pub(crate) fn lower(text: &str) -> Word {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        word(&text.to_ascii_lowercase())
    } else {
        word(text)
    }
}

macro_rules! by_length {
    ($($length:literal: $($word:literal)+;)+) => {
        /// Usual words by their length.
        const KNOWN: &[(usize, &[&str])] = &[$(($length, &[$($word),+])),+];
    };
}

by_length! {
    1: "0" "9";
    3: "av1" "vp8" "vp9" "rtx" "red";
    4: "nack" "opus" "h264" "h265";
    5: "audio" "video";
    6: "ulpfec" "apt=35" "apt=36" "apt=37" "apt=38" "apt=39" "apt=40" "apt=41" "apt=42" "apt=43" "apt=44" "apt=45"
       "apt=46" "apt=47" "apt=48" "apt=49" "apt=50" "apt=51" "apt=52" "apt=53" "apt=54" "apt=55" "apt=56" "apt=57"
       "apt=58" "apt=59" "apt=60" "apt=61" "apt=62" "apt=63" "apt=96" "apt=97" "apt=98" "apt=99";
    7: "ccm fir" "apt=100" "apt=101" "apt=102" "apt=103" "apt=104" "apt=105" "apt=106" "apt=107" "apt=108" "apt=109"
       "apt=110" "apt=111" "apt=112" "apt=113" "apt=114" "apt=115" "apt=116" "apt=117" "apt=118" "apt=119" "apt=120"
       "apt=121" "apt=122" "apt=123" "apt=124" "apt=125" "apt=126" "apt=127";
    8: "nack pli";
    9: "goog-remb";
    11: "application";
    12: "transport-cc" "profile-id=0" "profile-id=1" "profile-id=2" "profile-id=3";
    13: "UDP/DTLS/SCTP";
    15: "telephone-event";
    17: "UDP/TLS/RTP/SAVPF";
    18: "webrtc-datachannel";
    26: "minptime=10;useinbandfec=1" "urn:3gpp:video-orientation";
    28: "level-idx=5;profile=0;tier=0" "level-idx=5;profile=1;tier=0" "level-idx=5;profile=2;tier=0";
    34: "urn:ietf:params:rtp-hdrext:toffset";
    35: "urn:ietf:params:rtp-hdrext:sdes:mid";
    43: "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
    45: "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
    54: "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
    56: "http://www.webrtc.org/experiments/rtp-hdrext/color-space";
    57: "http://www.webrtc.org/experiments/rtp-hdrext/video-timing";
    58: "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
       "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";
    61: "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";
    63: "http://www.webrtc.org/experiments/rtp-hdrext/video-content-type";
    70: "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42001f"
       "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f"
       "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f"
       "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"
       "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=4d001f"
       "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f"
       "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=64001f"
       "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f"
       "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=f4001f"
       "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=f4001f"
       "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e034"
       "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e034"
       "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=640034"
       "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640034"
       "http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00";
    73: "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
    87: "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_words_are_borrowed_and_all_are_as_they_were() {
        for (length, words) in KNOWN {
            for known in *words {
                assert_eq!(known.len(), *length, "{known:?}");
                assert!(matches!(word(known), Cow::Borrowed(same) if same == *known));
            }
        }
        for text in ["", "x-strange", "apt=1", "VP8"] {
            assert_eq!(word(text), text);
        }
        assert!(matches!(lower("VP8"), Cow::Borrowed("vp8")));
        assert_eq!(lower("X-Strange"), "x-strange");
    }
}
