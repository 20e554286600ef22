//! TLS to Redis, and to the pages of etcd, by what [`Access`] has. Malformed certificates are found here, not when the first connection fails.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::{Access, ConnectError};

/// How servers are authenticated, and how this process is. TLS 1.2 and 1.3: managed services have the older one still.
pub(crate) fn client(access: &Access) -> Result<Arc<ClientConfig>, ConnectError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("TLS", error))?
        .with_root_certificates(authorities(access)?);
    let Some(identity) = &access.identity else {
        return Ok(Arc::new(builder.with_no_client_auth()));
    };
    let chain = CertificateDer::pem_slice_iter(&identity.certificates)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable("the own certificate", error))?;
    let key = PrivateKeyDer::from_pem_slice(&identity.key)
        .map_err(|error| unusable("the own key", error))?;
    let config = builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| unusable("the own certificate and its key", error))?;
    Ok(Arc::new(config))
}

fn authorities(access: &Access) -> Result<RootCertStore, ConnectError> {
    let mut roots = RootCertStore::empty();
    match &access.ca {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| unusable("the authority", error))?;
                roots.add(certificate).map_err(|error| unusable("the authority", error))?;
            }
        }
        // Single ones of the system's that are not understood are left out, as everywhere.
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        Err(unusable("the authority", "no certificate in it"))
    } else {
        Ok(roots)
    }
}

fn unusable(what: &str, error: impl std::fmt::Display) -> ConnectError {
    ConnectError::Certificates(format!("{what}: {error}"))
}
