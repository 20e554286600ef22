//! Reading and writing fixed-width big-endian fields; every read is checked. Messages grow at their end.

use outlast_model::NAME_CHARS_MAX;

/// Why bytes are not one of our messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than the message needs.
    #[error("message is cut short")]
    Short,
    /// More bytes than any message of its kind may have.
    #[error("message is too long")]
    Long,
    /// A version that this program does not speak.
    #[error("unknown version {0}")]
    Version(u8),
    /// A kind of message that this version does not have.
    #[error("unknown kind {0}")]
    Kind(u8),
    /// A field's value is outside its range, or text is not UTF-8.
    #[error("malformed {0}")]
    Field(&'static str),
}

/// Takes fields off the front of a message. What follows the last field that the reader knows is a later version's, and is
/// left alone.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (field, rest) = self.0.split_at_checked(length).ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(field)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(*field)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn flag(&mut self, name: &'static str) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Field(name)),
        }
    }

    pub(crate) fn text(
        &mut self,
        length: usize,
        name: &'static str,
    ) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.take(length)?).map_err(|_| DecodeError::Field(name))
    }

    /// A field that messages have got since: its default when an earlier version ended before it.
    pub(crate) fn grown<T: Default>(
        &mut self,
        take: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        if self.0.is_empty() { Ok(T::default()) } else { take(self) }
    }

    /// The name of a room, or of somebody in it; an error when it is empty or too long.
    pub(crate) fn name(&mut self, what: &'static str) -> Result<&'a str, DecodeError> {
        let length = usize::from(self.u16()?);
        let name = self.text(length, what)?;
        if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
            return Err(DecodeError::Field(what));
        }
        Ok(name)
    }
}

/// Writes what [`Reader::name`] reads; one that is too long makes a message that nobody decodes.
pub(crate) fn put_name(name: &str, out: &mut Vec<u8>) {
    let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(name.as_bytes());
}
