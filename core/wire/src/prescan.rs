//! A look over protobuf bytes before they are decoded: an empty sub-message takes two bytes on the wire and hundreds in
//! memory, so a message of a few kilobytes could cost megabytes. Knows no schema; counts the worst that any could mean.

/// What a message may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanLimits {
    /// Length-delimited fields (texts, byte strings, sub-messages), at all depths together.
    pub fields: usize,
    /// Sub-messages within sub-messages.
    pub depth: usize,
}

/// For messages of LiveKit's protocol: a participant with 200 tracks stays below, and what passes decodes into a few
/// megabytes at most.
pub const CLIENT_MESSAGE_LIMITS: ScanLimits = ScanLimits { fields: 8_192, depth: 20 };

/// Why bytes must not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// More fields than the limit.
    #[error("message has too many fields")]
    Fields,
    /// Nested more deeply than the limit.
    #[error("message is nested too deeply")]
    Depth,
}

/// Checks that `bytes`, decoded as a protobuf message of whatever schema, stay within `limits`. Says nothing about
/// whether they are such a message: the decoder will.
///
/// Takes time in proportion to length times depth, and no memory.
///
/// # Errors
/// The first limit that is passed.
pub fn within(bytes: &[u8], limits: ScanLimits) -> Result<(), ScanError> {
    let mut fields = 0;
    scan(bytes, 0, limits, &mut fields)
}

fn scan(
    mut rest: &[u8],
    depth: usize,
    limits: ScanLimits,
    fields: &mut usize,
) -> Result<(), ScanError> {
    // Ends where a decoder must fail too: it has then read no more fields than were counted.
    while let Some(key) = varint(&mut rest) {
        if key >> 3 == 0 || key > u64::from(u32::MAX) {
            return Ok(());
        }
        let skipped = match key & 7 {
            0 => varint(&mut rest).map(drop),
            1 => skip(&mut rest, 8),
            2 => {
                *fields += 1;
                if *fields > limits.fields {
                    return Err(ScanError::Fields);
                }
                let Some(content) = varint(&mut rest)
                    .and_then(|length| usize::try_from(length).ok())
                    .and_then(|length| take(&mut rest, length))
                else {
                    return Ok(());
                };
                if depth == limits.depth && !content.is_empty() {
                    return Err(ScanError::Depth);
                }
                if depth < limits.depth {
                    scan(content, depth + 1, limits, fields)?;
                }
                Some(())
            }
            // A group's marks: its fields are counted as if they stood outside.
            3 | 4 => Some(()),
            5 => skip(&mut rest, 4),
            _ => None,
        };
        if skipped.is_none() {
            return Ok(());
        }
    }
    Ok(())
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn skip(rest: &mut &[u8], length: usize) -> Option<()> {
    take(rest, length).map(drop)
}

/// A base-128 number of at most ten bytes; what does not fit in 64 bits is cut, as decoders do or refuse.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (first, left) = rest.split_first()?;
        *rest = left;
        value |= u64::from(first & 0x7f).checked_shl(shift).unwrap_or(0);
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: ScanLimits = ScanLimits { fields: 4, depth: 2 };

    fn field(content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x0a];
        let mut length = content.len();
        while length >= 0x80 {
            bytes.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        bytes.push(u8::try_from(length).unwrap());
        bytes.extend_from_slice(content);
        bytes
    }

    #[test]
    fn two_mebibytes_of_empty_messages_are_refused() {
        let bytes = [0x0a, 0].repeat(1 << 20);
        assert_eq!(within(&bytes, CLIENT_MESSAGE_LIMITS), Err(ScanError::Fields));
        let hidden = field(&field(&bytes));
        assert_eq!(within(&hidden, CLIENT_MESSAGE_LIMITS), Err(ScanError::Fields));
    }

    #[test]
    fn numbers_and_groups_are_free_but_hide_nothing() {
        // A varint, a fixed64, a fixed32, then a group around five empty fields.
        let mut bytes = vec![0x08, 0xff, 0x01, 0x09, 1, 2, 3, 4, 5, 6, 7, 8, 0x0d, 1, 2, 3, 4];
        assert_eq!(within(&bytes, ScanLimits { fields: 0, depth: 0 }), Ok(()));
        bytes.push(0x0b);
        bytes.extend([0x0a, 0].repeat(5));
        bytes.push(0x0c);
        assert_eq!(within(&bytes, LIMITS), Err(ScanError::Fields));
    }

    #[test]
    fn depth_has_its_limit() {
        assert_eq!(within(&field(&field(&field(&[]))), LIMITS), Ok(()));
        assert_eq!(within(&field(&field(&field(&[8, 1]))), LIMITS), Err(ScanError::Depth));
    }

    #[test]
    fn fields_before_an_error_count() {
        let mut bytes = [0x0a, 0].repeat(5);
        bytes.push(0xff);
        assert_eq!(within(&bytes, LIMITS), Err(ScanError::Fields));
        assert_eq!(within(&field(&bytes), LIMITS), Err(ScanError::Fields));
    }

    #[test]
    fn ordinary_text_is_one_field() {
        let text =
            "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\na=candidate:1 1 UDP 1 192.0.2.1 9 typ host\r\n";
        let limits = ScanLimits { fields: 300, depth: 20 };
        assert_eq!(within(&field(text.repeat(400).as_bytes()), limits), Ok(()));
    }

    /// A message of so many fields, nested at random.
    fn message() -> impl Strategy<Value = (Vec<u8>, usize)> {
        let leaf = Just((field(&[]), 1));
        leaf.prop_recursive(6, 64, 8, |inner| {
            prop::collection::vec(inner, 0..8).prop_map(|parts| {
                let count = parts.iter().map(|(_, count)| count).sum::<usize>();
                let content: Vec<u8> = parts.into_iter().flat_map(|(bytes, _)| bytes).collect();
                (field(&content), count + 1)
            })
        })
    }

    proptest! {
        #[test]
        fn every_field_counts_once((bytes, count) in message()) {
            let exact = ScanLimits { fields: count, depth: 20 };
            prop_assert_eq!(within(&bytes, exact), Ok(()));
            let less = ScanLimits { fields: count - 1, depth: 20 };
            prop_assert_eq!(within(&bytes, less), Err(ScanError::Fields));
        }

        #[test]
        fn no_bytes_panic_it(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = within(&bytes, CLIENT_MESSAGE_LIMITS);
            prop_assert_eq!(within(&bytes, ScanLimits { fields: 600, depth: 600 }), Ok(()));
        }
    }
}
