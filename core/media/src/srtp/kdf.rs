//! Session keys from a master key (RFC 3711 §4.3, with the AES-256 variant of RFC 6188 and RFC 7714 §11).

use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;

use super::{Cipher, KeyError, MasterKey, SrtpProfile};

const LABEL_RTP_KEY: u8 = 0;
const LABEL_RTP_AUTH: u8 = 1;
const LABEL_RTP_SALT: u8 = 2;
/// SRTCP's labels follow SRTP's in the same order.
const LABEL_RTCP: u8 = 3;
const AUTH_KEY_BYTES: usize = 20;

/// The session ciphers for RTP and RTCP.
pub(super) fn ciphers(
    profile: SrtpProfile,
    master: &MasterKey,
) -> Result<(Cipher, Cipher), KeyError> {
    if master.key.len() != profile.key_bytes() || master.salt.len() != profile.salt_bytes() {
        return Err(KeyError::Length);
    }
    let session = |first: u8| {
        let mut key = [0; 32];
        let key = &mut key[..profile.key_bytes()];
        derive(master, first + LABEL_RTP_KEY, key);
        let mut salt = [0; 14];
        let salt = &mut salt[..profile.salt_bytes()];
        derive(master, first + LABEL_RTP_SALT, salt);
        match profile {
            SrtpProfile::Aes128Gcm | SrtpProfile::Aes256Gcm => Cipher::gcm(key, salt),
            SrtpProfile::Aes128CmSha1_80 => {
                let mut auth = [0; AUTH_KEY_BYTES];
                derive(master, first + LABEL_RTP_AUTH, &mut auth);
                Cipher::counter_mode(key, salt, &auth)
            }
        }
    };
    Ok((session(0), session(LABEL_RTCP)))
}

/// AES in counter mode over zeros, from the salt with `label` mixed in; the key derivation rate is zero.
fn derive(master: &MasterKey, label: u8, out: &mut [u8]) {
    let mut iv = [0; 16];
    iv[..master.salt.len()].copy_from_slice(&master.salt);
    iv[7] ^= label;
    out.fill(0);
    let algorithm = if master.key.len() == 16 { &AES_128 } else { &AES_256 };
    UnboundCipherKey::new(algorithm, &master.key)
        .and_then(EncryptingKey::ctr)
        .and_then(|key| key.less_safe_encrypt(out, EncryptionContext::Iv128(FixedLength::from(iv))))
        .expect("the key's length was checked");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len() / 2)
            .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
            .collect()
    }

    /// RFC 3711 appendix B.3.
    #[test]
    fn derives_the_session_keys_of_rfc_3711() {
        let master = MasterKey {
            key: hex("E1F97A0D3E018BE0D64FA32C06DE4139"),
            salt: hex("0EC675AD498AFEEBB6960B3AABE6"),
        };
        let check = |label, expect: &str| {
            let mut out = vec![0; expect.len() / 2];
            derive(&master, label, &mut out);
            assert_eq!(out, hex(expect));
        };
        check(LABEL_RTP_KEY, "C61E7A93744F39EE10734AFE3FF7A087");
        check(LABEL_RTP_SALT, "30CBBC08863D8C85D49DB34A9AE1");
        check(LABEL_RTP_AUTH, "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4");
    }
}
