//! Which content there is: random bits under a key of its own, written once.
//!
//! etcd loses no write that it has acknowledged, so nothing else is mixed in. A backup that was put back has the instance of
//! its time: whoever restores one deletes the key (docs/directory.md).

use etcd_client::{Compare, CompareOp, Error, GetOptions, KvClient, Txn, TxnOp};
use outlast_directory::InstanceId;
use outlast_runtime::entropy;
use tokio::time::Instant;

use super::{
    Shared,
    endpoint::Path,
    fault::Fault,
    keys::{Keys, Taken, taken},
    revision_of,
    rotation::Twice,
};

/// What one member knows: the instance, if it has one, and how far it has come. From the member alone with `is_local`.
pub(super) async fn read(
    mut kv: KvClient,
    keys: &Keys,
    is_local: bool,
) -> Result<(Option<InstanceId>, u64), Error> {
    let options = is_local.then(|| GetOptions::new().with_serializable());
    let response = kv.get(keys.instance(), options).await?;
    let revision = response.header().map_or(0, |header| revision_of(header.revision()));
    let instance = match response.kvs().first() {
        Some(kv) => Some(parse(kv.value()).ok_or_else(|| {
            Error::Internal("the key of the instance has not 16 bytes".to_owned())
        })?),
        None => None,
    };
    Ok((instance, revision))
}

/// What most members agree on; made if there is none. With how far they have come.
pub(super) async fn agree(shared: &Shared, deadline: Instant) -> Result<(InstanceId, u64), Fault> {
    let found = shared.rotation.ask(Path::Quorum, Twice::Harmless, deadline, |line| async move {
        read(line.kv.clone(), &shared.keys, false).await
    });
    if let (Some(instance), revision) = found.await? {
        return Ok((instance, revision));
    }
    let random = entropy::bytes::<16>().map_err(|_| Fault::Unavailable)?;
    let key = shared.keys.instance();
    let txn = Txn::new()
        .when([Compare::create_revision(&key[..], CompareOp::Equal, 0)])
        .and_then([TxnOp::put(&key[..], random, None)])
        .or_else([TxnOp::get(&key[..], None)]);
    let made = shared.rotation.ask(Path::Quorum, Twice::Harmless, deadline, |line| {
        let txn = txn.clone();
        async move { line.kv.clone().txn(txn).await }
    });
    let made = made.await?;
    let revision = made.header().map_or(0, |header| revision_of(header.revision()));
    let instance = match taken(&made) {
        Taken::Put => Some(InstanceId(u128::from_be_bytes(random))),
        Taken::Got(value) => parse(&value),
        Taken::Count(_) | Taken::Nothing => None,
    };
    Ok((instance.ok_or(Fault::Unavailable)?, revision))
}

fn parse(value: &[u8]) -> Option<InstanceId> {
    Some(InstanceId(u128::from_be_bytes(value.try_into().ok()?)))
}
