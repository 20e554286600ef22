//! Redis and Valkey: what decides how many acknowledged claims a lost primary takes with it, and how fast it is replaced.

use std::time::Duration;

use outlast_engines::{Behind, Inspection, Role, Survey};

use super::{Alike, Finding, alike};

/// A primary that hears no replica for longer than this takes no writes. Higher: it goes on for longer in a region that is cut off,
/// and all of that is lost.
const MAX_LAG_S: u64 = 5;
/// A lost primary is missed for at least so long.
const DOWN_AFTER_MAX: Duration = Duration::from_millis(3_000);
/// An election that nobody wins is repeated after twice this.
const FAILOVER_TIMEOUT_MAX: Duration = Duration::from_millis(5_000);
/// In a cluster both at once: how long a node may be silent.
const NODE_TIMEOUT: (Duration, Duration) =
    (Duration::from_millis(500), Duration::from_millis(2_000));
/// A replica that is farther behind, in bytes, is no replica when it is needed.
const BEHIND_MAX: u64 = 64 << 20;

/// One server.
pub(super) fn single(survey: &Survey) -> Vec<Finding> {
    let remedy = "Use redis+sentinel:// or redis+cluster:// where a lost server must not be missed";
    let mut found = vec![Finding::warn("there is one server: without it nobody decides", remedy)];
    found.extend(data(survey, false));
    found
}

/// Sentinels, a primary and its replicas.
pub(super) fn sentinels(survey: &Survey) -> Vec<Finding> {
    let mut found = data(survey, true);
    let replicas = survey.servers.iter().filter(|server| server.role == Role::Follows).count();
    found.push(match replicas {
        0 => Finding::fail(
            "there is no replica: a lost primary is not replaced",
            "Start one in each other region",
        ),
        1 => Finding::warn(
            "there is one replica: while it is away no claim is acknowledged",
            "Start one in each other region",
        ),
        count => Finding::ok(format!("{count} replicas")),
    });
    let watchers: Vec<Inspection> =
        survey.servers.iter().filter(|server| server.role == Role::Watches).cloned().collect();
    let count = survey.voters.unwrap_or(watchers.len());
    let odd = "Run three Sentinels, one a region, or five, and name all of them in the address";
    found.push(match count {
        0..=2 => {
            Finding::fail(format!("{count} Sentinels cannot agree once a region is lost"), odd)
        }
        _ if count > watchers.len() => {
            let what =
                format!("there are {count} Sentinels, and the address names {}", watchers.len());
            Finding::warn(what, odd)
        }
        _ => Finding::ok(format!("{count} Sentinels")),
    });
    found.push(quorum(&watchers, count));
    found.extend(down_after(&watchers));
    found.extend(failover_timeout(&watchers));
    found
}

/// Nodes of a cluster.
pub(super) fn cluster(survey: &Survey) -> Vec<Finding> {
    let mut found = data(survey, false);
    let count = |role| survey.servers.iter().filter(|server| server.role == role).count();
    let (primaries, replicas) = (count(Role::Decides), count(Role::Follows));
    let three = "Run three primaries in different regions, each with a replica in another one";
    found.push(if primaries < 3 {
        Finding::fail(format!("{primaries} primaries cannot agree once one is lost"), three)
    } else if replicas < primaries {
        Finding::fail(
            format!("{primaries} primaries have {replicas} replicas: not each is replaced"),
            three,
        )
    } else {
        Finding::ok(format!("{primaries} primaries, {replicas} replicas"))
    });
    found.push(node_timeout(&survey.servers));
    let remedy =
        "Set cluster-require-full-coverage no: a lost third must not take the others with it";
    found.push(match alike(&nodes(survey), "cluster-require-full-coverage") {
        Alike::Value("no") => Finding::ok("what is left goes on when a part is lost"),
        Alike::Value(_) => Finding::fail("cluster-require-full-coverage is yes", remedy),
        other => untold("cluster-require-full-coverage", &other, remedy),
    });
    found
}

/// Servers that have the data.
fn nodes(survey: &Survey) -> Vec<Inspection> {
    let has_data = |server: &&Inspection| server.role != Role::Watches;
    survey.servers.iter().filter(has_data).cloned().collect()
}

fn data(survey: &Survey, is_watched: bool) -> Vec<Finding> {
    let nodes = nodes(survey);
    let mut found = Vec::new();
    if !nodes.iter().any(|server| server.role == Role::Decides) {
        let remedy = "Bring a primary back, or most Sentinels: joins go on without the directory";
        found.push(Finding::fail("no primary is reached", remedy));
    }
    let remedy = "Set maxmemory-policy noeviction: what is forgotten is claimed twice";
    found.push(match alike(&nodes, "maxmemory-policy") {
        Alike::Value("noeviction") => Finding::ok("nothing is evicted"),
        Alike::Value(policy) => Finding::fail(format!("maxmemory-policy is {policy}"), remedy),
        other => untold("maxmemory-policy", &other, remedy),
    });
    let remedy = "Set appendonly yes: a primary that comes back empty empties its replicas";
    found.push(match alike(&nodes, "appendonly") {
        Alike::Value("yes") => Finding::ok("what is written is on disk within a second"),
        Alike::Value(_) => Finding::fail("nothing is written to disk", remedy),
        other => untold("appendonly", &other, remedy),
    });
    if is_watched {
        found.push(min_replicas(&nodes));
    }
    let behind = nodes.iter().filter_map(|server| match server.behind {
        Some(Behind::Bytes(bytes)) if bytes > BEHIND_MAX => {
            let what = format!("{} is {bytes} bytes behind", server.at);
            Some(Finding::warn(what, "Look at its network: claims wait for a replica"))
        }
        _ => None,
    });
    found.extend(behind);
    found
}

fn min_replicas(nodes: &[Inspection]) -> Finding {
    let remedy = "Set min-replicas-to-write 1 and min-replicas-max-lag 2 on every server: a primary that is cut off goes on \
         taking claims otherwise, and all of them are lost";
    let least = alike(nodes, "min-replicas-to-write");
    let lag = alike(nodes, "min-replicas-max-lag");
    match (least, lag) {
        (Alike::Value("0"), _) => {
            Finding::fail("a primary needs no replica for its writes", remedy)
        }
        (Alike::Value(least), Alike::Value(lag)) => {
            let what = format!("a primary without {least} replica for {lag} s takes no claims");
            match lag.parse() {
                Ok(0) => Finding::fail("min-replicas-max-lag is 0, which means never", remedy),
                Ok(1..=MAX_LAG_S) => Finding::ok(what),
                _ => Finding::warn(what, remedy),
            }
        }
        (Alike::Value(_), other) | (other, _) => untold("min-replicas-to-write", &other, remedy),
    }
}

fn quorum(watchers: &[Inspection], count: usize) -> Finding {
    let wanted = count / 2 + 1;
    let remedy = format!("Set it to {wanted} (SENTINEL SET NAME quorum {wanted}, at each)");
    match alike(watchers, "quorum") {
        Alike::Value(value) if value.parse() == Ok(wanted) => {
            Finding::ok(format!("{value} Sentinels must agree that the primary is lost"))
        }
        Alike::Value(value) => Finding::warn(format!("the quorum is {value}"), remedy),
        other => untold("quorum", &other, &remedy),
    }
}

/// On purpose different: those that notice at once vote for themselves, and nobody is elected.
fn down_after(watchers: &[Inspection]) -> Option<Finding> {
    let value = |server: &Inspection| server.settings.get("down-after-milliseconds")?.parse().ok();
    let mut values: Vec<u64> = watchers.iter().filter_map(value).collect();
    values.sort_unstable();
    let longest = Duration::from_millis(*values.last()?);
    let told = format!("the primary is missed after {values:?} ms");
    let remedy =
        "Set down-after-milliseconds to 2000 where the primary usually is, 1000 and 1500 elsewhere";
    let all = values.len();
    values.dedup();
    Some(if values.len() < all {
        Finding::warn(format!("{told}: those that are alike stand for election at once"), remedy)
    } else if longest > DOWN_AFTER_MAX {
        Finding::warn(told, remedy)
    } else {
        Finding::ok(told)
    })
}

fn failover_timeout(watchers: &[Inspection]) -> Option<Finding> {
    let value = |server: &Inspection| server.settings.get("failover-timeout")?.parse().ok();
    let longest = Duration::from_millis(watchers.iter().filter_map(value).max()?);
    let told = format!("an election that nobody wins is repeated after {:?}", longest * 2);
    let remedy = "Set failover-timeout 1500";
    Some(if longest > FAILOVER_TIMEOUT_MAX {
        Finding::warn(told, remedy)
    } else {
        Finding::ok(told)
    })
}

fn node_timeout(servers: &[Inspection]) -> Finding {
    let remedy = "Set cluster-node-timeout 800, or 1500 where regions are more than 150 ms apart, the same at all nodes";
    let Alike::Value(value) = alike(servers, "cluster-node-timeout") else {
        return untold("cluster-node-timeout", &alike(servers, "cluster-node-timeout"), remedy);
    };
    let timeout = Duration::from_millis(value.parse().unwrap_or(0));
    let told = format!("a node counts as lost after {timeout:?}");
    if (NODE_TIMEOUT.0..=NODE_TIMEOUT.1).contains(&timeout) {
        Finding::ok(told)
    } else {
        Finding::warn(told, remedy)
    }
}

fn untold(setting: &str, seen: &Alike<'_>, remedy: &str) -> Finding {
    let what = match seen {
        Alike::Differs { one, other } => format!("{setting} is {one} and {other}"),
        Alike::Untold | Alike::Value(_) => format!("the servers do not tell {setting}"),
    };
    Finding::warn(what, remedy)
}

#[cfg(test)]
mod tests {
    use super::{super::Level, *};

    fn server(at: &str, role: Role, settings: &[(&str, &str)]) -> Inspection {
        let mut server = Inspection::of(at);
        server.role = role;
        server.round_trips = vec![Duration::from_millis(1)];
        for (name, value) in settings {
            server.settings.insert((*name).to_owned(), (*value).to_owned());
        }
        server
    }

    const DATA: [(&str, &str); 4] = [
        ("maxmemory-policy", "noeviction"),
        ("appendonly", "yes"),
        ("min-replicas-to-write", "1"),
        ("min-replicas-max-lag", "2"),
    ];

    fn watched() -> Survey {
        let mut servers = vec![
            server("r1", Role::Decides, &DATA),
            server("r2", Role::Follows, &DATA),
            server("r3", Role::Follows, &DATA),
        ];
        for (at, down_after) in [("s1", "1000"), ("s2", "1500"), ("s3", "2000")] {
            let view = [
                ("quorum", "2"),
                ("down-after-milliseconds", down_after),
                ("failover-timeout", "1500"),
            ];
            servers.push(server(at, Role::Watches, &view));
        }
        Survey { servers, voters: Some(3) }
    }

    fn clustered() -> Survey {
        let cluster = [("cluster-node-timeout", "800"), ("cluster-require-full-coverage", "no")];
        let settings = [&DATA[..], &cluster[..]].concat();
        let roles = [
            Role::Decides,
            Role::Decides,
            Role::Decides,
            Role::Follows,
            Role::Follows,
            Role::Follows,
        ];
        let servers =
            roles.into_iter().zip(1..).map(|(role, n)| server(&format!("n{n}"), role, &settings));
        Survey { servers: servers.collect(), voters: Some(3) }
    }

    fn with(mut survey: Survey, setting: &str, value: &str) -> Survey {
        for server in
            survey.servers.iter_mut().filter(|server| server.settings.contains_key(setting))
        {
            server.settings.insert(setting.to_owned(), value.to_owned());
        }
        survey
    }

    /// The findings that are not well, as `level: what`.
    fn complaints(found: &[Finding]) -> Vec<String> {
        let bad = found.iter().filter(|finding| finding.level != Level::Ok);
        bad.map(|finding| format!("{:?}: {}", finding.level, finding.what)).collect()
    }

    #[test]
    fn what_is_documented_is_well() {
        assert_eq!(complaints(&sentinels(&watched())), [""; 0]);
        assert_eq!(complaints(&cluster(&clustered())), [""; 0]);
        let alone = Survey { servers: vec![server("r1", Role::Decides, &DATA)], voters: Some(1) };
        assert_eq!(
            complaints(&single(&alone)),
            ["Warn: there is one server: without it nobody decides"]
        );
    }

    #[test]
    fn each_setting_is_judged_by_its_value() {
        for (setting, value, words) in [
            ("maxmemory-policy", "allkeys-lru", "Fail: maxmemory-policy is allkeys-lru"),
            ("appendonly", "no", "Fail: nothing is written to disk"),
            ("min-replicas-to-write", "0", "Fail: a primary needs no replica for its writes"),
            ("min-replicas-max-lag", "0", "Fail: min-replicas-max-lag is 0, which means never"),
            (
                "min-replicas-max-lag",
                "10",
                "Warn: a primary without 1 replica for 10 s takes no claims",
            ),
            ("quorum", "1", "Warn: the quorum is 1"),
            (
                "down-after-milliseconds",
                "1000",
                "Warn: the primary is missed after [1000, 1000, 1000] ms: those that are alike stand for election at once",
            ),
            (
                "failover-timeout",
                "180000",
                "Warn: an election that nobody wins is repeated after 360s",
            ),
        ] {
            assert_eq!(
                complaints(&sentinels(&with(watched(), setting, value))),
                [words],
                "{setting}"
            );
        }
        for (setting, value, words) in [
            ("cluster-node-timeout", "15000", "Warn: a node counts as lost after 15s"),
            ("cluster-node-timeout", "100", "Warn: a node counts as lost after 100ms"),
            ("cluster-require-full-coverage", "yes", "Fail: cluster-require-full-coverage is yes"),
        ] {
            assert_eq!(
                complaints(&cluster(&with(clustered(), setting, value))),
                [words],
                "{setting}"
            );
        }
    }

    #[test]
    fn who_is_missing_is_told() {
        let without = |survey: &Survey, role: Role, left: usize| {
            let mut survey = survey.clone();
            let mut seen = 0;
            survey.servers.retain(|server| {
                seen += usize::from(server.role == role);
                server.role != role || seen <= left
            });
            survey
        };
        let watched = watched();
        for (survey, words) in [
            (without(&watched, Role::Decides, 0), "Fail: no primary is reached"),
            (
                without(&watched, Role::Follows, 0),
                "Fail: there is no replica: a lost primary is not replaced",
            ),
            (
                without(&watched, Role::Follows, 1),
                "Warn: there is one replica: while it is away no claim is acknowledged",
            ),
            (
                without(&watched, Role::Watches, 2),
                "Warn: there are 3 Sentinels, and the address names 2",
            ),
        ] {
            assert_eq!(complaints(&sentinels(&survey)), [words]);
        }
        let two = Survey { voters: Some(2), ..without(&watched, Role::Watches, 2) };
        assert!(
            complaints(&sentinels(&two))
                .contains(&"Fail: 2 Sentinels cannot agree once a region is lost".to_owned())
        );
        for (survey, words) in [
            (
                without(&clustered(), Role::Decides, 2),
                "Fail: 2 primaries cannot agree once one is lost",
            ),
            (
                without(&clustered(), Role::Follows, 2),
                "Fail: 3 primaries have 2 replicas: not each is replaced",
            ),
        ] {
            assert_eq!(complaints(&cluster(&survey)), [words]);
        }
    }

    #[test]
    fn what_differs_or_is_not_told_is_said() {
        let mut one = watched();
        one.servers[1].settings.insert("appendonly".to_owned(), "no".to_owned());
        assert_eq!(complaints(&sentinels(&one)), ["Warn: appendonly is yes at r1 and no at r2"]);
        let mut none = watched();
        for server in &mut none.servers {
            server.settings.remove("maxmemory-policy");
        }
        assert_eq!(
            complaints(&sentinels(&none)),
            ["Warn: the servers do not tell maxmemory-policy"]
        );
        let mut late = watched();
        late.servers[2].behind = Some(Behind::Bytes(BEHIND_MAX + 1));
        assert_eq!(complaints(&sentinels(&late)).len(), 1);
    }
}
