//! What is well and what is not with the servers of a directory: judged by what they told, without asking anything.

mod etcd;
mod redis;

use outlast_engines::{EngineKind, Inspection, Survey};
use serde_json::{Value, json};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Ok,
    /// It works, and will not one day.
    Warn,
    /// It does not work, or not when a region is lost.
    Fail,
}

/// One line of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// What was found.
    pub(super) what: String,
    /// What to do; empty when nothing is to be done.
    pub(super) remedy: String,
}

impl Finding {
    pub(super) fn ok(what: impl Into<String>) -> Finding {
        Finding { level: Level::Ok, what: what.into(), remedy: String::new() }
    }

    pub(super) fn warn(what: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { level: Level::Warn, what: what.into(), remedy: remedy.into() }
    }

    pub(super) fn fail(what: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { level: Level::Fail, what: what.into(), remedy: remedy.into() }
    }

    fn word(&self) -> &'static str {
        match self.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
        }
    }

    pub(super) fn text(&self) -> String {
        let remedy = if self.remedy.is_empty() { "" } else { "\n        -> " };
        format!("  {:<4}  {}{remedy}{}", self.word(), self.what, self.remedy)
    }

    pub(super) fn json(&self) -> Value {
        json!({ "level": self.word(), "what": self.what, "remedy": self.remedy })
    }
}

/// All that can be said of the servers of an engine of this kind.
pub(super) fn judge(engine: &EngineKind, survey: &Survey) -> Vec<Finding> {
    let mut found = reached(survey);
    match engine {
        EngineKind::Etcd => found.extend(etcd::judge(survey)),
        EngineKind::Redis => found.extend(redis::single(survey)),
        EngineKind::Sentinel { .. } => found.extend(redis::sentinels(survey)),
        EngineKind::Cluster => found.extend(redis::cluster(survey)),
    }
    found
}

/// Who is reached, who complains, and whether all are of one version.
fn reached(survey: &Survey) -> Vec<Finding> {
    let mut found = Vec::new();
    for server in &survey.servers {
        if !server.is_reached() {
            let what = format!("{} is not reached: {}", server.at, server.troubles.join("; "));
            found.push(Finding::fail(what, "Start it, or look at the network and the firewall"));
        } else if !server.troubles.is_empty() {
            let what = format!("{} says: {}", server.at, server.troubles.join("; "));
            found.push(Finding::fail(what, "See docs/directory.md, and that server's log"));
        }
    }
    if found.is_empty() {
        found.push(Finding::ok(format!("all {} servers are reached", survey.servers.len())));
    }
    let mut versions: Vec<&str> =
        survey.servers.iter().filter_map(|server| server.version.as_deref()).collect();
    versions.sort_unstable();
    versions.dedup();
    if versions.len() > 1 {
        let what = format!("there are several versions: {}", versions.join(", "));
        found.push(Finding::warn(what, "Finish the upgrade, one server at a time"));
    }
    found
}

/// The value of a setting with whoever has one that differs from the others, or only the value: what all must have alike.
fn alike<'a>(servers: &'a [Inspection], setting: &str) -> Alike<'a> {
    let told: Vec<_> = servers.iter().filter(|server| server.is_reached()).collect();
    let value = |server: &'a Inspection| server.settings.get(setting).map(String::as_str);
    match told.first().map(|first| value(first)) {
        None | Some(None) => Alike::Untold,
        Some(Some(first)) => match told.iter().find(|server| value(server) != Some(first)) {
            None => Alike::Value(first),
            Some(other) => Alike::Differs {
                one: format!("{} at {}", first, told[0].at),
                other: format!("{} at {}", value(other).unwrap_or("untold"), other.at),
            },
        },
    }
}

/// What servers say of one setting.
#[derive(Debug, PartialEq, Eq)]
enum Alike<'a> {
    /// The first does not tell.
    Untold,
    Value(&'a str),
    Differs {
        one: String,
        other: String,
    },
}
