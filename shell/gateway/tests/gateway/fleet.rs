//! The other gateways, and the directory: what this gateway says to them and believes of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use outlast_gateway::GatewayPeer;
use outlast_model::{BEAT_INTERVAL, Epoch};
use outlast_wire::{Echoed, Message, Opener, Outlook, Process, Sealer};
use tokio::net::UdpSocket;

use crate::{Cluster, World, peer::Life, soon};

/// A fake gateway that says which regions it hears.
struct Other {
    id: &'static str,
    socket: UdpSocket,
    hears: Arc<AtomicU64>,
    /// Outlooks of the real one that carried its own back.
    echoed: Arc<AtomicUsize>,
}

impl Other {
    async fn bind(id: &'static str) -> (Other, GatewayPeer) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let beat = socket.local_addr().unwrap();
        let peer = GatewayPeer { id: id.into(), region: id[..2].into(), beat };
        let (hears, echoed) = (Arc::new(AtomicU64::new(u64::MAX)), Arc::default());
        (Other { id, socket, hears, echoed }, peer)
    }

    /// Answers the outlooks of the gateway called `gw`; knows where that is from them.
    fn run(self, world: &World) {
        let (me, gateway) = (Process::gateway(self.id), Process::gateway("gw"));
        let mut opener = Opener::new(&world.cluster.secret, me.clone(), [gateway.clone()]);
        let mut sealer = Sealer::new(&world.cluster.secret, me, Epoch(1));
        tokio::spawn(async move {
            let mut buffer = [0; 256];
            loop {
                let (length, from) = self.socket.recv_from(&mut buffer).await.unwrap();
                let opened = opener.open(&buffer[..length]).unwrap();
                let Message::Outlook(seen) = opened.message else { panic!("no outlook") };
                assert_eq!(opened.from, gateway);
                self.echoed.fetch_add(usize::from(seen.echoed.is_some()), Ordering::Relaxed);
                let held = Instant::now();
                let echoed =
                    Some(Echoed { epoch: opened.epoch, stamp: seen.stamp, held: held.elapsed() });
                let hears = self.hears.load(Ordering::Relaxed);
                let outlook = Message::Outlook(Outlook { hears, echoed, stamp: 1, ..seen });
                let datagram = sealer.seal(&gateway, &outlook);
                self.socket.send_to(&datagram.bytes, from).await.unwrap();
            }
        });
    }
}

#[tokio::test]
async fn gateways_tell_each_other_what_they_see_and_a_region_is_down_when_they_agree() {
    let (other, peer) = Other::bind("ap-gw").await;
    let (hears, echoed) = (Arc::clone(&other.hears), Arc::clone(&other.echoed));
    let world = World::start(Cluster::new(), &["eu-1", "us-1"], vec![peer]).await;
    other.run(&world);
    soon(|| world.metric("gateways_heard") == Some(1)).await;
    soon(|| echoed.load(Ordering::Relaxed) > 0).await;
    soon(|| world.metric("regions{health=\"up\"}") == Some(3)).await;
    assert!(world.metric("datagrams_total{outcome=\"outlook\"}").unwrap() > 0);

    world.peer("us-1").live(Life::Frozen);
    soon(|| world.metric("regions{health=\"doubted\"}") == Some(1)).await;
    tokio::time::sleep(3 * BEAT_INTERVAL).await;
    assert_eq!(world.metric("regions{health=\"down\"}"), Some(0), "the other one hears it");
    // The regions are ap, eu, us.
    hears.store(0b011, Ordering::Relaxed);
    soon(|| world.metric("regions{health=\"down\"}") == Some(1)).await;
    world.peer("us-1").live(Life::Running);
    soon(|| world.metric("regions{health=\"up\"}") == Some(3)).await;
}

#[tokio::test]
async fn a_wiped_directory_is_right_again_within_ten_seconds_and_no_session_is_touched() {
    let world = World::new(&["eu-1", "eu-2"]).await;
    let (mut socket, _) = world.join("r0").await;
    for n in 1..20 {
        world.join(&format!("r{n}")).await;
    }
    soon(|| world.metric("directory_rooms") == Some(20)).await;
    (world.wipe_directory)();
    let wiped = Instant::now();
    soon(|| world.metric("directory_rooms") == Some(0)).await;
    let (_new, _) = world.join("placed meanwhile").await;
    soon(|| world.metric("directory_rooms") == Some(21)).await;
    println!("wiped: right again after {:?}", wiped.elapsed());
    assert!(wiped.elapsed() < Duration::from_secs(10));
    crate::client::echoes(&mut socket, "untouched").await;
    assert_eq!(world.metric("provisional_claims_total"), Some(0));
    assert_eq!(world.metric("directory_away"), Some(0));
}
