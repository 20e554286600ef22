//! A close look at the members, and the two things that only an operator does: counting and wiping.

use std::{sync::Arc, time::Duration};

use etcd_client::{AlarmAction, AlarmType, DeleteOptions, GetOptions, StatusResponse};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use super::{
    Etcd, Shared,
    endpoint::{Endpoint, Line, Path},
    fault::{self, Fault},
    instance, pages,
    rotation::Twice,
};
use crate::{Behind, Inspection, Role, Survey, page};

/// Between two looks whether a connection has come about.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long a connection is waited for, and each answer.
const REACH_MAX: Duration = Duration::from_secs(3);
/// How long a wipe may take. A million rooms are some seconds.
const WIPE_MAX: Duration = Duration::from_secs(60);

impl Etcd {
    /// Asks every member `probes` times how it is, one by one, and what its settings are.
    pub async fn inspect(&self, probes: usize) -> Survey {
        let endpoints = &self.shared.rotation.endpoints;
        let look = |endpoint| look(endpoint, probes);
        let mut looked = join_all(endpoints.iter().map(|endpoint| look(endpoint))).await;
        agree(&self.shared, &mut looked, probes).await;
        let voters = looked.iter().find_map(|look| look.voters);
        let leader = looked.iter().filter_map(|look| look.status.as_ref());
        // Those that lag behind know an older one.
        let leader = leader.max_by_key(|status| (status.raft_term(), status.leader() != 0));
        let leader = leader.map_or(0, StatusResponse::leader);
        let farthest = looked.iter().filter_map(|look| look.status.as_ref());
        let farthest = farthest.map(StatusResponse::raft_index).max().unwrap_or(0);
        let servers = looked.into_iter().map(|look| {
            let mut server = look.server;
            if let Some(status) = look.status {
                server.role = match server.id {
                    _ if status.is_learner() => Role::Learns,
                    id if id == Some(leader) => Role::Decides,
                    _ => Role::Follows,
                };
                server.behind = Some(Behind::Entries(farthest - status.raft_index()));
            }
            server
        });
        Survey { servers: servers.collect(), voters }
    }

    /// How many rooms there are, those included that ended in the last minutes; `None` when no member tells.
    pub async fn rooms(&self) -> Option<u64> {
        let (from, to) = self.shared.keys.rooms();
        let deadline = Instant::now() + REACH_MAX;
        let found = self.shared.rotation.ask(Path::Local, Twice::Harmless, deadline, |line| {
            let options = GetOptions::new().with_range(to.clone()).with_count_only();
            let from = from.clone();
            async move { line.kv.clone().get(from, Some(options.with_serializable())).await }
        });
        u64::try_from(found.await.ok()?.count()).ok()
    }

    /// Deletes everything of this directory, and nothing else; returns how many keys that were. For drills: gateways announce
    /// their rooms anew.
    ///
    /// # Errors
    /// In words. It may be deleted all the same.
    pub async fn wipe(&self) -> Result<u64, String> {
        let keys = &self.shared.keys;
        let deadline = Instant::now() + WIPE_MAX;
        let wiped =
            self.shared.rotation.ask(Path::Quorum, Twice::Never, deadline, |line| async move {
                let options = DeleteOptions::new().with_prefix();
                line.kv.clone().delete(keys.all(), Some(options)).await
            });
        match wiped.await {
            Ok(response) => Ok(u64::try_from(response.deleted()).unwrap_or(0)),
            Err(Fault::Unavailable) => Err("no member is reached".to_owned()),
            Err(Fault::Unknown) => Err("no answer: it may be wiped or not".to_owned()),
            Err(Fault::Refused(refusal)) => Err(format!("etcd refuses: {refusal:?}")),
        }
    }
}

/// What was seen of one member.
struct Look {
    server: Inspection,
    status: Option<StatusResponse>,
    voters: Option<usize>,
    line: Option<Arc<Line>>,
}

/// Asks each member what most must agree on, one after the other: of questions at the same time some are answered together with
/// those before them, or wait for these. A member that has no answer is not asked again.
async fn agree(shared: &Shared, looked: &mut [Look], probes: usize) {
    for _ in 0..probes.max(1) {
        for look in looked.iter_mut() {
            let Some(line) = &look.line else { continue };
            let asked = Instant::now();
            let read = instance::read(line.kv.clone(), &shared.keys, false);
            match timeout(REACH_MAX, read).await {
                Ok(Ok(_)) => look.server.agreements.push(asked.elapsed()),
                Ok(Err(_)) | Err(_) => look.line = None,
            }
        }
    }
}

async fn look(endpoint: &Endpoint, probes: usize) -> Look {
    let server = Inspection::of(&endpoint.at);
    let mut look = Look { server, status: None, voters: None, line: None };
    let Some(line) = reach(endpoint).await else {
        look.server.troubles.push(format!("no connection within {REACH_MAX:?}"));
        return look;
    };
    for _ in 0..probes.max(1) {
        let asked = Instant::now();
        let mut client = line.maintenance.clone();
        match timeout(REACH_MAX, client.status()).await {
            Ok(Ok(status)) => {
                look.server.round_trips.push(asked.elapsed());
                look.status = Some(status);
            }
            Ok(Err(error)) => look.server.troubles.push(fault::words(&error)),
            Err(_) => look.server.troubles.push(format!("no answer within {REACH_MAX:?}")),
        }
    }
    if let Some(status) = &look.status {
        look.server.id = status.header().map(etcd_client::ResponseHeader::member_id);
        look.server.version = Some(status.version().to_owned());
        look.server.troubles.extend(status.errors().iter().cloned());
    }
    look.voters = voters(&line).await;
    look.server.troubles.extend(alarms(&line, look.server.id).await);
    look.server.troubles.dedup();
    tell(endpoint, &mut look.server).await;
    look.line = Some(line);
    look
}

async fn reach(endpoint: &Endpoint) -> Option<Arc<Line>> {
    let deadline = Instant::now() + REACH_MAX;
    loop {
        match endpoint.line() {
            None if Instant::now() < deadline => sleep(LOOK_INTERVAL).await,
            line => return line,
        }
    }
}

async fn voters(line: &Line) -> Option<usize> {
    let mut cluster = line.cluster.clone();
    let members = timeout(REACH_MAX, cluster.member_list()).await.ok()?.ok()?;
    Some(members.members().iter().filter(|member| !member.is_learner()).count())
}

/// Alarms of this member: while one is up, etcd takes no claims.
async fn alarms(line: &Line, id: Option<u64>) -> Vec<String> {
    let mut client = line.maintenance.clone();
    let asked = client.alarm(AlarmAction::Get, AlarmType::None, None);
    let Ok(Ok(response)) = timeout(REACH_MAX, asked).await else { return Vec::new() };
    let own = response.alarms().iter().filter(|alarm| Some(alarm.member_id()) == id);
    own.map(|alarm| format!("alarm {:?}", alarm.alarm())).collect()
}

/// What it tells over HTTP. Somebody may have closed these pages: settings are unknown then.
async fn tell(endpoint: &Endpoint, server: &mut Inspection) {
    if let Ok(metrics) = page::get(&endpoint.at, endpoint.pages.as_ref(), "/metrics").await {
        server.settings.extend(pages::sizes(&metrics));
        server.peers = pages::peers(&metrics);
    }
    if let Ok(vars) = page::get(&endpoint.at, endpoint.pages.as_ref(), "/debug/vars").await {
        server.settings.extend(pages::flags(&vars));
    }
}
