//! Leases: what is to be forgotten hangs on one. Tombstones of about a minute share one; a region's summary has its own.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use etcd_client::{Compare, CompareOp, GetOptions, PutOptions, Txn, TxnOp};
use outlast_directory::{Failure, Reply, SUMMARIES_MAX, Summary};
use outlast_model::RegionName;
use tokio::time::{Instant, timeout_at};

use super::{
    Shared,
    endpoint::Path,
    fault::{Fault, Refusal},
    keys::{Taken, taken},
    rotation::Twice,
};
use crate::REPLY_MAX;

/// How long a lease takes tombstones. Lower: more leases, each a commit; higher: the first of them are kept so much longer.
const SHARED_FOR: Duration = Duration::from_secs(60);
/// Times that a lease is made anew for one request: the cached one may be gone.
const LEASES_MAX: usize = 2;

/// The leases of this process.
#[derive(Default)]
pub(super) struct Leases {
    /// The one for tombstones, and until when it takes more. Held while the next one is made, so that one is.
    tombstones: tokio::sync::Mutex<Option<(i64, Instant)>>,
    /// One each region, with its time to live in seconds.
    summaries: Mutex<BTreeMap<RegionName, (i64, i64)>>,
}

/// etcd's leases are in whole seconds.
fn seconds(span: Duration) -> i64 {
    let whole = span.as_secs() + u64::from(span.subsec_nanos() > 0);
    i64::try_from(whole).unwrap_or(i64::MAX)
}

impl Leases {
    /// The lease for a tombstone that is made within [`REPLY_MAX`], on which it is kept for `kept` at least.
    pub(super) async fn for_tombstone(
        &self,
        shared: &Shared,
        kept: Duration,
        deadline: Instant,
    ) -> Result<i64, Fault> {
        // Whoever waits here in vain has sent nothing.
        let lock = timeout_at(deadline, self.tombstones.lock());
        let mut current = lock.await.map_err(|_| Fault::Unavailable)?;
        let now = Instant::now();
        if let Some((lease, until)) = *current
            && now < until
        {
            return Ok(lease);
        }
        let shared_for = SHARED_FOR.min(kept / 10);
        let ttl = seconds(kept + shared_for + REPLY_MAX);
        // A lease without keys may have been made: nothing of the request is applied yet.
        let lease = grant(shared, ttl, deadline).await.map_err(surely_not)?;
        *current = Some((lease, now + shared_for));
        Ok(lease)
    }

    /// `lease` is gone, with all that hung on it.
    pub(super) async fn forget_tombstones(&self, lease: i64) {
        let mut current = self.tombstones.lock().await;
        if current.is_some_and(|(other, _)| other == lease) {
            *current = None;
        }
    }

    /// Puts a region's summary, if it is not what is there, and makes it live for `ttl` from now on.
    pub(super) async fn heartbeat(
        &self,
        shared: &Shared,
        summary: &Summary,
        ttl: Duration,
        deadline: Instant,
    ) -> Result<Reply, Fault> {
        let ttl = seconds(ttl);
        for _ in 0..LEASES_MAX {
            let known = self.lock().get(&summary.region).copied();
            let (lease, is_new) = match known {
                Some((lease, of)) if of == ttl => (lease, false),
                _ => (grant(shared, ttl, deadline).await.map_err(surely_not)?, true),
            };
            let prolonged =
                async { if is_new { Ok(()) } else { prolong(shared, lease, deadline).await } };
            let (prolonged, put) = tokio::join!(prolonged, put(shared, summary, lease, deadline));
            match (put, prolonged) {
                (Ok(reply), Ok(())) => {
                    self.remember(&summary.region, lease, ttl);
                    return Ok(reply);
                }
                (Err(Fault::Refused(Refusal::NoLease)), _)
                | (_, Err(Fault::Refused(Refusal::NoLease))) => {
                    self.lock().remove(&summary.region);
                }
                // Put on a lease that perhaps runs out early.
                (Ok(_), Err(_)) => return Err(Fault::Unknown),
                (Err(fault), _) => return Err(fault),
            }
        }
        Err(Fault::Unknown)
    }

    fn remember(&self, region: &RegionName, lease: i64, ttl: i64) {
        let mut summaries = self.lock();
        if summaries.len() >= SUMMARIES_MAX && !summaries.contains_key(region) {
            // A gateway has one region: whoever sends so many makes a lease each time.
            summaries.clear();
        }
        summaries.insert(region.clone(), (lease, ttl));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RegionName, (i64, i64)>> {
        self.summaries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn surely_not(fault: Fault) -> Fault {
    if fault == Fault::Unknown { Fault::Unavailable } else { fault }
}

async fn grant(shared: &Shared, ttl: i64, deadline: Instant) -> Result<i64, Fault> {
    let granted = shared.rotation.ask(Path::Quorum, Twice::Harmless, deadline, |line| async move {
        line.lease.clone().grant(ttl, None).await
    });
    Ok(granted.await?.id())
}

async fn prolong(shared: &Shared, lease: i64, deadline: Instant) -> Result<(), Fault> {
    let prolonged = shared.rotation.ask(Path::Quorum, Twice::Never, deadline, |line| async move {
        line.lease.clone().keep_alive(lease).await.map(|_| ())
    });
    prolonged.await
}

/// The same bytes on the same lease make no revision and no history. A region that is not there yet is put only if there are
/// not too many: two new ones at the same moment may both come in.
async fn put(
    shared: &Shared,
    summary: &Summary,
    lease: i64,
    deadline: Instant,
) -> Result<Reply, Fault> {
    let (key, value) = (shared.keys.summary(&summary.region), summary.encode());
    let put = TxnOp::put(&key[..], &value[..], Some(PutOptions::new().with_lease(lease)));
    let count = GetOptions::new().with_prefix().with_count_only();
    let count = TxnOp::get(shared.keys.summaries(), Some(count));
    let change = Txn::new()
        .when([Compare::create_revision(&key[..], CompareOp::Greater, 0)])
        .and_then([put.clone()])
        .or_else([count]);
    let same = [
        Compare::value(&key[..], CompareOp::Equal, &value[..]),
        Compare::lease(&key[..], CompareOp::Equal, lease),
    ];
    let beat = Txn::new().when(same).and_then([]).or_else([TxnOp::txn(change)]);
    let ask = async |txn: Txn| {
        let reply = shared.rotation.ask(Path::Quorum, Twice::Never, deadline, |line| {
            let txn = txn.clone();
            async move { line.kv.clone().txn(txn).await }
        });
        reply.await.map(|response| taken(&response))
    };
    match ask(beat).await? {
        Taken::Count(count) if usize::try_from(count).is_ok_and(|count| count >= SUMMARIES_MAX) => {
            Ok(Reply::Failed(Failure::Bad("one region too many".to_owned())))
        }
        Taken::Count(_) => ask(Txn::new().and_then([put])).await.map(|_| Reply::Done),
        Taken::Put | Taken::Got(_) | Taken::Nothing => Ok(Reply::Done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_never_shorter_than_what_hangs_on_it() {
        for (ms, whole) in [(1, 1), (1_000, 1), (1_001, 2), (662_000, 662)] {
            assert_eq!(seconds(Duration::from_millis(ms)), whole);
        }
    }
}
