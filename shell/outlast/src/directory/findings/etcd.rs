//! etcd: the settings that matter between regions, against the round trips that the members measured themselves.

use std::time::Duration;

use outlast_engines::{Behind, Inspection, Role, Survey};

use super::{Alike, Finding, alike};

/// The oldest version that the engine is tested with.
const OLDEST: (u32, u32) = (3, 4);
/// From this version on pre-vote is on unless it is said otherwise.
const PRE_VOTE_SINCE: (u32, u32) = (3, 5);
/// What etcd's documentation suggests at most, in bytes. Lower: fewer rooms fit.
const QUOTA: u64 = 8 << 30;
/// From so many hundredths of the quota on there is little left.
const FULL_PERCENT: u64 = 80;
/// So many entries of the log, and a member would need a snapshot rather than the entries (`--snapshot-count`).
const BEHIND_MAX: u64 = 100_000;
/// So many changes without a compaction are no accident.
const UNCOMPACTED_MAX: u64 = 200_000;
/// Longest election timeout that still replaces a leader while people wait.
const ELECTION_MAX: Duration = Duration::from_secs(3);

pub(super) fn judge(survey: &Survey) -> Vec<Finding> {
    let servers = &survey.servers;
    let mut found = vec![members(survey)];
    if !servers.iter().any(|server| server.role == Role::Decides) {
        found.push(Finding::fail(
            "no member leads: nothing is claimed, and joins go on without the directory",
            "Bring back a majority of the members",
        ));
    }
    found.extend(servers.iter().filter_map(of_version));
    found.extend(servers.iter().filter_map(behind));
    found.push(quota(servers));
    found.push(compaction(servers));
    found.extend(timers(servers));
    found.extend(pre_vote(servers));
    found
}

fn members(survey: &Survey) -> Finding {
    let named = survey.servers.len();
    let odd = "Use three members, one a region, or five: 2 + 2 + 1";
    match survey.voters {
        None => Finding::warn("nobody tells how many members there are", "Bring one back"),
        Some(voters) if voters > named => {
            let what = format!("there are {voters} members, and the address names {named}");
            Finding::warn(
                what,
                "Name all of them, the own region's first: the others are not asked",
            )
        }
        Some(1) => Finding::warn("there is one member: without it nobody decides", odd),
        Some(voters) if voters % 2 == 0 => {
            let what = format!("{voters} members survive no more losses than {}", voters - 1);
            Finding::warn(what, odd)
        }
        Some(voters) => {
            Finding::ok(format!("{voters} members: {} of them may be lost", voters / 2))
        }
    }
}

fn of_version(server: &Inspection) -> Option<Finding> {
    let version = version(server)?;
    let old = format!("{} is etcd {}.{}", server.at, version.0, version.1);
    (version < OLDEST).then(|| Finding::fail(old, "Upgrade to etcd 3.4 or later"))
}

fn version(server: &Inspection) -> Option<(u32, u32)> {
    let mut parts = server.version.as_deref()?.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

fn behind(server: &Inspection) -> Option<Finding> {
    let Some(Behind::Entries(entries)) = server.behind else { return None };
    let what = format!("{} is {entries} entries behind", server.at);
    let remedy = "Look at its disk and its network: it cannot take over before it has caught up";
    (entries > BEHIND_MAX).then(|| Finding::warn(what, remedy))
}

fn number(server: &Inspection, setting: &str) -> Option<u64> {
    server.settings.get(setting)?.parse().ok()
}

fn quota(servers: &[Inspection]) -> Finding {
    let each = servers.iter().filter_map(|server| {
        Some((server, number(server, "quota-backend-bytes")?, number(server, "db-bytes")?))
    });
    let Some((server, quota, bytes)) =
        each.max_by_key(|(_, quota, bytes)| bytes * 100 / quota.max(&1))
    else {
        return unseen("--quota-backend-bytes 8589934592");
    };
    let mib = |bytes: u64| bytes >> 20;
    let used = format!("{} uses {} MiB of its {} MiB", server.at, mib(bytes), mib(quota));
    if bytes >= quota / 100 * FULL_PERCENT {
        let remedy = "Compact and defragment it (etcdctl), and raise --quota-backend-bytes: when it is full, rooms are placed \
             without it";
        return Finding::fail(used, remedy);
    }
    if quota < QUOTA {
        let remedy = "Start members with --quota-backend-bytes 8589934592, for a few million rooms";
        return Finding::warn(used, remedy);
    }
    Finding::ok(used)
}

fn compaction(servers: &[Inspection]) -> Finding {
    let remedy = "Start members with --auto-compaction-mode periodic --auto-compaction-retention 5m: otherwise each change is kept \
         for ever, until the quota is full";
    let retention = alike(servers, "auto-compaction-retention");
    if let Alike::Value(value) = &retention {
        return match *value {
            "0" | "" => Finding::fail("members never compact by themselves", remedy),
            value => Finding::ok(format!("members compact by themselves ({value})")),
        };
    }
    if let Alike::Differs { one, other } = retention {
        return Finding::warn(format!("auto-compaction-retention is {one} and {other}"), remedy);
    }
    // Not told, and so judged by what it does.
    let uncompacted = |server: &Inspection| {
        let compacted = number(server, "compacted").unwrap_or(0);
        Some(number(server, "revision")?.saturating_sub(compacted))
    };
    match servers.iter().filter_map(uncompacted).max() {
        Some(changes) if changes > UNCOMPACTED_MAX => {
            Finding::fail(format!("{changes} changes are not compacted"), remedy)
        }
        _ => unseen("--auto-compaction-mode periodic --auto-compaction-retention 5m"),
    }
}

/// Heartbeats and elections against the longest of the round trips between members.
fn timers(servers: &[Inspection]) -> Vec<Finding> {
    let mut values = Vec::new();
    for setting in ["heartbeat-interval", "election-timeout"] {
        match alike(servers, setting) {
            Alike::Value(value) => {
                values.extend(value.parse().ok().map(Duration::from_millis));
            }
            Alike::Differs { one, other } => {
                let remedy = "Start all members with the same: the one with the shorter time disturbs the others";
                return vec![Finding::fail(format!("{setting} is {one} and {other}"), remedy)];
            }
            Alike::Untold => {}
        }
    }
    let &[heartbeat, election] = values.as_slice() else {
        return vec![unseen("--heartbeat-interval 100 --election-timeout 1000")];
    };
    let farthest = servers.iter().flat_map(|server| server.peers.values().copied()).max();
    let told = format!("heartbeats each {heartbeat:?}, elections after {election:?}");
    let Some(farthest) = farthest else {
        let remedy =
            "Wait some seconds after a start, or open /metrics of the members to this machine";
        return vec![Finding::warn(
            format!("{told}; round trips between members are unknown"),
            remedy,
        )];
    };
    let told = format!(
        "{told}, the longest round trip between members {:.1} ms",
        farthest.as_secs_f64() * 1e3
    );
    let wanted = format!(
        "Start members with --heartbeat-interval {} --election-timeout {}",
        rounded(farthest),
        10 * rounded(farthest)
    );
    let finding = if election < farthest * 5 {
        Finding::fail(format!("{told}: leaders will be deposed without a reason"), wanted)
    } else if heartbeat < farthest / 2 || election < heartbeat * 5 {
        Finding::warn(format!("{told}: too close"), wanted)
    } else if election > ELECTION_MAX {
        Finding::warn(format!("{told}: a lost leader is missed for so long"), wanted)
    } else {
        Finding::ok(told)
    };
    vec![finding]
}

/// A heartbeat for this round trip, in milliseconds: not below etcd's own default, in steps of 50.
fn rounded(trip: Duration) -> u64 {
    let millis = u64::try_from(trip.as_millis()).unwrap_or(u64::MAX);
    millis.clamp(100, 5_000).div_ceil(50) * 50
}

fn pre_vote(servers: &[Inspection]) -> Option<Finding> {
    let flag = |server: &Inspection| server.settings.get("pre-vote").cloned();
    let without = servers.iter().find(|server| match flag(server).as_deref() {
        Some(value) => value != "true",
        // Nothing of its flags is known.
        None if !server.settings.contains_key("election-timeout") => false,
        None => version(server).is_some_and(|version| version < PRE_VOTE_SINCE),
    })?;
    let what = format!("{} has no pre-vote: when it comes back, it deposes the leader", without.at);
    Some(Finding::warn(what, "Start it with --pre-vote=true"))
}

/// What only a file or the environment of the server says, or a page that is closed.
fn unseen(flags: &str) -> Finding {
    let what = format!("it cannot be seen from here whether members have {flags}");
    Finding::warn(what, "See to it, or put it on the command line, where this check finds it")
}

#[cfg(test)]
mod tests {
    use super::{super::Level, *};

    fn member(at: &str, settings: &[(&str, &str)]) -> Inspection {
        let mut server = Inspection::of(at);
        server.role = Role::Follows;
        server.version = Some("3.4.23".to_owned());
        server.round_trips = vec![Duration::from_millis(1)];
        server.behind = Some(Behind::Entries(0));
        server.peers = [1, 2].map(|id| (id, Duration::from_millis(100))).into();
        let good = [
            ("quota-backend-bytes", "8589934592"),
            ("db-bytes", "1000000"),
            ("auto-compaction-retention", "5m"),
            ("heartbeat-interval", "100"),
            ("election-timeout", "1000"),
            ("pre-vote", "true"),
        ];
        for (name, value) in good.iter().chain(settings) {
            server.settings.insert((*name).to_owned(), (*value).to_owned());
        }
        server
    }

    fn three(settings: &[(&str, &str)]) -> Survey {
        let mut servers: Vec<_> = ["a:1", "b:1", "c:1"].map(|at| member(at, settings)).into();
        servers[0].role = Role::Decides;
        Survey { servers, voters: Some(3) }
    }

    /// The worst level, and the words of all findings of that level.
    fn worst(survey: &Survey) -> (Level, String) {
        let found = judge(survey);
        let level = found.iter().map(|finding| finding.level).max().unwrap();
        let of_level = found.iter().filter(|finding| finding.level == level);
        (level, of_level.map(|finding| finding.what.clone()).collect::<Vec<_>>().join(" | "))
    }

    #[test]
    fn three_members_as_documented_are_well() {
        let found = judge(&three(&[]));
        assert!(found.iter().all(|finding| finding.level == Level::Ok), "{found:#?}");
        assert_eq!(found.len(), 4);
    }

    #[test]
    fn each_setting_is_judged_by_its_value() {
        for (setting, value, level, words) in [
            ("quota-backend-bytes", "2147483648", Level::Warn, "of its 2048 MiB"),
            ("db-bytes", "8000000000", Level::Fail, "uses 7629 MiB"),
            ("auto-compaction-retention", "0", Level::Fail, "never compact"),
            ("heartbeat-interval", "20", Level::Warn, "too close"),
            ("election-timeout", "400", Level::Fail, "deposed"),
            ("election-timeout", "10000", Level::Warn, "missed for so long"),
            ("pre-vote", "false", Level::Warn, "no pre-vote"),
        ] {
            let (worst, what) = worst(&three(&[(setting, value)]));
            assert_eq!(worst, level, "{setting}={value}: {what}");
            assert!(what.contains(words), "{setting}={value}: {what}");
        }
    }

    #[test]
    fn what_differs_between_members_and_what_is_not_told_is_said() {
        let mut survey = three(&[]);
        survey.servers[1].settings.insert("election-timeout".to_owned(), "1500".to_owned());
        assert!(worst(&survey).1.contains("election-timeout is 1000 at a:1 and 1500 at b:1"));
        let mut survey = three(&[]);
        for server in &mut survey.servers {
            server.settings.clear();
        }
        let found = judge(&survey);
        let unseen = |finding: &&Finding| finding.what.contains("cannot be seen");
        assert_eq!(found.iter().filter(unseen).count(), 3);
        survey.servers[0].settings.insert("revision".to_owned(), "900000".to_owned());
        assert!(worst(&survey).1.contains("900000 changes are not compacted"));
    }

    #[test]
    fn too_few_an_even_number_and_unnamed_members_are_told() {
        for (voters, words) in [
            (Some(1), "one member"),
            (Some(2), "survive no more losses than 1"),
            (Some(5), "the address names 3"),
            (None, "how many"),
        ] {
            let survey = Survey { voters, ..three(&[]) };
            let (level, what) = worst(&survey);
            assert!(level == Level::Warn && what.contains(words), "{what}");
        }
        let mut survey = three(&[]);
        survey.servers[0].role = Role::Follows;
        assert!(worst(&survey).1.contains("no member leads"));
    }

    #[test]
    fn old_lagging_and_newer_members_are_told_apart() {
        let mut survey = three(&[]);
        survey.servers[2].version = Some("3.3.9".to_owned());
        assert_eq!(worst(&survey), (Level::Fail, "c:1 is etcd 3.3".to_owned()));
        let mut survey = three(&[]);
        survey.servers[2].behind = Some(Behind::Entries(BEHIND_MAX + 1));
        assert!(worst(&survey).1.contains("entries behind"));
        let mut survey = three(&[]);
        survey.servers[2].settings.remove("pre-vote");
        assert!(worst(&survey).1.contains("c:1 has no pre-vote"));
        survey.servers[2].version = Some("3.5.0".to_owned());
        assert_eq!(worst(&survey).0, Level::Ok);
    }
}
