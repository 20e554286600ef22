//! Every key of the configuration, once: the file, the environment, the flags, the checks and the documentation's
//! test all go by this table.

/// What a key's value must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A name: 1 to 48 letters, digits, `-`, `_` or `.`.
    Name,
    /// Several names.
    Names,
    /// One or several of these words.
    Words(&'static [&'static str]),
    /// One of these words.
    Word(&'static [&'static str]),
    /// Any text.
    Text,
    /// `wss://host` or `ws://host`, with a port or a path if need be.
    Url,
    /// A text that is never shown, and has no flag: a command line is public on its machine.
    Secret,
    /// A file, relative to the configuration's folder.
    File,
    /// A folder, relative to the configuration's folder.
    Folder,
    /// A whole number between these two, inclusive.
    Integer(i64, i64),
    /// `address:port` of a socket of this process.
    Listen,
    /// Several of them.
    Listens,
    /// `host:port` of another process.
    HostPort,
    /// Several IP addresses.
    Addresses,
    /// `true` or `false`.
    Flag,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// Its dotted path in the file.
    pub(crate) path: &'static str,
    /// What its value must look like.
    pub(crate) kind: Kind,
    /// What stands for it when it is absent; lists are separated by commas; empty means there is no default.
    pub(crate) default: &'static str,
    /// One sentence for the help.
    pub(crate) help: &'static str,
}

const fn key(path: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Key {
    Key { path, kind, default, help }
}

/// The words of `roles`.
pub(crate) const ROLES: &[&str] = &["gateway", "node", "dns"];
const ORDERS: &[&str] = &["nearest", "crossed"];
const FORMATS: &[&str] = &["text", "json"];

/// Every key that has one value, in the order of the documentation.
pub(crate) const KEYS: &[Key] = &[
    key("region", Kind::Name, "", "The region that this process runs in"),
    key("regions", Kind::Names, "", "All regions there are; other names are then refused"),
    key("roles", Kind::Words(ROLES), "gateway,node", "What this process does: gateway, node, dns"),
    key("keys_file", Kind::File, "", "File of API keys, one 'key: secret' a line"),
    key(
        "directory",
        Kind::Text,
        "embedded",
        "Who keeps which node has which room: embedded, etcd://..., redis://...",
    ),
    key("directory_access.user", Kind::Text, "", "User of etcd, or of Redis' ACLs"),
    key("directory_access.password_file", Kind::File, "", "File that holds its password"),
    key(
        "directory_access.sentinel_password_file",
        Kind::File,
        "",
        "File that holds the Sentinels' password",
    ),
    key("directory_access.ca", Kind::File, "", "Who signed the servers' certificates, PEM"),
    key("directory_access.cert", Kind::File, "", "Certificate for servers that ask for one, PEM"),
    key("directory_access.key", Kind::File, "", "Private key of directory_access.cert, PEM"),
    key("cluster.secret", Kind::Secret, "", "Seals the beats between gateways and nodes"),
    key("cluster.secret_file", Kind::File, "", "File that holds cluster.secret"),
    key("cluster.ca", Kind::File, "", "Certificate of the cluster's authority, PEM"),
    key("cluster.cert", Kind::File, "", "This process's certificate, PEM"),
    key("cluster.key", Kind::File, "", "Private key of cluster.cert, PEM"),
    key("gateway.id", Kind::Name, "", "The gateway's name; absent: gateway-REGION"),
    key("gateway.listen", Kind::Listen, "0.0.0.0:7880", "Where clients and the server API come in"),
    key("gateway.tls_cert", Kind::File, "", "Certificate chain for gateway.listen, PEM"),
    key("gateway.tls_key", Kind::File, "", "Private key of gateway.tls_cert, PEM"),
    key(
        "gateway.beat",
        Kind::Listen,
        "0.0.0.0:7890",
        "UDP: where nodes' beats and other gateways' outlooks come in",
    ),
    key(
        "gateway.trusted_proxies",
        Kind::Addresses,
        "",
        "Proxies whose X-Forwarded-For is believed",
    ),
    key(
        "gateway.public",
        Kind::Addresses,
        "",
        "Addresses at which clients reach it, for name servers",
    ),
    key("gateway.url", Kind::Url, "", "The URL at which clients dial it: wss://eu.api.example.net"),
    key("gateway.reconnects_per_s", Kind::Integer(0, 100_000), "0", "Pace of moving clients"),
    key("gateway.state_dir", Kind::Folder, "", "Folder for what is to outlast a restart"),
    key("gateway.page_dir", Kind::Folder, "", "Folder of files that the gateway serves, flat"),
    key("node.id", Kind::Name, "", "The node's name, unique over all regions"),
    key("node.listen", Kind::Listen, "0.0.0.0:7881", "Where gateways come in (mutual TLS)"),
    key("node.beat", Kind::Listen, "0.0.0.0:7891", "UDP: where gateways' echoes come in"),
    key(
        "node.media_ports",
        Kind::Integer(0, 65_535),
        "7900",
        "First UDP port of media, one a shard",
    ),
    key("node.shards", Kind::Integer(0, 256), "0", "Threads that forward media; 0: one a core"),
    key("node.bind", Kind::Addresses, "0.0.0.0,::", "Addresses that media sockets are bound to"),
    key("node.advertise", Kind::Addresses, "", "Addresses that clients send media to"),
    key("node.capacity", Kind::Integer(1, 1_000_000), "100", "The node's weight in placement"),
    key("node.participants_max", Kind::Integer(1, 100_000), "2000", "Participants it takes"),
    key("node.lease_s", Kind::Integer(1, 60), "6", "Seconds it serves when no gateway hears it"),
    key("node.joins_per_s", Kind::Integer(1, 100_000), "250", "Joins it takes in a second"),
    key("node.joins_burst", Kind::Integer(1, 100_000), "500", "Joins it takes at once"),
    key("dns.id", Kind::Name, "", "The name server's name; absent: dns-REGION"),
    key("dns.zone", Kind::Text, "", "The service's name, which clients dial: api.example.net"),
    key("dns.listen", Kind::Listens, "0.0.0.0:53", "Where it is asked, UDP and TCP"),
    key("dns.public", Kind::Addresses, "", "Addresses at which resolvers reach it"),
    key("dns.beat", Kind::Listen, "0.0.0.0:7892", "UDP: where gateways' outlooks come in"),
    key("dns.ttl_s", Kind::Integer(1, 3_600), "5", "Seconds that its answers may be kept"),
    key(
        "dns.answers_per_s",
        Kind::Integer(0, 1_000_000),
        "200",
        "Answers a second over UDP for each network; 0: no limit",
    ),
    key(
        "locate.file",
        Kind::File,
        "",
        "Which networks are near which region, and where regions are",
    ),
    key(
        "locate.order",
        Kind::Word(ORDERS),
        "nearest",
        "Which region clients are told first: nearest, or crossed for the second nearest",
    ),
    key("locate.mmdb", Kind::File, "", "MaxMind database of cities or countries"),
    key("admin.listen", Kind::Listen, "127.0.0.1:7889", "Where /metrics and /healthz are served"),
    key("signal.ping_interval_s", Kind::Integer(1, 60), "1", "Seconds between a client's pings"),
    key(
        "signal.ping_timeout_s",
        Kind::Integer(2, 180),
        "3",
        "Silence after which a client gives up",
    ),
    key("drain.participants_per_s", Kind::Integer(1, 100_000), "200", "Pace of a node's stop"),
    key("drain.timeout_s", Kind::Integer(1, 3_600), "10", "Longest stop of a node, in seconds"),
    key("log.format", Kind::Word(FORMATS), "text", "text or json"),
    key("log.filter", Kind::Text, "info", "What is logged, e.g. info,outlast_node=debug"),
    key("debug.panic_hook", Kind::Flag, "false", "Lets tests do harm on purpose; never set it"),
];

/// The keys of one `[[peers]]` table.
pub(crate) const PEER_KEYS: &[Key] = &[
    key("role", Kind::Word(ROLES), "", "gateway, node or dns"),
    key("id", Kind::Name, "", "Its gateway.id, node.id or dns.id"),
    key("region", Kind::Name, "", "The region that it runs in"),
    key("address", Kind::HostPort, "", "host:port of a node's node.listen; nodes only"),
    key("beat", Kind::HostPort, "", "host:port of its gateway.beat, node.beat or dns.beat"),
    key("public", Kind::Addresses, "", "Its gateway.public or dns.public"),
    key("url", Kind::Url, "", "Its gateway.url"),
    key("capacity", Kind::Integer(1, 1_000_000), "100", "Its node.capacity; nodes only"),
];

/// The key with this path.
pub(crate) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

impl Key {
    /// The environment variable that sets it.
    pub(crate) fn variable(&self) -> String {
        format!("OUTLAST_{}", self.path.to_uppercase().replace('.', "_"))
    }

    /// The flag that sets it, without dashes; a secret has none.
    pub(crate) fn flag(&self) -> Option<String> {
        (self.kind != Kind::Secret).then(|| self.path.replace(['.', '_'], "-"))
    }
}

/// The one of `names` that `word` was probably meant to be: at most a quarter of its letters differ, or it is the last
/// part of a longer path.
pub(crate) fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let tail = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    names
        .into_iter()
        .map(|name| {
            let whole = distance(word, name);
            let part = if tail(word) == tail(name) { 1 } else { usize::MAX };
            (whole.min(part), name)
        })
        .min_by_key(|(far, _)| *far)
        .filter(|(far, name)| *far <= (name.len() / 4).max(2) && *far < word.len())
        .map(|(_, name)| name)
}

/// Letters to insert, delete or replace (Levenshtein), for short words.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::{KEYS, distance, nearest};

    #[test]
    fn finds_what_was_meant() {
        let names = || KEYS.iter().map(|key| key.path);
        assert_eq!(nearest("regoin", names()), Some("region"));
        assert_eq!(nearest("node.advertize", names()), Some("node.advertise"));
        assert_eq!(nearest("node.ping_timeout_s", names()), Some("signal.ping_timeout_s"));
        assert_eq!(nearest("node.port", names()), None);
        assert_eq!(nearest("x", names()), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn paths_variables_and_flags_are_unique() {
        let mut variables: Vec<String> = KEYS.iter().map(super::Key::variable).collect();
        let mut flags: Vec<String> = KEYS.iter().filter_map(super::Key::flag).collect();
        variables.sort();
        flags.sort();
        let (all, flagged) = (variables.len(), flags.len());
        variables.dedup();
        flags.dedup();
        assert_eq!((variables.len(), flags.len()), (all, flagged));
    }
}
