//! Under what a room stands in the directory: never its clear name, which may be anybody's business.

use std::{
    fmt,
    hash::{BuildHasherDefault, Hasher},
};

use outlast_model::RoomName;
use siphasher::sip128::SipHasher24;

/// A room in the directory: a keyed hash of its name. Equal names have equal keys under the same secret, at every
/// gateway and in every version; nobody without the secret finds the name, or a second name with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomKey(pub u128);

impl fmt::Display for RoomKey {
    /// 32 hexadecimal digits, the hash's first byte first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Makes room keys: SipHash-2-4 with 128 bits of output (Aumasson, Bernstein 2012) over the name's UTF-8 bytes.
#[derive(Clone, Copy)]
pub struct RoomKeyer(SipHasher24);

impl RoomKeyer {
    /// With the secret that all gateways of one directory share. Another secret makes every room unknown.
    pub fn new(secret: [u8; 16]) -> RoomKeyer {
        RoomKeyer(SipHasher24::new_with_key(&secret))
    }

    /// The key of `room`.
    pub fn key(&self, room: &RoomName) -> RoomKey {
        RoomKey(u128::from_be_bytes(self.0.hash(room.as_str().as_bytes()).as_bytes()))
    }
}

impl fmt::Debug for RoomKeyer {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoomKeyer(..)")
    }
}

/// For hash tables by [`RoomKey`]: the same in every run, and safe since nobody without the secret chooses keys.
pub(crate) type BuildKeyHasher = BuildHasherDefault<KeyHasher>;

/// Spreads a key's bits over the upper ones too, for keys that are small numbers in tests and simulations.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u128(u128::from(*byte));
        }
    }

    fn write_u128(&mut self, key: u128) {
        // The cast takes the lower half.
        let folded = key as u64 ^ (key >> 64) as u64;
        self.0 = (self.0.rotate_left(5) ^ folded).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        // Tables take the place from the lower bits, which a multiplication mixes least.
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The authors' own vectors (`vectors_sip128`): the key is 00 01 .. 0f, the text 00 01 .. of that length.
    #[test]
    fn keys_are_siphash_2_4_128() {
        let keyer = RoomKeyer::new(std::array::from_fn(|n| u8::try_from(n).unwrap()));
        let key = |length: u8| {
            let text = String::from_utf8((0..length).collect()).unwrap();
            keyer.key(&text.into()).to_string()
        };
        assert_eq!(key(0), "a3817f04ba25a8e66df67214c7550293");
        assert_eq!(key(1), "da87c1d86b99af44347659119b22fc45");
        assert_eq!(key(15), "5493e99933b0a8117e08ec0f97cfc3d9");
        assert_eq!(key(63), "5150d1772f50834a503e069a973fbd7c");
    }

    #[test]
    fn another_secret_makes_another_key_and_no_secret_is_shown() {
        let room = RoomName::from("standup");
        let (one, two) = (RoomKeyer::new([1; 16]), RoomKeyer::new([2; 16]));
        assert_eq!(one.key(&room), RoomKeyer::new([1; 16]).key(&room));
        assert_ne!(one.key(&room), two.key(&room));
        assert_ne!(one.key(&room), one.key(&"standup ".into()));
        assert_eq!(format!("{one:?}"), "RoomKeyer(..)");
    }
}
