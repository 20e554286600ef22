//! The proxied socket: where it goes, and what a client hears when the node behind it is gone.

use std::time::{Duration, Instant};

use futures_util::SinkExt;
use http::StatusCode;
use outlast_link::MESSAGE_WRITTEN_BYTES_MAX;
use outlast_model::{Generation, SIGNAL_FRAME_BYTES_MAX};
use outlast_wire::Steer;
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::{
    World,
    client::{echoes, is_told_to_reconnect, next},
    peer::Life,
    soon,
};

#[tokio::test]
async fn a_killed_node_s_clients_are_told_at_once_and_land_elsewhere() {
    let world = World::new(&["eu-1", "eu-2"]).await;
    let (mut one, home) = world.join("r").await;
    let (mut two, same) = world.join("r").await;
    assert_eq!(home, same);
    echoes(&mut one, "up and down").await;
    let seen = world.peer(&home).seen().remove(0);
    assert!(seen.target.starts_with("/rtc/v1?access_token="));
    assert_eq!(seen.headers["outlast-generation"], "1");
    assert_eq!(seen.headers["outlast-client-ip"], "127.0.0.1");
    soon(|| world.peer(&home).echoes() > 0).await;

    let killed = Instant::now();
    world.peer(&home).live(Life::Dead);
    is_told_to_reconnect(&mut one).await;
    is_told_to_reconnect(&mut two).await;
    let told = killed.elapsed();
    // The SDK comes back at once, before the node can be known to be down: the request waits for the verdict.
    let (mut again, new_home) = world.join("r").await;
    let back = killed.elapsed();
    assert_ne!(new_home, home);
    assert_eq!(world.peer(&new_home).seen()[0].headers["outlast-generation"], "2");
    echoes(&mut again, "still here").await;
    println!("killed: told after {told:?}, admitted elsewhere after {back:?}");
    assert!(told < Duration::from_secs(5) && back < Duration::from_secs(10));
}

#[tokio::test]
async fn a_frozen_node_s_clients_are_told_when_beats_are_missed() {
    let world = World::new(&["eu-1", "eu-2"]).await;
    let (mut socket, home) = world.join("r").await;
    let frozen = Instant::now();
    world.peer(&home).live(Life::Frozen);
    is_told_to_reconnect(&mut socket).await;
    let told = frozen.elapsed();
    println!("frozen: told after {told:?}");
    assert!(told >= Duration::from_millis(1_500) && told < Duration::from_secs(8), "{told:?}");
    let (_socket, new_home) = world.join("r").await;
    assert_ne!(new_home, home);

    // It wakes with its old room: the newer home stays.
    world.peer(&home).live(Life::Running);
    soon(|| world.metric("nodes{health=\"alive\"}") == Some(2)).await;
    let (_socket, node) = world.join("r").await;
    assert_eq!(node, new_home);
}

#[tokio::test]
async fn a_join_that_meets_a_frozen_home_waits_for_the_verdict_and_goes_on() {
    let world = World::new(&["eu-1", "eu-2"]).await;
    let (_socket, home) = world.join("r").await;
    soon(|| world.metric("rooms") == Some(1)).await;
    world.peer(&home).live(Life::Frozen);
    let (_socket, node) = world.join("r").await;
    assert_ne!(node, home);
}

#[tokio::test]
async fn a_new_room_goes_to_the_next_node_when_the_first_refuses() {
    let world = World::new(&["eu-1", "eu-2", "eu-3"]).await;
    let (_socket, first) = world.join("r").await;
    let full = Some((StatusCode::SERVICE_UNAVAILABLE, "full"));
    world.peer(&first).refuse(full);
    // A room that lives there is not taken elsewhere.
    let target = format!("/rtc/v1?access_token={}", world.join_token("r"));
    soon(|| world.metric("rooms") == Some(1)).await;
    let refused = world.refused(&target).await;
    assert_eq!((refused.status, refused.body.as_str()), (503, "full"));
    assert!(refused.head.contains("retry-after: "));
    // Any other room finds another node, whatever the ranking says.
    for n in 0..6 {
        let (_socket, node) = world.join(&format!("room {n}")).await;
        assert_ne!(node, first);
    }
    for peer in &world.peers {
        peer.refuse(full);
    }
    let target = format!("/rtc/v1?access_token={}", world.join_token("another"));
    assert_eq!(world.refused(&target).await.status, 503);
}

#[tokio::test]
async fn a_refusal_for_good_is_relayed_as_it_is() {
    let world = World::new(&["eu-1", "eu-2"]).await;
    for peer in &world.peers {
        peer.refuse(Some((StatusCode::BAD_REQUEST, "join_request is malformed")));
    }
    for path in ["/rtc/v1", "/rtc/v1/validate", "//rtc/v1", "/under/a/prefix/rtc/v1"] {
        let target = format!("{path}?access_token={}", world.join_token("r"));
        let answer = world.refused(&target).await;
        assert_eq!((answer.status, answer.body.as_str()), (400, "join_request is malformed"));
        assert!(answer.head.contains("access-control-allow-origin: *"));
    }
    let asked: usize = world.peers.iter().map(|peer| peer.seen().len()).sum();
    assert_eq!(asked, 4, "nobody asked twice");
    for peer in &world.peers {
        peer.refuse(None);
    }
    let target = format!("/rtc/v1/validate?access_token={}", world.join_token("r"));
    let answer = world.get(&target).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "success"));
}

#[tokio::test]
async fn a_node_that_finds_a_good_token_bad_is_passed_over_and_never_ends_a_session() {
    let world = World::new(&["eu-1", "eu-2"]).await;
    let (_socket, home) = world.join("r").await;
    soon(|| world.metric("rooms") == Some(1)).await;
    for (status, text) in [
        (StatusCode::UNAUTHORIZED, "invalid token: token's signature is wrong"),
        (StatusCode::FORBIDDEN, "no"),
        (StatusCode::NOT_FOUND, "nothing here"),
    ] {
        world.peer(&home).refuse(Some((status, text)));
        // At the home of a room: nobody else may take it.
        let target = format!("?access_token={}", world.join_token("r"));
        for path in ["/rtc/v1", "/rtc/v1/validate"] {
            let answer = world.refused(&format!("{path}{target}")).await;
            assert_eq!(answer.status, 503, "{status} at {path}");
            assert!(answer.head.contains("retry-after: "));
        }
        for n in 0..4 {
            let (_socket, node) = world.join(&format!("{status} room {n}")).await;
            assert_ne!(node, home);
        }
    }
    let text = "the token does not grant canUpdateOwnMetadata";
    for peer in &world.peers {
        peer.refuse(Some((StatusCode::UNAUTHORIZED, text)));
    }
    let target = format!("/rtc/v1?access_token={}", world.join_token("another"));
    let answer = world.refused(&target).await;
    assert_eq!((answer.status, answer.body.as_str()), (401, text));
}

#[tokio::test]
async fn one_connection_that_breaks_between_gateway_and_node_is_a_resume() {
    let world = World::new(&["eu-1"]).await;
    let (mut one, _) = world.join("r").await;
    let (mut two, _) = world.join("r").await;
    soon(|| world.metric("rooms") == Some(1)).await;
    one.send(Frame::Binary("break".into())).await.unwrap();
    let Some(Ok(Frame::Close(Some(close)))) = next(&mut one).await else { panic!("not closed") };
    assert_eq!(u16::from(close.code), 1001, "and no leave before it");
    assert_eq!(world.metric("told_total{why=\"link_reset\"}"), Some(1));
    assert_eq!(world.metric("nodes{health=\"alive\"}"), Some(1));
    let token = world.join_token("r");
    let mut again =
        world.socket(&format!("/rtc/v1?reconnect=1&sid=PA_x&access_token={token}")).await;
    assert!(matches!(next(&mut again).await, Some(Ok(Frame::Binary(_)))));
    echoes(&mut two, "untouched").await;
}

#[tokio::test]
async fn a_resume_at_a_draining_home_is_told_to_reconnect_and_the_room_moves() {
    let world = World::new(&["eu-1", "eu-2"]).await;
    let (mut socket, home) = world.join("r").await;
    soon(|| world.metric("rooms") == Some(1)).await;
    world.peer(&home).drain();
    // Whether the beat has said so by now or not.
    let token = world.join_token("r");
    let mut resumed =
        world.socket(&format!("/rtc/v1?reconnect=1&sid=PA_x&access_token={token}")).await;
    is_told_to_reconnect(&mut resumed).await;
    // It moves with whoever comes first; a node tells those that it has itself, and the gateway those that are left.
    let (_socket, node) = world.join("r").await;
    assert_ne!(node, home);
    is_told_to_reconnect(&mut socket).await;
    assert_eq!(world.metric("told_total{why=\"superseded\"}"), Some(1));
}

#[tokio::test]
async fn a_draining_home_without_another_node_is_told_that_there_is_none() {
    let world = World::new(&["eu-1"]).await;
    let (_socket, home) = world.join("r").await;
    soon(|| world.metric("rooms") == Some(1)).await;
    world.peer(&home).say_draining();
    let nowhere_else = async {
        loop {
            let (_socket, _) = world.join("r").await;
            let seen = world.peer(&home).seen();
            if seen.last().unwrap().headers.get("outlast-nowhere-else").is_some() {
                return seen;
            }
        }
    };
    let seen = tokio::time::timeout(crate::SOON, nowhere_else).await.unwrap();
    assert!(!seen[0].headers.contains_key("outlast-nowhere-else"));
    assert_eq!(seen.last().unwrap().headers["outlast-nowhere-else"], "1");
}

#[tokio::test]
async fn a_room_that_was_placed_anew_elsewhere_gets_a_higher_generation_yet() {
    let world = World::new(&["eu-1"]).await;
    world.peer("eu-1").knows(7);
    let (_socket, node) = world.join("r").await;
    assert_eq!(node, "eu-1");
    let seen = world.peer("eu-1").seen();
    let generations: Vec<_> =
        seen.iter().map(|seen| seen.headers["outlast-generation"].to_str().unwrap()).collect();
    assert_eq!(generations, ["1", "8"]);
}

#[tokio::test]
async fn the_join_of_a_large_room_passes() {
    let world = World::new(&["eu-1"]).await;
    let (mut socket, _) = world.join("r").await;
    socket.send(Frame::Binary("large".into())).await.unwrap();
    let Some(Ok(Frame::Binary(large))) = next(&mut socket).await else { panic!("not passed on") };
    assert_eq!(large.len(), MESSAGE_WRITTEN_BYTES_MAX);
    echoes(&mut socket, "and it goes on").await;
}

#[tokio::test]
async fn a_resume_goes_home_or_is_told_to_reconnect() {
    let world = World::new(&["eu-1", "eu-2"]).await;
    let resume = |room: &str| {
        format!("/rtc/v1?reconnect=1&sid=PA_x&access_token={}", world.join_token(room))
    };
    let mut socket = world.socket(&resume("unknown")).await;
    is_told_to_reconnect(&mut socket).await;
    assert!(world.peers.iter().all(|peer| peer.seen().is_empty()), "no node was asked");

    world.peer("eu-2").host("known", 7);
    soon(|| world.metric("rooms") == Some(1)).await;
    let mut socket = world.socket(&resume("known")).await;
    assert!(
        matches!(next(&mut socket).await, Some(Ok(Frame::Binary(hello))) if hello == "hello from eu-2")
    );
    assert_eq!(world.peer("eu-2").seen()[0].headers["outlast-generation"], "7");
}

#[tokio::test]
async fn of_two_homes_the_older_one_s_clients_move() {
    let world = World::new(&["eu-1", "eu-2"]).await;
    let (mut socket, home) = world.join("r").await;
    let other = world.peers.iter().find(|peer| peer.id != home).unwrap();
    soon(|| world.metric("rooms") == Some(1)).await;
    other.host("r", 2);
    is_told_to_reconnect(&mut socket).await;
    assert_eq!(world.join("r").await.1, other.id);
    // The node hears the same, and the winner nothing.
    soon(|| !world.peer(&home).steers().is_empty()).await;
    let (room, node) = ("r".into(), other.id.as_str().into());
    let steer = Steer { room, generation: Generation(2), node };
    assert_eq!((world.peer(&home).steers(), other.steers()), (vec![steer], Vec::new()));
}

#[tokio::test]
async fn too_large_a_frame_closes_with_1009() {
    let world = World::new(&["eu-1"]).await;
    let (mut socket, _) = world.join("r").await;
    let whole = vec![1; SIGNAL_FRAME_BYTES_MAX];
    socket.send(Frame::Binary(whole.clone().into())).await.unwrap();
    assert!(matches!(next(&mut socket).await, Some(Ok(Frame::Binary(echo))) if echo == whole));
    socket.send(Frame::Binary(vec![1; SIGNAL_FRAME_BYTES_MAX + 1].into())).await.unwrap();
    let Some(Ok(Frame::Close(Some(close)))) = next(&mut socket).await else { panic!("not closed") };
    assert_eq!(u16::from(close.code), 1009);
}

#[tokio::test]
async fn a_gateway_that_stops_tells_everybody_and_returns() {
    let world = World::new(&["eu-1", "eu-2"]).await;
    let (mut one, _) = world.join("r").await;
    let (mut two, _) = world.join("q").await;
    assert!(world.host_of("r").is_some());
    world.stop.send_replace(true);
    is_told_to_reconnect(&mut one).await;
    is_told_to_reconnect(&mut two).await;
    drop((one, two));
    tokio::time::timeout(crate::SOON, world.running).await.unwrap().unwrap();
}
