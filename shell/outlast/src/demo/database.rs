//! The servers of the demo's directory: which there are, what each is started with, and where gateways find them. Pure text and
//! numbers. Each belongs to a region, and dies with it. The settings are those of docs/directory.md, as for 100 ms between
//! regions: a lost server is replaced as fast as it would be there.

use std::path::Path;

use super::plan::{Planned, REGIONS, Role};

/// What Sentinels call the primary.
const NAME: &str = "rooms";
/// After how long the Sentinel of each region misses the primary, in milliseconds: on purpose different, or all of them stand for
/// election at once and none is elected. The slowest is beside the first primary: it is lost with it, and the other two decide.
const DOWN_AFTER_MS: [u32; 3] = [2_000, 1_000, 1_500];
/// Slots of a Redis Cluster (its specification).
const SLOTS: usize = 16_384;

/// Which directory the demo has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// A table of each gateway's own: no servers
    #[default]
    Embedded,
    /// Three members of etcd, one a region
    Etcd,
    /// Redis: a primary and two replicas, with Sentinels, one of each kind a region
    Sentinel,
    /// Redis Cluster: a primary in each region, and a replica of the primary in the region before
    Cluster,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Kind::Embedded => "embedded",
            Kind::Etcd => "etcd",
            Kind::Sentinel => "sentinel",
            Kind::Cluster => "cluster",
        }
    }

    /// Roles of a region's servers, in the order of their port blocks.
    pub(super) fn roles(self) -> &'static [Role] {
        match self {
            Kind::Embedded => &[],
            Kind::Etcd => &[Role::Etcd],
            Kind::Sentinel => &[Role::Redis, Role::Sentinel],
            Kind::Cluster => &[Role::Redis, Role::Replica],
        }
    }

    /// Programs that must be installed.
    pub(super) fn programs(self) -> &'static [&'static str] {
        match self {
            Kind::Embedded => &[],
            Kind::Etcd => &["etcd"],
            Kind::Sentinel => &["redis-server", "redis-sentinel"],
            Kind::Cluster => &["redis-server"],
        }
    }

    /// The directory's address for processes of `region`, the own server first.
    pub(super) fn address(self, all: &[Planned], region: &str) -> String {
        let servers = |roles: &[Role]| {
            let mut servers: Vec<_> = all.iter().filter(|one| roles.contains(&one.role)).collect();
            servers.sort_by_key(|one| one.region != region);
            let at = servers.iter().map(|one| format!("127.0.0.1:{}", one.listen));
            at.collect::<Vec<_>>().join(",")
        };
        match self {
            Kind::Embedded => "embedded".to_owned(),
            Kind::Etcd => format!("etcd://{}", servers(&[Role::Etcd])),
            Kind::Sentinel => format!("redis+sentinel://{}/{NAME}", servers(&[Role::Sentinel])),
            Kind::Cluster => format!("redis+cluster://{}", servers(&[Role::Redis, Role::Replica])),
        }
    }

    /// Program and arguments of a server whose folder is `data`.
    pub(super) fn command(self, one: &Planned, all: &[Planned], data: &Path) -> Vec<String> {
        let file = |name: &str| data.join(name).display().to_string();
        match one.role {
            Role::Gateway | Role::Node => Vec::new(),
            Role::Redis | Role::Replica => vec!["redis-server".to_owned(), file("redis.conf")],
            Role::Sentinel => vec!["redis-sentinel".to_owned(), file("sentinel.conf")],
            Role::Etcd => {
                let mut words: Vec<String> =
                    etcd(one, all).split_whitespace().map(str::to_owned).collect();
                words.extend(["--data-dir".to_owned(), data.display().to_string()]);
                words
            }
        }
    }

    /// Files that must be in the folder `data` of a server before its first start, as names and texts. It may change them: what it
    /// has become then outlives its death.
    pub(super) fn files(
        self,
        one: &Planned,
        all: &[Planned],
        data: &Path,
    ) -> Vec<(&'static str, String)> {
        match (self, one.role) {
            (Kind::Sentinel, Role::Redis) => vec![("redis.conf", redis(one, all, data))],
            (Kind::Sentinel, Role::Sentinel) => vec![("sentinel.conf", sentinel(one, all, data))],
            (Kind::Cluster, Role::Redis | Role::Replica) => {
                vec![("redis.conf", node(one, data)), ("nodes.conf", nodes(one, all))]
            }
            _ => Vec::new(),
        }
    }
}

fn etcd(one: &Planned, all: &[Planned]) -> String {
    let peer = |one: &Planned| format!("http://127.0.0.1:{}", one.beat);
    let members = all.iter().filter(|other| other.role == Role::Etcd);
    let members: Vec<_> = members.map(|other| format!("{}={}", other.id, peer(other))).collect();
    let (id, client, peer) = (&one.id, format!("http://127.0.0.1:{}", one.listen), peer(one));
    format!(
        "etcd --name {id} --listen-client-urls {client} --advertise-client-urls {client} --listen-peer-urls {peer} \
         --initial-advertise-peer-urls {peer} --initial-cluster {} --initial-cluster-state new \
         --heartbeat-interval 100 --election-timeout 1000 --pre-vote=true --quota-backend-bytes 8589934592 \
         --auto-compaction-mode periodic --auto-compaction-retention 5m --logger zap --log-level warn",
        members.join(",")
    )
}

/// What every Redis has.
fn server(one: &Planned, data: &Path) -> String {
    format!(
        "port {}\nbind 127.0.0.1\ndir \"{}\"\nappendonly yes\nappendfsync everysec\nsave \"\"\nrepl-diskless-sync yes\n\
         repl-diskless-sync-delay 0\nrepl-ping-replica-period 1\nrepl-timeout 10\ntcp-keepalive 5\nmaxmemory-policy noeviction\n",
        one.listen,
        data.display()
    )
}

/// The first region's is the primary at the start.
fn primary(all: &[Planned]) -> Option<&Planned> {
    all.iter().find(|one| one.role == Role::Redis)
}

fn redis(one: &Planned, all: &[Planned], data: &Path) -> String {
    let safe = "min-replicas-to-write 1\nmin-replicas-max-lag 2\n";
    let follows = primary(all).filter(|primary| primary.id != one.id);
    let follows = follows
        .map_or_else(String::new, |primary| format!("replicaof 127.0.0.1 {}\n", primary.listen));
    format!("{}{safe}{follows}", server(one, data))
}

fn sentinel(one: &Planned, all: &[Planned], data: &Path) -> String {
    let primary = primary(all).map_or(0, |primary| primary.listen);
    let region = REGIONS.iter().position(|region| region.name == one.region).unwrap_or(0);
    let mut text = format!(
        "port {}\nbind 127.0.0.1\ndir \"{}\"\nsentinel myid {}\nsentinel monitor {NAME} 127.0.0.1 {primary} 2\n\
         sentinel down-after-milliseconds {NAME} {}\nsentinel failover-timeout {NAME} 1500\nsentinel parallel-syncs {NAME} 2\n",
        one.listen,
        data.display(),
        id(one),
        DOWN_AFTER_MS[region % DOWN_AFTER_MS.len()]
    );
    // Who the others are it would find out by itself, but only 10 s after the start who the replicas are: a primary that is killed
    // before that would have no successor.
    for other in all.iter().filter(|other| other.listen != primary && other.id != one.id) {
        text.push_str(&match other.role {
            Role::Redis => format!("sentinel known-replica {NAME} 127.0.0.1 {}\n", other.listen),
            Role::Sentinel => {
                format!("sentinel known-sentinel {NAME} 127.0.0.1 {} {}\n", other.listen, id(other))
            }
            _ => String::new(),
        });
    }
    text
}

/// 40 hexadecimal digits that are a server's for ever: its port is nobody else's.
fn id(one: &Planned) -> String {
    format!("{:040x}", one.listen)
}

fn node(one: &Planned, data: &Path) -> String {
    format!(
        "{}cluster-enabled yes\ncluster-config-file nodes.conf\ncluster-port {}\ncluster-announce-ip 127.0.0.1\n\
         cluster-node-timeout 800\ncluster-require-full-coverage no\ncluster-replica-validity-factor 0\n\
         cluster-allow-reads-when-down yes\n",
        server(one, data),
        one.beat
    )
}

/// What a node of a cluster knows of the others, as it writes it itself: so nobody has to bring them together.
fn nodes(own: &Planned, all: &[Planned]) -> String {
    let count = REGIONS.len();
    let primaries: Vec<_> = all.iter().filter(|one| one.role == Role::Redis).collect();
    let mut text = String::new();
    for one in all.iter().filter(|one| matches!(one.role, Role::Redis | Role::Replica)) {
        let region = REGIONS.iter().position(|region| region.name == one.region).unwrap_or(0);
        let (of, slots) = match one.role {
            // Of the region before.
            Role::Replica => (primaries.get((region + count - 1) % count), String::new()),
            _ => {
                let (first, next) = (region * SLOTS / count, (region + 1) * SLOTS / count);
                (None, format!(" {first}-{}", next - 1))
            }
        };
        let (role, of, epoch) = match of {
            Some(primary) => ("slave", id(primary), (region + count - 1) % count + 1),
            None => ("master", "-".to_owned(), region + 1),
        };
        let me = if one.id == own.id { "myself," } else { "" };
        text.push_str(&format!(
            "{} 127.0.0.1:{}@{} {me}{role} {of} 0 0 {epoch} connected{slots}\n",
            id(one),
            one.listen,
            one.beat
        ));
    }
    text.push_str(&format!("vars currentEpoch {count} lastVoteEpoch 0\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::{super::plan, *};

    fn one<'a>(all: &'a [Planned], id: &str) -> &'a Planned {
        all.iter().find(|one| one.id == id).unwrap()
    }

    #[test]
    fn the_own_server_is_asked_first() {
        for (kind, address) in [
            (Kind::Embedded, "embedded"),
            (Kind::Etcd, "etcd://127.0.0.1:8010,127.0.0.1:7910,127.0.0.1:8110"),
            (Kind::Sentinel, "redis+sentinel://127.0.0.1:8020,127.0.0.1:7920,127.0.0.1:8120/rooms"),
            (
                Kind::Cluster,
                "redis+cluster://127.0.0.1:8010,127.0.0.1:8020,127.0.0.1:7910,127.0.0.1:7920,127.0.0.1:8110,127.0.0.1:8120",
            ),
        ] {
            assert_eq!(kind.address(&plan::processes(7880, kind), "us"), address);
        }
    }

    #[test]
    fn members_of_etcd_know_each_other() {
        let all = plan::processes(7880, Kind::Etcd);
        let data = Path::new("/data of mine/us");
        let words = Kind::Etcd.command(one(&all, "us-etcd"), &all, data);
        assert_eq!(words.last().map(String::as_str), Some("/data of mine/us"));
        let members = "eu-etcd=http://127.0.0.1:7911,us-etcd=http://127.0.0.1:8011,ap-etcd=http://127.0.0.1:8111";
        assert!(words.contains(&members.to_owned()), "{words:?}");
    }

    #[test]
    fn sentinels_watch_the_first_primary_and_the_others_follow_it() {
        let all = plan::processes(7880, Kind::Sentinel);
        let text =
            |id: &str| Kind::Sentinel.files(one(&all, id), &all, Path::new("/d"))[0].1.clone();
        assert!(!text("eu-redis").contains("replicaof"));
        assert!(text("ap-redis").contains("\nreplicaof 127.0.0.1 7910\n"));
        for (id, down_after) in
            [("eu-sentinel", 2_000), ("us-sentinel", 1_000), ("ap-sentinel", 1_500)]
        {
            let text = text(id);
            assert!(text.contains("sentinel monitor rooms 127.0.0.1 7910 2\n"), "{text}");
            assert_eq!(text.matches("known-replica").count(), 2, "{text}");
            assert_eq!(text.matches("known-sentinel").count(), 2, "{text}");
            assert!(
                text.contains(&format!("down-after-milliseconds rooms {down_after}\n")),
                "{text}"
            );
        }
    }

    #[test]
    fn replicas_are_crosswise_and_all_slots_are_somebody_s() {
        let all = plan::processes(7880, Kind::Cluster);
        let files = Kind::Cluster.files(one(&all, "us-replica"), &all, Path::new("/d"));
        let lines: Vec<_> = files[1].1.lines().collect();
        let id = |port: u16| format!("{port:040x}");
        assert_eq!(lines.len(), 7);
        assert_eq!(
            lines[0],
            format!("{} 127.0.0.1:7910@7911 master - 0 0 1 connected 0-5460", id(7910))
        );
        assert_eq!(
            lines[1],
            format!("{} 127.0.0.1:7920@7921 slave {} 0 0 3 connected", id(7920), id(8110))
        );
        assert_eq!(
            lines[3],
            format!("{} 127.0.0.1:8020@8021 myself,slave {} 0 0 1 connected", id(8020), id(7910))
        );
        assert!(
            lines[2].ends_with(" 5461-10921") && lines[4].ends_with(" 10922-16383"),
            "{lines:?}"
        );
    }
}
