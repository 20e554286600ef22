//! Beats: each interval every shard is asked for a tick, which it answers at the end of its next turn, and when the last
//! has answered, one sealed datagram goes to every gateway. A shard that hangs is a beat that is not sent. What a beat
//! says, what an echo of it proves, and whether a room that a gateway asks for is here, the role knows.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use outlast_model::{BEAT_INTERVAL, Epoch, GatewayId};
use outlast_runtime::{Clock, cores, process_cpu_time};
use outlast_wire::{DATAGRAM_BYTES_MAX, Message, Opener, Process, Sealer, Secret};
use tokio::{
    net::{UdpSocket, lookup_host},
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    config::{GatewayPeer, NodeConfig},
    load::Load,
    role_loop::{OwedBeat, RoleLoop},
    shards::{Shards, Shared},
    ticks::RollCall,
};

/// A tick older than this proves nothing: the process may have been stopped since.
const TICK_AGE_MAX: Duration = Duration::from_millis(800);
/// Span between two look-ups of a gateway's name.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(30);
/// The same after a look-up that failed.
const LOOKUP_RETRY: Duration = Duration::from_secs(3);

/// The task that beats.
pub(crate) struct Beats {
    socket: UdpSocket,
    role: Arc<RoleLoop>,
    shards: Arc<Shards>,
    shared: Arc<Shared>,
    clock: Clock,
    secret: Secret,
    me: Process,
    sealer: Sealer,
    sealed_epoch: Epoch,
    opener: Opener,
    gateways: BTreeMap<GatewayId, Gateway>,
    load: Load,
    ready: Arc<AtomicBool>,
}

/// One gateway as a place to send to.
struct Gateway {
    process: Process,
    address: watch::Receiver<Option<SocketAddr>>,
}

impl Beats {
    /// Takes over `socket`; begins to look for the gateways.
    pub(crate) fn new(
        config: &NodeConfig,
        socket: UdpSocket,
        role: Arc<RoleLoop>,
        (shards, shared): (Arc<Shards>, Arc<Shared>),
        ready: Arc<AtomicBool>,
    ) -> Beats {
        let me = Process::node(config.id.as_str());
        let sealed_epoch = shared.epoch();
        let peers = config.gateways.iter().map(|peer| Process::gateway(&peer.id));
        let gateway = |peer: &GatewayPeer| {
            let (process, address) = (Process::gateway(&peer.id), resolve(peer.beat.clone()));
            (GatewayId::from(peer.id.as_str()), Gateway { process, address })
        };
        Beats {
            socket,
            clock: config.clock,
            sealer: Sealer::new(&config.secret, me.clone(), sealed_epoch),
            opener: Opener::new(&config.secret, me.clone(), peers),
            secret: config.secret.clone(),
            me,
            sealed_epoch,
            gateways: config.gateways.iter().map(gateway).collect(),
            load: Load::new(
                config.clock.now(),
                process_cpu_time(),
                cores(),
                config.participants_max,
            ),
            role,
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
                        self.beat().await;
                        self.ready.store(self.role.is_open(), Ordering::Release);
                    }
                }
                received = self.socket.recv_from(&mut buffer) => {
                    // An error is some gateway's ICMP; its silence says as much.
                    if let Ok((length, _)) = received {
                        self.hear(&buffer[..length]).await;
                    }
                }
                () = stopped(&mut stop) => return,
            }
        }
    }

    async fn beat(&mut self) {
        let began = self.clock.now();
        let total = self.shared.metrics.total();
        let (busiest, participants) = (total.load_permille, total.stats.participants);
        self.load.measure(began, process_cpu_time(), busiest, participants);
        let owed = self.role.ticked(self.load.load_permille(), self.load.cpu_permille());
        for OwedBeat { gateway, epoch, sequence, beat } in owed {
            // The role counts from when it owed them; sent long after that, in a process that was stopped in between, they
            // would say what is not true any more.
            if self.clock.now().since(began) > BEAT_INTERVAL {
                return;
            }
            if self.send(&gateway, (epoch, sequence), &Message::Beat(beat)).await {
                self.shared.metrics.beats.inc();
            }
        }
    }

    /// Sends it under a number of the role's. Lost here or lost on the way: the gateway counts what it misses.
    async fn send(
        &mut self,
        gateway: &GatewayId,
        (epoch, sequence): (Epoch, u64),
        message: &Message,
    ) -> bool {
        if epoch != self.sealed_epoch {
            self.sealer = Sealer::new(&self.secret, self.me.clone(), epoch);
            self.sealed_epoch = epoch;
        }
        let Some(to) = self.gateways.get(gateway) else { return false };
        let Some(address) = *to.address.borrow() else { return false };
        let datagram = self.sealer.seal_as(sequence, &to.process, message);
        self.socket.send_to(&datagram.bytes, address).await.is_ok()
    }

    async fn hear(&mut self, bytes: &[u8]) {
        let Ok(opened) = self.opener.open(bytes) else {
            self.shared.metrics.echoes_refused.inc();
            return;
        };
        let gateway = GatewayId::from(&*opened.from.id);
        match opened.message {
            Message::Echo(echo) => self.role.echo(gateway, opened.epoch, echo),
            Message::Probe(probe) => {
                if let Some(owed) = self.role.probe(gateway.clone(), probe) {
                    let numbers = (owed.epoch, owed.sequence);
                    self.send(&gateway, numbers, &Message::Probed(owed.probed)).await;
                }
            }
            _ => {
                self.shared.metrics.echoes_refused.inc();
            }
        }
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
