//! Rulings as bytes of a room stream's frame, and as text of a join's header.

use outlast_model::{Generation, RULING_BYTES_MAX, Ruling, RulingVersion};

use crate::bytes::{DecodeError, Reader};

/// Behind their own length, so that both they and the frame can grow; a length of 0 is `None`.
pub(crate) fn put_ruling(ruling: Option<&Ruling>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 2]);
    let Some(Ruling { version, permission }) = ruling else { return };
    out.extend_from_slice(&version.generation.0.to_be_bytes());
    out.extend_from_slice(&version.count.to_be_bytes());
    let bytes = u16::try_from(permission.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&bytes.to_be_bytes());
    out.extend_from_slice(permission);
    let length = u16::try_from(out.len() - start - 2).unwrap_or(u16::MAX);
    out[start..start + 2].copy_from_slice(&length.to_be_bytes());
}

pub(crate) fn take_ruling(reader: &mut Reader<'_>) -> Result<Option<Ruling>, DecodeError> {
    let length = usize::from(reader.u16()?);
    if length == 0 {
        return Ok(None);
    }
    let mut reader = Reader(reader.take(length)?);
    let generation = Generation(reader.u64()?);
    let version = RulingVersion { generation, count: reader.u32()? };
    let bytes = usize::from(reader.u16()?);
    if bytes > RULING_BYTES_MAX {
        return Err(DecodeError::Field("permission"));
    }
    Ok(Some(Ruling { version, permission: reader.take(bytes)?.into() }))
}

/// A ruling as a header's value: its version, a colon, and the permission in hexadecimal digits.
pub fn ruling_to_text(ruling: &Ruling) -> String {
    use std::fmt::Write as _;
    let mut text = format!("{}:", ruling.version);
    for byte in &*ruling.permission {
        write!(text, "{byte:02x}").expect("a string takes all text");
    }
    text
}

/// Reads what [`ruling_to_text`] writes.
///
/// # Errors
/// When `text` is anything else, or the permission has more than `RULING_BYTES_MAX` bytes.
pub fn ruling_from_text(text: &str) -> Result<Ruling, DecodeError> {
    let (version, digits) = text.split_once(':').ok_or(DecodeError::Short)?;
    let version = version.parse().map_err(|_| DecodeError::Field("version"))?;
    if digits.len() > 2 * RULING_BYTES_MAX {
        return Err(DecodeError::Long);
    }
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return Err(DecodeError::Short) };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok();
    let permission: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    let permission = permission.ok_or(DecodeError::Field("permission"))?;
    Ok(Ruling { version, permission: permission.into() })
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn any_ruling() -> impl Strategy<Value = Ruling> {
        let permission = prop::collection::vec(any::<u8>(), 0..=RULING_BYTES_MAX);
        (any::<(u64, u32)>(), permission).prop_map(|((generation, count), permission)| Ruling {
            version: RulingVersion { generation: Generation(generation), count },
            permission: permission.into(),
        })
    }

    proptest! {
        #[test]
        fn every_ruling_comes_back_from_text(ruling in any_ruling(), at: usize) {
            let text = ruling_to_text(&ruling);
            prop_assert_eq!(ruling_from_text(&text), Ok(ruling.clone()));
            let cut = ruling_from_text(&text[..at % text.len()]);
            prop_assert!(cut.is_err() || cut.as_ref().unwrap().permission.len() < ruling.permission.len());
        }

        #[test]
        fn any_text_is_survived(text: String) {
            if let Ok(ruling) = ruling_from_text(&text) {
                prop_assert_eq!(ruling_from_text(&ruling_to_text(&ruling)), Ok(ruling));
            }
        }
    }

    #[test]
    fn what_is_no_ruling_is_refused() {
        assert!(ruling_from_text("3.1:10fF").is_ok());
        for text in ["", "3.1", "3:10", "3.1:1", "3.1:1g", "3.1:+1", ":10", "3.1:10 "] {
            assert!(ruling_from_text(text).is_err(), "{text}");
        }
        let long = format!("3.1:{}", "00".repeat(RULING_BYTES_MAX + 1));
        assert_eq!(ruling_from_text(&long), Err(DecodeError::Long));
        let mut bytes = Vec::new();
        let permission = vec![0; RULING_BYTES_MAX + 1].into();
        put_ruling(Some(&Ruling { version: RulingVersion::default(), permission }), &mut bytes);
        assert_eq!(take_ruling(&mut Reader(&bytes)), Err(DecodeError::Field("permission")));
    }
}
