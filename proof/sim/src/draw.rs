//! From a seed to a schedule: a small world, twenty faults and more in its first four minutes, and a calm end.

use crate::{
    chance::Stream,
    geography::CITIES,
    schedule::{Fault, Names, Schedule, Shape, What},
};

/// Faults of a run, at least.
pub(crate) const FAULTS_MIN: u64 = 20;
const FAULTS_MORE: u64 = 6;
/// Faults begin after this second: people have come by then.
const QUIET_UNTIL: u64 = 12;
/// And all are healed by this one.
const HEALED_BY: f64 = 240.0;

/// The schedule of `seed`.
pub(crate) fn schedule(seed: u64) -> Schedule {
    let mut chance = Stream::named(seed, "faults");
    let mut world = shape(&mut Stream::named(seed, "shape"));
    world.embedded = !world.directory && Stream::named(seed, "embedded").hits(500);
    let names = Names::of(&world);
    let count = FAULTS_MIN + chance.below(FAULTS_MORE);
    let mut faults: Vec<Fault> = Vec::new();
    let mut bite = 0;
    while bite < count {
        let at = match faults.last() {
            // Troubles come in company.
            Some(before) if chance.hits(300) => before.at + seconds(&mut chance, 0, 3_000),
            _ => seconds(&mut chance, QUIET_UNTIL * 1_000, 205_000),
        };
        let (lasts, what) = fault(&mut chance, &names);
        let lasts = round(lasts.min(HEALED_BY - at));
        // What befalls a directory that is not there is none.
        bite += u64::from(world.directory || !what.is_of_the_directory());
        faults.push(Fault { at: round(at), lasts, what });
    }
    faults.sort_by(|a, b| a.at.total_cmp(&b.at));
    Schedule { story: String::new(), seed, seconds: 300, world, faults }
}

/// Files are read by people: milliseconds are fine enough.
fn round(seconds: f64) -> f64 {
    (seconds * 1_000.0).round() / 1_000.0
}

fn seconds(chance: &mut Stream, low_ms: u64, high_ms: u64) -> f64 {
    chance.between(low_ms, high_ms) as f64 / 1_000.0
}

fn shape(chance: &mut Stream) -> Shape {
    let mut cities: Vec<&str> = CITIES.iter().map(|city| city.name).collect();
    let mut regions = Vec::new();
    for _ in 0..3 {
        regions.push(cities.swap_remove(chance.index(cities.len())).to_owned());
    }
    let mut gateways = vec![1; 3];
    // A second gateway in one region, of every third world.
    if chance.hits(330) {
        gateways[chance.index(3)] = 2;
    }
    let nodes = (0..3).map(|_| 1 + usize::from(chance.hits(400))).collect();
    Shape {
        regions,
        gateways,
        nodes,
        clients: chance.between(9, 13) as usize,
        rooms: chance.between(3, 5) as usize,
        directory: chance.hits(800),
        embedded: false,
        loss_permille: chance.weighted(&[(5, 0), (3, 2), (2, 10)]),
        clock_ppm: chance.weighted(&[(5, 50), (3, 500), (2, 10_000)]),
        mixed_versions: chance.hits(300),
        restless: true,
        rulings: true,
    }
}

/// How long it lasts, and what it is.
fn fault(chance: &mut Stream, names: &Names) -> (f64, What) {
    let any = |chance: &mut Stream| names.processes[chance.index(names.processes.len())].0.clone();
    let node = |chance: &mut Stream| {
        let nodes = &names.processes[names.gateways..];
        nodes[chance.index(nodes.len())].0.clone()
    };
    let region = |chance: &mut Stream| names.regions[chance.index(names.regions.len())].clone();
    let people = |chance: &mut Stream| format!("people-of-{}", region(chance));
    let place = |chance: &mut Stream| {
        if chance.hits(700) { region(chance) } else { people(chance) }
    };
    let pair = |chance: &mut Stream| {
        let from = place(chance);
        let others: Vec<&String> = names.regions.iter().filter(|name| **name != from).collect();
        let to = others[chance.index(others.len())].clone();
        if chance.hits(500) { (from, to) } else { (to, from) }
    };
    let kinds: Vec<(u64, u64)> = WEIGHTS.iter().copied().zip(0..).collect();
    match chance.weighted(&kinds) {
        0 => (seconds(chance, 500, 12_000), What::Dies { who: any(chance) }),
        1 => (seconds(chance, 2_000, 25_000), What::PowerLoss { who: any(chance) }),
        2 => {
            let lasts = match chance.below(4) {
                0 => seconds(chance, 200, 2_500),
                1 => seconds(chance, 55_000, 70_000),
                _ => seconds(chance, 1_200, 15_000),
            };
            (lasts, What::Freezes { who: any(chance) })
        }
        3 => (seconds(chance, 300, 9_000), What::ShardHangs { who: node(chance) }),
        4 => {
            let long = chance.hits(200);
            let lasts = seconds(
                chance,
                if long { 55_000 } else { 500 },
                if long { 65_000 } else { 20_000 },
            );
            (lasts, What::RegionDark { region: region(chance) })
        }
        5 => (seconds(chance, 5_000, 25_000), What::RegionDies { region: region(chance) }),
        6 => (seconds(chance, 500, 25_000), What::RegionAlone { region: region(chance) }),
        7 => {
            let (from, to) = pair(chance);
            (seconds(chance, 500, 15_000), What::OneWay { from, to })
        }
        8 => {
            let (from, to) = pair(chance);
            (seconds(chance, 500, 15_000), What::Cut { from, to })
        }
        9 => (seconds(chance, 500, 12_000), What::Deaf { who: any(chance) }),
        10 => (seconds(chance, 500, 12_000), What::Mute { who: any(chance) }),
        11 => {
            let (from, to) = pair(chance);
            let permille = chance.between(20, 500) as u16;
            (seconds(chance, 1_000, 20_000), What::Lossy { from, to, permille })
        }
        12 => {
            let (from, to) = pair(chance);
            (seconds(chance, 300, 5_000), What::Clog { from, to })
        }
        kind => more(chance, kind, (&any, &node, &region, &people)),
    }
}

type Draw<'a> = &'a dyn Fn(&mut Stream) -> String;

fn more(
    chance: &mut Stream,
    kind: u64,
    (any, node, region, people): (Draw<'_>, Draw<'_>, Draw<'_>, Draw<'_>),
) -> (f64, What) {
    match kind {
        13 => (seconds(chance, 500, 9_000), What::Offline { people: people(chance) }),
        14 => (0.0, What::Herd { people: people(chance) }),
        15 => (seconds(chance, 1_000, 10_000), What::DirectoryFailover),
        16 => (seconds(chance, 3_000, 40_000), What::DirectoryDown),
        17 => {
            let slow = seconds(chance, 200, 6_000);
            (seconds(chance, 3_000, 30_000), What::DirectorySlow { seconds: slow })
        }
        18 => (0.0, What::DirectoryWiped),
        19 => (seconds(chance, 2_000, 15_000), What::NamesDown),
        20 => {
            let ahead = chance.hits(500);
            let span = chance.between(1, 3_600) as i64;
            (0.0, What::ClockJumps { who: any(chance), seconds: if ahead { span } else { -span } })
        }
        21 => {
            let ppm = chance.between(0, 40_000) as i64 - 20_000;
            (seconds(chance, 10_000, 60_000), What::ClockDrifts { who: any(chance), ppm })
        }
        22 => (seconds(chance, 2_000, 15_000), What::CertificateExpires { who: any(chance) }),
        23 => (seconds(chance, 2_000, 20_000), What::Overload { who: node(chance) }),
        24 => {
            let period = seconds(chance, 3_000, 10_000);
            (seconds(chance, 20_000, 45_000), What::RegionFlaps { region: region(chance), period })
        }
        25 => {
            let period = seconds(chance, 2_000, 10_000);
            (seconds(chance, 15_000, 45_000), What::Flaps { who: node(chance), period })
        }
        26 => {
            let restart = chance.hits(600);
            (seconds(chance, 5_000, 40_000), What::Drain { who: any(chance), restart })
        }
        27 => (seconds(chance, 500, 3_000), What::Upgrade { who: any(chance) }),
        _ => (seconds(chance, 5_000, 30_000), What::Gray { who: node(chance) }),
    }
}

/// In the order of [`What::KINDS`].
const WEIGHTS: [u64; What::KINDS.len()] =
    [10, 5, 10, 4, 5, 3, 5, 6, 4, 4, 4, 5, 4, 3, 3, 3, 4, 4, 3, 2, 3, 3, 3, 4, 2, 3, 6, 4, 4];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_has_its_faults_and_a_calm_end_and_all_kinds_come_up() {
        let (mut seen, mut embedded) = ([0; What::KINDS.len()], 0);
        for seed in 0..500 {
            let drawn = schedule(seed);
            let without = |fault: &&Fault| !fault.what.is_of_the_directory();
            let bite = drawn.faults.iter().filter(|it| drawn.world.directory || without(it));
            assert!(bite.count() >= 20);
            embedded += u32::from(drawn.world.embedded);
            for fault in &drawn.faults {
                assert!(fault.at >= 12.0 && fault.at + fault.lasts <= HEALED_BY + 0.01);
                seen[fault.what.kind()] += 1;
            }
        }
        assert!(seen.iter().all(|count| *count > 50), "{seen:?}");
        assert!((30..70).contains(&embedded), "{embedded}");
    }

    #[test]
    fn a_schedule_survives_being_written() {
        for seed in 0..50 {
            let drawn = schedule(seed);
            assert_eq!(Schedule::read(&drawn.write()).expect("a schedule"), drawn);
        }
    }
}
