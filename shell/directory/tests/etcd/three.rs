//! Three members: one of them dies or freezes under load, and service comes back by itself.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use outlast_directory::{Failure, Placed, Record, Reply, Request, RoomKey};
use outlast_engines::{Engine as _, Etcd, Partition};
use tokio::time::sleep;

use crate::{
    desk::{Watcher, ask, insist, instance, place, record, until},
    server::Cluster,
};

/// Which member leads, as the engine says.
async fn leader(cluster: &Cluster, engine: &Etcd) -> usize {
    let decides = || engine.state(Partition(0)).decides;
    let known = || decides().filter(|at| at.contains(':'));
    until("the leader is known", async || known().is_some()).await;
    cluster.at(&known().unwrap())
}

/// Two gateways that claim the same rooms, each for its own node, until told to stop.
struct Race {
    stop: AtomicBool,
    /// Answers of any kind that told who holds a room, so far.
    told: AtomicU64,
}

/// What one of them was told.
struct Told {
    winners: BTreeMap<RoomKey, Record>,
    longest: Duration,
    silence: Duration,
    silent: usize,
}

impl Race {
    async fn run(&self, engine: &Etcd, node: &str, id: u128) -> Told {
        let mut told = Told {
            winners: BTreeMap::new(),
            longest: Duration::ZERO,
            silence: Duration::ZERO,
            silent: 0,
        };
        let mut last = Instant::now();
        for room in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let asked = Instant::now();
            let reply = ask(engine, place(room, &record(node, 1, id + room))).await;
            told.longest = told.longest.max(asked.elapsed());
            match reply {
                Reply::Placed(Placed::Won(record) | Placed::Held(record)) => {
                    told.winners.insert(RoomKey(room), record);
                    self.told.fetch_add(1, Ordering::Relaxed);
                    told.silence = told.silence.max(last.elapsed());
                    last = Instant::now();
                }
                Reply::Failed(Failure::Unknown | Failure::Unavailable) => {
                    told.silent += 1;
                    sleep(Duration::from_millis(20)).await;
                }
                other => panic!("{other:?}"),
            }
        }
        told
    }

    /// Waits until some more has been told.
    async fn goes_on(&self, what: &str) {
        let now = self.told.load(Ordering::Relaxed);
        until(what, async || self.told.load(Ordering::Relaxed) > now + 50).await;
    }
}

async fn race_through(
    what: &str,
    fault: impl Fn(&mut Cluster, usize),
    heal: impl Fn(&mut Cluster, usize),
) {
    let mut cluster = Cluster::start(3);
    let probe = cluster.engine(0);
    let first = instance(&probe).await;
    let leads = leader(&cluster, &probe).await;
    // One beside the leader, one elsewhere.
    let (one, other) = (cluster.engine(leads), cluster.engine((leads + 1) % 3));
    instance(&one).await;
    instance(&other).await;
    let race = Race { stop: AtomicBool::new(false), told: AtomicU64::new(0) };
    let mut watcher = Watcher::default();
    let drive = async {
        race.goes_on("both claim").await;
        fault(&mut cluster, leads);
        race.goes_on("service is back").await;
        until("another member leads", async || leader(&cluster, &other).await != leads).await;
        race.goes_on("it stays").await;
        heal(&mut cluster, leads);
        race.goes_on("and after the heal").await;
        race.stop.store(true, Ordering::Relaxed);
    };
    let (a, b, ()) =
        tokio::join!(race.run(&one, "a", 1 << 64), race.run(&other, "b", 2 << 64), drive);
    for (name, told) in [("beside the leader", &a), ("elsewhere", &b)] {
        println!(
            "{what}, {name}: {} told, {} silent, longest answer {:?}, longest without {:?}",
            told.winners.len(),
            told.silent,
            told.longest,
            told.silence
        );
    }
    let mut all = a.winners;
    for (room, record) in b.winners {
        let before = all.entry(room).or_insert_with(|| record.clone());
        assert_eq!(*before, record, "two winners of {room}");
    }
    // What was acknowledged is there: asked at every member, and by who watches.
    for nearest in 0..3 {
        let fresh = cluster.engine(nearest);
        for (room, record) in &all {
            let again = Request::Place { room: *room, want: record.clone() };
            let won = Reply::Placed(Placed::Won(record.clone()));
            assert_eq!(insist(&fresh, again).await, won, "{room}");
        }
    }
    until("the watcher knows all", async || {
        watcher.to_the_end(&one).await;
        all.iter().all(|(room, record)| watcher.held.get(room) == Some(record))
    })
    .await;
    assert_eq!(instance(&one).await, first);
    assert!(other.state(Partition(0)).changes >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_killed() {
    race_through("killed", Cluster::kill, Cluster::restart).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_frozen() {
    race_through("frozen", |cluster, n| cluster.freeze(n), |cluster, n| cluster.thaw(n)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_moves_on_when_its_member_freezes() {
    let cluster = Cluster::start(3);
    let probe = cluster.engine(0);
    instance(&probe).await;
    let leads = leader(&cluster, &probe).await;
    let (near, writer) = ((leads + 1) % 3, cluster.engine(leads));
    let engine = cluster.engine(near);
    let mut watcher = Watcher::default();
    insist(&writer, place(1, &record("a", 1, 1))).await;
    until("the first is heard", async || {
        watcher.to_the_end(&engine).await;
        watcher.held.len() == 1
    })
    .await;
    let follows = || {
        let members = engine.members();
        members.into_iter().find(|member| member.health.is_some_and(|one| one.followed))
    };
    let own = cluster.address(near).servers[0].clone();
    until("it follows the nearest", async || follows().is_some_and(|at| at.at == own)).await;
    cluster.freeze(near);
    let frozen = Instant::now();
    insist(&writer, place(2, &record("a", 1, 2))).await;
    until("the second is heard", async || {
        watcher.to_the_end(&engine).await;
        watcher.held.len() == 2
    })
    .await;
    println!("heard {:?} after the watcher's member froze", frozen.elapsed());
    assert_eq!(watcher.resyncs, 1, "it went on where it was");
    cluster.thaw(near);
    until("it is back at the nearest", async || follows().is_some_and(|at| at.at == own)).await;
    insist(&writer, place(3, &record("a", 1, 3))).await;
    until("the third is heard", async || {
        watcher.to_the_end(&engine).await;
        watcher.held.len() == 3
    })
    .await;
    assert_eq!(watcher.resyncs, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_most_members_reads_go_on_and_claims_do_not() {
    let mut cluster = Cluster::start(3);
    let engine = cluster.engine(0);
    let want = record("a", 1, 1);
    let won = Reply::Placed(Placed::Won(want.clone()));
    assert_eq!(insist(&engine, place(1, &want)).await, won);
    cluster.kill(1);
    cluster.kill(2);
    until("nobody leads", async || engine.state(Partition(0)).decides.is_none()).await;
    let lookup = Request::Lookup { room: RoomKey(1) };
    assert_eq!(insist(&engine, lookup).await, Reply::Found(Some(want.clone())));
    for _ in 0..3 {
        let reply = ask(&engine, place(2, &want)).await;
        assert!(
            matches!(reply, Reply::Failed(Failure::Unavailable | Failure::Unknown)),
            "{reply:?}"
        );
    }
    cluster.restart(1);
    cluster.restart(2);
    assert_eq!(insist(&engine, place(2, &want)).await, won);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_moved_where_the_operator_wants_it() {
    let cluster = Cluster::start(3);
    let engine = cluster.engine(0);
    instance(&engine).await;
    let leads = leader(&cluster, &engine).await;
    let to = cluster.address(0).servers[(leads + 1) % 3].clone();
    until("all are reached", async || {
        engine.members().iter().all(|member| member.health.is_some())
    })
    .await;
    engine.move_leader(&to).await.unwrap();
    until("it leads", async || engine.state(Partition(0)).decides == Some(to.to_string())).await;
    let members = engine.members();
    assert_eq!(
        members.iter().map(|member| &member.at).collect::<Vec<_>>(),
        cluster.address(0).servers.iter().collect::<Vec<_>>()
    );
    let health: Vec<_> = members.iter().map(|member| member.health.unwrap()).collect();
    assert_eq!(health.iter().filter(|one| one.leads).count(), 1);
    assert!(health.iter().all(|one| one.id != 0 && one.db_bytes > 0 && !one.rtt.is_zero()));
    assert!(health[0].nearest);
    engine.move_leader(&to).await.unwrap();
    let nowhere = outlast_engines::HostPort { host: "nowhere".to_owned(), port: 1 };
    assert!(engine.move_leader(&nowhere).await.is_err());
}
