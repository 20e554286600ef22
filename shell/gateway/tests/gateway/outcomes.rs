//! What becomes of joins: a node that answers and does not deliver loses its clients, although its beats are fine.

use crate::{World, client::is_told_to_reconnect, client::next, peer::Speech, soon};

#[tokio::test]
async fn a_node_whose_clients_get_no_media_is_taken_out() {
    let world = World::new(&["eu-1", "eu-2"]).await;
    world.peer("eu-1").speak(Speech::Protocol { delivers: false });
    world.peer("eu-2").speak(Speech::Protocol { delivers: true });
    for (node, room) in [("eu-1", "deaf"), ("eu-2", "fine")] {
        world.peer(node).host(room, 1);
    }
    soon(|| world.metric("rooms") == Some(2)).await;
    let (mut fine, _) = world.join("fine").await;
    let mut deaf = Vec::new();
    for client in ["ann", "bob", "cid", "dan", "eve"] {
        let (mut socket, node) = world.join_as(client, "deaf").await;
        assert_eq!(node, "eu-1");
        // The join and the answer pass as they are.
        assert!(matches!(
            (next(&mut socket).await, next(&mut socket).await),
            (Some(Ok(_)), Some(Ok(_)))
        ));
        deaf.push(socket);
    }
    soon(|| world.metric("media_total{step=\"answered\"}") == Some(6)).await;
    assert_eq!(world.metric("media_total{step=\"reached\"}"), Some(1));
    for socket in &mut deaf {
        is_told_to_reconnect(socket).await;
    }
    soon(|| world.metric("nodes_ejected") == Some(1)).await;
    assert_eq!(world.metric("told_total{why=\"node_ejected\"}"), Some(5));
    // The room goes where media does, and those who are there stay.
    let (_socket, node) = world.join_as("ann", "deaf").await;
    assert_eq!(node, "eu-2");
    for _ in 0..3 {
        assert!(next(&mut fine).await.unwrap().unwrap().is_binary());
    }
    crate::client::echoes(&mut fine, "untouched").await;
}

#[tokio::test]
async fn a_resume_is_not_judged() {
    let world = World::new(&["eu-1"]).await;
    world.peer("eu-1").speak(Speech::Protocol { delivers: false });
    world.peer("eu-1").host("r", 1);
    soon(|| world.metric("rooms") == Some(1)).await;
    let token = world.join_token("r");
    let mut socket =
        world.socket(&format!("/rtc/v1?reconnect=1&sid=PA_x&access_token={token}")).await;
    for _ in 0..3 {
        assert!(next(&mut socket).await.unwrap().unwrap().is_binary());
    }
    crate::client::echoes(&mut socket, "all has passed").await;
    assert_eq!(world.metric("media_total{step=\"answered\"}"), None);
}
