//! The `join_request` parameter: base64url, perhaps gzip, two layers of protobuf, and a limit at each.

use std::io::Read;

use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use flate2::read::GzDecoder;
use outlast_livekit::{JoinRequest, Message as _, WrappedJoinRequest, wrapped_join_request};
use outlast_model::JOIN_REQUEST_BYTES_MAX;
use outlast_wire::{CLIENT_MESSAGE_LIMITS, ScanError, within};

/// Base64url with or without padding: JS pads, Rust does not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Why a `join_request` is refused; all of them are 400.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinRequestError {
    #[error("join_request is not base64url")]
    Base64,
    #[error("join_request is not a WrappedJoinRequest")]
    Wrapper,
    #[error("join_request has an unknown compression")]
    Compression,
    #[error("join_request is not valid gzip")]
    Gzip,
    #[error("join_request is larger than {JOIN_REQUEST_BYTES_MAX} bytes")]
    TooLarge,
    #[error("join_request: {0}")]
    Scan(#[from] ScanError),
    #[error("join_request does not hold a JoinRequest")]
    Inner,
}

/// Decodes the parameter; holds at most [`JOIN_REQUEST_BYTES_MAX`] inflated bytes and what they may decode to.
pub(crate) fn decode(parameter: &str) -> Result<JoinRequest, JoinRequestError> {
    let bytes = BASE64.decode(parameter).map_err(|_| JoinRequestError::Base64)?;
    let wrapped =
        WrappedJoinRequest::decode(bytes.as_slice()).map_err(|_| JoinRequestError::Wrapper)?;
    let inner = match wrapped_join_request::Compression::try_from(wrapped.compression) {
        Ok(wrapped_join_request::Compression::None) => wrapped.join_request,
        Ok(wrapped_join_request::Compression::Gzip) => inflate(&wrapped.join_request)?,
        Err(_) => return Err(JoinRequestError::Compression),
    };
    if inner.len() > JOIN_REQUEST_BYTES_MAX {
        return Err(JoinRequestError::TooLarge);
    }
    within(&inner, CLIENT_MESSAGE_LIMITS)?;
    JoinRequest::decode(inner.as_slice()).map_err(|_| JoinRequestError::Inner)
}

/// Inflates no more than one byte past the limit, however much there is.
fn inflate(bytes: &[u8]) -> Result<Vec<u8>, JoinRequestError> {
    let mut inflated = Vec::new();
    let limit = JOIN_REQUEST_BYTES_MAX as u64 + 1;
    GzDecoder::new(bytes)
        .take(limit)
        .read_to_end(&mut inflated)
        .map_err(|_| JoinRequestError::Gzip)?;
    Ok(inflated)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
    use flate2::{Compression, write::GzEncoder};
    use proptest::{collection::vec, prelude::*};

    use super::*;

    pub(crate) fn wrap(inner: &[u8], gzip: bool) -> Vec<u8> {
        let join_request = if gzip { wrap_gzip(inner) } else { inner.to_vec() };
        WrappedJoinRequest { compression: i32::from(gzip), join_request }.encode_to_vec()
    }

    fn wrap_gzip(inner: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(inner).unwrap();
        encoder.finish().unwrap()
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in prop_oneof![any::<String>(), "[A-Za-z0-9_=-]{0,200}"]) {
            let _ = decode(&text);
        }

        #[test]
        fn any_bytes_are_survived_at_every_layer(bytes in vec(any::<u8>(), 0..400), compression: i32) {
            let _ = decode(&URL_SAFE.encode(&bytes));
            let broken = WrappedJoinRequest { compression, join_request: bytes.clone() };
            let _ = decode(&URL_SAFE.encode(broken.encode_to_vec()));
            // The compression changes nothing about what is inside.
            let plain = decode(&URL_SAFE.encode(wrap(&bytes, false)));
            let gzip = decode(&URL_SAFE.encode(wrap(&bytes, true)));
            prop_assert_eq!(plain.ok(), gzip.ok());
        }

        #[test]
        fn no_more_than_the_limit_is_taken_in(length in 0..2 * JOIN_REQUEST_BYTES_MAX, gzip: bool) {
            // One field, of any length: the metadata of a JoinRequest.
            let request = JoinRequest { metadata: "m".repeat(length), ..JoinRequest::default() };
            let inner = request.encode_to_vec();
            let inflated = inflate(&wrap_gzip(&inner)).unwrap();
            prop_assert!(inflated.len() <= JOIN_REQUEST_BYTES_MAX + 1);
            let decoded = decode(&URL_SAFE.encode(wrap(&inner, gzip)));
            if inner.len() <= JOIN_REQUEST_BYTES_MAX {
                prop_assert_eq!(decoded.unwrap(), request);
            } else {
                prop_assert!(matches!(decoded, Err(JoinRequestError::TooLarge)));
            }
        }
    }

    fn request() -> JoinRequest {
        JoinRequest { metadata: "hello".into(), reconnect: true, ..JoinRequest::default() }
    }

    #[test]
    fn both_compressions_and_both_paddings_are_read() {
        for gzip in [false, true] {
            let wrapped = wrap(&request().encode_to_vec(), gzip);
            for text in [URL_SAFE.encode(&wrapped), URL_SAFE_NO_PAD.encode(&wrapped)] {
                assert_eq!(decode(&text).unwrap(), request());
            }
        }
    }

    #[test]
    fn rubbish_is_refused_at_its_layer() {
        assert!(matches!(decode("not base64!"), Err(JoinRequestError::Base64)));
        assert!(matches!(decode("_____w"), Err(JoinRequestError::Wrapper)));
        let unknown = WrappedJoinRequest { compression: 7, ..WrappedJoinRequest::default() };
        let unknown = URL_SAFE.encode(unknown.encode_to_vec());
        assert!(matches!(decode(&unknown), Err(JoinRequestError::Compression)));
        let broken = WrappedJoinRequest { compression: 1, join_request: vec![1, 2, 3] };
        let broken = URL_SAFE.encode(broken.encode_to_vec());
        assert!(matches!(decode(&broken), Err(JoinRequestError::Gzip)));
        let text = URL_SAFE.encode(wrap(b"\xff\xff", false));
        assert!(matches!(decode(&text), Err(JoinRequestError::Inner)));
    }

    #[test]
    fn a_bomb_is_refused_without_inflating_it_whole() {
        let text = URL_SAFE.encode(wrap(&vec![0; 64 << 20], true));
        assert!(text.len() < 100_000);
        assert!(matches!(decode(&text), Err(JoinRequestError::TooLarge)));
    }

    #[test]
    fn empty_messages_by_the_thousand_are_refused_before_they_are_decoded() {
        // add_track_requests is field 4 of JoinRequest in LiveKit's protocol; any other would do.
        let text = URL_SAFE.encode(wrap(&[0x22, 0].repeat(200_000), true));
        assert!(matches!(decode(&text), Err(JoinRequestError::Scan(ScanError::Fields))));
    }
}
