//! One member as this process reaches it: a connection of its own, made, watched and made again by a task of its own.
//!
//! Liveness is a question that this side asks each [`PROBE_INTERVAL`] and whose answer it waits for, rather than HTTP/2's
//! pings: those need `--grpc-keepalive-min-time` at every server, which closes the connection otherwise, and they prove only
//! that a kernel answers. The same question measures the round trip and tells the leader.

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use etcd_client::{
    Channel, Client, ClusterClient, ConnectOptions, KvClient, LeaseClient, MaintenanceClient,
    StatusResponse, WatchClient,
};
use rustls::ClientConfig;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tonic::transport;
use tracing::{info, warn};

use super::{board::Board, fault};
use crate::{HostPort, Secret};

/// How long a try may take before the next member is asked as well. Lower: a commit across an ocean is asked for twice;
/// higher: a dead member costs every request so much until it is noticed.
pub(super) const TRY_MAX: Duration = Duration::from_millis(400);
/// A try may take so many round trips, if that is more than [`TRY_MAX`]: a commit is two, one of them to a third member.
const TRY_ROUND_TRIPS: u32 = 3;
/// Longest that [`TRY_ROUND_TRIPS`] come to.
const TRY_LONGEST: Duration = Duration::from_millis(900);
/// Between two questions whether a member lives.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// Without an answer for so long the connection is given up.
const PROBE_MAX: Duration = Duration::from_secs(1);
/// How long a member that failed is asked last.
const SKIPPED: Duration = Duration::from_secs(3);
/// Longest time for a connection, by TCP alone; twice that with TLS, which takes two round trips more.
const CONNECT_MAX: Duration = Duration::from_millis(600);
/// Longest time for a connection with all that goes before its first use: the login costs the server some 0.1 s.
const OPEN_MAX: Duration = Duration::from_secs(3);
/// Pause before a connection is tried again; doubles up to [`REOPEN_MAX`].
const REOPEN_MIN: Duration = Duration::from_millis(100);
/// Longest pause between two tries for a connection. Higher: a member that is back is used so much later.
const REOPEN_MAX: Duration = Duration::from_secs(1);
/// What may be under way to this side on a connection before it is read, in bytes: a page of rooms in one round trip.
const WINDOW_BYTES: u32 = 1 << 20;
/// Largest message taken: 64 regions' summaries of the largest size.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// A member.
pub(super) struct Endpoint {
    /// As it stands in the address.
    pub(super) at: HostPort,
    to: transport::Endpoint,
    /// How its pages are asked for; `None` in the clear.
    pub(super) pages: Option<Arc<ClientConfig>>,
    user: Option<(String, Secret)>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The connection, while there is one on which answers come.
    line: Option<Arc<Line>>,
    /// Until when it is asked last, by [`Path`].
    skipped: [Option<Instant>; 3],
    health: Health,
}

/// What a member said of itself last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Health {
    /// Its id; 0 as long as it has not said it.
    pub(super) id: u64,
    /// The leader's id; 0 for none.
    pub(super) leader: u64,
    pub(super) term: u64,
    pub(super) raft_index: u64,
    pub(super) db_bytes: u64,
    /// Smoothed.
    pub(super) rtt: Duration,
}

/// What a member is asked for: one that fails in one way may still do well in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// What most members must agree on.
    Quorum,
    /// What it has itself.
    Local,
    /// Changes as they come.
    Feed,
}

/// One connection.
pub(super) struct Line {
    pub(super) kv: KvClient,
    pub(super) lease: LeaseClient,
    pub(super) maintenance: MaintenanceClient,
    pub(super) cluster: ClusterClient,
    /// Ends when the member has lost the others.
    pub(super) watch: WatchClient,
    /// A new one is wanted.
    renew: Notify,
}

impl Line {
    /// Wants another connection in its place, with a new login.
    pub(super) fn renew(&self) {
        self.renew.notify_one();
    }
}

impl Endpoint {
    pub(super) fn new(
        at: HostPort,
        (tls, pages): (Option<transport::ClientTlsConfig>, Option<Arc<ClientConfig>>),
        user: Option<(String, Secret)>,
    ) -> Result<Endpoint, transport::Error> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let connect = if tls.is_some() { 2 * CONNECT_MAX } else { CONNECT_MAX };
        let mut to = transport::Endpoint::from_shared(format!("{scheme}://{at}"))?
            .connect_timeout(connect)
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
        if let Some(tls) = tls {
            to = to.tls_config(tls)?;
        }
        Ok(Endpoint { at, to, pages, user, state: Mutex::default() })
    }

    /// The connection, if answers come on it.
    pub(super) fn line(&self) -> Option<Arc<Line>> {
        self.lock().line.clone()
    }

    /// What the member said last; `None` without a connection.
    pub(super) fn health(&self) -> Option<Health> {
        let state = self.lock();
        state.line.is_some().then_some(state.health)
    }

    /// It has failed at this: others are asked before it for a while.
    pub(super) fn skip(&self, path: Path) {
        self.lock().skipped[path as usize] = Some(Instant::now() + SKIPPED);
    }

    pub(super) fn is_skipped(&self, path: Path) -> bool {
        self.lock().skipped[path as usize].is_some_and(|until| Instant::now() < until)
    }

    /// How long a try may take if this is the farthest member.
    pub(super) fn try_max(&self) -> Duration {
        let rtt = self.health().map_or(Duration::ZERO, |health| health.rtt);
        (rtt * TRY_ROUND_TRIPS).clamp(TRY_MAX, TRY_LONGEST)
    }

    /// Keeps a connection for as long as it runs.
    pub(super) async fn keep(self: Arc<Endpoint>, board: Arc<Board>) {
        let at = &self.at;
        let (mut pause, mut told) = (REOPEN_MIN, String::new());
        loop {
            let trouble = match timeout(OPEN_MAX, self.open(&board)).await {
                Ok(Ok(line)) => {
                    info!(%at, "etcd member connected");
                    pause = REOPEN_MIN;
                    self.lock().line = Some(line.clone());
                    board.up.notify_one();
                    let trouble = self.watch_over(&line, &board).await;
                    self.lock().line = None;
                    told.clear();
                    trouble
                }
                Ok(Err(trouble)) => trouble,
                Err(_) => "no answer to a new connection".to_owned(),
            };
            board.trouble(at, &trouble);
            // The same again and again is told once.
            if told != trouble {
                warn!(%at, trouble, "etcd member not reached");
                told = trouble;
            }
            sleep(pause).await;
            pause = (pause * 2).min(REOPEN_MAX);
        }
    }

    async fn open(&self, board: &Board) -> Result<Arc<Line>, String> {
        let channel =
            self.to.connect().await.map_err(|error| {
                fault::chain(error.to_string(), std::error::Error::source(&error))
            })?;
        let channel = Channel::Tonic(channel);
        let mut options = ConnectOptions::new();
        if let Some((user, password)) = &self.user {
            options = options.with_user(user, password.expose()).with_auto_token_refresh(true);
        }
        let login = |error| format!("login: {}", fault::words(&error));
        let client = Client::from_channel(channel.clone(), Some(options.clone()));
        let client = client.await.map_err(login)?;
        // Otherwise a member that has lost the others says nothing for ever.
        let led = Client::from_channel(channel, Some(options.with_require_leader(true)));
        let led = led.await.map_err(login)?;
        let line = Line {
            kv: client.kv_client().max_decoding_message_size(MESSAGE_BYTES_MAX),
            lease: client.lease_client(),
            maintenance: client.maintenance_client(),
            cluster: client.cluster_client(),
            watch: led.watch_client().max_decoding_message_size(MESSAGE_BYTES_MAX),
            renew: Notify::new(),
        };
        self.probe(&line, board).await?;
        Ok(Arc::new(line))
    }

    /// Returns why the connection is of no use any more.
    async fn watch_over(&self, line: &Line, board: &Board) -> String {
        loop {
            tokio::select! {
                () = sleep(PROBE_INTERVAL) => {}
                () = line.renew.notified() => return "logging in again".to_owned(),
            }
            if let Err(trouble) = self.probe(line, board).await {
                return trouble;
            }
        }
    }

    /// Asks whether the member lives.
    async fn probe(&self, line: &Line, board: &Board) -> Result<(), String> {
        let asked = Instant::now();
        let mut client = line.maintenance.clone();
        let mut status = pin!(client.status());
        let patience = self.try_max();
        let answer = match timeout(patience, &mut status).await {
            Ok(answer) => answer,
            Err(_) => {
                for path in [Path::Quorum, Path::Local, Path::Feed] {
                    self.skip(path);
                }
                let rest = PROBE_MAX.saturating_sub(patience);
                let silent = |_| format!("no answer for {PROBE_MAX:?}");
                timeout(rest, status).await.map_err(silent)?
            }
        };
        match answer {
            Ok(status) => self.heard(&status, asked.elapsed(), board),
            // One that does not tell everybody how it is.
            Err(error) if fault::is_answer(&error) => {}
            Err(error) => return Err(fault::words(&error)),
        }
        Ok(())
    }

    fn heard(&self, status: &StatusResponse, rtt: Duration, board: &Board) {
        let health = {
            let mut state = self.lock();
            let before = state.health.rtt;
            state.health = Health {
                id: status.header().map_or(0, etcd_client::ResponseHeader::member_id),
                leader: status.leader(),
                term: status.raft_term(),
                raft_index: status.raft_index(),
                db_bytes: u64::try_from(status.db_size()).unwrap_or(0),
                rtt: if before.is_zero() { rtt } else { (before * 7 + rtt) / 8 },
            };
            state.health
        };
        board.leader(health.term, health.leader);
        // Alarms, and "no leader".
        if let Some(trouble) = status.errors().first() {
            board.trouble(&self.at, trouble);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
