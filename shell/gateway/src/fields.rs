//! The fields of a protobuf message, one after the other. Decoding whole messages could cost a hundred times their size, and
//! of most of them one field is wanted.

/// What stands in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'m> {
    /// A varint.
    Number(u64),
    /// Text, bytes, or a message.
    Bytes(&'m [u8]),
    /// Four or eight bytes, which nobody here asks for.
    Fixed,
}

/// The bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Walks over a message; ends after the first field that is malformed.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'m>(&'m [u8]);

impl<'m> Fields<'m> {
    pub(crate) fn of(message: &'m [u8]) -> Fields<'m> {
        Fields(message)
    }

    /// The first field `number`, if it holds bytes and nothing before it is malformed.
    pub(crate) fn bytes(mut self, number: u64) -> Option<&'m [u8]> {
        self.find_map(|field| match field {
            Ok((found, Value::Bytes(bytes))) if found == number => Some(bytes),
            _ => None,
        })
    }

    /// The first field `number`, if it holds a varint and nothing before it is malformed.
    pub(crate) fn number(mut self, number: u64) -> Option<u64> {
        self.find_map(|field| match field {
            Ok((found, Value::Number(value))) if found == number => Some(value),
            _ => None,
        })
    }

    fn field(&mut self) -> Option<(u64, Value<'m>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return None,
        };
        Some((tag >> 3, value))
    }

    fn take(&mut self, length: usize) -> Option<&'m [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

impl<'m> Iterator for Fields<'m> {
    type Item = Result<(u64, Value<'m>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or(Malformed))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_of_every_kind_are_passed_and_found() {
        let message = [
            0x08, 0x96, 0x01, // 1: 150
            0x11, 1, 2, 3, 4, 5, 6, 7, 8, // 2: eight bytes
            0x1a, 2, b'h', b'i', // 3: "hi"
            0x25, 1, 2, 3, 4, // 4: four bytes
            0x1a, 0, // 3 again
        ];
        let found: Vec<_> = Fields::of(&message).map(Result::unwrap).collect();
        let expected = [
            (1, Value::Number(150)),
            (2, Value::Fixed),
            (3, Value::Bytes(b"hi")),
            (4, Value::Fixed),
            (3, Value::Bytes(b"")),
        ];
        assert_eq!(found, expected);
        assert_eq!(Fields::of(&message).bytes(3), Some(&b"hi"[..]));
        assert_eq!(Fields::of(&message).number(1), Some(150));
        assert_eq!((Fields::of(&message).bytes(1), Fields::of(&message).number(3)), (None, None));
    }

    #[test]
    fn what_is_malformed_ends_the_walk() {
        for message in [&[0x08][..], &[0x1a, 3, 1], &[0x0b, 1], &[0x08, 1, 0xff], &[0xff; 11]] {
            let walked: Vec<_> = Fields::of(message).collect();
            assert_eq!(walked.last(), Some(&Err(Malformed)), "{message:?}");
            assert!(walked.len() <= 2);
        }
    }

    proptest! {
        #[test]
        fn garbage_ends(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Fields::of(&bytes).count() <= bytes.len());
        }
    }
}
