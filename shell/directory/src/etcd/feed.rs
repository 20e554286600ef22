//! Follows all changes of rooms with one watch on one member, the nearest that does well, and moves on to the next one when
//! it falls silent. Answers those who watch from what it has heard, and by pages of etcd's own keys before that.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use etcd_client::{WatchOptions, WatchResponse, WatchStream};
use outlast_directory::{Changes, Failure, Reply, Revision};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at},
};
use tracing::{info, warn};

use super::{
    Shared,
    endpoint::{Endpoint, Line, Path},
    fault::{self, Fault, Refusal},
    instance,
    listing::{self, Page},
    log::{LOG_EVENTS_MAX, Log, Next},
    revision_of,
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
    /// What was heard is of another directory.
    back: Notify,
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
    /// Because etcd has been wiped, or an older backup put back.
    Back,
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
            back: Notify::new(),
        }
    }

    /// Most members are at a revision below one that this directory has had: it is another one.
    pub(super) fn went_back(&self) {
        self.lock().log.void();
        self.back.notify_one();
    }

    /// Whom changes are heard from.
    pub(super) fn from(&self) -> Option<HostPort> {
        self.lock().from.clone()
    }

    /// This engine has changed a room at `revision`.
    pub(super) fn made(&self, revision: u64) {
        self.lock().log.made(revision);
    }

    /// A revision that this directory surely has had; as new as is known here.
    pub(super) fn known(&self) -> u64 {
        self.lock().log.known()
    }

    /// Follows for as long as it runs.
    pub(super) async fn follow(self: Arc<Feed>, shared: Arc<Shared>) {
        let mut told = String::new();
        loop {
            let Some((endpoint, line)) = shared.rotation.order(Path::Feed).into_iter().next()
            else {
                drop(timeout(PAUSE, shared.rotation.board.up.notified()).await);
                continue;
            };
            let left = self.follow_one(&shared, &endpoint, &line).await;
            self.lock().from = None;
            let trouble = match left {
                Left::Nearer | Left::Back => continue,
                Left::Failed(trouble) => trouble,
            };
            shared.rotation.board.trouble(&endpoint.at, &format!("watch: {trouble}"));
            // The same again and again is told once.
            if told != trouble {
                warn!(at = %endpoint.at, trouble, "watch of etcd broken off");
                told = trouble;
            }
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
                () = self.back.notified() => return Err(Left::Back),
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
            if let Some((_, event)) = listing::event(shared, kv) {
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
            let floor = self.lock().log.floor();
            let page = match listing::page(shared, from, floor, deadline).await {
                Ok(page) => Some(page),
                Err(Fault::Refused(Refusal::Compacted)) => None,
                Err(fault) => return Err(fault),
            };
            let mut heard = self.lock();
            if let Some(Page { of, events, last }) = page
                && heard.log.reaches(instance, of)
            {
                heard.log.saw(of);
                let revision = Log::listed(instance, of, last);
                return Ok(Changes { events, revision, resync: from.is_none(), instance });
            }
            next = match heard.log.instance() {
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

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn silent() -> String {
    format!("silent for {SILENCE_MAX:?}")
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
