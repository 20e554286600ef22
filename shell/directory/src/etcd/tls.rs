//! TLS to etcd, by what [`Access`] has. Malformed certificates are found here, not when the first connection fails.

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tonic::transport::{Certificate, ClientTlsConfig, Error, Identity};

use super::fault;
use crate::{Access, ConnectError, HostPort};

/// How the member at `at` is authenticated, and how this process is.
pub(super) fn client(access: &Access, at: &HostPort) -> Result<ClientTlsConfig, ConnectError> {
    let mut tls = ClientTlsConfig::new().domain_name(&at.host);
    tls = match &access.ca {
        Some(pem) => tls.ca_certificate(Certificate::from_pem(authorities(pem)?)),
        None => tls.with_native_roots(),
    };
    if let Some(identity) = &access.identity {
        tls = tls.identity(Identity::from_pem(&identity.certificates, &identity.key));
    }
    Ok(tls)
}

/// `pem`, if there are certificates in it and all of them are well-formed: those that are not would be left out in silence.
fn authorities(pem: &[u8]) -> Result<&[u8], ConnectError> {
    let malformed = |error: String| ConnectError::Certificates(format!("the authority: {error}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| malformed(error.to_string()))?;
        roots.add(certificate).map_err(|error| malformed(error.to_string()))?;
    }
    if roots.is_empty() { Err(malformed("no certificate in it".to_owned())) } else { Ok(pem) }
}

/// What tonic says of an identity or a name.
pub(super) fn unusable(error: Error) -> ConnectError {
    let words = fault::chain(error.to_string(), std::error::Error::source(&error));
    ConnectError::Certificates(words)
}
