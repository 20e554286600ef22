//! Rules that tie several keys together, or a key to the machine: who must be there, and what must not meet.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use outlast_model::{BEAT_INTERVAL, BEATS_MISSED_MAX};

use super::{
    document::{Entries, Raw},
    mistake::{At, Mistake},
    schema,
    values::Values,
};

/// Shortest API or cluster secret that another machine can reach, in bytes: what HS256 wants (RFC 7518 §3.2).
pub(crate) const SECRET_BYTES_MIN: usize = 32;

/// What the rules look at.
pub(crate) struct Rules<'a> {
    pub(crate) values: &'a Values,
    pub(crate) folder: &'a Path,
    pub(crate) mistakes: &'a mut Vec<Mistake>,
}

impl Rules<'_> {
    pub(crate) fn has_role(&self, role: &str) -> bool {
        self.values.texts("roles").iter().any(|word| word == role)
    }

    /// Whether no other machine can reach any socket of this process: then short secrets and loopback addresses,
    /// good for trying things out, do no harm.
    pub(crate) fn is_local(&self) -> bool {
        let reachable = |key: &str| !self.values.socket(key).ip().is_loopback();
        let asked = || {
            let sockets = self.values.sockets("dns.listen");
            reachable("dns.beat") || sockets.iter().any(|socket| !socket.ip().is_loopback())
        };
        !(self.has_role("gateway") && reachable("gateway.listen")
            || self.has_role("node") && reachable("node.listen")
            || self.has_role("dns") && asked())
    }

    pub(crate) fn wrong(&mut self, key: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.mistakes.push(Mistake::new(self.values.at(key), key, what, remedy));
    }

    pub(crate) fn path(&self, key: &str) -> PathBuf {
        self.folder.join(self.values.text(key))
    }

    /// The file's text; a mistake when it cannot be read, nothing when the key is absent.
    pub(crate) fn read(&mut self, key: &str) -> Option<String> {
        if !self.values.written(key) {
            return None;
        }
        match std::fs::read_to_string(self.path(key)) {
            Ok(text) => Some(text),
            Err(error) => {
                let what = format!("{} cannot be read: {error}", self.path(key).display());
                self.wrong(key, what, "Put the file there, readable by the user that runs outlast");
                None
            }
        }
    }

    pub(crate) fn pem(&mut self, key: &str, label: &str) {
        if self.read(key).is_some_and(|text| !text.contains(label)) {
            let what = format!("{} holds no {label}", self.path(key).display());
            self.wrong(key, what, "Give a PEM file of the right kind");
        }
    }

    /// Rules about the region, and about what a role must have.
    pub(crate) fn roles(&mut self) {
        if self.values.absent("region") {
            self.wrong("region", "the region is missing", "Write region = \"eu\" or the like");
        }
        self.region(self.values.at("region"), "region", self.values.text("region"));
        if self.has_role("node") {
            if self.values.absent("node.id") {
                let remedy = "Write id = \"eu-1\" under [node], a name of its own for every node";
                self.wrong("node.id", "the node has no name", remedy);
            }
            self.advertise();
            self.lease();
        }
        if self.has_role("gateway") {
            let (cert, key) = ("gateway.tls_cert", "gateway.tls_key");
            for (one, other) in [(cert, key), (key, cert)] {
                if self.values.written(one) && self.values.absent(other) {
                    let what = format!("{one} is set and {other} is not");
                    self.wrong(one, what, "Set both, or none for plain HTTP");
                }
            }
            self.pem(cert, "BEGIN CERTIFICATE");
            self.pem(key, "PRIVATE KEY");
            for folder in ["gateway.page_dir", "gateway.state_dir"] {
                if self.values.written(folder) && !self.path(folder).is_dir() {
                    let what = format!("{} is no folder", self.path(folder).display());
                    self.wrong(folder, what, "Put the folder there, or remove the key");
                }
            }
        }
        let admin_is_local = self.values.socket("admin.listen").ip().is_loopback();
        if self.values.flag("debug.panic_hook") && !(self.is_local() && admin_is_local) {
            let what = "other machines could make sessions panic and wipe the directory";
            self.wrong("debug.panic_hook", what, "Remove it; it is for tests on loopback");
        }
        let (interval, timeout) = ("signal.ping_interval_s", "signal.ping_timeout_s");
        let (between, silence): (i64, i64) =
            (self.values.integer(interval), self.values.integer(timeout));
        if silence <= between {
            let what = format!("{silence} s is not longer than the {between} s between two pings");
            self.wrong(timeout, what, "Take about three times the interval");
        }
    }

    /// A region that `regions` does not list.
    pub(crate) fn region(&mut self, at: At, key: &str, region: &str) {
        let regions = self.values.texts("regions");
        if region.is_empty() || regions.is_empty() || regions.iter().any(|known| known == region) {
            return;
        }
        let remedy = match schema::nearest(region, regions.iter().map(String::as_str)) {
            Some(nearest) => format!("Write {nearest:?}, or add it to regions"),
            None => "Add it to regions, or correct it".to_owned(),
        };
        let what = format!("region {region:?} is not among regions");
        self.mistakes.push(Mistake::new(at, key, what, remedy));
    }

    /// A node that gives up before gateways have given it up drops calls that nobody takes over.
    fn lease(&mut self) {
        let key = "node.lease_s";
        let (lease, down_after): (u64, _) =
            (self.values.integer(key), (BEAT_INTERVAL * BEATS_MISSED_MAX).as_secs());
        if lease <= down_after {
            let what = format!(
                "{lease} s is not longer than the {down_after} s after which gateways take a node for down"
            );
            self.wrong(key, what, "Take about three times as long");
        }
    }

    fn advertise(&mut self) {
        let key = "node.advertise";
        let (advertised, bound) =
            (self.values.addresses(key).to_vec(), self.values.addresses("node.bind").to_vec());
        if self.values.absent(key) {
            let remedy = "Write advertise = [\"...\"] under [node], the node's public addresses";
            self.wrong(key, "clients would not know where to send media", remedy);
        }
        for address in advertised {
            let what = if address.is_unspecified() {
                "stands for every address and can be sent to by nobody"
            } else if address.is_multicast() || address == IpAddr::from([255; 4]) {
                "is no address of one machine"
            } else if address.is_loopback() && !self.is_local() {
                "is a loopback address, which clients on other machines cannot reach"
            } else if bound.iter().all(|bound| bound.is_ipv4() != address.is_ipv4()) {
                "has no socket: node.bind has no address of its family"
            } else {
                continue;
            };
            let remedy = "Write the addresses at which clients reach this machine";
            self.wrong(key, format!("{address} {what}"), remedy);
        }
    }

    /// Two sockets of this process on one port.
    pub(crate) fn ports(&mut self, shards: usize) {
        let mut sockets: Vec<(&str, bool, SocketAddr)> = Vec::new();
        let mut add = |key, is_udp| sockets.push((key, is_udp, self.values.socket(key)));
        add("admin.listen", false);
        if self.has_role("gateway") {
            add("gateway.listen", false);
            add("gateway.beat", true);
        }
        if self.has_role("node") {
            add("node.listen", false);
            add("node.beat", true);
        }
        if self.has_role("dns") {
            add("dns.beat", true);
            for socket in self.values.sockets("dns.listen") {
                sockets.extend([("dns.listen", true, *socket), ("dns.listen", false, *socket)]);
            }
        }
        for (index, (key, is_udp, address)) in sockets.iter().enumerate() {
            let clash = sockets[..index]
                .iter()
                .find(|(_, other_udp, other)| is_udp == other_udp && overlap(*address, *other));
            if let Some((other, ..)) = clash {
                let what = format!("{address} is also the port of {other}");
                self.wrong(key, what, "Give each listener a port of its own");
            }
        }
        if self.has_role("node") {
            self.media_ports(shards, &sockets);
        }
    }

    fn media_ports(&mut self, shards: usize, sockets: &[(&str, bool, SocketAddr)]) {
        let key = "node.media_ports";
        let first: usize = self.values.integer(key);
        if first == 0 {
            return;
        }
        let ports = first..first + shards;
        if ports.end > 65_536 {
            let what = format!("{shards} shards from port {first} on end beyond port 65535");
            self.wrong(key, what, "Start lower");
        }
        for (other, is_udp, address) in sockets {
            if *is_udp && ports.contains(&usize::from(address.port())) {
                let what =
                    format!("ports {first} to {} include {address} of {other}", ports.end - 1);
                self.wrong(key, what, "Give media a range of its own");
            }
        }
    }

    /// Whether a secret can be guessed.
    pub(crate) fn strength(&mut self, at: At, key: &str, secret: &str) {
        let what = if secret.is_empty() {
            "the secret is empty".to_owned()
        } else if secret.len() < SECRET_BYTES_MIN && !self.is_local() {
            format!("the secret is shorter than {SECRET_BYTES_MIN} bytes")
        } else {
            return;
        };
        let remedy = "Make one with: openssl rand -base64 32";
        self.mistakes.push(Mistake::new(at, key, what, remedy));
    }

    /// API keys from the table and the file.
    pub(crate) fn keys(&mut self, table: &Entries) -> Vec<(String, String)> {
        let mut keys = Vec::new();
        for (name, entry) in table {
            let shown = format!("keys.{name}");
            let Raw::Text(secret) = &entry.raw else {
                let remedy = "Write key = \"secret\"";
                self.mistakes.push(Mistake::new(entry.at, shown, "the secret is no text", remedy));
                continue;
            };
            if name.is_empty() {
                let remedy = "Give the key a name";
                self.mistakes.push(Mistake::new(
                    entry.at,
                    "keys",
                    "a key has an empty name",
                    remedy,
                ));
            }
            self.strength(entry.at, &shown, secret);
            keys.push((name.clone(), secret.clone()));
        }
        let text = self.read("keys_file").unwrap_or_default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split_once(':').map(|(name, secret)| (name.trim(), secret.trim())) {
                Some((name, secret)) if !name.is_empty() => {
                    self.strength(self.values.at("keys_file"), "keys_file", secret);
                    keys.push((name.to_owned(), secret.to_owned()));
                }
                _ => {
                    let what = format!("line {} of the file is not 'key: secret'", index + 1);
                    self.wrong("keys_file", what, "Write one 'key: secret' a line");
                }
            }
        }
        let broken = !self.values.absent("keys_file");
        let checks_tokens = self.has_role("gateway") || self.has_role("node");
        if keys.is_empty() && table.is_empty() && !broken && checks_tokens {
            let remedy = "Write key = \"secret\" under [keys], or set keys_file";
            self.wrong("keys", "there is no API key, so nobody could join", remedy);
        }
        keys
    }

    /// Cluster files and secret; needed as soon as there is a peer. Gives the secret.
    pub(crate) fn cluster(&mut self, has_peers: bool) -> String {
        let (inline, file) = ("cluster.secret", "cluster.secret_file");
        if self.values.written(inline) && self.values.written(file) {
            let what = "cluster.secret and cluster.secret_file are both set";
            self.wrong(file, what, "Keep one of them");
        }
        let read = self.read(file);
        let from_file = read.is_some();
        let secret = read.map_or_else(|| self.values.text(inline).to_owned(), |t| t.trim().into());
        if self.values.written(inline) || from_file {
            let key = if from_file { file } else { inline };
            self.strength(self.values.at(key), key, &secret);
        } else if has_peers && self.values.absent(inline) && self.values.absent(file) {
            let remedy = "Set the same cluster.secret or cluster.secret_file in every process";
            self.wrong(inline, "there are peers and no cluster secret", remedy);
        }
        for (key, label) in [
            ("cluster.ca", "BEGIN CERTIFICATE"),
            ("cluster.cert", "BEGIN CERTIFICATE"),
            ("cluster.key", "PRIVATE KEY"),
        ] {
            let others = ["cluster.ca", "cluster.cert", "cluster.key"];
            // A name server only listens.
            let connects = self.has_role("gateway") || self.has_role("node");
            let wanted =
                has_peers && connects || others.iter().any(|other| self.values.written(other));
            if wanted && self.values.absent(key) {
                let remedy = "Make the files with: outlast ca init, outlast ca issue NAME";
                self.wrong(key, "the cluster's certificates are incomplete", remedy);
            }
            self.pem(key, label);
        }
        secret
    }
}

/// Whether two sockets of one process cannot both be bound.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |wide: IpAddr, narrow: IpAddr| {
        // "::" takes IPv4 as well, unless a socket is told not to.
        wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4())
    };
    one.port() != 0
        && one.port() == other.port()
        && (one.ip() == other.ip() || covers(one.ip(), other.ip()) || covers(other.ip(), one.ip()))
}
