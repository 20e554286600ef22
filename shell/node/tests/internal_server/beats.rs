//! Beats, echoes, probes, and the lease that hangs on them.

use std::{sync::atomic::Ordering, time::Duration};

use http::HeaderMap;
use outlast_model::{BEAT_INTERVAL, Epoch, Generation};
use outlast_wire::{Echo, Opener, Probe, Process, RoomFrame, Sealer};
use tokio::time::timeout;

use crate::house::{
    PATIENCE, RECONNECT, because, frame, hosted, house, house_with_lease, leave, lost, plain_join,
};

#[tokio::test]
async fn beats_say_that_every_shard_lives_and_give_echoes_back() {
    let house = house().await;
    let (me, node) = (Process::gateway("gw"), Process::node("n1"));
    let mut opener = Opener::new(&house.secret, me.clone(), [node.clone()]);
    let mut sealer = Sealer::new(&house.secret, me, Epoch(5));
    let mut buffer = [0; 512];
    let mut beat = async || {
        let received = house.gateway.recv_from(&mut buffer);
        let (length, from) = timeout(PATIENCE, received).await.unwrap().unwrap();
        assert_eq!(from, house.node.beat());
        let opened = opener.open(&buffer[..length]).unwrap();
        assert_eq!(opened.from, node);
        let outlast_wire::Message::Beat(beat) = opened.message else { panic!("not a beat") };
        (opened.epoch, opened.sequence, beat)
    };
    let (epoch, sequence, first) = beat().await;
    assert!(first.ticked && !first.draining && first.echoed.is_none());
    assert!(house.ready.load(Ordering::Acquire));
    let echo = Echo { heard_epoch: epoch, heard_sequence: sequence, stamp: 77 };
    let echo = sealer.seal(&node, &outlast_wire::Message::Echo(echo));
    house.gateway.send_to(b"not an echo", house.node.beat()).await.unwrap();
    house.gateway.send_to(&echo.bytes, house.node.beat()).await.unwrap();
    let echoed = loop {
        if let (_, _, outlast_wire::Beat { echoed: Some(echoed), .. }) = beat().await {
            break echoed;
        }
    };
    assert_eq!((echoed.epoch, echoed.stamp), (Epoch(5), 77));
    assert!(echoed.held < BEAT_INTERVAL * 20);
    house.node.drain_and_stop().await;
}

#[tokio::test]
async fn a_probe_is_answered_between_two_beats() {
    let house = house().await;
    let _ann = house.join("ann").await;
    let (me, node) = (Process::gateway("gw"), Process::node("n1"));
    let mut opener = Opener::new(&house.secret, me.clone(), [node.clone()]);
    let mut sealer = Sealer::new(&house.secret, me, Epoch(5));
    let mut buffer = [0; 512];
    let mut hear = async || {
        let received = house.gateway.recv_from(&mut buffer);
        let (length, _) = timeout(PATIENCE, received).await.unwrap().unwrap();
        opener.open(&buffer[..length]).unwrap()
    };
    hear().await;
    let mut answers = Vec::new();
    for (number, room) in [(7, "r"), (8, "nowhere")] {
        let probe = outlast_wire::Message::Probe(Probe { number, room: room.into() });
        let probe = sealer.seal(&node, &probe);
        house.gateway.send_to(&probe.bytes, house.node.beat()).await.unwrap();
    }
    // Beats go on in between, and every datagram has a number of its own, or the opener would refuse it.
    while answers.len() < 2 {
        if let outlast_wire::Message::Probed(probed) = hear().await.message {
            answers.push((probed.number, probed.generation));
        }
    }
    assert_eq!(answers, [(7, Some(Generation(3))), (8, None)]);
    assert!(matches!(hear().await.message, outlast_wire::Message::Beat(_)));
    house.node.drain_and_stop().await;
}

#[tokio::test]
async fn a_node_that_nobody_hears_gives_everything_up_and_serves_again_when_heard() {
    let house = house_with_lease(Duration::from_secs(2)).await;
    let mut rooms = house.open("/rooms", HeaderMap::new()).await.unwrap();
    assert_eq!(frame(&mut rooms).await, RoomFrame::Synced);
    let mut ann = house.join("ann").await;
    assert_eq!(frame(&mut rooms).await, hosted("r", 3));
    assert_eq!(frame(&mut rooms).await, lost("r", 3));
    assert_eq!(leave(&mut ann).await, RECONNECT);
    let refused = house.turned_away(&plain_join(), house.headers_under("ann", 4)).await;
    assert_eq!(refused, because(503, "fenced", ""));
    while house.ready.load(Ordering::Acquire) {
        tokio::task::yield_now().await;
    }

    // Its beats say that it has started anew; it serves again from the first echo on.
    let (me, node) = (Process::gateway("gw"), Process::node("n1"));
    let mut opener = Opener::new(&house.secret, me.clone(), [node.clone()]);
    let mut sealer = Sealer::new(&house.secret, me, Epoch(5));
    let mut buffer = [0; 512];
    let (mut first, mut served) = (None, false);
    while !served {
        let received = house.gateway.recv_from(&mut buffer);
        let (length, from) = timeout(PATIENCE, received).await.unwrap().unwrap();
        let opened = opener.open(&buffer[..length]).unwrap();
        let first = *first.get_or_insert(opened.epoch);
        let (heard_epoch, heard_sequence) = (opened.epoch, opened.sequence);
        let echo = Echo { heard_epoch, heard_sequence, stamp: 1 };
        let echo = sealer.seal(&node, &outlast_wire::Message::Echo(echo));
        house.gateway.send_to(&echo.bytes, from).await.unwrap();
        served = house.open(&plain_join(), house.headers_under("ann", 4)).await.is_ok();
        assert!(!served || heard_epoch > first, "under its new epoch");
    }
    house.node.drain_and_stop().await;
}
