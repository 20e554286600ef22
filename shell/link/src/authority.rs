//! The cluster's own certificate authority: made once by an operator (or by the demo), it signs one certificate per
//! process. See docs/adr/0003-inter-region-links.md.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::CLUSTER_NAME;

/// Signs the certificates of the cluster's processes. Its `Debug` shows nothing of the key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// A process's certificate and key, as PEM.
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its PKCS#8 private key.
    pub key: String,
}

/// Why an authority could not be made, read, or used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The key is no PKCS#8 P-256 key in PEM, or the cryptography library refused.
    #[error("cluster authority")]
    Certificate(#[from] rcgen::Error),
}

impl Authority {
    /// Makes a new authority with a fresh P-256 key.
    ///
    /// # Errors
    /// When the cryptography library fails.
    pub fn make() -> Result<Authority, AuthorityError> {
        let key = KeyPair::generate()?;
        let certificate = params()?.self_signed(&key)?.pem();
        Ok(Authority { issuer: Issuer::new(params()?, key), certificate })
    }

    /// The authority that [`Authority::certificate`] and [`Authority::key`] once gave.
    ///
    /// # Errors
    /// When `key` is no private key in PEM.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Authority, AuthorityError> {
        let key = KeyPair::from_pem(key)?;
        Ok(Authority { issuer: Issuer::new(params()?, key), certificate: certificate.to_owned() })
    }

    /// The authority's certificate in PEM; every process trusts it.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The authority's private key in PEM. Whoever has it is the cluster.
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Signs a certificate for the process called `name`, good as server and as client.
    ///
    /// # Errors
    /// When the cryptography library fails.
    pub fn issue(&self, name: &str) -> Result<Issued, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![CLUSTER_NAME.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Issued { certificate, key: key.serialize_pem() })
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

/// What the authority says of itself; the same for every one, so that the key alone rebuilds the issuer.
fn params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "outlast cluster authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}
