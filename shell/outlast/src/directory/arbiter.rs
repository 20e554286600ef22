//! Whether a directory arbitrates: two askers race for a room of their own.

use anyhow::{Context, bail, ensure};
use outlast_directory::{Failure, Placed, PlacementId, Record, Reply, Request, RoomKey};
use outlast_engines::Partition;
use outlast_model::{Epoch, Generation};
use outlast_runtime::entropy;

use super::{findings::Finding, site::Site};

/// Whom the rooms of these commands stand for; no node has such a name.
const NODE: &str = "outlast directory";

/// A room of its own, with random bits for a key: no gateway has one of the same.
pub(super) struct Trial {
    pub(super) room: RoomKey,
    pub(super) at: Partition,
}

impl Trial {
    pub(super) fn new(at: Partition) -> anyhow::Result<Trial> {
        Ok(Trial { room: RoomKey(random()?), at })
    }

    /// A claim of its own each time.
    pub(super) fn record(&self, generation: u64) -> anyhow::Result<Record> {
        Ok(Record {
            node: NODE.into(),
            epoch: Epoch(0),
            generation: Generation(generation),
            id: PlacementId(random()?),
            provisional: false,
        })
    }

    pub(super) fn place(&self, want: &Record) -> Request {
        Request::Place { room: self.room, want: want.clone() }
    }

    pub(super) fn replace(&self, expected: u64, want: &Record) -> Request {
        Request::Replace { room: self.room, expected: Generation(expected), want: want.clone() }
    }

    pub(super) fn end(&self, generation: u64) -> Request {
        Request::End { room: self.room, generation: Generation(generation) }
    }
}

fn random() -> anyhow::Result<u128> {
    let bytes = entropy::bytes().context("no random bytes from the kernel")?;
    // 0 is nobody's id.
    Ok(u128::from_be_bytes(bytes).max(1))
}

/// The check's line about it.
pub(super) async fn finding(site: &Site) -> Finding {
    let mut partitions = 0;
    for at in site.partitions() {
        if let Err(error) = arbitrates(site, at).await {
            let what = format!("it does not arbitrate (partition {}): {error:#}", at.0);
            let remedy = "Gateways place rooms without it as long as that is so; see the findings above, and docs/directory.md";
            return Finding::fail(what, remedy);
        }
        partitions += 1;
    }
    let what =
        "it arbitrates: of two claims one wins, a replace wins once, what has ended stays fenced";
    Finding::ok(if partitions > 1 {
        format!("{what}; in {partitions} partitions")
    } else {
        what.to_owned()
    })
}

async fn arbitrates(site: &Site, at: Partition) -> anyhow::Result<()> {
    let trial = Trial::new(at)?;
    let done = race(site, &trial).await;
    // Whatever came of it. Its tombstone goes by itself.
    let ended = site.insist(at, &trial.end(2)).await;
    done?;
    expect("an end", &ended?, &Reply::Done)?;
    match site.insist(at, &trial.place(&trial.record(1)?)).await? {
        Reply::Failed(Failure::Fenced(Generation(2))) => Ok(()),
        other => bail!("a claim that is older than the end of its room is answered {other:?}"),
    }
}

async fn race(site: &Site, trial: &Trial) -> anyhow::Result<()> {
    let (one, two) = (trial.record(1)?, trial.record(1)?);
    let (place_one, place_two) = (trial.place(&one), trial.place(&two));
    let (first, second) =
        tokio::join!(site.insist(trial.at, &place_one), site.insist(trial.at, &place_two));
    let winner = match (first?, second?) {
        (Reply::Placed(Placed::Won(won)), Reply::Placed(Placed::Held(held)))
        | (Reply::Placed(Placed::Held(held)), Reply::Placed(Placed::Won(won)))
            if won == held =>
        {
            won
        }
        answers => bail!("two claims at once are answered {answers:?}"),
    };
    ensure!(winner == one || winner == two, "a room of our own is held by {winner:?}");
    let newer = trial.record(2)?;
    let replaced = site.insist(trial.at, &trial.replace(1, &newer)).await?;
    expect("a replace", &replaced, &Reply::Placed(Placed::Won(newer.clone())))?;
    let late = site.insist(trial.at, &trial.replace(1, &trial.record(2)?)).await?;
    expect("a second replace", &late, &Reply::Placed(Placed::Held(newer)))
}

fn expect(what: &str, got: &Reply, wanted: &Reply) -> anyhow::Result<()> {
    ensure!(got == wanted, "{what} is answered {got:?}");
    Ok(())
}
