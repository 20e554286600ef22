//! DTLS for the transport: a wrapper around the engine's provider that hands out the SRTP keys and does once what need not
//! be done for each handshake.

use std::{
    cell::RefCell,
    sync::{Arc, OnceLock},
    time::Instant,
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use dimpl::{
    CryptoError::{OperationFailed, SigningKeyHashMismatch},
    CryptoOperation,
    crypto::{Buf, HashAlgorithm, KeyProvider, SignatureAlgorithm, SigningKey},
};
use str0m::{
    config::DtlsCert,
    crypto::{
        CryptoError,
        dtls::{
            DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, ProtocolVersion,
            SrtpProfile as WireProfile,
        },
    },
};

use crate::{MasterKey, SrtpKeys, SrtpProfile};

thread_local! {
    /// Where the DTLS instance made last on this thread puts its keys: `new_dtls` runs inside `RtcConfig::build` and
    /// has no other way to hand them to its caller.
    static TAPPED: RefCell<Option<Arc<OnceLock<SrtpKeys>>>> = const { RefCell::new(None) };
}

/// The keys of the DTLS instance made last on this thread.
pub(super) fn tapped() -> Option<Arc<OnceLock<SrtpKeys>>> {
    TAPPED.with(RefCell::take)
}

/// DTLS with one shared, already validated configuration: validating it costs more than the rest of a join.
#[derive(Debug)]
pub(super) struct TapProvider {
    stock: &'static dyn DtlsProvider,
    config: Arc<dimpl::Config>,
}

impl TapProvider {
    /// For instances that all use `certificate`.
    pub(super) fn new(stock: &'static dyn DtlsProvider, certificate: &DtlsCert) -> TapProvider {
        let mut crypto = dimpl::crypto::aws_lc_rs::default_provider();
        if let Some(keeper) = KeyKeeper::new(crypto.key_provider, &certificate.private_key) {
            // dimpl wants a provider that lives for ever; there is one for each shard, made once.
            crypto.key_provider = Box::leak(Box::new(keeper));
        }
        let config = dimpl::Config::builder()
            .with_crypto_provider(crypto)
            // ICE already proves the return path, so cookies would only cost a round trip.
            .use_server_cookie(false)
            .build()
            .expect("the default DTLS configuration is valid");
        TapProvider { stock, config: Arc::new(config) }
    }
}

impl DtlsProvider for TapProvider {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        self.stock.generate_certificate()
    }

    fn new_dtls(
        &self,
        certificate: &DtlsCert,
        now: Instant,
        version: DtlsVersion,
        _mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let certificate = dimpl::DtlsCertificate {
            certificate: certificate.certificate.clone(),
            private_key: certificate.private_key.clone(),
        };
        let config = self.config.clone();
        let dtls = match version {
            DtlsVersion::Dtls12 => dimpl::Dtls::new_12(config, certificate, now),
            DtlsVersion::Dtls13 => dimpl::Dtls::new_13(config, certificate, now),
            _ => dimpl::Dtls::new_auto(config, certificate, now),
        };
        let keys = Arc::new(OnceLock::new());
        TAPPED.with(|tapped| *tapped.borrow_mut() = Some(keys.clone()));
        Ok(Box::new(TapInstance { dtls, keys }))
    }
}

struct TapInstance {
    dtls: dimpl::Dtls,
    keys: Arc<OnceLock<SrtpKeys>>,
}

impl std::fmt::Debug for TapInstance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TapInstance")
    }
}

impl DtlsInstance for TapInstance {
    fn set_active(&mut self, active: bool) {
        self.dtls.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.dtls.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buffer: &'a mut [u8]) -> DtlsOutput<'a> {
        let active = self.dtls.is_active();
        let output = self.dtls.poll_output(buffer);
        if let DtlsOutput::KeyingMaterial(material, profile) = &output
            && let Some(keys) = split_keys(material, *profile, active)
        {
            // A second handshake cannot happen: renegotiation is refused by the DTLS library.
            let _ = self.keys.set(keys);
        }
        output
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.dtls.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.dtls.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.dtls.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.dtls.protocol_version()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.dtls.close()
    }
}

/// Cuts the keying material as RFC 5764 §4.2 orders it: client key, server key, client salt, server salt.
fn split_keys(material: &[u8], profile: WireProfile, active: bool) -> Option<SrtpKeys> {
    let (profile, key_bytes, salt_bytes) = match profile {
        WireProfile::AEAD_AES_128_GCM => (SrtpProfile::Aes128Gcm, 16, 12),
        WireProfile::AEAD_AES_256_GCM => (SrtpProfile::Aes256Gcm, 32, 12),
        WireProfile::AES128_CM_SHA1_80 => (SrtpProfile::Aes128CmSha1_80, 16, 14),
        _ => return None,
    };
    let (keys, salts) = material.split_at_checked(2 * key_bytes)?;
    let (client_key, server_key) = keys.split_at_checked(key_bytes)?;
    let (client_salt, server_salt) = salts.get(..2 * salt_bytes)?.split_at_checked(salt_bytes)?;
    let master = |key: &[u8], salt: &[u8]| MasterKey { key: key.to_vec(), salt: salt.to_vec() };
    let client = master(client_key, client_salt);
    let server = master(server_key, server_salt);
    let (ours, theirs) = if active { (client, server) } else { (server, client) };
    Some(SrtpKeys { profile, ours, theirs })
}

/// The certificate's private key, read once: dimpl reads it from DER twice a handshake, which is a tenth of a join.
struct KeyKeeper {
    stock: &'static dyn KeyProvider,
    der: Vec<u8>,
    pair: Arc<EcdsaKeyPair>,
}

impl KeyKeeper {
    /// `None` when the key is none on P-256: it is read anew each time then.
    fn new(stock: &'static dyn KeyProvider, der: &[u8]) -> Option<KeyKeeper> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der).ok()?;
        Some(KeyKeeper { stock, der: der.to_vec(), pair: Arc::new(pair) })
    }
}

impl std::fmt::Debug for KeyKeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyKeeper")
    }
}

impl KeyProvider for KeyKeeper {
    fn load_private_key(&self, der: &[u8]) -> Result<Box<dyn SigningKey>, dimpl::CryptoError> {
        if der == self.der {
            Ok(Box::new(KeptKey(Arc::clone(&self.pair))))
        } else {
            self.stock.load_private_key(der)
        }
    }
}

/// ECDSA on P-256 with SHA-256.
struct KeptKey(Arc<EcdsaKeyPair>);

impl std::fmt::Debug for KeptKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeptKey")
    }
}

impl SigningKey for KeptKey {
    fn sign(
        &mut self,
        data: &[u8],
        hash: HashAlgorithm,
        out: &mut Buf,
    ) -> Result<(), dimpl::CryptoError> {
        if hash != HashAlgorithm::SHA256 {
            let key_hash = HashAlgorithm::SHA256;
            return Err(SigningKeyHashMismatch { key_hash, requested: hash });
        }
        let failed = |_| OperationFailed(CryptoOperation::Sign);
        let signature = self.0.sign(&SystemRandom::new(), data).map_err(failed)?;
        out.clear();
        out.extend_from_slice(signature.as_ref());
        Ok(())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }

    fn supported_hash_algorithms(&self) -> &[HashAlgorithm] {
        &[HashAlgorithm::SHA256]
    }
}
