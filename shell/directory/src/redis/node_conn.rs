//! One server as this process reaches it: a connection, made, watched and made again by a task of its own. Callers take the
//! one that there is, or none.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use outlast_runtime::entropy;
use redis::{
    AsyncConnectionConfig, Cmd, Pipeline, ProtocolVersion, PushInfo, RedisConnectionInfo, Value,
    aio::MultiplexedConnection,
};
use rustls::ClientConfig;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    board::{Board, Voice},
    fault,
    inspect::{Info, Part, SECTIONS},
    scripts,
    sentinel::Agreed,
    stream::{Heard, Stream},
};
use crate::{HostPort, Secret};

/// Longest time for a connection, by TCP alone; twice that with TLS, which takes two round trips more.
const CONNECT_MAX: Duration = Duration::from_millis(600);
/// Longest time for an answer. After it the connection counts as dead, for everybody.
pub(super) const RESPONSE_MAX: Duration = Duration::from_millis(1_000);
/// How long Sentinels may take to agree on a server that is connected: longer than they are held to it, and a look.
const AGREE_MAX: Duration = Duration::from_secs(4);
/// After so long without a byte from the server it is asked whether it lives.
const PING_AFTER: Duration = Duration::from_millis(500);
/// Pause before a connection is made again, not counting jitter; doubles up to [`REOPEN_MAX`].
const REOPEN_MIN: Duration = Duration::from_millis(50);
/// Longest such pause, and the shortest life of a connection after which it is short again. Higher: a server that is back is
/// used so much later.
const REOPEN_MAX: Duration = Duration::from_secs(1);

/// How servers of one kind are reached, and whom to tell.
pub(super) struct Door {
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) kind: Kind,
    pub(super) board: Arc<Board>,
    /// Told of each connection that is made or lost, and of all that tells that somebody else may decide by now.
    pub(super) look: Arc<Notify>,
    /// Whom Sentinels name: a new connection is used when they still do.
    pub(super) agreed: Option<watch::Receiver<Option<Agreed>>>,
}

/// What is behind a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Redis.
    Data(Part),
    /// A Sentinel.
    Sentinel,
}

/// A connection on which answers come.
#[derive(Clone)]
pub(super) struct Link {
    /// Counts the connections to this server.
    number: u64,
    connection: MultiplexedConnection,
}

/// A server. Its connection ends when this is dropped.
pub(super) struct NodeConn {
    inner: Arc<Inner>,
    _task: JoinSet<()>,
}

struct Inner {
    door: Arc<Door>,
    voice: Arc<Voice>,
    link: watch::Sender<Option<Link>>,
    /// The number of the last connection that is of no more use, and why.
    suspect: Mutex<(u64, &'static str)>,
    suspected: Notify,
    /// Why the server is not used, or what is not well with it.
    remark: Mutex<Option<String>>,
}

/// The request was sent, perhaps, and has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost;

impl NodeConn {
    /// Begins to connect. Must be called within a tokio runtime.
    pub(super) fn start(at: HostPort, door: Arc<Door>) -> NodeConn {
        let voice = Voice::new(at, door.board.clone());
        NodeConn::with_voice(door, voice)
    }

    /// One connection more to the same server.
    pub(super) fn again(&self) -> NodeConn {
        NodeConn::with_voice(self.inner.door.clone(), self.inner.voice.clone())
    }

    fn with_voice(door: Arc<Door>, voice: Arc<Voice>) -> NodeConn {
        let inner = Arc::new(Inner {
            door,
            voice,
            link: watch::Sender::new(None),
            suspect: Mutex::new((0, "")),
            suspected: Notify::new(),
            remark: Mutex::new(None),
        });
        let mut task = JoinSet::new();
        task.spawn(inner.clone().keep());
        NodeConn { inner, _task: task }
    }

    /// Whether Sentinels, if there are any, agree now that it is the primary.
    pub(super) fn is_named(&self) -> bool {
        let Some(agreed) = &self.door().agreed else { return true };
        agreed.borrow().as_ref().is_some_and(|agreed| agreed.at == *self.at())
    }

    pub(super) fn at(&self) -> &HostPort {
        self.inner.voice.at()
    }

    pub(super) fn door(&self) -> &Arc<Door> {
        &self.inner.door
    }

    /// Keeps trouble with this server for operators. `words` have no secrets.
    pub(super) fn trouble(&self, words: &str) {
        self.inner.voice.trouble(words);
    }

    /// The connection, while there is one.
    pub(super) fn link(&self) -> Option<Link> {
        self.inner.link.borrow().clone()
    }

    /// Follows the connection.
    pub(super) fn links(&self) -> watch::Receiver<Option<Link>> {
        self.inner.link.subscribe()
    }

    /// Why the server is not used, or what is not well with it.
    pub(super) fn remark(&self) -> Option<String> {
        lock(&self.inner.remark).as_ref().map(|words| format!("{}: {words}", self.at()))
    }

    /// Sends commands in one go. The answers are as many; errors of the server are among them.
    pub(super) async fn ask(&self, link: &Link, commands: &Pipeline) -> Result<Vec<Value>, Lost> {
        let mut connection = link.connection.clone();
        match connection.send_packed_commands(commands, 0, commands.len()).await {
            Ok(answers) if answers.len() == commands.len() => Ok(answers),
            Ok(_) | Err(_) => {
                self.give_up(link, "an answer did not come in time");
                Err(Lost)
            }
        }
    }

    /// Has `link` made again, by way of everything that is looked at then.
    pub(super) fn give_up(&self, link: &Link, why: &'static str) {
        *lock(&self.inner.suspect) = (link.number, why);
        self.inner.suspected.notify_one();
    }

    /// Sends one command.
    pub(super) async fn ask_one(&self, link: &Link, command: Cmd) -> Result<Value, Lost> {
        let mut commands = Pipeline::new();
        commands.add_command(command);
        self.ask(link, &commands).await?.pop().ok_or(Lost)
    }
}

impl Inner {
    async fn keep(self: Arc<Inner>) {
        let (mut number, mut pause) = (0, REOPEN_MIN);
        loop {
            number += 1;
            let heard = Heard::now();
            let mut driver = JoinSet::new();
            let trouble = match self.open(number, &heard, &mut driver).await {
                Ok(link) => {
                    let start = Instant::now();
                    self.voice.connected(lock(&self.remark).as_deref().unwrap_or(""));
                    self.link.send_replace(Some(link.clone()));
                    self.door.look.notify_one();
                    let trouble = self.watch_over(&link, &heard, &mut driver).await;
                    self.link.send_replace(None);
                    if start.elapsed() > REOPEN_MAX {
                        pause = REOPEN_MIN;
                    }
                    trouble
                }
                Err(trouble) => trouble,
            };
            drop(driver);
            self.voice.trouble(&trouble);
            self.door.look.notify_one();
            sleep(jittered(pause)).await;
            pause = (pause * 2).min(REOPEN_MAX);
        }
    }

    /// Connects, says who we are and looks at who answers.
    async fn open(
        &self,
        number: u64,
        heard: &Arc<Heard>,
        driver: &mut JoinSet<()>,
    ) -> Result<Link, String> {
        let door = &self.door;
        let connect_max = if door.tls.is_some() { CONNECT_MAX * 2 } else { CONNECT_MAX };
        let stream = Stream::connect(self.voice.at(), door.tls.as_ref(), heard.clone());
        let stream = timeout(connect_max, stream)
            .await
            .map_err(|_| format!("no connection within {connect_max:?}"))?
            .map_err(|error| format!("no connection: {error}"))?;
        let mut login = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(user) = &door.user {
            login = login.set_username(user);
        }
        if let Some(password) = &door.password {
            login = login.set_password(password.expose());
        }
        let mut settings = AsyncConnectionConfig::new().set_response_timeout(Some(RESPONSE_MAX));
        if door.kind == Kind::Sentinel {
            // Events are heard on the same connection with this protocol.
            login = login.set_protocol(ProtocolVersion::RESP3);
            let look = door.look.clone();
            settings = settings.set_push_sender(move |_: PushInfo| -> Result<(), Lost> {
                look.notify_one();
                Ok(())
            });
        }
        let made = MultiplexedConnection::new_with_config(&login, stream, settings);
        let (connection, driven) = timeout(RESPONSE_MAX, made)
            .await
            .map_err(|_| "no answer to the greeting".to_owned())?
            .map_err(|error| format!("not let in: {error}"))?;
        driver.spawn(driven);
        let mut link = Link { number, connection };
        match door.kind {
            Kind::Data(part) => {
                self.examine(&mut link, part).await?;
                self.is_still_named().await?;
            }
            Kind::Sentinel => {
                let heard = link.connection.subscribe("+switch-master").await;
                heard.map_err(|error| format!("its events are not to be had: {error}"))?;
            }
        }
        Ok(link)
    }

    async fn examine(&self, link: &mut Link, part: Part) -> Result<(), String> {
        let mut questions = Pipeline::new();
        for section in SECTIONS {
            questions.cmd("INFO").arg(section);
        }
        questions.cmd("EVAL").arg("return redis.call('INFO', 'replication')").arg(0);
        // Where this is forbidden each script goes whole.
        scripts::load(&mut questions);
        let count = questions.len();
        let answers = link.connection.send_packed_commands(&questions, 0, count).await;
        let answers = answers.map_err(|error| format!("it does not tell what it is: {error}"))?;
        let told = answers.get(..SECTIONS.len()).unwrap_or_default();
        let info = Info::read(told);
        let in_script = answers.get(SECTIONS.len());
        let refusal = match told.iter().find_map(error) {
            Some(words) => Some(format!("it does not tell what it is: {words}")),
            None => info.refusal(part).or_else(|| {
                let words = error(in_script?)?;
                Some(format!(
                    "scripts may not read INFO there, by which lost writes are noticed: {words}"
                ))
            }),
        };
        let remark = refusal.clone().or_else(|| info.warning(part));
        *lock(&self.remark) = remark;
        refusal.map_or(Ok(()), Err)
    }

    /// Asks Sentinels, once there is a connection. A primary that was frozen or away may have been replaced meanwhile without
    /// knowing it, and replicas that have not heard of it either would acknowledge what it takes, and lose it then.
    async fn is_still_named(&self) -> Result<(), String> {
        let Some(agreed) = &self.door.agreed else { return Ok(()) };
        let since = Instant::now();
        self.door.look.notify_one();
        let is_it = |agreed: &Option<Agreed>| {
            agreed
                .as_ref()
                .is_some_and(|agreed| agreed.asked > since && agreed.at == *self.voice.at())
        };
        match timeout(AGREE_MAX, agreed.clone().wait_for(is_it)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err("most Sentinels do not say that it is the primary".to_owned()),
        }
    }

    /// Returns when the connection is of no more use, and why.
    async fn watch_over(&self, link: &Link, heard: &Heard, driver: &mut JoinSet<()>) -> String {
        loop {
            let quiet = PING_AFTER.saturating_sub(heard.silence());
            tokio::select! {
                _ = driver.join_next() => return "connection closed".to_owned(),
                () = self.suspected.notified() => {
                    let (number, why) = *lock(&self.suspect);
                    if number == link.number {
                        return why.to_owned();
                    }
                }
                () = sleep(quiet), if !quiet.is_zero() => {}
                alive = ping(link), if quiet.is_zero() => {
                    if !alive {
                        return format!("no sign of life within {RESPONSE_MAX:?}");
                    }
                }
            }
        }
    }
}

fn error(answer: &Value) -> Option<String> {
    match answer {
        Value::ServerError(error) => Some(fault::words(error)),
        _ => None,
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether something comes back. An error is as good as an answer.
async fn ping(link: &Link) -> bool {
    let mut connection = link.connection.clone();
    connection.send_packed_command(&redis::cmd("PING")).await.is_ok()
}

/// Half of `pause` to one and a half of it.
fn jittered(pause: Duration) -> Duration {
    let share = entropy::bytes().map_or(0, u16::from_le_bytes);
    pause / 2 + pause.mul_f64(f64::from(share) / f64::from(u16::MAX))
}
