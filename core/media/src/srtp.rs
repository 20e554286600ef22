//! SRTP and SRTCP: keys, and one context per direction (RFC 3711, RFC 7714).
//! The sending side takes extended sequence numbers and remembers which it has sealed: a number that comes twice is
//! refused. The receiving side keeps roll-over counters and replay windows in [`window`].

mod cipher;
mod kdf;
pub(crate) mod window;

use std::fmt;

use thiserror::Error;

use cipher::Cipher;

use window::Window;

/// A protection profile that DTLS-SRTP negotiated (RFC 5764 §4.1.2, RFC 7714 §14.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SrtpProfile {
    /// AEAD_AES_128_GCM.
    Aes128Gcm,
    /// AEAD_AES_256_GCM.
    Aes256Gcm,
    /// AES128_CM_HMAC_SHA1_80; five to eight times dearer, for clients that offer nothing better.
    Aes128CmSha1_80,
}

impl SrtpProfile {
    /// Length of the master key in bytes.
    pub const fn key_bytes(self) -> usize {
        match self {
            SrtpProfile::Aes128Gcm | SrtpProfile::Aes128CmSha1_80 => 16,
            SrtpProfile::Aes256Gcm => 32,
        }
    }

    /// Length of the master salt in bytes.
    pub const fn salt_bytes(self) -> usize {
        match self {
            SrtpProfile::Aes128Gcm | SrtpProfile::Aes256Gcm => 12,
            SrtpProfile::Aes128CmSha1_80 => 14,
        }
    }
}

/// One direction's master key and salt. Has no `Debug`: keys never reach a log.
#[derive(Clone)]
pub struct MasterKey {
    /// [`SrtpProfile::key_bytes`] long.
    pub key: Vec<u8>,
    /// [`SrtpProfile::salt_bytes`] long.
    pub salt: Vec<u8>,
}

/// Both directions' keys of one DTLS association. Its `Debug` tells the profile and nothing else.
#[derive(Clone)]
pub struct SrtpKeys {
    /// The negotiated profile.
    pub profile: SrtpProfile,
    /// Protects what this server sends.
    pub ours: MasterKey,
    /// Protects what the peer sends.
    pub theirs: MasterKey,
}

impl fmt::Debug for SrtpKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SrtpKeys").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// Why keys were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// A key or salt has not the length of its profile.
    #[error("key or salt has the wrong length for its profile")]
    Length,
}

/// The sending direction of one peer: ours inside the plane, a client's in load generators.
pub struct Sealer {
    rtp: Cipher,
    rtcp: Cipher,
    /// SRTCP index of the next compound packet, shared by all our SSRCs of this peer: no (ssrc, index) comes twice.
    rtcp_index: u32,
    /// The RTP indices that are used up, ascending by SSRC.
    sealed: Vec<(u32, Window)>,
    /// Where in `sealed` the last packet's SSRC was: packets come in runs of one stream.
    last: usize,
}

impl Sealer {
    /// A context with session keys from `master`.
    ///
    /// # Errors
    /// [`KeyError::Length`].
    pub fn new(profile: SrtpProfile, master: &MasterKey) -> Result<Sealer, KeyError> {
        let (rtp, rtcp) = kdf::ciphers(profile, master)?;
        Ok(Sealer { rtp, rtcp, rtcp_index: 0, sealed: Vec::new(), last: 0 })
    }

    /// Protects the RTP packet `buffer[start..]` in place and appends its tag. `index` is the extended sequence
    /// number (roll-over counter x 2^16 + sequence number); `header` is the length of the header. Returns false,
    /// leaving the buffer as it was, when the index is not new for this `ssrc`, or 512 and more behind the highest.
    ///
    /// # Panics
    /// When the packet is shorter than its header.
    pub fn rtp(
        &mut self,
        ssrc: u32,
        index: u64,
        buffer: &mut Vec<u8>,
        start: usize,
        header: usize,
    ) -> bool {
        // The same nonce over two packets would give away GCM's authentication key.
        if !self.used(ssrc).accept(index) {
            return false;
        }
        self.rtp.seal_rtp(ssrc, index, buffer, start, header);
        true
    }

    /// Protects once more a packet that is, bit for bit, the one sealed under this index before.
    pub(crate) fn rtp_again(
        &mut self,
        ssrc: u32,
        index: u64,
        buffer: &mut Vec<u8>,
        start: usize,
        header: usize,
    ) {
        self.used(ssrc).accept(index);
        self.rtp.seal_rtp(ssrc, index, buffer, start, header);
    }

    /// The stream `ssrc` has ended: nothing is sealed for it any more.
    pub(crate) fn forget(&mut self, ssrc: u32) {
        self.sealed.retain(|(other, _)| *other != ssrc);
    }

    fn used(&mut self, ssrc: u32) -> &mut Window {
        if self.sealed.get(self.last).is_none_or(|(other, _)| *other != ssrc) {
            let found = self.sealed.binary_search_by_key(&ssrc, |(other, _)| *other);
            self.last = found.unwrap_or_else(|at| {
                self.sealed.insert(at, (ssrc, Window::default()));
                at
            });
        }
        &mut self.sealed[self.last].1
    }

    /// Protects the compound RTCP packet `buffer[start..]` in place and appends index and tag. Returns false, leaving
    /// the buffer as it was, once the 2^31 indices of one key are used up.
    ///
    /// # Panics
    /// When the compound is shorter than 8 bytes.
    pub fn rtcp(&mut self, buffer: &mut Vec<u8>, start: usize) -> bool {
        if self.rtcp_index >= 1 << 31 {
            return false;
        }
        self.rtcp.seal_rtcp(self.rtcp_index, buffer, start);
        self.rtcp_index += 1;
        true
    }
}

/// Most SSRCs whose SRTCP replay windows are kept for one peer.
const RTCP_SENDERS_MAX: usize = 64;

/// The receiving direction of one peer. RTP replay windows live with each incoming stream.
pub(crate) struct Opener {
    rtp: Cipher,
    rtcp: Cipher,
    /// Most recently heard last.
    senders: Vec<(u32, Window)>,
}

impl Opener {
    pub(crate) fn new(profile: SrtpProfile, master: &MasterKey) -> Result<Opener, KeyError> {
        let (rtp, rtcp) = kdf::ciphers(profile, master)?;
        Ok(Opener { rtp, rtcp, senders: Vec::new() })
    }

    /// Opens an RTP packet in place; returns where its payload ends. The packet is garbage when `None`.
    pub(crate) fn rtp(
        &self,
        ssrc: u32,
        index: u64,
        packet: &mut [u8],
        header: usize,
    ) -> Option<usize> {
        self.rtp.open_rtp(ssrc, index, packet, header)
    }

    /// Opens an SRTCP packet in place; returns its plain length.
    pub(crate) fn rtcp(&mut self, packet: &mut [u8]) -> Result<usize, OpenError> {
        let ssrc = packet.get(4..8).ok_or(OpenError::Forged)?;
        let ssrc = u32::from_be_bytes(ssrc.try_into().expect("four bytes"));
        let index = self.rtcp.rtcp_index(packet).ok_or(OpenError::Forged)?;
        let known = self.senders.iter().position(|(sender, _)| *sender == ssrc);
        if known.is_some_and(|at| !self.senders[at].1.fresh(index.into())) {
            return Err(OpenError::Replayed);
        }
        let length = self.rtcp.open_rtcp(packet).ok_or(OpenError::Forged)?;
        let at = known.unwrap_or_else(|| {
            if self.senders.len() == RTCP_SENDERS_MAX {
                self.senders.remove(0);
            }
            self.senders.push((ssrc, Window::default()));
            self.senders.len() - 1
        });
        self.senders[at].1.accept(index.into());
        self.senders[at..].rotate_left(1);
        Ok(length)
    }
}

/// Why an SRTCP packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    Forged,
    Replayed,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(profile: SrtpProfile) -> MasterKey {
        MasterKey {
            key: (0..profile.key_bytes() as u8).collect(),
            salt: (0..profile.salt_bytes() as u8).map(|b| b ^ 0x5a).collect(),
        }
    }

    const PROFILES: [SrtpProfile; 3] =
        [SrtpProfile::Aes128Gcm, SrtpProfile::Aes256Gcm, SrtpProfile::Aes128CmSha1_80];

    fn packet(sequence: u16) -> Vec<u8> {
        let mut packet = vec![0x80, 96];
        packet.extend_from_slice(&sequence.to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 7]);
        packet.extend_from_slice(b"the payload of this packet");
        packet
    }

    #[test]
    fn what_is_sealed_opens_across_a_roll_over() {
        for profile in PROFILES {
            let mut sealer = Sealer::new(profile, &keys(profile)).unwrap();
            let opener = Opener::new(profile, &keys(profile)).unwrap();
            let mut window = Window::default();
            for index in 0xfff0_u64..0x1_0010 {
                let plain = packet(index as u16);
                let mut sealed = plain.clone();
                assert!(sealer.rtp(7, index, &mut sealed, 0, 12));
                assert_ne!(sealed[12..plain.len()], plain[12..]);
                assert_eq!(window.estimate(index as u16), index);
                let end = opener.rtp(7, index, &mut sealed, 12).expect("opens");
                assert!(window.accept(index));
                assert_eq!(sealed[..end], plain);
            }
        }
    }

    #[test]
    fn an_index_is_sealed_once_in_any_build() {
        for profile in PROFILES {
            let mut sealer = Sealer::new(profile, &keys(profile)).unwrap();
            let plain = packet(700);
            let mut seal = |ssrc: u32, index: u64| {
                let mut buffer = plain.clone();
                let sealed = sealer.rtp(ssrc, index, &mut buffer, 0, 12);
                assert_eq!(sealed, buffer != plain, "what is refused is left alone");
                sealed
            };
            for (ssrc, index, expect) in [
                (7, 700, true),
                (7, 700, false),
                (3, 700, true),
                (7, 699, true),
                (7, 699, false),
                (9, 699, true),
                (3, 700, false),
                // Too old to tell.
                (7, 188, false),
                (7, 700 + 0x1_0000, true),
            ] {
                assert_eq!(seal(ssrc, index), expect, "{ssrc} {index}");
            }
            // What was only repeated is used up as well.
            sealer.rtp_again(7, 70_000, &mut plain.clone(), 0, 12);
            assert!(!sealer.rtp(7, 70_000, &mut plain.clone(), 0, 12));
            assert_eq!(sealer.sealed.len(), 3);
            sealer.forget(3);
            assert!(sealer.rtp(9, 70_001, &mut plain.clone(), 0, 12));
            assert_eq!(sealer.sealed.len(), 2);
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_a_forgery() {
        for profile in PROFILES {
            let mut sealer = Sealer::new(profile, &keys(profile)).unwrap();
            let opener = Opener::new(profile, &keys(profile)).unwrap();
            let mut sealed = packet(9);
            sealer.rtp(7, 9, &mut sealed, 0, 12);
            for byte in 0..sealed.len() {
                let mut forged = sealed.clone();
                forged[byte] ^= 1;
                assert_eq!(opener.rtp(7, 9, &mut forged, 12), None);
            }
            assert_eq!(opener.rtp(7, 9 + 0x1_0000, &mut sealed, 12), None);
        }
    }

    #[test]
    fn rtcp_opens_once() {
        for profile in PROFILES {
            let mut sealer = Sealer::new(profile, &keys(profile)).unwrap();
            let mut opener = Opener::new(profile, &keys(profile)).unwrap();
            let plain = [0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
            for _ in 0..3 {
                let mut sealed = vec![0xee; 5];
                sealed.extend_from_slice(&plain);
                assert!(sealer.rtcp(&mut sealed, 5));
                let mut sealed = sealed.split_off(5);
                let mut replay = sealed.clone();
                let length = opener.rtcp(&mut sealed).expect("opens");
                assert_eq!(sealed[..length], plain);
                assert_eq!(opener.rtcp(&mut replay), Err(OpenError::Replayed));
            }
        }
    }

    #[test]
    fn garbage_is_refused_at_every_length() {
        for profile in PROFILES {
            let mut opener = Opener::new(profile, &keys(profile)).unwrap();
            for length in 0..64 {
                let mut bytes = vec![0xa5; length];
                assert_eq!(opener.rtcp(&mut bytes), Err(OpenError::Forged));
                assert_eq!(opener.rtp(1, 1, &mut bytes, 12), None);
            }
        }
    }

    #[test]
    fn a_key_of_the_wrong_length_is_refused() {
        let short = MasterKey { key: vec![0; 15], salt: vec![0; 12] };
        assert_eq!(Sealer::new(SrtpProfile::Aes128Gcm, &short).err(), Some(KeyError::Length));
    }
}
