//! Beats: each interval every shard is asked for a tick, which it answers at the end of its next turn, and when the last
//! has answered, one sealed datagram goes to every gateway. A shard that hangs is a beat that is not sent.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use outlast_model::{BEAT_INTERVAL, Epoch, Time};
use outlast_runtime::Clock;
use outlast_wire::{
    Beat, DATAGRAM_BYTES_MAX, Echo, Echoed, Message, Opener, Process, Sealer, Secret,
};
use tokio::{
    net::{UdpSocket, lookup_host},
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    config::{GatewayPeer, NodeConfig},
    shards::{Shards, Shared},
    ticks::RollCall,
};

/// A gateway counts as heard for so long after its last echo: as long as it takes itself to give a node up.
const HEARD_SPAN: Duration = Duration::from_secs(2);
/// A tick older than this proves nothing: the process may have been stopped since.
const TICK_AGE_MAX: Duration = Duration::from_millis(800);
/// Span between two look-ups of a gateway's name.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(30);
/// The same after a look-up that failed.
const LOOKUP_RETRY: Duration = Duration::from_secs(3);

/// The task that beats.
pub(crate) struct Beats {
    socket: UdpSocket,
    shards: Arc<Shards>,
    shared: Arc<Shared>,
    clock: Clock,
    secret: Secret,
    me: Process,
    sealer: Sealer,
    sealed_epoch: Epoch,
    opener: Opener,
    gateways: Vec<Gateway>,
    ready: Arc<AtomicBool>,
}

/// One gateway as this node knows it.
struct Gateway {
    process: Process,
    address: watch::Receiver<Option<SocketAddr>>,
    /// The last beat to it: sequence and time.
    sent: Option<(u64, Time)>,
    heard: Option<Heard>,
}

/// A gateway's last echo.
struct Heard {
    at: Time,
    epoch: Epoch,
    stamp: u64,
    /// From the beat to its echo, when it was the last one.
    round_trip: Option<Duration>,
}

impl Beats {
    /// Takes over `socket`; begins to look for the gateways.
    pub(crate) fn new(
        config: &NodeConfig,
        socket: UdpSocket,
        shards: Arc<Shards>,
        shared: Arc<Shared>,
        ready: Arc<AtomicBool>,
    ) -> Beats {
        let me = Process::node(config.id.as_str());
        let sealed_epoch = shared.epoch();
        let peers = config.gateways.iter().map(|peer| Process::gateway(&peer.id));
        Beats {
            socket,
            clock: config.clock,
            sealer: Sealer::new(&config.secret, me.clone(), sealed_epoch),
            opener: Opener::new(&config.secret, me.clone(), peers),
            secret: config.secret.clone(),
            me,
            sealed_epoch,
            gateways: config.gateways.iter().map(Gateway::new).collect(),
            shards,
            shared,
            ready,
        }
    }

    /// Beats until `stop` turns true.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut beats = interval(BEAT_INTERVAL);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut number = 0;
        let mut asked_at = None;
        let mut buffer = [0; DATAGRAM_BYTES_MAX + 1];
        loop {
            tokio::select! {
                _ = beats.tick() => {
                    if asked_at.is_some() {
                        self.shared.metrics.beats_held.inc();
                        self.ready.store(false, Ordering::Release);
                    }
                    let now = self.clock.now();
                    // A slow shard would never catch up with a number that changes under it.
                    if !asked_at.is_some_and(|asked| may_answer(&self.shared.roll_call, number, now.since(asked))) {
                        number += 1;
                        asked_at = Some(now);
                        self.shared.roll_call.ask(number);
                        self.shards.ring();
                    }
                }
                () = self.shared.roll_call.wait(number), if asked_at.is_some() => {
                    let asked = asked_at.take().unwrap_or_default();
                    if self.clock.now().since(asked) <= TICK_AGE_MAX {
                        let ready = !self.shared.is_draining();
                        self.ready.store(ready, Ordering::Release);
                        self.beat().await;
                    }
                }
                received = self.socket.recv_from(&mut buffer) => {
                    // An error is some gateway's ICMP; its silence says as much.
                    if let Ok((length, _)) = received {
                        self.hear(&buffer[..length]);
                    }
                }
                () = stopped(&mut stop) => return,
            }
        }
    }

    async fn beat(&mut self) {
        let epoch = self.shared.epoch();
        if epoch != self.sealed_epoch {
            self.sealer = Sealer::new(&self.secret, self.me.clone(), epoch);
            self.sealed_epoch = epoch;
        }
        let now = self.clock.now();
        let total = self.shared.metrics.total();
        let beat = Beat {
            ticked: true,
            draining: self.shared.is_draining(),
            load_permille: total.load_permille,
            rooms: u32::try_from(total.stats.rooms).unwrap_or(u32::MAX),
            participants: u32::try_from(total.stats.participants).unwrap_or(u32::MAX),
            echoed: None,
        };
        let mut heard = 0;
        for gateway in &mut self.gateways {
            heard += i64::from(gateway.is_heard(now));
            let Some(address) = *gateway.address.borrow() else { continue };
            let beat = Beat { echoed: gateway.echoed(now), ..beat };
            let datagram = self.sealer.seal(&gateway.process, &Message::Beat(beat));
            gateway.sent = Some((datagram.sequence, now));
            // Lost here or lost on the way: the gateway counts what it misses.
            if self.socket.send_to(&datagram.bytes, address).await.is_ok() {
                self.shared.metrics.beats.inc();
            }
        }
        self.shared.metrics.gateways_heard.set(heard);
    }

    fn hear(&mut self, bytes: &[u8]) {
        let Ok(opened) = self.opener.open(bytes) else {
            self.shared.metrics.echoes_refused.inc();
            return;
        };
        let Message::Echo(echo) = opened.message else {
            self.shared.metrics.echoes_refused.inc();
            return;
        };
        let now = self.clock.now();
        let from = self.gateways.iter_mut().find(|gateway| gateway.process == opened.from);
        if let Some(gateway) = from {
            gateway.hear(now, opened.epoch, &echo);
            tracing::trace!(
                gateway = &*gateway.process.id,
                round_trip = ?gateway.heard.as_ref().and_then(|heard| heard.round_trip),
                "echo"
            );
        }
    }
}

impl Gateway {
    fn new(peer: &GatewayPeer) -> Gateway {
        let process = Process::gateway(&peer.id);
        Gateway { process, address: resolve(peer.beat.clone()), sent: None, heard: None }
    }

    fn hear(&mut self, now: Time, epoch: Epoch, echo: &Echo) {
        let round_trip = self
            .sent
            .filter(|(sequence, _)| *sequence == echo.heard_sequence)
            .map(|(_, at)| now.since(at));
        self.heard = Some(Heard { at: now, epoch, stamp: echo.stamp, round_trip });
    }

    fn echoed(&self, now: Time) -> Option<Echoed> {
        let heard = self.heard.as_ref()?;
        Some(Echoed { epoch: heard.epoch, stamp: heard.stamp, held: now.since(heard.at) })
    }

    fn is_heard(&self, now: Time) -> bool {
        self.heard.as_ref().is_some_and(|heard| now.since(heard.at) <= HEARD_SPAN)
    }
}

/// Whether answers to `number` may still come, and would still prove something so long after it was asked for.
fn may_answer(roll_call: &RollCall, number: u64, age: Duration) -> bool {
    age <= TICK_AGE_MAX && !roll_call.is_void(number)
}

/// Waits until `stop` turns true, or nobody can turn it any more.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The address behind `host:port`: at once when it is one, else looked up again and again while somebody listens.
fn resolve(text: String) -> watch::Receiver<Option<SocketAddr>> {
    let (found, address) = watch::channel(text.parse().ok());
    if address.borrow().is_some() {
        return address;
    }
    tokio::spawn(async move {
        while !found.is_closed() {
            let first = lookup(&text).await;
            let pause = if first.is_ok() { LOOKUP_INTERVAL } else { LOOKUP_RETRY };
            if let Ok(first) = first {
                found.send_replace(Some(first));
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = found.closed() => {}
            }
        }
    });
    address
}

async fn lookup(text: &str) -> io::Result<SocketAddr> {
    lookup_host(text).await?.next().ok_or_else(|| io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_asked_for_anew_only_when_its_answer_would_be_worth_nothing() {
        let call = RollCall::new(1);
        call.ask(1);
        assert!(may_answer(&call, 1, BEAT_INTERVAL), "slow is not dead");
        assert!(may_answer(&call, 1, TICK_AGE_MAX));
        assert!(!may_answer(&call, 1, TICK_AGE_MAX + Duration::from_nanos(1)));
        call.void();
        assert!(!may_answer(&call, 1, Duration::ZERO));
        call.ask(2);
        assert!(may_answer(&call, 2, Duration::ZERO));
    }
}
