//! Claims and ends by group: several at once, then one `WAIT` for a replica that has them all.
//!
//! `WAIT` blocks its connection, so each worker has one of its own. What it waits for is what was written on *that*
//! connection; therefore each group ends with a write. Without it an answer that needed no write (somebody else holds the room,
//! the same claim won before) could be given by a primary that has been superseded, or be lost with a write that it tells of.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicU8, AtomicU32,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
    time::Duration,
};

use redis::{Pipeline, Value};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    task::JoinSet,
};

use super::{
    fault::Fault,
    node_conn::{Link, NodeConn},
    primary::judge,
    scripts::Call,
};

/// Groups that are under way at a time. One takes two round trips, 200 ms between regions: what comes while all are under way waits
/// for the next, 25 ms at most when they are evenly spread. Lower: joins of new rooms wait longer; higher: connections.
const WORKERS: usize = 8;
/// Most requests in one group.
const GROUP_MAX: usize = 512;
/// Most requests that wait for a group. What comes on top is not sent: whoever asks has long gone on without an answer.
const QUEUE_MAX: usize = 4 * WORKERS * GROUP_MAX;
/// How long a group waits for a replica. Below the longest time for an answer, which it is part of.
const WAIT_MAX: Duration = Duration::from_millis(600);

/// How far a request has come: it waits, and nobody has sent it; it is sent, or will be; whoever asked has gone.
const QUEUED: u8 = 0;
const TAKEN: u8 = 1;
const GONE: u8 = 2;

/// The workers of one primary; they end with it.
pub(super) struct Commit {
    queue: mpsc::Sender<Job>,
    lines: Vec<Arc<NodeConn>>,
    _workers: JoinSet<()>,
}

/// A request, and where its answer goes.
struct Job {
    call: Call,
    /// The key to write for the sake of being replicated.
    fence: String,
    stage: Arc<AtomicU8>,
    answer: oneshot::Sender<Result<Value, Fault>>,
}

/// A request on its way.
pub(super) struct Pending {
    stage: Arc<AtomicU8>,
    answer: oneshot::Receiver<Result<Value, Fault>>,
}

impl Commit {
    /// For the server that `node` is a connection to. `replicas` is how many must have a group, and may change.
    pub(super) fn start(node: &NodeConn, replicas: &Arc<AtomicU32>) -> Commit {
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let jobs = Arc::new(Mutex::new(jobs));
        let mut workers = JoinSet::new();
        let lines = (0..WORKERS).map(|_| {
            let line = Arc::new(node.again());
            workers.spawn(work(line.clone(), jobs.clone(), replicas.clone()));
            line
        });
        let lines = lines.collect();
        Commit { queue, lines, _workers: workers }
    }

    /// Queues a request.
    ///
    /// # Errors
    /// When there is no connection, or there are too many before it.
    pub(super) fn submit(&self, call: Call, fence: String) -> Result<Pending, Fault> {
        if !self.lines.iter().any(|line| line.link().is_some() && line.is_named()) {
            return Err(Fault::Unavailable);
        }
        let stage = Arc::new(AtomicU8::new(QUEUED));
        let (answer, answered) = oneshot::channel();
        let job = Job { call, fence, stage: stage.clone(), answer };
        self.queue.try_send(job).map_err(|_| Fault::Unavailable)?;
        Ok(Pending { stage, answer: answered })
    }
}

impl Pending {
    /// The answer, if there is one by `deadline`.
    pub(super) async fn wait(self, deadline: tokio::time::Instant) -> Result<Value, Fault> {
        if let Ok(Ok(answer)) = tokio::time::timeout_at(deadline, self.answer).await {
            return answer;
        }
        match self.stage.compare_exchange(QUEUED, GONE, AcqRel, Acquire) {
            Ok(_) => Err(Fault::Unavailable),
            Err(_) => Err(Fault::Unknown),
        }
    }
}

async fn work(
    line: Arc<NodeConn>,
    jobs: Arc<Mutex<mpsc::Receiver<Job>>>,
    replicas: Arc<AtomicU32>,
) {
    let mut links = line.links();
    let mut group = Vec::with_capacity(GROUP_MAX);
    loop {
        // In a statement of its own: it is not held while something is waited for.
        let link = links.borrow_and_update().clone();
        let Some(link) = link else {
            if links.changed().await.is_err() {
                return;
            }
            continue;
        };
        let take = async { jobs.lock().await.recv_many(&mut group, GROUP_MAX).await };
        tokio::select! {
            changed = links.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            taken = take => {
                if taken == 0 {
                    return;
                }
            }
        }
        group.retain(|job| job.stage.compare_exchange(QUEUED, TAKEN, AcqRel, Acquire).is_ok());
        carry_out(&line, &link, std::mem::take(&mut group), replicas.load(Relaxed)).await;
    }
}

/// First by their hashes; those of scripts that the server does not know, which it has not begun, once more as a whole.
async fn carry_out(line: &NodeConn, link: &Link, group: Vec<Job>, replicas: u32) {
    let unknown = send(line, link, group, replicas, false).await;
    send(line, link, unknown, replicas, true).await;
}

/// Returns those whose script the server does not know.
async fn send(
    line: &NodeConn,
    link: &Link,
    group: Vec<Job>,
    replicas: u32,
    whole: bool,
) -> Vec<Job> {
    let Some(first) = group.first() else { return Vec::new() };
    let mut commands = Pipeline::new();
    for job in &group {
        commands.add_command(job.call.command(whole));
    }
    if replicas > 0 {
        commands.cmd("SET").arg(&first.fence).arg("");
        let wait_max = u64::try_from(WAIT_MAX.as_millis()).unwrap_or(u64::MAX);
        commands.cmd("WAIT").arg(replicas).arg(wait_max);
    }
    let Ok(mut answers) = line.ask(link, &commands).await else {
        for job in group {
            drop(job.answer.send(Err(Fault::Unknown)));
        }
        return Vec::new();
    };
    // A replica that has it may be another than the one which is about to take over.
    let is_kept =
        replicas == 0 || is_replicated(line, &answers[group.len()..], replicas) && line.is_named();
    answers.truncate(group.len());
    let mut unknown = Vec::new();
    for (job, answer) in group.into_iter().zip(answers) {
        let answer = match judge(line, answer) {
            Ok(answer) if is_kept => Ok(answer),
            Ok(_) => Err(Fault::Unknown),
            Err(None) if !whole => {
                unknown.push(job);
                continue;
            }
            Err(fault) => Err(fault.unwrap_or(Fault::Unavailable)),
        };
        // Whoever asked may have gone.
        drop(job.answer.send(answer));
    }
    unknown
}

/// By the answers to the write at the end and to `WAIT`.
fn is_replicated(line: &NodeConn, answers: &[Value], replicas: u32) -> bool {
    match answers {
        [Value::ServerError(_), _] => false,
        [_, Value::Int(count)] if *count >= i64::from(replicas) => true,
        _ => {
            let words =
                format!("fewer than {replicas} replicas have taken writes within {WAIT_MAX:?}");
            line.trouble(&words);
            false
        }
    }
}
