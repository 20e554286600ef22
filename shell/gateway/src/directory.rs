//! The way to the directory: questions go out in the order in which they are asked, answers come back as they come.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::hmac;
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use outlast_directory::{CallId, Partition, Request, RoomKeyer};
use outlast_engines::Engine;
use outlast_gateway_core::Input;
use outlast_runtime::Clock;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::interval,
};

use crate::{directory_metrics::DirectoryMetrics, role_loop::RoleLoop};

/// What the keys of rooms are for, so that nothing else that is made of the cluster's secret is ever the same.
const LABEL: &[u8] = b"outlast directory room keys, version 1";
/// Span between two looks at the state of the engine.
const STATE_INTERVAL: Duration = Duration::from_millis(500);

/// Makes rooms' keys from the cluster's secret: the first half of HMAC-SHA256 of a label under it is the key that names are
/// hashed with, so that whoever reads a directory learns no names.
pub fn room_keyer(cluster_secret: &[u8]) -> RoomKeyer {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, cluster_secret), LABEL);
    let (key, _) = tag.as_ref().split_first_chunk().expect("a tag has 32 bytes");
    RoomKeyer::new(*key)
}

/// The role's end: its callers never have more than `CALLS_MAX` calls in flight each, so the queue is bounded.
pub(crate) struct Calls(UnboundedSender<(CallId, Request)>);

/// The directory's end.
pub(crate) type Called = UnboundedReceiver<(CallId, Request)>;

/// Both ends.
pub(crate) fn calls() -> (Calls, Called) {
    let (sender, receiver) = unbounded_channel();
    (Calls(sender), receiver)
}

impl Calls {
    /// Asks; the answer comes to the role. After the end nobody answers, as with a network that is gone.
    pub(crate) fn ask(&self, call: CallId, request: Request) {
        drop(self.0.send((call, request)));
    }
}

/// Carries questions to the engine and answers to the role, for ever.
pub(crate) async fn carry(
    engine: Arc<dyn Engine>,
    mut called: Called,
    role: Arc<RoleLoop>,
    clock: Clock,
    metrics: DirectoryMetrics,
) {
    let look = |metrics: &DirectoryMetrics| {
        for at in (0..engine.partitions().get()).map(Partition) {
            metrics.state(at, &engine.state(at));
        }
    };
    look(&metrics);
    let mut answers = FuturesUnordered::new();
    let mut states = interval(STATE_INTERVAL);
    loop {
        tokio::select! {
            Some((call, request)) = called.recv() => {
                let (operation, asked_at) = (request.operation(), clock.now());
                let answer = engine.ask(call.at, request);
                answers.push(answer.map(move |reply| (call, operation, asked_at, reply)));
            }
            Some((call, operation, asked_at, reply)) = answers.next() => {
                metrics.answered(call.at, operation, reply.outcome(), clock.now().since(asked_at));
                role.input(Input::Directory { call, reply });
            }
            _ = states.tick() => look(&metrics),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hang_on_the_secret_and_stay_what_they_are() {
        let key = |secret: &[u8]| room_keyer(secret).key(&"standup".into());
        assert_eq!(key(b"one"), key(b"one"));
        assert_ne!(key(b"one"), key(b"two"));
        // The same at every gateway of every version: HMAC-SHA256 by Python's hmac, then SipHash-2-4-128.
        assert_eq!(
            key(b"0123456789abcdef0123456789abcdef").to_string(),
            "133cba43e3686c4937c8487050b35f97"
        );
    }
}
