//! Real etcd: members started on free ports of this machine, killed, frozen, wiped, and gone when the test is over.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use outlast_engines::{Access, Etcd, EtcdSettings, Identity, Shared};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::port::free_port;

/// Members of one cluster.
pub(crate) struct Cluster {
    dir: TempDir,
    members: Vec<Member>,
    tls: Option<Tls>,
}

struct Member {
    arguments: Vec<String>,
    data: PathBuf,
    client: String,
    process: Option<Child>,
}

/// Certificates of a throw-away authority, PEM.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) ca: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Tls {
    /// One certificate for servers and clients alike.
    pub(crate) fn new() -> Tls {
        use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let key = KeyPair::generate().unwrap();
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let own = CertificateParams::new(names).unwrap();
        let certificate = own.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap().pem();
        Tls { ca: ca_pem, certificate, key: key.serialize_pem() }
    }

    pub(crate) fn access(&self) -> Access {
        let identity = Identity {
            certificates: self.certificate.clone().into_bytes(),
            key: self.key.clone().into_bytes(),
        };
        let ca = Some(self.ca.clone().into_bytes());
        Access { ca, identity: Some(identity), ..Access::default() }
    }
}

impl Cluster {
    pub(crate) fn start(members: usize) -> Cluster {
        Cluster::with(members, &[], None)
    }

    /// With more arguments for each member.
    pub(crate) fn with(members: usize, more: &[&str], tls: Option<Tls>) -> Cluster {
        let dir = TempDir::new().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let ports: Vec<_> = (0..2 * members).map(|_| free_port()).collect();
        let peer = |n: usize| format!("http://127.0.0.1:{}", ports[members + n]);
        let all: Vec<_> = (0..members).map(|n| format!("m{n}={}", peer(n))).collect();
        let mut cluster = Cluster { members: Vec::new(), tls, dir };
        for (n, port) in ports.iter().take(members).enumerate() {
            let data = cluster.dir.path().join(format!("m{n}"));
            let client = format!("{scheme}://127.0.0.1:{port}");
            let words = format!(
                "--name m{n} --data-dir {} --listen-client-urls {client} --advertise-client-urls {client} \
                 --listen-peer-urls {peer} --initial-advertise-peer-urls {peer} --initial-cluster {} \
                 --heartbeat-interval 100 --election-timeout 1000 --pre-vote=true --logger zap --log-level warn",
                data.display(),
                all.join(","),
                peer = peer(n),
            );
            let mut arguments: Vec<_> = words.split_whitespace().map(str::to_owned).collect();
            arguments.extend(more.iter().map(|word| (*word).to_owned()));
            if let Some(tls) = &cluster.tls {
                let file = |name: &str, pem: &str| {
                    let path = cluster.dir.path().join(name);
                    fs::write(&path, pem).unwrap();
                    path.display().to_string()
                };
                for (argument, path) in [
                    ("--cert-file", file("own.pem", &tls.certificate)),
                    ("--key-file", file("own.key", &tls.key)),
                    ("--trusted-ca-file", file("ca.pem", &tls.ca)),
                    ("--client-cert-auth", String::new()),
                ] {
                    arguments.push(argument.to_owned());
                    arguments.extend((!path.is_empty()).then_some(path));
                }
            }
            cluster.members.push(Member {
                arguments,
                data,
                client: format!("127.0.0.1:{port}"),
                process: None,
            });
        }
        for n in 0..members {
            cluster.restart(n);
        }
        cluster
    }

    /// The address, with member `nearest` first.
    pub(crate) fn address(&self, nearest: usize) -> Shared {
        let mut clients: Vec<_> =
            self.members.iter().map(|member| member.client.as_str()).collect();
        clients.rotate_left(nearest);
        let s = if self.tls.is_some() { "s" } else { "" };
        format!("etcd{s}://{}", clients.join(",")).parse().unwrap()
    }

    /// An engine, whose nearest member is `nearest`.
    pub(crate) fn engine(&self, nearest: usize) -> Etcd {
        self.engine_with(nearest, EtcdSettings::default())
    }

    pub(crate) fn engine_with(&self, nearest: usize, settings: EtcdSettings) -> Etcd {
        let access = self.tls.as_ref().map(Tls::access).unwrap_or_default();
        Etcd::connect(&self.address(nearest), &access, settings).unwrap()
    }

    /// Which member is at `host:port`.
    pub(crate) fn at(&self, host_port: &str) -> usize {
        self.members.iter().position(|member| member.client == host_port).unwrap()
    }

    pub(crate) fn restart(&mut self, n: usize) {
        let log = self.dir.path().join(format!("m{n}.log"));
        let log = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let member = &mut self.members[n];
        assert!(member.process.is_none(), "member {n} runs");
        let mut command = Command::new("etcd");
        command.args(&member.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let started = command.spawn();
        member.process = Some(started.expect(
            "etcd cannot be started: install it with `scripts/need-debian engines` (Debian: etcd-server and etcd-client)",
        ));
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, n: usize) {
        if let Some(mut process) = self.members[n].process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub(crate) fn freeze(&self, n: usize) {
        self.signal(n, Signal::STOP);
    }

    pub(crate) fn thaw(&self, n: usize) {
        self.signal(n, Signal::CONT);
    }

    fn signal(&self, n: usize, signal: Signal) {
        let process = self.members[n].process.as_ref().unwrap();
        kill_process(Pid::from_child(process), signal).unwrap();
    }

    /// All of them stop, forget everything, and start again.
    pub(crate) fn wipe(&mut self) {
        for n in 0..self.members.len() {
            self.kill(n);
            fs::remove_dir_all(&self.members[n].data).unwrap();
        }
        for n in 0..self.members.len() {
            self.restart(n);
        }
    }

    /// What `etcdctl` prints.
    pub(crate) fn etcdctl(&self, words: &[&str]) -> String {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg("--endpoints").arg(&self.members[0].client);
        if self.tls.is_some() {
            let file = |name: &str| Path::new(self.dir.path()).join(name);
            command.arg("--cacert").arg(file("ca.pem")).arg("--cert").arg(file("own.pem"));
            command.arg("--key").arg(file("own.key"));
        }
        let output = command.args(words).output().expect(
            "etcdctl cannot be started: install it with `scripts/need-debian engines` (Debian: etcd-client)",
        );
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let trouble = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "etcdctl {words:?}: {said}{trouble}");
        said
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for n in 0..self.members.len() {
            self.kill(n);
        }
    }
}
