//! What opens an engine's door: user, passwords, certificates. Contents of files, read by whoever reads the configuration.

use std::fmt;

/// A secret that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text`.
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The text itself, for the engine's client alone.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// How engines know this process, and how it knows them. The default: no user, and the certificates of the system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The engine's user; with etcd and Redis' ACLs.
    pub user: Option<String>,
    /// The user's password, or Redis' `requirepass`.
    pub password: Option<Secret>,
    /// What the Sentinels want, which have a password of their own.
    pub sentinel_password: Option<Secret>,
    /// Who signed the servers' certificates, PEM; `None`: the authorities that the system trusts.
    pub ca: Option<Vec<u8>>,
    /// This process's own certificate and key, PEM, where servers ask for one.
    pub identity: Option<Identity>,
}

/// A certificate with its key, both PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The chain, the own certificate first.
    pub certificates: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(..)")
    }
}
