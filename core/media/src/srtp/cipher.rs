//! One session key's cipher, in place: AES-GCM (RFC 7714), or AES counter mode with HMAC-SHA1 (RFC 3711 §4.1.1,
//! §4.2.1).

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{constant_time, hmac};

const GCM_TAG: usize = 16;
const SHA1_TAG: usize = 10;
/// The SRTCP index word's flag for an encrypted packet.
const ENCRYPTED: u32 = 1 << 31;
/// Bytes of an RTCP packet that stay readable: its first header and sender.
const RTCP_HEADER: usize = 8;

pub(super) enum Cipher {
    Gcm { key: LessSafeKey, salt: [u8; 12] },
    CounterMode(Box<CounterMode>),
}

/// Boxed: it is fifty times the size of the other, and rare.
pub(super) struct CounterMode {
    key: EncryptingKey,
    salt: [u8; 14],
    mac: hmac::Key,
}

impl Cipher {
    /// `key` is 16 or 32 bytes, `salt` 12.
    pub(super) fn gcm(key: &[u8], salt: &[u8]) -> Cipher {
        let algorithm = if key.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
        let key = UnboundKey::new(algorithm, key).expect("the key's length was checked");
        Cipher::Gcm {
            key: LessSafeKey::new(key),
            salt: salt.try_into().expect("the salt's length was checked"),
        }
    }

    /// `key` is 16 bytes, `salt` 14, `auth` 20.
    pub(super) fn counter_mode(key: &[u8], salt: &[u8], auth: &[u8]) -> Cipher {
        let key = UnboundCipherKey::new(&AES_128, key).and_then(EncryptingKey::ctr);
        Cipher::CounterMode(Box::new(CounterMode {
            key: key.expect("the key's length was checked"),
            salt: salt.try_into().expect("the salt's length was checked"),
            mac: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, auth),
        }))
    }

    pub(super) fn seal_rtp(
        &self,
        ssrc: u32,
        index: u64,
        buffer: &mut Vec<u8>,
        start: usize,
        header: usize,
    ) {
        match self {
            Cipher::Gcm { key, salt } => {
                let (head, payload) = buffer[start..].split_at_mut(header);
                let nonce = gcm_rtp_nonce(salt, ssrc, index);
                let tag = seal(key, nonce, head, payload);
                buffer.extend_from_slice(tag.as_ref());
            }
            Cipher::CounterMode(mode) => {
                let CounterMode { key, salt, mac } = &**mode;
                apply(key, counter(salt, ssrc, index), &mut buffer[start + header..]);
                let tag = sign(mac, &buffer[start..], &roll_over(index).to_be_bytes());
                buffer.extend_from_slice(&tag.as_ref()[..SHA1_TAG]);
            }
        }
    }

    pub(super) fn open_rtp(
        &self,
        ssrc: u32,
        index: u64,
        packet: &mut [u8],
        header: usize,
    ) -> Option<usize> {
        match self {
            Cipher::Gcm { key, salt } => {
                let end = packet.len().checked_sub(GCM_TAG).filter(|end| *end >= header)?;
                let (head, sealed) = packet.split_at_mut(header);
                let nonce = Nonce::assume_unique_for_key(gcm_rtp_nonce(salt, ssrc, index));
                key.open_in_place(nonce, Aad::from(&*head), sealed).ok()?;
                Some(end)
            }
            Cipher::CounterMode(mode) => {
                let CounterMode { key, salt, mac } = &**mode;
                let end = packet.len().checked_sub(SHA1_TAG).filter(|end| *end >= header)?;
                let (body, tag) = packet.split_at_mut(end);
                let expect = sign(mac, body, &roll_over(index).to_be_bytes());
                constant_time::verify_slices_are_equal(&expect.as_ref()[..SHA1_TAG], tag).ok()?;
                apply(key, counter(salt, ssrc, index), &mut body[header..]);
                Some(end)
            }
        }
    }

    pub(super) fn seal_rtcp(&self, index: u32, buffer: &mut Vec<u8>, start: usize) {
        let ssrc = word(&buffer[start + 4..]);
        let index_word = (index | ENCRYPTED).to_be_bytes();
        match self {
            Cipher::Gcm { key, salt } => {
                let (head, payload) = buffer[start..].split_at_mut(RTCP_HEADER);
                let aad = rtcp_aad(head, index_word);
                let tag = seal(key, gcm_rtcp_nonce(salt, ssrc, index), &aad, payload);
                buffer.extend_from_slice(tag.as_ref());
                buffer.extend_from_slice(&index_word);
            }
            Cipher::CounterMode(mode) => {
                let CounterMode { key, salt, mac } = &**mode;
                let iv = counter(salt, ssrc, index.into());
                apply(key, iv, &mut buffer[start + RTCP_HEADER..]);
                buffer.extend_from_slice(&index_word);
                let tag = sign(mac, &buffer[start..], &[]);
                buffer.extend_from_slice(&tag.as_ref()[..SHA1_TAG]);
            }
        }
    }

    /// The index that an SRTCP packet claims; not yet authenticated.
    pub(super) fn rtcp_index(&self, packet: &[u8]) -> Option<u32> {
        let (least, behind) = match self {
            Cipher::Gcm { .. } => (RTCP_HEADER + GCM_TAG + 4, 4),
            Cipher::CounterMode(_) => (RTCP_HEADER + 4 + SHA1_TAG, 4 + SHA1_TAG),
        };
        if packet.len() < least {
            return None;
        }
        Some(word(&packet[packet.len() - behind..]) & !ENCRYPTED)
    }

    /// Opens in place; returns the plain length.
    pub(super) fn open_rtcp(&self, packet: &mut [u8]) -> Option<usize> {
        let index = self.rtcp_index(packet)?;
        let ssrc = word(&packet[4..]);
        match self {
            Cipher::Gcm { key, salt } => {
                let end = packet.len() - 4;
                let index_word: [u8; 4] = packet[end..].try_into().expect("four bytes");
                // A packet that is only authenticated (RFC 7714 §9.3) is never sent by WebRTC.
                if index_word[0] & 0x80 == 0 {
                    return None;
                }
                let (head, sealed) = packet[..end].split_at_mut(RTCP_HEADER);
                let aad = rtcp_aad(head, index_word);
                let nonce = Nonce::assume_unique_for_key(gcm_rtcp_nonce(salt, ssrc, index));
                key.open_in_place(nonce, Aad::from(aad), sealed).ok()?;
                Some(end - GCM_TAG)
            }
            Cipher::CounterMode(mode) => {
                let CounterMode { key, salt, mac } = &**mode;
                let (body, tag) = packet.split_at_mut(packet.len() - SHA1_TAG);
                let expect = sign(mac, body, &[]);
                constant_time::verify_slices_are_equal(&expect.as_ref()[..SHA1_TAG], tag).ok()?;
                let end = body.len() - 4;
                if body[end] & 0x80 != 0 {
                    let iv = counter(salt, ssrc, index.into());
                    apply(key, iv, &mut body[RTCP_HEADER..end]);
                }
                Some(end)
            }
        }
    }
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().expect("four bytes"))
}

fn roll_over(index: u64) -> u32 {
    (index >> 16) as u32
}

/// RFC 7714 §8.1.
fn gcm_rtp_nonce(salt: &[u8; 12], ssrc: u32, index: u64) -> [u8; 12] {
    let mut block = [0; 16];
    block[2..6].copy_from_slice(&ssrc.to_be_bytes());
    block[6..12].copy_from_slice(&index.to_be_bytes()[2..]);
    mix(salt, &block)
}

/// RFC 7714 §9.1.
fn gcm_rtcp_nonce(salt: &[u8; 12], ssrc: u32, index: u32) -> [u8; 12] {
    let mut block = [0; 16];
    block[2..6].copy_from_slice(&ssrc.to_be_bytes());
    block[8..12].copy_from_slice(&index.to_be_bytes());
    mix(salt, &block)
}

fn mix(salt: &[u8; 12], block: &[u8; 16]) -> [u8; 12] {
    std::array::from_fn(|at| salt[at] ^ block[at])
}

/// RFC 3711 §4.1.1: the counter block before its first increment.
fn counter(salt: &[u8; 14], ssrc: u32, index: u64) -> [u8; 16] {
    let mut block = [0; 16];
    block[..14].copy_from_slice(salt);
    for (at, byte) in ssrc.to_be_bytes().into_iter().enumerate() {
        block[4 + at] ^= byte;
    }
    for (at, byte) in index.to_be_bytes()[2..].iter().enumerate() {
        block[8 + at] ^= byte;
    }
    block
}

/// RFC 7714 §9.2: the readable header and the index word are authenticated.
fn rtcp_aad(head: &[u8], index_word: [u8; 4]) -> [u8; 12] {
    let mut aad = [0; 12];
    aad[..8].copy_from_slice(head);
    aad[8..].copy_from_slice(&index_word);
    aad
}

fn seal(
    key: &LessSafeKey,
    nonce: [u8; 12],
    aad: &[u8],
    payload: &mut [u8],
) -> aws_lc_rs::aead::Tag {
    key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), payload)
        .expect("a packet is far below AES-GCM's size limit")
}

fn apply(key: &EncryptingKey, iv: [u8; 16], bytes: &mut [u8]) {
    if !bytes.is_empty() {
        key.less_safe_encrypt(bytes, EncryptionContext::Iv128(FixedLength::from(iv)))
            .expect("counter mode takes a 128-bit counter block");
    }
}

fn sign(key: &hmac::Key, body: &[u8], tail: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(body);
    context.update(tail);
    context.sign()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let text: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        text.chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    const SALT: &str = "517569642070726f2071756f";
    const RTP: &str = "8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976
        69736120 696e2070 61727465 73207472 6573";

    fn rtp(key: &[u8], expect: &str) {
        let cipher = Cipher::gcm(key, &hex(SALT));
        let mut packet = hex(RTP);
        cipher.seal_rtp(0x5501_a0b2, 0xf17b, &mut packet, 0, 12);
        assert_eq!(packet, hex(expect));
        let end = cipher.open_rtp(0x5501_a0b2, 0xf17b, &mut packet, 12).expect("opens");
        assert_eq!(packet[..end], hex(RTP));
    }

    /// RFC 7714 §16.1.1.
    #[test]
    fn aes_128_gcm_rtp_of_rfc_7714() {
        let key: Vec<u8> = (0..16).collect();
        rtp(
            &key,
            "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f
             42a5f47a 51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce",
        );
    }

    /// RFC 7714 §16.2.1.
    #[test]
    fn aes_256_gcm_rtp_of_rfc_7714() {
        let key: Vec<u8> = (0..32).collect();
        rtp(
            &key,
            "8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3
             b50b2a02 76ffae0f 1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13",
        );
    }

    /// RFC 7714 §17.1.
    #[test]
    fn aes_128_gcm_rtcp_of_rfc_7714() {
        let key: Vec<u8> = (0..16).collect();
        let cipher = Cipher::gcm(&key, &hex(SALT));
        let plain = hex("81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
             deadbeef deadbeef deadbeef deadbeef deadbeef");
        let mut packet = plain.clone();
        cipher.seal_rtcp(0x5d4, &mut packet, 0);
        assert_eq!(
            packet,
            hex("81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1
                 730d6fda 4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4")
        );
        let end = cipher.open_rtcp(&mut packet).expect("opens");
        assert_eq!(packet[..end], plain);
    }

    /// RFC 3711 appendix B.2: the keystream of AES counter mode.
    #[test]
    fn counter_mode_keystream_of_rfc_3711() {
        let cipher = Cipher::counter_mode(
            &hex("2B7E151628AED2A6ABF7158809CF4F3C"),
            &hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD"),
            &[0; 20],
        );
        let mut packet = vec![0; 12 + 32];
        cipher.seal_rtp(0, 0, &mut packet, 0, 12);
        assert_eq!(
            packet[12..44],
            hex("E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB")
        );
    }
}
