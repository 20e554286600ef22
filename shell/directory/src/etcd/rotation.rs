//! Which member is asked: the nearest that does well, and after a while without an answer the next one as well. Every
//! request is known by what it asks for, so that one which is asked twice is applied once.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use etcd_client::Error;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    board::Board,
    endpoint::{Endpoint, Line, Path, TRY_MAX},
    fault::{self, Fault, Verdict},
};

/// Whether a second member may be asked while the first perhaps applies the request still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Twice {
    /// It makes no difference.
    Harmless,
    /// The first could come after whatever is asked next.
    Never,
}

/// All members, nearest first.
pub(super) struct Rotation {
    pub(super) endpoints: Vec<Arc<Endpoint>>,
    pub(super) board: Arc<Board>,
}

impl Rotation {
    /// Whether any member can be asked now.
    pub(super) fn is_up(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.line().is_some())
    }

    /// The leader's id, as those that are reached say: of the newest term, and rather one that knows. `None`: nobody leads.
    pub(super) fn leader(&self) -> Option<u64> {
        let health = self.endpoints.iter().filter_map(|endpoint| endpoint.health());
        let newest = health.max_by_key(|health| (health.term, health.leader != 0))?;
        (newest.leader != 0).then_some(newest.leader)
    }

    /// Those that can be asked now, best first.
    pub(super) fn order(&self, path: Path) -> Vec<(Arc<Endpoint>, Arc<Line>)> {
        let lines = self.endpoints.iter().filter_map(|endpoint| {
            let line = endpoint.line()?;
            Some((endpoint.clone(), line))
        });
        let (well, skipped): (Vec<_>, Vec<_>) =
            lines.partition(|(endpoint, _)| !endpoint.is_skipped(path));
        well.into_iter().chain(skipped).collect()
    }

    /// Asks with `call` until there is an answer, at the latest at `deadline`. A try that takes too long goes on beside the
    /// next one, and the first answer counts.
    pub(super) async fn ask<T, F>(
        &self,
        path: Path,
        twice: Twice,
        deadline: Instant,
        call: impl Fn(Arc<Line>) -> F,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let patience = self.try_max();
        let mut untried = VecDeque::from(self.order(path));
        let mut tries = FuturesUnordered::new();
        let mut perhaps = false;
        let mut next_at = Instant::now();
        loop {
            if tries.is_empty() && (untried.is_empty() || (perhaps && twice == Twice::Never)) {
                return Err(if perhaps { Fault::Unknown } else { Fault::Unavailable });
            }
            let may_start = twice == Twice::Harmless || tries.is_empty();
            tokio::select! {
                Some(tried) = tries.next() => match tried {
                    Ok(value) => return Ok(value),
                    Err(Verdict::Refused(refusal)) => {
                        let sure = !perhaps && tries.is_empty();
                        return Err(if sure { Fault::Refused(refusal) } else { Fault::Unknown });
                    }
                    Err(verdict) => {
                        perhaps |= verdict == Verdict::Perhaps;
                        next_at = Instant::now();
                    }
                },
                () = sleep_until(next_at), if may_start => {
                    if untried.is_empty() {
                        // All of them take long: once more from the first, who may have got another leader.
                        untried = self.order(path).into();
                    }
                    if let Some((endpoint, line)) = untried.pop_front() {
                        let answer = call(line.clone());
                        tries.push(self.attempt(path, endpoint, line, patience, answer));
                    }
                    next_at = Instant::now() + patience;
                }
                () = sleep_until(deadline) => return Err(Fault::Unknown),
            }
        }
    }

    async fn attempt<T>(
        &self,
        path: Path,
        endpoint: Arc<Endpoint>,
        line: Arc<Line>,
        patience: Duration,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Verdict> {
        let mut answer = std::pin::pin!(answer);
        let answer = match timeout(patience, &mut answer).await {
            Ok(answer) => answer,
            Err(_) => {
                endpoint.skip(path);
                self.board.trouble(&endpoint.at, &format!("no answer within {patience:?}"));
                answer.await
            }
        };
        answer.map_err(|error| {
            let verdict = fault::judge(&error);
            if !matches!(verdict, Verdict::Refused(_)) {
                endpoint.skip(path);
            }
            if fault::is_stale_login(&error) {
                line.renew();
            }
            self.board.trouble(&endpoint.at, &fault::words(&error));
            verdict
        })
    }

    /// By the farthest member: a commit waits for one that may be as far.
    fn try_max(&self) -> Duration {
        let each = self.endpoints.iter().map(|endpoint| endpoint.try_max());
        each.max().unwrap_or(TRY_MAX)
    }
}
