//! A server that decides, and how it is asked.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU32},
    time::Duration,
};

use redis::{Cmd, Value};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

use super::{
    commit::{Commit, Pending},
    fault::{self, Fault, Refusal},
    inspect::{Info, Part},
    node_conn::{Kind, Link, NodeConn},
    scripts::Call,
};
use crate::HostPort;

/// Between two looks at how far replicas are behind.
const SURVEY_INTERVAL: Duration = Duration::from_secs(1);

/// A server that decides. Its connections end with it.
pub(super) struct Primary {
    node: Arc<NodeConn>,
    /// How many replicas must have a claim before it is answered.
    pub(super) replicas: Arc<AtomicU32>,
    commit: Option<Commit>,
    replication: Arc<Mutex<Option<Info>>>,
    _survey: JoinSet<()>,
}

impl Primary {
    /// With `waits`, claims and ends wait for `replicas`; without, for none, whatever `replicas` says later.
    pub(super) fn start(node: Arc<NodeConn>, replicas: u32, waits: bool) -> Primary {
        let replicas = Arc::new(AtomicU32::new(replicas));
        let commit = waits.then(|| Commit::start(&node, &replicas));
        let replication = Arc::new(Mutex::new(None));
        let mut tasks = JoinSet::new();
        tasks.spawn(survey(node.clone(), replication.clone()));
        Primary { node, replicas, commit, replication, _survey: tasks }
    }

    pub(super) fn at(&self) -> &HostPort {
        self.node.at()
    }

    pub(super) fn node(&self) -> &Arc<NodeConn> {
        &self.node
    }

    /// What it said last of its replicas, a second ago at most; `None` when it was not reached.
    pub(super) fn replication(&self) -> Option<Info> {
        self.replication.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Queues a request that waits for replicas; `None` when none are waited for.
    pub(super) fn commit(&self, call: &Call, fence: &str) -> Option<Result<Pending, Fault>> {
        let commit = self.commit.as_ref()?;
        Some(commit.submit(call.clone(), fence.to_owned()))
    }

    /// Asks and waits for no replica.
    pub(super) async fn call(&self, call: &Call, deadline: Instant) -> Result<Value, Fault> {
        match self.ask(call.command(false), deadline).await {
            Err(None) => match self.ask(call.command(true), deadline).await {
                Err(fault) => Err(fault.unwrap_or(Fault::Unavailable)),
                Ok(answer) => Ok(answer),
            },
            Err(Some(fault)) => Err(fault),
            Ok(answer) => Ok(answer),
        }
    }

    /// Asks with one command. `Err(None)` when the server does not know the script.
    pub(super) async fn ask(
        &self,
        command: Cmd,
        deadline: Instant,
    ) -> Result<Value, Option<Fault>> {
        let link = self.node.link().ok_or(Some(Fault::Unavailable))?;
        match timeout_at(deadline, self.node.ask_one(&link, command)).await {
            Ok(Ok(answer)) => judge(&self.node, answer),
            Ok(Err(_)) | Err(_) => Err(Some(Fault::Unknown)),
        }
    }
}

/// What an answer means; `Err(None)` when the server does not know the script.
pub(super) fn judge(node: &NodeConn, answer: Value) -> Result<Value, Option<Fault>> {
    let Value::ServerError(error) = answer else { return Ok(answer) };
    let refusal = Refusal::of(&error);
    match refusal {
        Refusal::NoScript => return Err(None),
        Refusal::Elsewhere => {
            node.door().look.notify_one();
            node.trouble(&fault::words(&error));
        }
        Refusal::Unwilling | Refusal::Full | Refusal::Other => {
            node.trouble(&fault::words(&error));
        }
    }
    Err(Some(refusal.fault()))
}

/// Looks at replicas, and at whether it decides at all: one that somebody has made a replica keeps its connections and answers
/// what needs no write.
async fn survey(node: Arc<NodeConn>, seen: Arc<Mutex<Option<Info>>>) {
    loop {
        let info = replication(&node).await;
        if let (Some((link, info)), Kind::Data(Part::Alone | Part::Primary)) =
            (&info, node.door().kind)
            && !info.is_primary()
        {
            node.give_up(link, "it has become a replica");
        }
        *seen.lock().unwrap_or_else(PoisonError::into_inner) = info.map(|(_, info)| info);
        sleep(SURVEY_INTERVAL).await;
    }
}

/// How it replicates, and the connection that told so; `None` when it is not reached.
pub(super) async fn replication(node: &NodeConn) -> Option<(Link, Info)> {
    let link = node.link()?;
    let mut command = redis::cmd("INFO");
    command.arg("replication");
    let answer = node.ask_one(&link, command).await.ok()?;
    Some((link, Info::read(&[answer])))
}
