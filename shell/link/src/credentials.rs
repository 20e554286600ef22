//! What a process shows its peers and whom it trusts: loaded once from PEM, turned into rustls configurations.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{VerifierBuilderError, WebPkiClientVerifier},
    version::TLS13,
};

/// The one name in every certificate of a cluster. Processes are found by address, and an address proves nothing; what
/// counts is that the cluster's authority signed.
pub const CLUSTER_NAME: &str = "outlast-cluster";

/// The authority's certificate, and a process's own certificate and key.
pub struct Credentials {
    roots: RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Why credentials could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file could not be read.
    #[error("reading {path}")]
    File {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A text is not the PEM that was expected.
    #[error("{what} is not usable PEM")]
    Pem {
        /// Which of the three: authority, certificate, key.
        what: &'static str,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// A text holds no certificate at all.
    #[error("{what} holds no certificate")]
    Empty {
        /// Which of the two: authority, certificate.
        what: &'static str,
    },
    /// The certificates do not fit together.
    #[error("TLS configuration")]
    Tls(#[from] rustls::Error),
    /// The authority cannot verify clients.
    #[error("client verification")]
    Verifier(#[from] VerifierBuilderError),
}

impl Credentials {
    /// Credentials from three PEM texts.
    ///
    /// # Errors
    /// When one of them is not PEM of its kind.
    pub fn from_pem(
        authority: &str,
        certificate: &str,
        key: &str,
    ) -> Result<Credentials, CredentialsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates("authority", authority)? {
            roots.add(certificate)?;
        }
        let chain = certificates("certificate", certificate)?;
        Ok(Credentials { roots, chain, key: private_key(key)? })
    }

    /// Credentials from three PEM files.
    ///
    /// # Errors
    /// When a file cannot be read or is not PEM of its kind.
    pub fn load(
        authority: &Path,
        certificate: &Path,
        key: &Path,
    ) -> Result<Credentials, CredentialsError> {
        Credentials::from_pem(&read(authority)?, &read(certificate)?, &read(key)?)
    }

    /// For a listener that only the cluster's processes may reach.
    ///
    /// # Errors
    /// When certificate and key do not fit together.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, CredentialsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::new(self.roots.clone()),
            Arc::clone(&provider),
        )
        .build()?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        Ok(Arc::new(config))
    }

    /// For connections to the cluster's processes; the server must show [`CLUSTER_NAME`].
    ///
    /// # Errors
    /// When certificate and key do not fit together.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, CredentialsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(self.roots.clone())
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        Ok(Arc::new(config))
    }
}

/// TLS 1.2 and 1.3 for a public listener, from two PEM files; clients show no certificate.
///
/// # Errors
/// When a file cannot be read, is not PEM, or the two do not fit together.
pub fn public_tls(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, CredentialsError> {
    let chain = certificates("certificate", &read(certificate)?)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private_key(&read(key)?)?)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(
    what: &'static str,
    text: &str,
) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let chain = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| CredentialsError::Pem { what, source })?;
    if chain.is_empty() { Err(CredentialsError::Empty { what }) } else { Ok(chain) }
}

fn private_key(text: &str) -> Result<PrivateKeyDer<'static>, CredentialsError> {
    PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|source| CredentialsError::Pem { what: "key", source })
}

fn read(path: &Path) -> Result<String, CredentialsError> {
    std::fs::read_to_string(path)
        .map_err(|source| CredentialsError::File { path: path.display().to_string(), source })
}
