//! The public listener: what it answers, to whom, and how long it waits.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use outlast_token::VideoGrant;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{SOON, World};

#[tokio::test]
async fn the_root_is_healthy_and_everything_may_be_read_by_any_page() {
    let world = World::new(&["eu-1"]).await;
    let head = world.raw("HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(world.get("/").await.body, "OK");
    let preflight = world
        .raw(
            "OPTIONS /rtc/v1/validate HTTP/1.1\r\nhost: x\r\norigin: https://page\r\nconnection: close\r\n\
             access-control-request-headers: authorization, x-mine\r\n\r\n",
        )
        .await;
    assert_eq!(preflight.status, 200);
    for line in [
        "access-control-allow-origin: *",
        "access-control-allow-methods: options, head, get, post, patch, delete",
        "access-control-allow-headers: authorization, x-mine",
        "access-control-max-age: 86400",
    ] {
        assert!(preflight.head.contains(line), "{line} in {}", preflight.head);
    }
}

#[tokio::test]
async fn only_faults_of_a_token_are_401() {
    let world = World::new(&["eu-1"]).await;
    let other_key = world.join_token("r").replace('.', "x.");
    let no_grant = world.token(VideoGrant { room: "r".into(), ..VideoGrant::default() });
    let no_room = world.token(VideoGrant { room_join: true, ..VideoGrant::default() });
    for (query, status) in [
        (String::new(), 401),
        ("access_token=".into(), 401),
        (format!("access_token={other_key}"), 401),
        (format!("access_token={no_grant}"), 401),
        (format!("access_token={no_room}"), 400),
    ] {
        for path in ["/rtc/v1", "/rtc/v1/validate"] {
            let answer = world.refused(&format!("{path}?{query}")).await;
            assert_eq!(answer.status, status, "{path}?{query}");
            assert!(!answer.body.is_empty());
            assert!(answer.head.contains("access-control-allow-origin: *"));
        }
    }
    let token = world.join_token("r");
    assert_eq!(world.get(&format!("/rtc/v1?access_token={token}")).await.status, 426);
    assert_eq!(world.refused(&format!("/rtc?access_token={token}")).await.status, 501);
    assert_eq!(world.get("/settings/regions").await.status, 404);
    assert!(world.peer("eu-1").seen().is_empty());
}

#[tokio::test]
async fn whoever_has_a_token_is_told_where_to_go() {
    let world = World::new(&["eu-1"]).await;
    let token = world.join_token("r");
    for method in ["GET", "POST"] {
        let ask = |authorization: &str| {
            format!(
                "{method} /token-source HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{authorization}content-length: 0\r\n\r\n"
            )
        };
        let answer = world.raw(&ask(&format!("authorization: Bearer {token}\r\n"))).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
        assert!(answer.head.contains("cache-control: no-store"));
        let said: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(said["server_url"], "wss://here");
        assert_eq!(said["server_urls"], json!(["wss://here"]));
        assert_eq!(said["participant_token"], token.as_str());
        // Signed by the key of the token, and of no use as a token.
        let signed = said["server_urls_signed"].as_str().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let claims = world.cluster.keys.verify(signed, now).unwrap();
        assert!(claims.issuer == "key" && !claims.video.room_join);
        assert_eq!(world.raw(&ask("")).await.status, 401);
        let nobody = world.token(VideoGrant { room: "r".into(), ..VideoGrant::default() });
        assert_eq!(
            world.raw(&ask(&format!("authorization: Bearer {nobody}\r\n"))).await.status,
            401
        );
    }
}

#[tokio::test]
async fn without_a_node_it_is_a_503_with_a_hint() {
    let world = World::new(&[]).await;
    let target = format!("/rtc/v1?access_token={}", world.join_token("r"));
    let answer = world.refused(&target).await;
    assert_eq!(answer.status, 503);
    let (_, after) = answer.head.split_once("retry-after: ").unwrap();
    let seconds: u32 = after.lines().next().unwrap().parse().unwrap();
    assert!((1..=4).contains(&seconds));
}

#[tokio::test]
async fn long_requests_pass_and_longer_ones_are_refused() {
    let world = World::new(&["eu-1"]).await;
    let token = world.join_token("r");
    let target =
        |length: usize| format!("/rtc/v1/validate?x={}&access_token={token}", "y".repeat(length));
    assert_eq!(world.get(&target(60_000)).await.status, 200);
    assert!(world.peer("eu-1").seen()[0].target.len() > 60_000);
    assert_eq!(world.get(&target(70_000)).await.status, 414);
    let headers = format!("x-long: {}\r\n", "y".repeat(1_000)).repeat(90);
    let request =
        |headers: &str| format!("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
    assert_eq!(world.raw(&request(&headers)).await.status, 200);
    let huge = format!("x-long: {}\r\n", "y".repeat(250_000));
    assert_eq!(world.raw(&request(&huge)).await.status, 431);
}

#[tokio::test]
async fn who_does_not_finish_a_request_is_dropped() {
    let world = World::new(&[]).await;
    let started = Instant::now();
    let mut silent = TcpStream::connect(world.public).await.unwrap();
    let mut slow = TcpStream::connect(world.public).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    for stream in [&mut silent, &mut slow] {
        let mut rest = Vec::new();
        timeout(SOON, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"));
    }
    assert!(started.elapsed() >= Duration::from_secs(4));
}
