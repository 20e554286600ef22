//! A gateway that begins anew while every database is down, and no node has named its rooms: from its snapshot alone.

use outlast_model::{Generation, Ruling, RulingVersion};

use crate::{Beginning, Cluster, World, soon};

#[tokio::test]
async fn a_gateway_with_nothing_but_its_snapshot_sends_people_to_the_room_that_they_know() {
    let folder = tempfile::tempdir().unwrap();
    let state_dir = Some(folder.path().to_owned());
    let beginning = Beginning { state_dir: state_dir.clone(), ..Beginning::default() };
    let before = World::start_with(Cluster::new(), &["eu-1", "us-1"], beginning).await;
    let version = RulingVersion { generation: Generation(5), count: 1 };
    before.peer("us-1").rule("known", "ann", Ruling { version, permission: [8, 1].into() });
    before.peer("us-1").host("known", 5);
    soon(|| before.metric("snapshot_rooms") == Some(1)).await;
    assert!(before.metric("snapshot_bytes") > Some(90));
    before.stop.send_replace(true);
    before.running.await.unwrap();

    let directory = "etcd://127.0.0.1:1".parse().unwrap();
    let beginning =
        Beginning { state_dir, directory, nodes_are_mute: true, ..Beginning::default() };
    let world = World::start_with(Cluster::new(), &["eu-1", "us-1"], beginning).await;
    assert_eq!((world.metric("hints"), world.metric("rooms")), (Some(1), Some(0)));
    let (_known, _) = world.join("known").await;
    let seen = world.peer("us-1").seen();
    assert_eq!(seen.len(), 1, "and nobody was asked before");
    assert_eq!(seen[0].headers["outlast-generation"], "5");
    // A new room is placed without anybody as well.
    let (_new, _) = world.join("new").await;
    assert!(world.host_of("new").is_some());
    assert_eq!(world.metric("directory_away"), Some(1));
}
