//! Requests and answers as lines that a person can read.

use outlast_directory::{Event, Failure, Placed, Record, Reply, Request, RoomKey, Summary};

/// Longest part of a name that is shown, in characters.
const NAME_SHOWN_MAX: usize = 12;

/// `request` in one line.
pub(crate) fn request(request: &Request) -> String {
    match request {
        Request::Heartbeat { summary: told, ttl } => {
            format!("heartbeat {} for {ttl:?}", summary(told))
        }
        Request::Place { room, want } => format!("place     room {} {}", key(*room), record(want)),
        Request::Replace { room, expected, want } => {
            format!("replace   room {} of gen {} by {}", key(*room), expected.0, record(want))
        }
        Request::End { room, generation } => {
            format!("end       room {} gen {}", key(*room), generation.0)
        }
        Request::Lookup { room } => format!("lookup    room {}", key(*room)),
        Request::Summaries => "summaries".to_owned(),
        Request::Instance => "instance".to_owned(),
        Request::Watch { after } => format!("watch     after {}", after.number),
    }
}

/// `reply` in one line.
pub(crate) fn reply(reply: &Reply) -> String {
    match reply {
        Reply::Done => "done".to_owned(),
        Reply::Placed(Placed::Won(held)) => format!("won by {}", record(held)),
        Reply::Placed(Placed::Held(held)) => format!("held by {}", record(held)),
        Reply::Found(None) => "nobody".to_owned(),
        Reply::Found(Some(held)) => format!("found {}", record(held)),
        Reply::Summaries(all) => {
            let all: Vec<_> = all.iter().map(summary).collect();
            format!("summaries [{}]", all.join(", "))
        }
        Reply::Instance(instance) => format!("instance {instance}"),
        Reply::Changes(changes) => format!(
            "{} events up to {}{}",
            changes.events.len(),
            changes.revision.number,
            if changes.resync { ", resync" } else { "" }
        ),
        Reply::Failed(Failure::Unavailable) => "unavailable".to_owned(),
        Reply::Failed(Failure::Unknown) => "unknown".to_owned(),
        Reply::Failed(Failure::Fenced(generation)) => format!("fenced by gen {}", generation.0),
        Reply::Failed(Failure::Bad(why)) => format!("bad: {why}"),
    }
}

/// A room of a trace by its number, any other by its key.
fn key(room: RoomKey) -> String {
    if room.0 < 1_000 { room.0.to_string() } else { room.to_string() }
}

/// What `event` says its room is now.
pub(crate) fn event(event: &Event) -> String {
    match event {
        Event::Held { record: held, .. } => format!("held by {}", record(held)),
        Event::Ended { generation, .. } => format!("ended under gen {}", generation.0),
    }
}

/// `record` in a few words.
pub(crate) fn record(record: &Record) -> String {
    let provisional = if record.provisional { " provisional" } else { "" };
    format!(
        "gen {} id {:x} node {} epoch {}{provisional}",
        record.generation.0,
        record.id.0,
        name(record.node.as_str()),
        record.epoch.0
    )
}

fn summary(summary: &Summary) -> String {
    let nodes: Vec<_> = summary.nodes.iter().take(2).map(|node| name(node.node.as_str())).collect();
    let rest = if summary.nodes.len() > 2 { " .." } else { "" };
    let count = summary.nodes.len();
    format!("{} with {count} nodes ({}{rest})", name(summary.region.as_str()), nodes.join(" "))
}

/// Quoted, and cut where it is long.
fn name(name: &str) -> String {
    if name.chars().count() <= NAME_SHOWN_MAX {
        return format!("{name:?}");
    }
    let start: String = name.chars().take(NAME_SHOWN_MAX).collect();
    format!("{start:?}.. of {} bytes", name.len())
}
