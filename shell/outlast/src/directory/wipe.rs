//! `outlast directory wipe-test`: everything is deleted, and the gateways fill it again.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use outlast_directory::{Changes, Event, InstanceId, Reply, Request, Revision, RoomKey};
use outlast_engines::Partition;
use tokio::time::sleep;

use super::{
    Outcome,
    look::{self},
    site::Site,
    sites,
    status::looks,
};
use crate::overrides::DirectoryOverrides;

/// Of the rooms from before, so many thousandths must be there again: gateways announce what they know, and a room that is
/// closed in this very moment is announced by nobody.
const BACK_PERMILLE: usize = 990;
/// Between two looks at what has changed.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Between two lines of the curve.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Options of `wipe-test`.
#[derive(Debug, clap::Args)]
pub(crate) struct WipeArgs {
    #[command(flatten)]
    directory: DirectoryOverrides,
    /// The name of the content to delete, as `outlast directory status` prints it: proof that this directory is meant
    #[arg(long, value_name = "NAME")]
    yes_wipe: String,
    /// By when the rooms are to be back, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    within: u32,
}

pub(super) async fn run(args: &WipeArgs) -> anyhow::Result<Outcome> {
    let sites = sites(&args.directory)?;
    let name = look::name(&looks(&sites, 1).await);
    let name = name.context("nobody decides somewhere: nothing was deleted")?;
    ensure!(
        name == args.yes_wipe,
        "this content has another name: nothing was deleted. If it is the one that is meant, say --yes-wipe {name}"
    );
    let mut followed = Vec::new();
    for site in &sites {
        let parts = site.partitions().map(|at| Followed { site, at, seen: Seen::default() });
        followed.extend(parts);
    }
    for part in &mut followed {
        while part.look().await? {}
        part.seen.forget();
    }
    let before: usize = followed.iter().map(|part| part.seen.count_before()).sum();
    ensure!(
        before > 0,
        "the directory has no room: nothing was deleted, since nothing would be shown by it. Open a room first"
    );
    let began = Instant::now();
    for site in &sites {
        let keys = site.wipe().await.with_context(|| format!("deleting {}", site.title()))?;
        println!("{}: {keys} keys deleted", site.title());
    }
    println!("{before} rooms were there. How many of them are there again:");
    let within = Duration::from_secs(args.within.into());
    let back = refill(&mut followed, began, within).await?;
    if back >= enough(before) {
        println!(
            "Filled again: {back} of {before} rooms after {:.1} s.",
            began.elapsed().as_secs_f64()
        );
        return Ok(Outcome::Well);
    }
    eprintln!(
        "outlast: only {back} of {before} rooms are back after {within:?}. Calls go on all the same. See whether gateways run with \
         this directory, and their outlast_gateway_directory_away; docs/directory.md"
    );
    Ok(Outcome::Broken)
}

/// How many of `before` rooms are enough.
fn enough(before: usize) -> usize {
    (before * BACK_PERMILLE).div_ceil(1_000)
}

/// Prints the curve until enough is back or the time is over; returns how many rooms are.
async fn refill(
    followed: &mut [Followed<'_>],
    began: Instant,
    within: Duration,
) -> anyhow::Result<usize> {
    let before: usize = followed.iter().map(|part| part.seen.count_before()).sum();
    let wanted = enough(before);
    let mut line_at = Duration::ZERO;
    loop {
        for part in followed.iter_mut() {
            // While nobody answers there is nothing to count; the time goes on.
            let _ = part.look().await;
        }
        let back: usize = followed.iter().map(|part| part.seen.count_back()).sum();
        let passed = began.elapsed();
        if passed >= line_at || back >= wanted {
            let rooms: usize = followed.iter().map(|part| part.seen.held.len()).sum();
            println!(
                "  {:6.1} s  {back} of {before}  ({rooms} rooms in all)",
                passed.as_secs_f64()
            );
            line_at = passed + LINE_INTERVAL;
        }
        if back >= wanted || passed >= within {
            return Ok(back);
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// A partition that is watched.
struct Followed<'a> {
    site: &'a Site,
    at: Partition,
    seen: Seen,
}

impl Followed<'_> {
    /// Reads on; returns whether there was something.
    async fn look(&mut self) -> anyhow::Result<bool> {
        let watch = Request::Watch { after: self.seen.revision };
        match self.site.insist(self.at, &watch).await? {
            Reply::Changes(changes) => Ok(self.seen.learn(changes)),
            other => bail!("a watch is answered {other:?}"),
        }
    }
}

/// What a watcher knows of a content, and of the one before.
#[derive(Debug, Default)]
struct Seen {
    revision: Revision,
    held: BTreeSet<RoomKey>,
    /// Rooms of the content that was wiped, and which one that was.
    before: Option<(InstanceId, BTreeSet<RoomKey>)>,
    /// Those of `before` that were seen to end in the new content: somebody had announced them.
    ended: BTreeSet<RoomKey>,
}

impl Seen {
    /// Returns whether there was something.
    fn learn(&mut self, changes: Changes) -> bool {
        let Changes { events, revision, resync, .. } = changes;
        if resync {
            self.held.clear();
            self.ended.clear();
        }
        self.revision = revision;
        let is_news = !events.is_empty();
        for event in events {
            match event {
                Event::Held { room, .. } => {
                    self.held.insert(room);
                }
                Event::Ended { room, .. } => {
                    self.held.remove(&room);
                    self.ended.insert(room);
                }
            }
        }
        is_news
    }

    /// From here on everything is lost.
    fn forget(&mut self) {
        self.before = Some((self.revision.instance, self.held.clone()));
        self.ended.clear();
    }

    /// How many rooms there were.
    fn count_before(&self) -> usize {
        self.before.as_ref().map_or(0, |(_, rooms)| rooms.len())
    }

    /// How many of those from before are there in a new content, or have been.
    fn count_back(&self) -> usize {
        let Some((instance, rooms)) = &self.before else { return 0 };
        if self.revision.instance == *instance {
            return 0;
        }
        let is_back = |room: &&RoomKey| self.held.contains(room) || self.ended.contains(room);
        rooms.iter().filter(is_back).count()
    }
}

#[cfg(test)]
mod tests {
    use outlast_directory::{PlacementId, Record};
    use outlast_model::{Epoch, Generation};

    use super::*;

    fn held(room: u128) -> Event {
        let record = Record {
            node: "a".into(),
            epoch: Epoch(1),
            generation: Generation(1),
            id: PlacementId(1),
            provisional: false,
        };
        Event::Held { room: RoomKey(room), record }
    }

    fn ended(room: u128) -> Event {
        Event::Ended { room: RoomKey(room), generation: Generation(1) }
    }

    fn changes(instance: u128, resync: bool, events: Vec<Event>) -> Changes {
        let instance = InstanceId(instance);
        let revision = Revision { instance, ..Revision::START };
        Changes { events, revision, resync, instance }
    }

    #[test]
    fn only_rooms_of_before_in_another_content_are_back() {
        let mut seen = Seen::default();
        seen.learn(changes(1, true, vec![held(1), held(2), ended(2), held(3), held(4)]));
        seen.forget();
        assert_eq!((seen.count_before(), seen.count_back()), (3, 0));
        // What is deleted looks like an end, and is none of the new content.
        seen.learn(changes(1, false, vec![ended(1), ended(3)]));
        assert_eq!(seen.count_back(), 0);
        assert!(!seen.learn(changes(2, true, Vec::new())));
        assert_eq!(seen.count_back(), 0);
        assert!(seen.learn(changes(2, false, vec![held(1), held(9)])));
        assert_eq!(seen.count_back(), 1);
        seen.learn(changes(2, false, vec![held(3), ended(1)]));
        assert_eq!((seen.count_back(), seen.held.len()), (2, 2));
    }

    #[test]
    fn nearly_all_must_be_back_and_of_a_few_all() {
        for (before, wanted) in [(1, 1), (99, 99), (100, 99), (101, 100), (1_000, 990)] {
            assert_eq!(enough(before), wanted);
        }
    }
}
