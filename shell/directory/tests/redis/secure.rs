//! Certificates, users and passwords.

use std::fs;

use outlast_directory::{Placed, Reply};
use outlast_engines::{
    Access, Engine as _, Identity, Partition, Redis, RedisSettings, Secret, Shared,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::{
    desk::{insist, place, record, until},
    port::free_port,
    server::Server,
};

const PASSWORD: &str = "hush-hush";
/// What the engine needs, and no more.
const RIGHTS: &str = "~ol:* -@all +info +ping +script|load +evalsha +eval +wait +time +set +unlink +hget +hset +hdel +hlen \
     +hmget +hincrby +zadd +zrem +zcard +zscore +zrange +zrangebyscore";

struct Certificates {
    dir: TempDir,
    ca: String,
    own: String,
    key: String,
}

impl Certificates {
    fn new() -> Certificates {
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
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_certificate_and_password_is_let_in_and_nobody_else() {
    let certificates = Certificates::new();
    let port = free_port();
    let words = format!(
        "--port 0 --tls-port {port} --tls-ca-cert-file {ca} --tls-cert-file {own} --tls-key-file {key} \
         --tls-auth-clients yes",
        ca = certificates.file("ca"),
        own = certificates.file("own"),
        key = certificates.file("key"),
    );
    let mut settings: Vec<_> = words.split_whitespace().collect();
    let user = format!("--user me on >{PASSWORD} {RIGHTS}");
    settings.extend(user.split_whitespace());
    let files = ["ca", "own", "key"].map(|name| certificates.file(name));
    let door = ["--tls", "--cacert", &files[0], "--cert", &files[1], "--key", &files[2]];
    let server = Server::at(port, &settings, &door);
    let address: Shared = format!("rediss://{}", server.place()).parse().unwrap();
    let identity = Identity {
        certificates: certificates.own.clone().into_bytes(),
        key: certificates.key.clone().into_bytes(),
    };
    let good = Access {
        user: Some("me".to_owned()),
        password: Some(Secret::new(PASSWORD.to_owned())),
        ca: Some(certificates.ca.clone().into_bytes()),
        identity: Some(identity),
        ..Access::default()
    };
    let engine = |access: &Access| Redis::connect(&address, access, RedisSettings::default());
    let own = engine(&good).unwrap();
    let want = record("a", 1, 1);
    assert_eq!(insist(&own, place(1, &want)).await, Reply::Placed(Placed::Won(want)));

    let other = Certificates::new();
    let stranger = Access { ca: Some(other.ca.clone().into_bytes()), ..good.clone() };
    let nameless = Access { identity: None, ..good.clone() };
    let guessed = Secret::new(format!("{PASSWORD}!"));
    let wrong = Access { password: Some(guessed), ..good.clone() };
    for access in [stranger, nameless, wrong] {
        let engine = engine(&access).unwrap();
        let told = || engine.state(Partition(0)).trouble;
        until("it is not let in", async || told().is_some()).await;
        let told = told().unwrap();
        assert!(!told.contains(PASSWORD), "{told}");
        assert_eq!(engine.state(Partition(0)).decides, None);
    }
    let broken = Access { ca: Some(b"no certificate".to_vec()), ..good };
    assert!(engine(&broken).is_err());
}
