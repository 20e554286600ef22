//! Follows all changes of rooms with one watch on one member, the nearest that does well, and moves on to the next one when
//! it falls silent. Answers those who watch from what it has heard, and by pages of etcd's own keys before that.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use etcd_client::{Error, GetOptions, WatchOptions, WatchResponse, WatchStream};
use outlast_directory::{
    Changes, EVENTS_PER_REPLY_MAX, Event, Failure, InstanceId, Reply, Revision, RoomKey,
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at},
};
use tracing::{info, warn};

use super::{
    Shared,
    endpoint::{Endpoint, Line, Path},
    fault::{self, Fault, Refusal},
    instance,
    keys::State,
    log::{LOG_EVENTS_MAX, Log, Next},
    revision_of,
    rotation::Twice,
};
use crate::{HostPort, REPLY_MAX};

/// Between two questions whether the watch lives.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
/// Without a sign of the watch for so long, the next member is asked.
const SILENCE_MAX: Duration = Duration::from_millis(1_500);
/// Without a sign of any watch for so long, what is in memory is no answer any more.
const STALE_AFTER: Duration = Duration::from_secs(3);
/// How long a watch waits for what this engine has changed itself, or for the first sign after a start.
const OWN_WAIT: Duration = Duration::from_millis(500);
/// Pause when there is no member to follow, or the one that was followed has just failed.
const PAUSE: Duration = Duration::from_millis(100);
/// Times that a listing is begun anew for one answer: what it is of may be compacted, or dropped from the log.
const LISTINGS_MAX: usize = 3;

/// What has been heard.
pub(super) struct Feed {
    heard: Mutex<Heard>,
    /// Woken after each change of it.
    news: watch::Sender<()>,
}

struct Heard {
    log: Log,
    /// The last sign of a watch.
    at: Option<Instant>,
    /// Whom the watch is on.
    from: Option<HostPort>,
}

/// Why a watch ended.
enum Left {
    /// For a member that is nearer and does well.
    Nearer,
    /// In these words.
    Failed(String),
}

impl From<String> for Left {
    fn from(words: String) -> Left {
        Left::Failed(words)
    }
}

impl Feed {
    pub(super) fn new() -> Feed {
        let log = Log::new(LOG_EVENTS_MAX);
        Feed {
            heard: Mutex::new(Heard { log, at: None, from: None }),
            news: watch::Sender::new(()),
        }
    }

    /// Whom changes are heard from.
    pub(super) fn from(&self) -> Option<HostPort> {
        self.lock().from.clone()
    }

    /// This engine has changed a room at `revision`.
    pub(super) fn made(&self, revision: u64) {
        self.lock().log.made(revision);
    }

    /// Follows for as long as it runs.
    pub(super) async fn follow(self: Arc<Feed>, shared: Arc<Shared>) {
        loop {
            let Some((endpoint, line)) = shared.rotation.order(Path::Feed).into_iter().next()
            else {
                drop(timeout(PAUSE, shared.rotation.board.up.notified()).await);
                continue;
            };
            let left = self.follow_one(&shared, &endpoint, &line).await;
            self.lock().from = None;
            let trouble = match left {
                Left::Nearer => continue,
                Left::Failed(trouble) => trouble,
            };
            warn!(at = %endpoint.at, trouble, "watch of etcd broken off");
            shared.rotation.board.trouble(&endpoint.at, &format!("watch: {trouble}"));
            endpoint.skip(Path::Feed);
            sleep(PAUSE).await;
        }
    }

    async fn follow_one(&self, shared: &Shared, endpoint: &Endpoint, line: &Line) -> Left {
        let watch = match timeout(REPLY_MAX, self.open(shared, line)).await {
            Ok(Ok(watch)) => watch,
            Ok(Err(trouble)) => return Left::Failed(trouble),
            Err(_) => return Left::Failed("no answer to a new watch".to_owned()),
        };
        self.lock().from = Some(endpoint.at.clone());
        match self.listen(shared, endpoint, line, watch).await {
            Ok(never) => match never {},
            Err(left) => left,
        }
    }

    async fn open(&self, shared: &Shared, line: &Line) -> Result<WatchStream, String> {
        let after = self.begin(shared, line).await?;
        // The instance's key comes right before those of the rooms.
        let (_, to) = shared.keys.rooms();
        let options = WatchOptions::new()
            .with_range(to)
            .with_start_revision(i64::try_from(after + 1).unwrap_or(i64::MAX))
            .with_progress_notify();
        let mut client = line.watch.clone();
        let watch = client.watch(shared.keys.instance(), Some(options)).await;
        watch.map_err(|error| fault::words(&error))
    }

    /// Finds out which content there is. Returns after which revision changes are wanted.
    async fn begin(&self, shared: &Shared, line: &Line) -> Result<u64, String> {
        let local = line.kv.clone();
        let found = instance::read(local, &shared.keys, true).await;
        let (mut instance, mut revision) = found.map_err(|error| fault::words(&error))?;
        let is_ahead = instance.is_some_and(|of| self.lock().log.is_ahead(of, revision));
        if instance.is_none() || is_ahead {
            // The member lags behind, or nobody has asked for the instance yet, or a backup of earlier was put back.
            let deadline = Instant::now() + REPLY_MAX;
            let (made, now) = instance::agree(shared, deadline)
                .await
                .map_err(|_| "no agreement about the instance".to_owned())?;
            if instance.is_none() {
                revision = now;
            } else if self.lock().log.is_ahead(made, now) {
                self.lock().log.void();
                revision = now;
            }
            instance = Some(made);
        }
        let instance = instance.ok_or_else(|| "no instance".to_owned())?;
        let (before, after) = {
            let mut heard = self.lock();
            let before = heard.log.instance();
            (before, heard.log.begin(instance, revision))
        };
        if before != Some(instance) {
            info!(%instance, after, "following a directory in etcd");
            shared.rotation.board.forget_terms();
        }
        self.sign();
        Ok(after)
    }

    async fn listen(
        &self,
        shared: &Shared,
        endpoint: &Endpoint,
        line: &Line,
        mut watch: WatchStream,
    ) -> Result<Infallible, Left> {
        let mut ask = interval(PROGRESS_INTERVAL);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut deadline = Instant::now() + SILENCE_MAX;
        let mut id = None;
        loop {
            tokio::select! {
                message = timeout_at(deadline, watch.message()) => {
                    let message = message.map_err(|_| silent())?;
                    let message = message.map_err(|error| fault::words(&error))?;
                    let message = message.ok_or_else(|| "ended by the server".to_owned())?;
                    deadline = Instant::now() + SILENCE_MAX;
                    if message.canceled() && message.compact_revision() == 0 {
                        // The server does not know the login of the watch any more, and says so in this way only.
                        line.renew();
                    }
                    if message.created() {
                        id = Some(message.watch_id());
                    }
                    self.take(shared, &message, id)?;
                }
                _ = ask.tick() => {
                    let order = shared.rotation.order(Path::Feed);
                    if order.first().is_some_and(|(best, _)| best.at != endpoint.at) {
                        return Err(Left::Nearer);
                    }
                    let asked = timeout(SILENCE_MAX, watch.request_progress()).await;
                    asked.map_err(|_| silent())?.map_err(|error| fault::words(&error))?;
                }
            }
        }
    }

    /// Takes what the watch `id` says.
    fn take(
        &self,
        shared: &Shared,
        message: &WatchResponse,
        id: Option<i64>,
    ) -> Result<(), String> {
        if message.compact_revision() > 0 {
            self.lock().log.void();
            return Err("changes were compacted before they were heard of".to_owned());
        }
        if message.canceled() {
            return Err(format!("cancelled: {}", message.cancel_reason()));
        }
        let mut events = Vec::new();
        // Of the answers to our own questions, which have another id, etcd before 3.4.25 and 3.5.8 gives a revision that
        // the watch itself may not have come to (etcd's issue 15220). They are signs of life only.
        let is_own = !message.created() && id == Some(message.watch_id());
        let mut complete = match message.header() {
            Some(header) if is_own && message.events().is_empty() => revision_of(header.revision()),
            _ => 0,
        };
        for event in message.events() {
            let Some(kv) = event.kv() else { continue };
            complete = complete.max(revision_of(kv.mod_revision()));
            if kv.key() == shared.keys.instance() {
                self.lock().log.void();
                return Err("the instance has changed".to_owned());
            }
            // A deletion: see `Log`.
            if kv.version() == 0 {
                continue;
            }
            if let Some(event) = read(shared, kv) {
                events.push((revision_of(kv.mod_revision()), event));
            }
        }
        self.lock().log.append(events, complete);
        self.sign();
        Ok(())
    }

    fn sign(&self) {
        self.lock().at = Some(Instant::now());
        self.news.send_replace(());
    }

    /// Answers a watch.
    pub(super) async fn answer(
        &self,
        shared: &Shared,
        after: Revision,
        deadline: Instant,
    ) -> Result<Changes, Fault> {
        self.catch_up(shared).await;
        let mut next = {
            let heard = self.lock();
            if heard.at.is_none_or(|at| at.elapsed() > STALE_AFTER) {
                return Err(Fault::Unavailable);
            }
            heard.log.after(after)
        };
        for _ in 0..LISTINGS_MAX {
            let (instance, from) = match next {
                Next::NotYet => return Err(Fault::Unavailable),
                Next::Changes(changes) => return Ok(changes),
                Next::List { instance, from } => (instance, from),
            };
            match self.list(shared, instance, from, deadline).await {
                Ok(Some(changes)) => return Ok(changes),
                Ok(None) | Err(Fault::Refused(Refusal::Compacted)) => {}
                Err(fault) => return Err(fault),
            }
            next = match self.lock().log.instance() {
                Some(instance) => Next::List { instance, from: None },
                None => Next::NotYet,
            };
        }
        Err(Fault::Unavailable)
    }

    /// Waits, but not for long, until what this engine has changed has come back to it: who has claimed a room and then
    /// watches finds it.
    async fn catch_up(&self, shared: &Shared) {
        if self.lock().log.instance().is_none() && !shared.rotation.is_up() {
            return;
        }
        let mut news = self.news.subscribe();
        let own = async {
            while !self.lock().log.has_own() {
                if news.changed().await.is_err() {
                    return;
                }
            }
        };
        if timeout(OWN_WAIT, own).await.is_err() {
            self.lock().log.forget_own();
        }
    }

    /// A page of all rooms: the first of a new listing, or the one `from` a room. `None`: it must begin anew.
    async fn list(
        &self,
        shared: &Shared,
        instance: InstanceId,
        from: Option<(u64, RoomKey)>,
        deadline: Instant,
    ) -> Result<Option<Changes>, Fault> {
        let (mut at, mut last) = (from.map(|(at, _)| at), from.map(|(_, room)| room));
        let floor = self.lock().log.floor();
        let mut events: Vec<Event> = Vec::new();
        loop {
            let (now, kvs, more) = page(shared, at, last, floor, deadline).await?;
            let of = *at.get_or_insert(now);
            for (key, event) in kvs {
                last = Some(key);
                events.extend(event);
            }
            // A page of nothing that this version can read would look like the end.
            if more && events.is_empty() {
                continue;
            }
            let mut heard = self.lock();
            heard.log.saw(of);
            if !heard.log.reaches(instance, of) {
                return Ok(None);
            }
            let revision = Log::listed(instance, of, last.filter(|_| more));
            return Ok(Some(Changes { events, revision, resync: from.is_none(), instance }));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn silent() -> String {
    format!("silent for {SILENCE_MAX:?}")
}

/// The event that a key's value tells of; `None` for what this version cannot read.
fn read(shared: &Shared, kv: &etcd_client::KeyValue) -> Option<Event> {
    Some(State::read(kv.value())?.event(shared.keys.room_of(kv.key())?))
}

/// Rooms of one page, each with what is known of it.
type Page = Vec<(RoomKey, Option<Event>)>;

/// The rooms after `last` as of `at`, or as of now but not before `floor`: the revision that they are of, the rooms, and
/// whether there are more.
async fn page(
    shared: &Shared,
    at: Option<u64>,
    last: Option<RoomKey>,
    floor: u64,
    deadline: Instant,
) -> Result<(u64, Page, bool), Fault> {
    let (first, to) = shared.keys.rooms();
    // The next key after one is it and a zero byte.
    let first = last.map_or(first, |room| [shared.keys.room(room), vec![0]].concat());
    let options = GetOptions::new()
        .with_range(to)
        .with_limit(i64::try_from(EVENTS_PER_REPLY_MAX).unwrap_or(i64::MAX))
        .with_revision(at.map_or(0, |at| i64::try_from(at).unwrap_or(i64::MAX)))
        .with_serializable();
    let read_page = shared.rotation.ask(Path::Local, Twice::Harmless, deadline, |line| {
        let (first, options) = (first.clone(), options.clone());
        async move {
            let response = line.kv.clone().get(first, Some(options)).await?;
            let now = response.header().map_or(0, |header| revision_of(header.revision()));
            // As of earlier than this engine's own log: what happened between would be in neither.
            if at.is_none() && now < floor {
                return Err(Error::Internal(format!("is at {now}, not yet at {floor}")));
            }
            Ok((now, response))
        }
    });
    let (now, response) = read_page.await?;
    let rooms = response.kvs().iter().filter_map(|kv| {
        let room = shared.keys.room_of(kv.key())?;
        Some((room, read(shared, kv)))
    });
    Ok((now, rooms.collect(), response.more()))
}

/// The answer in the engine's words.
pub(super) fn reply(answer: Result<Changes, Fault>) -> Reply {
    match answer {
        Ok(changes) => Reply::Changes(changes),
        // Nothing is applied by a watch.
        Err(Fault::Unknown) => Reply::Failed(Failure::Unavailable),
        Err(fault) => fault.reply(),
    }
}
