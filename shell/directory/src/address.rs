//! Where a directory is: one text, as it stands in a configuration.

use std::{fmt, str::FromStr};

use outlast_model::RegionName;

/// Most servers in one address, and most shards.
pub const SERVERS_MAX: usize = 16;
/// Longest name of a host, in bytes (RFC 1035, 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// A directory's address.
///
/// | text | engine |
/// |---|---|
/// | `embedded` | a table of each gateway's own |
/// | `etcd://a,b,c` | etcd, one member or more |
/// | `redis://a` | one Redis or Valkey |
/// | `redis+sentinel://a,b,c/NAME` | the primary that these Sentinels call NAME |
/// | `redis+cluster://a,b,c` | Redis or Valkey Cluster |
/// | `eu=ADDRESS us=ADDRESS ...` | one of the above (but `embedded` and clusters) in each of these regions, every room in one of them |
///
/// `etcds`, `rediss`, `rediss+sentinel` and `rediss+cluster` are the same over TLS. A server is a name, an IPv4 address or
/// an IPv6 address in brackets, with `:PORT` or without; the nearest one comes first. Users and passwords are not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A table of each gateway's own.
    Embedded,
    /// One directory that all gateways share.
    Shared(Shared),
    /// Several, each named after its region. Two or more, names and addresses all different.
    Sharded(Vec<(RegionName, Shared)>),
}

/// One directory that gateways share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Which engine.
    pub engine: EngineKind,
    /// Where it is, nearest first; one or more, all different.
    pub servers: Vec<HostPort>,
    /// Whether connections are encrypted and servers authenticated.
    pub tls: bool,
}

/// An engine of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// Members of one etcd cluster.
    Etcd,
    /// One Redis or Valkey.
    Redis,
    /// Sentinels, which tell who the primary is.
    Sentinel {
        /// What they call it.
        name: String,
    },
    /// Nodes of a Redis or Valkey Cluster.
    Cluster,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// A name or an address, without brackets.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
}

/// Why a text is no address. Nothing of the text is repeated, since it may have a password in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither `embedded` nor one of the schemes.
    #[error("there is no such kind of directory")]
    Scheme,
    /// Something is written before an `@`.
    #[error("a user or a password stands in the address")]
    Secret,
    /// No server is named, or one has no name.
    #[error("a server's name is missing")]
    NoServer,
    /// One server is not written as a name or an address.
    #[error("server {0} of the list is not written as HOST, HOST:PORT or [IPV6]:PORT")]
    Server(usize),
    /// A server, or a shard, is there twice.
    #[error("a server is named twice")]
    Twice,
    /// More than [`SERVERS_MAX`].
    #[error("there are more than {SERVERS_MAX} servers")]
    TooMany,
    /// `redis://` with several servers.
    #[error("one Redis is one server: several are redis+sentinel:// or redis+cluster://")]
    Alone,
    /// Sentinels without the primary's name.
    #[error("the name that the Sentinels have for the primary is missing after a /")]
    NoName,
    /// A path, query or fragment that means nothing.
    #[error("something follows the servers that means nothing there")]
    Rest,
    /// A cluster as a shard: it has partitions of its own.
    #[error("a cluster cannot be a shard: it is sharded itself")]
    ClusterShard,
    /// Shards are not written as `REGION=ADDRESS` each, or there is only one.
    #[error("shards are written as REGION=ADDRESS, two or more, with spaces between")]
    Shards,
}

impl AddressError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            AddressError::Secret => {
                "Put the password into a file of its own and name the file in directory_access.password_file"
            }
            _ => {
                "Write \"embedded\", \"etcd://a,b,c\", \"redis://a\", \"redis+sentinel://a,b,c/NAME\" or \
                 \"redis+cluster://a,b,c\" (etcds://, rediss:// ... for TLS); for shards \"eu=etcd://a us=etcd://b\""
            }
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        if text == "embedded" {
            return Ok(Address::Embedded);
        }
        // A URL has no '=' before its "://".
        let is_shard =
            |word: &str| word.split_once('=').is_some_and(|(region, _)| !region.contains("://"));
        if !text.split_whitespace().any(is_shard) {
            return Ok(Address::Shared(text.parse()?));
        }
        let mut shards: Vec<(RegionName, Shared)> = Vec::new();
        for word in text.split_whitespace() {
            let (region, address) = word.split_once('=').ok_or(AddressError::Shards)?;
            let address: Shared = address.parse()?;
            if region.is_empty() {
                return Err(AddressError::Shards);
            }
            if address.engine == EngineKind::Cluster {
                return Err(AddressError::ClusterShard);
            }
            let region = RegionName::from(region);
            if shards.iter().any(|(other, at)| *other == region || *at == address) {
                return Err(AddressError::Twice);
            }
            shards.push((region, address));
        }
        match shards.len() {
            0 | 1 => Err(AddressError::Shards),
            2..=SERVERS_MAX => Ok(Address::Sharded(shards)),
            _ => Err(AddressError::TooMany),
        }
    }
}

impl FromStr for Shared {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Shared, AddressError> {
        let (scheme, rest) = text.split_once("://").ok_or(AddressError::Scheme)?;
        let (scheme, tls) = match scheme {
            "etcds" => ("etcd", true),
            "rediss" => ("redis", true),
            "rediss+sentinel" => ("redis+sentinel", true),
            "rediss+cluster" => ("redis+cluster", true),
            plain => (plain, false),
        };
        let port = match scheme {
            "etcd" => 2379,
            "redis" | "redis+cluster" => 6379,
            "redis+sentinel" => 26379,
            _ => return Err(AddressError::Scheme),
        };
        if rest.contains('@') {
            return Err(AddressError::Secret);
        }
        let (list, name) = rest.split_once('/').unwrap_or((rest, ""));
        let servers = servers(list, port)?;
        let engine = match (scheme, name) {
            ("redis+sentinel", "") => return Err(AddressError::NoName),
            ("redis+sentinel", name) if is_word(name) => {
                EngineKind::Sentinel { name: name.to_owned() }
            }
            (_, name) if !name.is_empty() => return Err(AddressError::Rest),
            ("redis", _) if servers.len() > 1 => return Err(AddressError::Alone),
            ("redis", _) => EngineKind::Redis,
            ("redis+cluster", _) => EngineKind::Cluster,
            _ => EngineKind::Etcd,
        };
        Ok(Shared { engine, servers, tls })
    }
}

/// Whether Sentinel takes `name` (its sources: letters, digits and `.-_`).
fn is_word(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

fn servers(list: &str, port: u16) -> Result<Vec<HostPort>, AddressError> {
    let mut servers = Vec::new();
    for (before, text) in list.split(',').enumerate() {
        let server = server(text, port)
            .map_err(|error| error.unwrap_or(AddressError::Server(before + 1)))?;
        if servers.contains(&server) {
            return Err(AddressError::Twice);
        }
        servers.push(server);
    }
    if servers.len() > SERVERS_MAX { Err(AddressError::TooMany) } else { Ok(servers) }
}

fn server(text: &str, port: u16) -> Result<HostPort, Option<AddressError>> {
    if text.is_empty() {
        return Err(Some(AddressError::NoServer));
    }
    let (host, rest) = match text.strip_prefix('[') {
        Some(inner) => {
            let (host, rest) = inner.split_once(']').ok_or(None)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| None)?;
            (host, rest)
        }
        None => {
            let end = text.find(':').unwrap_or(text.len());
            let (host, rest) = text.split_at(end);
            if host.len() > HOST_BYTES_MAX || !is_word(host) || host.is_empty() {
                return Err(None);
            }
            (host, rest)
        }
    };
    let port = match rest.strip_prefix(':') {
        Some(digits) => digits.parse().ok().filter(|port| *port > 0).ok_or(None)?,
        None if rest.is_empty() => port,
        None => return Err(None),
    };
    Ok(HostPort { host: host.to_owned(), port })
}

impl fmt::Display for HostPort {
    /// As it is written in an address, always with the port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl fmt::Display for Shared {
    /// As it is written in a configuration, with every port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.tls { "s" } else { "" };
        let (scheme, name) = match &self.engine {
            EngineKind::Etcd => (format!("etcd{s}"), String::new()),
            EngineKind::Redis => (format!("redis{s}"), String::new()),
            EngineKind::Sentinel { name } => (format!("redis{s}+sentinel"), format!("/{name}")),
            EngineKind::Cluster => (format!("redis{s}+cluster"), String::new()),
        };
        let servers: Vec<_> = self.servers.iter().map(ToString::to_string).collect();
        write!(f, "{scheme}://{}{name}", servers.join(","))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Embedded => f.write_str("embedded"),
            Address::Shared(shared) => shared.fmt(f),
            Address::Sharded(shards) => {
                let words: Vec<_> =
                    shards.iter().map(|(region, at)| format!("{region}={at}")).collect();
                f.write_str(&words.join(" "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, written) in [
            ("embedded", "embedded"),
            ("etcd://a,b:2380,[::1]", "etcd://a:2379,b:2380,[::1]:2379"),
            ("etcds://10.0.0.1", "etcds://10.0.0.1:2379"),
            ("redis://db", "redis://db:6379"),
            ("rediss+sentinel://a,b,c/rooms", "rediss+sentinel://a:26379,b:26379,c:26379/rooms"),
            ("redis+cluster://a:1,b:2", "redis+cluster://a:1,b:2"),
            ("eu=redis://a  us=etcd://b,c", "eu=redis://a:6379 us=etcd://b:2379,c:2379"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), written);
            assert_eq!(written.parse(), Ok(address));
        }
    }

    #[test]
    fn what_is_no_address_is_told_without_repeating_it() {
        use AddressError::*;
        for (text, error) in [
            ("", Scheme),
            ("Embedded", Scheme),
            ("mysql://a", Scheme),
            ("redis://me:hush@a", Secret),
            ("etcd://", NoServer),
            ("etcd://a,,b", NoServer),
            ("etcd://a,b:x", Server(2)),
            ("etcd://a:0", Server(1)),
            ("etcd://[::1", Server(1)),
            ("etcd://::1", Server(1)),
            ("etcd://a b", Server(1)),
            ("etcd://a,b,a:2379", Twice),
            ("redis://a,b", Alone),
            ("redis://a/1", Rest),
            ("etcd://a?x", Server(1)),
            ("redis+sentinel://a,b,c", NoName),
            ("redis+sentinel://a/x y", Rest),
            ("eu=etcd://a", Shards),
            ("eu=redis+cluster://a us=etcd://a", ClusterShard),
            ("eu=etcd://a us", Shards),
            ("eu=etcd://a us=embedded", Scheme),
            ("eu=etcd://a us=etcd://a", Twice),
            ("eu=etcd://a eu=etcd://b", Twice),
        ] {
            assert_eq!(text.parse::<Address>(), Err(error), "{text}");
        }
        let many: Vec<_> = (0..=SERVERS_MAX).map(|n| format!("h{n}")).collect();
        assert_eq!(format!("etcd://{}", many.join(",")).parse::<Address>(), Err(TooMany));
    }
}
