//! All rooms, a page at a time: read by key from one member as of one revision, whatever changes meanwhile.

use etcd_client::{Error, GetOptions, GetResponse, KeyValue};
use outlast_directory::{EVENTS_PER_REPLY_MAX, Event, RoomKey};
use tokio::time::Instant;

use super::{Shared, endpoint::Path, fault::Fault, keys::State, revision_of, rotation::Twice};

/// Rooms in the order of their keys.
pub(super) struct Page {
    /// As of which revision.
    pub(super) of: u64,
    /// Some, if there are any left.
    pub(super) events: Vec<Event>,
    /// The last of them, if there are more.
    pub(super) last: Option<RoomKey>,
}

/// The rooms after the one of `from`, as of its revision. Without it the first rooms, as of now: not before `floor`, since
/// what was changed between would be neither in the listing nor in what is told after it.
pub(super) async fn page(
    shared: &Shared,
    from: Option<(u64, RoomKey)>,
    floor: u64,
    deadline: Instant,
) -> Result<Page, Fault> {
    let (mut first, to) = shared.keys.rooms();
    let mut at = None;
    if let Some((revision, room)) = from {
        at = Some(revision);
        first = after(&shared.keys.room(room));
    }
    loop {
        let response = read(shared, at, &first, &to, floor, deadline).await?;
        let now = response.header().map_or(0, |header| revision_of(header.revision()));
        let of = *at.get_or_insert(now);
        let known = response.kvs().iter().filter_map(|kv| event(shared, kv));
        let (rooms, events): (Vec<_>, Vec<_>) = known.unzip();
        match response.kvs().last() {
            // A page of nothing that this version can read would look like the end.
            Some(kv) if response.more() && events.is_empty() => first = after(kv.key()),
            _ => {
                let last = rooms.last().copied().filter(|_| response.more());
                return Ok(Page { of, events, last });
            }
        }
    }
}

async fn read(
    shared: &Shared,
    at: Option<u64>,
    first: &[u8],
    to: &[u8],
    floor: u64,
    deadline: Instant,
) -> Result<GetResponse, Fault> {
    let options = GetOptions::new()
        .with_range(to)
        .with_limit(i64::try_from(EVENTS_PER_REPLY_MAX).unwrap_or(i64::MAX))
        .with_revision(at.map_or(0, |at| i64::try_from(at).unwrap_or(i64::MAX)))
        .with_serializable();
    let answer = shared.rotation.ask(Path::Local, Twice::Harmless, deadline, |line| {
        let options = options.clone();
        async move {
            let response = line.kv.clone().get(first, Some(options)).await?;
            let now = response.header().map_or(0, |header| revision_of(header.revision()));
            if at.is_none() && now < floor {
                return Err(Error::Internal(format!("is at {now}, not yet at {floor}")));
            }
            Ok(response)
        }
    });
    answer.await
}

/// The first key after `key`.
fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// What a key's value tells of which room; `None` for what this version cannot read.
pub(super) fn event(shared: &Shared, kv: &KeyValue) -> Option<(RoomKey, Event)> {
    let room = shared.keys.room_of(kv.key())?;
    Some((room, State::read(kv.value())?.event(room)))
}
