//! Sealed datagrams: AES-256-GCM under a key of the cluster's secret, the sender and its epoch; the sequence number is the
//! nonce. A receiver knows its senders from the configuration and takes from each only what is newer than before.

use std::{collections::BTreeMap, fmt};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Prk, Salt},
};
use outlast_model::Epoch;

use crate::{
    Message,
    bytes::{DecodeError, Reader},
};

/// Longest id of a node or gateway, in bytes.
pub const PROCESS_ID_BYTES_MAX: usize = 48;
/// Longest datagram, in bytes.
pub const DATAGRAM_BYTES_MAX: usize = 256;
/// Shortest cluster secret, in bytes.
pub const SECRET_BYTES_MIN: usize = 16;

const VERSION: u8 = 1;
const TAG_BYTES: usize = 16;

/// The cluster's shared secret. Its `Debug` shows nothing.
#[derive(Clone)]
pub struct Secret(Prk);

/// Why a secret was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Shorter than [`SECRET_BYTES_MIN`].
    #[error("cluster secret has {0} bytes, fewer than {SECRET_BYTES_MIN}")]
    Short(usize),
}

impl Secret {
    /// The secret as configured; any bytes.
    ///
    /// # Errors
    /// When there are fewer than [`SECRET_BYTES_MIN`].
    pub fn new(bytes: &[u8]) -> Result<Secret, SecretError> {
        if bytes.len() < SECRET_BYTES_MIN {
            return Err(SecretError::Short(bytes.len()));
        }
        Ok(Secret(Salt::new(HKDF_SHA256, b"outlast beats").extract(bytes)))
    }

    /// The one key of one start of one process.
    fn key(&self, sender: &Process, epoch: Epoch) -> LessSafeKey {
        let (role, epoch) = ([sender.role as u8], epoch.0.to_be_bytes());
        let info: [&[u8]; 3] = [&role, &epoch, sender.id.as_bytes()];
        let okm = self.0.expand(&info, &AES_256_GCM).expect("32 bytes are within HKDF's limit");
        LessSafeKey::new(UnboundKey::from(okm))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What a process does in the cluster; a process with both roles is two senders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ProcessRole {
    /// Media server.
    Node = 1,
    /// Region's door.
    Gateway = 2,
    /// Who says where the doors are. It only listens.
    NameServer = 3,
}

/// A sender or receiver of datagrams.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Process {
    /// Which role of the process.
    pub role: ProcessRole,
    /// Its id in the configuration; at most [`PROCESS_ID_BYTES_MAX`] bytes.
    pub id: Box<str>,
}

impl Process {
    /// The node called `id`.
    pub fn node(id: &str) -> Process {
        Process { role: ProcessRole::Node, id: id.into() }
    }

    /// The gateway called `id`.
    pub fn gateway(id: &str) -> Process {
        Process { role: ProcessRole::Gateway, id: id.into() }
    }

    /// The name server called `id`.
    pub fn name_server(id: &str) -> Process {
        Process { role: ProcessRole::NameServer, id: id.into() }
    }
}

/// A sealed message, ready to send.
pub struct Datagram {
    /// The bytes; at most [`DATAGRAM_BYTES_MAX`].
    pub bytes: Vec<u8>,
    /// The sequence number inside; 1 for a sender's first datagram, unless it chose another.
    pub sequence: u64,
}

/// Seals the datagrams of one start of one process. There is one for all destinations, so that no nonce repeats.
pub struct Sealer {
    me: Process,
    epoch: Epoch,
    key: LessSafeKey,
    sequence: u64,
}

impl Sealer {
    /// A sealer for `me`, which has never sent under `epoch` before.
    ///
    /// # Panics
    /// When `me.id` is longer than [`PROCESS_ID_BYTES_MAX`]: the configuration is checked before.
    pub fn new(secret: &Secret, me: Process, epoch: Epoch) -> Sealer {
        assert!(
            me.id.len() <= PROCESS_ID_BYTES_MAX,
            "process ids are checked with the configuration"
        );
        let key = secret.key(&me, epoch);
        Sealer { me, epoch, key, sequence: 0 }
    }

    /// Seals `message` for `to`, and for nobody else.
    ///
    /// # Panics
    /// When `to.id` is longer than [`PROCESS_ID_BYTES_MAX`].
    pub fn seal(&mut self, to: &Process, message: &Message) -> Datagram {
        self.seal_as(self.sequence + 1, to, message)
    }

    /// The same under a number of the caller's choice, who may leave numbers out.
    ///
    /// # Panics
    /// When `sequence` is not above all before, or `to.id` is longer than [`PROCESS_ID_BYTES_MAX`].
    pub fn seal_as(&mut self, sequence: u64, to: &Process, message: &Message) -> Datagram {
        assert!(
            to.id.len() <= PROCESS_ID_BYTES_MAX,
            "process ids are checked with the configuration"
        );
        assert!(sequence > self.sequence, "a nonce is used once");
        self.sequence = sequence;
        let mut bytes = Vec::with_capacity(DATAGRAM_BYTES_MAX);
        bytes.push(VERSION);
        put_process(&self.me, &mut bytes);
        bytes.extend_from_slice(&self.epoch.0.to_be_bytes());
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        // The destination is authenticated, not sent: a datagram replayed to another gateway does not open there.
        let associated = associated(&bytes, to);
        let mut sealed = Vec::with_capacity(DATAGRAM_BYTES_MAX);
        message.encode(&mut sealed);
        self.key
            .seal_in_place_append_tag(nonce(self.sequence), Aad::from(associated), &mut sealed)
            .expect("a short message is within the cipher's limit");
        bytes.extend_from_slice(&sealed);
        Datagram { bytes, sequence: self.sequence }
    }
}

/// A datagram that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Who sealed it.
    pub from: Process,
    /// The sender's start.
    pub epoch: Epoch,
    /// The sender's count, over all its destinations.
    pub sequence: u64,
    /// What it says.
    pub message: Message,
}

/// Why a datagram was dropped. Count it; do not answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not one of our datagrams.
    #[error("malformed datagram")]
    Malformed(#[from] DecodeError),
    /// The sender is not in the configuration.
    #[error("unknown sender")]
    Stranger,
    /// From an earlier start of the sender.
    #[error("older epoch")]
    OlderEpoch,
    /// Not newer than what was opened before; late datagrams look the same, and are worth as little.
    #[error("replayed or late")]
    Replayed,
    /// Not sealed with the cluster's secret, or not for us.
    #[error("not authentic")]
    NotAuthentic,
}

impl OpenError {
    /// One word, for metrics.
    pub fn name(&self) -> &'static str {
        match self {
            OpenError::Malformed(_) => "malformed",
            OpenError::Stranger => "stranger",
            OpenError::OlderEpoch => "older_epoch",
            OpenError::Replayed => "replayed",
            OpenError::NotAuthentic => "not_authentic",
        }
    }
}

/// Opens what the configured peers send to one process.
pub struct Opener {
    secret: Secret,
    me: Process,
    peers: BTreeMap<Process, Option<Heard>>,
}

struct Heard {
    epoch: Epoch,
    sequence: u64,
    key: LessSafeKey,
}

impl Opener {
    /// An opener for `me` that listens to `peers` alone.
    pub fn new(secret: &Secret, me: Process, peers: impl IntoIterator<Item = Process>) -> Opener {
        let peers = peers.into_iter().map(|peer| (peer, None)).collect();
        Opener { secret: secret.clone(), me, peers }
    }

    /// Opens one datagram. Nothing is remembered of a datagram that is not authentic.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(&mut self, bytes: &[u8]) -> Result<Opened, OpenError> {
        if bytes.len() > DATAGRAM_BYTES_MAX {
            return Err(DecodeError::Long.into());
        }
        let mut reader = Reader(bytes);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(DecodeError::Version(version).into());
        }
        let from = take_process(&mut reader)?;
        let (epoch, sequence) = (Epoch(reader.u64()?), reader.u64()?);
        let peer = self.peers.get_mut(&from).ok_or(OpenError::Stranger)?;
        let fresh_key;
        let key = match peer {
            Some(heard) if epoch < heard.epoch => return Err(OpenError::OlderEpoch),
            Some(heard) if epoch == heard.epoch && sequence <= heard.sequence => {
                return Err(OpenError::Replayed);
            }
            Some(heard) if epoch == heard.epoch => &heard.key,
            Some(_) | None => {
                fresh_key = self.secret.key(&from, epoch);
                &fresh_key
            }
        };
        let header_length = bytes.len() - reader.0.len();
        let associated = associated(&bytes[..header_length], &self.me);
        let mut sealed = reader.0.to_vec();
        if sealed.len() < TAG_BYTES {
            return Err(DecodeError::Short.into());
        }
        let plain = key
            .open_in_place(nonce(sequence), Aad::from(associated), &mut sealed)
            .map_err(|_| OpenError::NotAuthentic)?;
        let message = Message::decode(plain)?;
        match peer {
            Some(heard) if heard.epoch == epoch => heard.sequence = sequence,
            Some(_) | None => {
                let key = self.secret.key(&from, epoch);
                *peer = Some(Heard { epoch, sequence, key });
            }
        }
        Ok(Opened { from, epoch, sequence, message })
    }
}

fn nonce(sequence: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[NONCE_LEN - 8..].copy_from_slice(&sequence.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn associated(header: &[u8], to: &Process) -> Vec<u8> {
    let mut associated = Vec::with_capacity(header.len() + 2 + to.id.len());
    associated.extend_from_slice(header);
    put_process(to, &mut associated);
    associated
}

fn put_process(process: &Process, out: &mut Vec<u8>) {
    out.push(process.role as u8);
    out.push(u8::try_from(process.id.len()).expect("ids are at most PROCESS_ID_BYTES_MAX long"));
    out.extend_from_slice(process.id.as_bytes());
}

fn take_process(reader: &mut Reader<'_>) -> Result<Process, DecodeError> {
    let role = match reader.u8()? {
        1 => ProcessRole::Node,
        2 => ProcessRole::Gateway,
        3 => ProcessRole::NameServer,
        _ => return Err(DecodeError::Field("role")),
    };
    let length = usize::from(reader.u8()?);
    if length > PROCESS_ID_BYTES_MAX {
        return Err(DecodeError::Field("id"));
    }
    Ok(Process { role, id: reader.text(length, "id")?.into() })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{Beat, Echoed, Outlook, PROBE_NAME_BYTES_MAX, Probe, beat::tests::any_message};

    fn secret() -> Secret {
        Secret::new(b"sixteen bytes or more").unwrap()
    }

    fn gateway() -> Process {
        Process::gateway("eu-gw")
    }

    fn sealer(epoch: u64) -> Sealer {
        Sealer::new(&secret(), Process::node("eu-1"), Epoch(epoch))
    }

    fn opener() -> Opener {
        Opener::new(&secret(), gateway(), [Process::node("eu-1")])
    }

    fn message() -> Message {
        Message::Beat(Beat { ticked: true, rooms: 3, ..Beat::default() })
    }

    #[test]
    fn replays_older_epochs_and_strangers_are_dropped() {
        let (mut node, mut opener) = (sealer(5), opener());
        let first = node.seal(&gateway(), &message());
        let second = node.seal(&gateway(), &message());
        assert_eq!(opener.open(&second.bytes).unwrap().sequence, 2);
        assert_eq!(opener.open(&second.bytes), Err(OpenError::Replayed));
        assert_eq!(opener.open(&first.bytes), Err(OpenError::Replayed));
        let older = sealer(4).seal(&gateway(), &message());
        assert_eq!(opener.open(&older.bytes), Err(OpenError::OlderEpoch));
        let restarted = sealer(6).seal(&gateway(), &message());
        assert_eq!(opener.open(&restarted.bytes).unwrap().epoch, Epoch(6));
        let third = node.seal(&gateway(), &message());
        assert_eq!(opener.open(&third.bytes), Err(OpenError::OlderEpoch));

        let mut stranger = Sealer::new(&secret(), Process::node("zz-9"), Epoch(1));
        let datagram = stranger.seal(&gateway(), &message());
        assert_eq!(opener.open(&datagram.bytes), Err(OpenError::Stranger));
    }

    #[test]
    fn a_datagram_opens_only_where_it_was_sent_and_under_our_secret() {
        let elsewhere = sealer(5).seal(&Process::gateway("us-gw"), &message());
        assert_eq!(opener().open(&elsewhere.bytes), Err(OpenError::NotAuthentic));
        let other = Secret::new(b"another secret, as long").unwrap();
        let mut forger = Sealer::new(&other, Process::node("eu-1"), Epoch(u64::MAX));
        let mut opener = opener();
        let forged = forger.seal(&gateway(), &message());
        assert_eq!(opener.open(&forged.bytes), Err(OpenError::NotAuthentic));
        // The forged epoch has left nothing behind.
        assert!(opener.open(&sealer(5).seal(&gateway(), &message()).bytes).is_ok());
        assert!(matches!(Secret::new(b"short"), Err(SecretError::Short(5))));
    }

    #[test]
    fn the_longest_datagram_is_within_the_limit() {
        let id = "x".repeat(PROCESS_ID_BYTES_MAX);
        let echoed = Echoed { epoch: Epoch(1), stamp: 2, held: Duration::from_secs(9_999) };
        let beat = Beat { echoed: Some(echoed), ..Beat::default() };
        let outlook = Outlook { echoed: Some(echoed), ..Outlook::default() };
        let room = "r".repeat(PROBE_NAME_BYTES_MAX).as_str().into();
        let probe = Message::Probe(Probe { number: 1, room });
        let grows = [Message::Beat(beat), Message::Outlook(outlook)].map(|message| (message, 64));
        for (message, room_left) in grows.into_iter().chain([(probe, 0)]) {
            let mut sealer = Sealer::new(&secret(), Process::gateway(&id), Epoch(1));
            let datagram = sealer.seal(&Process::gateway(&id), &message);
            // Messages will grow, and so will not every receiver at once.
            assert!(
                datagram.bytes.len() <= DATAGRAM_BYTES_MAX - room_left,
                "{}",
                datagram.bytes.len()
            );
        }
    }

    #[test]
    fn a_sender_may_pass_numbers_over_but_never_goes_back() {
        let (mut node, mut opener) = (sealer(5), opener());
        let tenth = node.seal_as(10, &gateway(), &message());
        assert_eq!(tenth.sequence, 10);
        assert_eq!(opener.open(&tenth.bytes).unwrap().sequence, 10);
        assert_eq!(node.seal(&gateway(), &message()).sequence, 11);
        let again = std::panic::catch_unwind(move || node.seal_as(11, &gateway(), &message()));
        assert!(again.is_err(), "a nonce would repeat");
    }

    proptest! {
        #[test]
        fn every_message_comes_back(message in any_message()) {
            let datagram = sealer(1).seal(&gateway(), &message);
            prop_assert_eq!(opener().open(&datagram.bytes).unwrap().message, message);
        }

        #[test]
        fn a_changed_byte_is_noticed(message in any_message(), at: usize, flip in 1..=255_u8) {
            let mut bytes = sealer(1).seal(&gateway(), &message).bytes;
            let at = at % bytes.len();
            bytes[at] ^= flip;
            prop_assert!(opener().open(&bytes).is_err());
        }

        #[test]
        fn garbage_is_an_error(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            prop_assert!(opener().open(&bytes).is_err());
        }
    }
}
