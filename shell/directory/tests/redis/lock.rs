//! Servers that let in who has a certificate and a password.

use std::fs;

use outlast_engines::{Access, Identity, Secret};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

pub(crate) const PASSWORD: &str = "hush-hush";
const SENTINEL_PASSWORD: &str = "hush-too";

pub(crate) struct Certificates {
    dir: TempDir,
    ca: String,
    own: String,
    key: String,
}

impl Certificates {
    pub(crate) fn new() -> Certificates {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        // Not the name of what it signs, which OpenSSL would take for its own issuer.
        ca.distinguished_name.push(DnType::CommonName, "authority");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let own = own.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap().pem();
        let made = Certificates {
            dir: TempDir::new().unwrap(),
            ca: ca_pem,
            own,
            key: key.serialize_pem(),
        };
        for (name, pem) in [("ca", &made.ca), ("own", &made.own), ("key", &made.key)] {
            fs::write(made.file(name), pem).unwrap();
        }
        made
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Settings of a server, Sentinel or not, that listens with them alone.
    pub(crate) fn words(&self, port: u16) -> String {
        format!(
            "--port 0 --tls-port {port} --tls-ca-cert-file {} --tls-cert-file {} --tls-key-file {} --tls-auth-clients yes \
             --tls-replication yes",
            self.file("ca"),
            self.file("own"),
            self.file("key")
        )
    }

    /// What `redis-cli` needs.
    pub(crate) fn door(&self) -> Vec<String> {
        let (ca, own, key) = (self.file("ca"), self.file("own"), self.file("key"));
        ["--tls", "--cacert", &ca, "--cert", &own, "--key", &key].map(str::to_owned).to_vec()
    }

    pub(crate) fn access(&self) -> Access {
        let identity = Identity {
            certificates: self.own.clone().into_bytes(),
            key: self.key.clone().into_bytes(),
        };
        Access {
            ca: Some(self.ca.clone().into_bytes()),
            identity: Some(identity),
            ..Access::default()
        }
    }
}

/// Certificates, and two passwords: that of the Sentinels is another one.
pub(crate) struct Lock(Certificates);

impl Lock {
    pub(crate) fn new() -> Lock {
        Lock(Certificates::new())
    }

    pub(crate) fn access(&self) -> Access {
        Access {
            password: Some(Secret::new(PASSWORD.to_owned())),
            sentinel_password: Some(Secret::new(SENTINEL_PASSWORD.to_owned())),
            ..self.0.access()
        }
    }

    /// Settings of a server that keeps data.
    pub(crate) fn data(&self, port: u16) -> String {
        format!("{} --requirepass {PASSWORD} --masterauth {PASSWORD}", self.0.words(port))
    }

    pub(crate) fn data_door(&self) -> Vec<String> {
        [self.0.door(), password(PASSWORD)].concat()
    }

    /// Lines of a Sentinel's file, those about what it watches last.
    pub(crate) fn sentinel(&self, port: u16) -> String {
        let words = self.0.words(port).replace(" --", "\n");
        let lines = words.trim_start_matches("--");
        format!(
            "{lines}\nrequirepass {SENTINEL_PASSWORD}\nsentinel sentinel-pass {SENTINEL_PASSWORD}\n"
        )
    }

    pub(crate) fn sentinel_door(&self) -> Vec<String> {
        [self.0.door(), password(SENTINEL_PASSWORD)].concat()
    }
}

fn password(password: &str) -> Vec<String> {
    ["--no-auth-warning", "-a", password].map(str::to_owned).to_vec()
}
