//! The little of STUN that demultiplexing needs (RFC 8489): whose it is and whether it nominates. Integrity is checked
//! by the ICE agent; nothing here is trusted before.

/// A STUN message's class (RFC 8489 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Request,
    Indication,
    Success,
    Error,
}

/// What demultiplexing reads of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Glance<'a> {
    pub(crate) class: Class,
    /// The receiver's username fragment: what stands before the colon of USERNAME.
    pub(crate) local_ufrag: Option<&'a str>,
    /// USE-CANDIDATE is present (RFC 8445 §16.1).
    pub(crate) nominates: bool,
}

const HEADER_BYTES: usize = 20;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const USERNAME: u16 = 0x0006;
const USE_CANDIDATE: u16 = 0x0025;

/// Reads `datagram`; `None` when it is no STUN message or its attributes do not add up.
pub(crate) fn glance(datagram: &[u8]) -> Option<Glance<'_>> {
    let header = datagram.get(..HEADER_BYTES)?;
    if header[0] & 0xC0 != 0 || header[4..8] != COOKIE {
        return None;
    }
    let class = match (header[0] & 0x01, header[1] & 0x10) {
        (0, 0) => Class::Request,
        (0, _) => Class::Indication,
        (_, 0) => Class::Success,
        _ => Class::Error,
    };
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let mut rest = datagram.get(HEADER_BYTES..HEADER_BYTES + length)?;
    let mut seen = Glance { class, local_ufrag: None, nominates: false };
    while !rest.is_empty() {
        let kind = u16::from_be_bytes([*rest.first()?, *rest.get(1)?]);
        let size = usize::from(u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]));
        let value = rest.get(4..4 + size)?;
        match kind {
            USERNAME => {
                let name = std::str::from_utf8(value).ok()?;
                seen.local_ufrag = name.split_once(':').map(|(local, _)| local);
            }
            USE_CANDIDATE => seen.nominates = true,
            _ => {}
        }
        rest = rest.get(4 + size.next_multiple_of(4)..)?;
    }
    Some(seen)
}

/// The username fragment that a STUN request is addressed to; `None` for anything else. Nothing is authenticated yet.
pub fn stun_ufrag(datagram: &[u8]) -> Option<&str> {
    glance(datagram)?.local_ufrag
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(first: [u8; 2], attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (kind, value) in attributes {
            body.extend(kind.to_be_bytes());
            body.extend((value.len() as u16).to_be_bytes());
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut message = first.to_vec();
        message.extend((body.len() as u16).to_be_bytes());
        message.extend(COOKIE);
        message.extend([7; 12]);
        message.extend(body);
        message
    }

    #[test]
    fn a_nominating_request_names_its_receiver() {
        let bytes = message([0, 1], &[(USERNAME, b"ours:theirs"), (USE_CANDIDATE, b"")]);
        let seen = glance(&bytes).expect("well formed");
        assert_eq!(seen.class, Class::Request);
        assert_eq!(seen.local_ufrag, Some("ours"));
        assert!(seen.nominates);
    }

    #[test]
    fn a_response_is_told_from_a_request() {
        assert_eq!(glance(&message([1, 1], &[])).expect("well formed").class, Class::Success);
        assert_eq!(glance(&message([1, 0x11], &[])).expect("well formed").class, Class::Error);
        assert_eq!(glance(&message([0, 0x11], &[])).expect("well formed").class, Class::Indication);
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let mut bytes = message([0, 1], &[(USERNAME, b"ours:theirs")]);
        bytes[23] = 200;
        assert_eq!(glance(&bytes), None);
        bytes.truncate(19);
        assert_eq!(glance(&bytes), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            glance(&bytes);
        }

        #[test]
        fn any_attributes_are_survived(body in proptest::collection::vec(any::<u8>(), 0..120)) {
            let mut bytes = message([0, 1], &[]);
            bytes[2..4].copy_from_slice(&(body.len() as u16).to_be_bytes());
            bytes.extend(body);
            glance(&bytes);
        }
    }
}
