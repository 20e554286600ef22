//! The directory's address, and what opens its door.

use outlast_engines::{Access, Address, AddressError, EngineKind, Identity, Secret, Shared};

use super::rules::Rules;

const ADDRESS: &str = "directory";
const USER: &str = "directory_access.user";
const PASSWORD: &str = "directory_access.password_file";
const SENTINEL_PASSWORD: &str = "directory_access.sentinel_password_file";
const CA: &str = "directory_access.ca";
const CERT: &str = "directory_access.cert";
const KEY: &str = "directory_access.key";

/// Whether the key of this path says where the directory is, or opens its door.
pub(crate) fn is_about(path: &str) -> bool {
    path == ADDRESS || path.starts_with("directory_access.")
}

impl Rules<'_> {
    /// The address with what goes with it. A mistake in an address is told without it, since it may hold a password.
    pub(crate) fn directory(&mut self) -> (Address, Access) {
        let address = self.values.text(ADDRESS);
        let address = match address.parse() {
            Ok(address) => address,
            Err(_) if address.is_empty() => Address::Embedded,
            Err(error) => {
                let error: AddressError = error;
                self.wrong(ADDRESS, error.to_string(), error.remedy());
                Address::Embedded
            }
        };
        if let Address::Sharded(shards) = &address {
            for (region, _) in shards {
                self.region(self.values.at(ADDRESS), ADDRESS, region.as_str());
            }
        }
        let access = self.access();
        self.needless(&address);
        (address, access)
    }

    fn access(&mut self) -> Access {
        for (one, other) in [(CERT, KEY), (KEY, CERT)] {
            if self.values.written(one) && self.values.absent(other) {
                let what = format!("{one} is set and {other} is not");
                self.wrong(one, what, "Set both, or none where the servers ask for no certificate");
            }
        }
        self.pem(CA, "BEGIN CERTIFICATE");
        self.pem(CERT, "BEGIN CERTIFICATE");
        self.pem(KEY, "PRIVATE KEY");
        if self.values.written(USER) && self.values.absent(PASSWORD) {
            let remedy =
                "Put the password into a file and name it in directory_access.password_file";
            self.wrong(USER, "there is a user and no password", remedy);
        }
        let certificates = self.read(CERT).map(String::into_bytes);
        let key = self.read(KEY).map(String::into_bytes);
        Access {
            user: self.values.written(USER).then(|| self.values.text(USER).to_owned()),
            password: self.password(PASSWORD),
            sentinel_password: self.password(SENTINEL_PASSWORD),
            ca: self.read(CA).map(String::into_bytes),
            identity: certificates
                .zip(key)
                .map(|(certificates, key)| Identity { certificates, key }),
        }
    }

    fn password(&mut self, key: &str) -> Option<Secret> {
        let text = self.read(key)?;
        let text = text.trim();
        if text.is_empty() {
            self.wrong(key, "the file is empty", "Write the password into it, on one line");
        }
        Some(Secret::new(text.to_owned()))
    }

    /// What is set and would do nothing: whoever set it believes in something that is not so.
    fn needless(&mut self, address: &Address) {
        let shared = shared(address);
        let sentinels = |shared: &&Shared| matches!(shared.engine, EngineKind::Sentinel { .. });
        let (any, tls) = (!shared.is_empty(), shared.iter().any(|shared| shared.tls));
        let sentinel = shared.iter().any(sentinels);
        let embedded = "the embedded directory lets nobody in";
        let plain = "the directory is reached without TLS";
        for (key, needed, why, remedy) in [
            (USER, any, embedded, "Remove the key"),
            (PASSWORD, any, embedded, "Remove the key"),
            (SENTINEL_PASSWORD, sentinel, "there are no Sentinels", "Remove the key"),
            (CA, tls, plain, "Write etcds:// or rediss:// in directory, or remove the key"),
            (CERT, tls, plain, "Write etcds:// or rediss:// in directory, or remove the key"),
            (KEY, tls, plain, "Write etcds:// or rediss:// in directory, or remove the key"),
        ] {
            if self.values.written(key) && !needed {
                self.wrong(key, why, remedy);
            }
        }
    }
}

/// The directories that gateways share, none or more.
fn shared(address: &Address) -> Vec<&Shared> {
    match address {
        Address::Embedded => Vec::new(),
        Address::Shared(shared) => vec![shared],
        Address::Sharded(shards) => shards.iter().map(|(_, shared)| shared).collect(),
    }
}
