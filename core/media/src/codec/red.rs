//! RED (RFC 2198): finding the primary block, for subscribers who take plain Opus only.

/// The primary (last) block's payload type and bytes; `None` when the lengths lie or it is empty.
pub(crate) fn primary(payload: &[u8]) -> Option<(u8, &[u8])> {
    let mut at = 0;
    let mut redundant = 0;
    loop {
        let first = *payload.get(at)?;
        if first & 0x80 == 0 {
            let block = payload.get(at + 1 + redundant..)?;
            return Some((first, block)).filter(|(_, block)| !block.is_empty());
        }
        let header = payload.get(at..at + 4)?;
        redundant += usize::from(u16::from_be_bytes([header[2] & 3, header[3]]));
        at += 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_primary_block_is_the_last() {
        assert_eq!(primary(&[111, 1, 2, 3]), Some((111, &[1, 2, 3][..])));
        let two = [0x80 | 111, 0x0f, 0x00, 2, 111, 8, 8, 1, 2, 3];
        assert_eq!(primary(&two), Some((111, &[1, 2, 3][..])));
        assert_eq!(primary(&two[..7]), None);
        assert_eq!(primary(&[]), None);
    }
}
