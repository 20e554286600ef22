//! A small globe, so that the large one can be believed.

use super::Scale;

fn small() -> Scale {
    Scale {
        regions: 5,
        nodes: 40,
        gateways: 1,
        rooms: 2_000,
        clients: 20_000,
        tell_per_second: 0,
        seconds: 30,
        seed: 1,
        report: None,
    }
}

#[test]
fn a_lost_region_is_back_on_the_others_and_spread_over_them() {
    let outcome = small().lose();
    let lost = 20_000 / 5;
    assert_eq!((outcome.out, outcome.back, outcome.given_up), (lost, lost as usize, 0));
    assert!(outcome.refused_by_nodes * 100 <= lost, "{} refused", outcome.refused_by_nodes);
    assert_eq!(outcome.turned_away_by_gateways, 0);
    assert_eq!(outcome.spread.len(), 32);
    assert_eq!(outcome.spread.iter().sum::<u32>(), 20_000, "everybody is in one place");
    // Which regions get them is a race between gateways; inside each, loads are even.
    let busiest = outcome.spread_of_regions.iter().copied().fold(0.0, f64::max);
    let most = outcome.spread[31];
    assert!(f64::from(most) <= busiest * 1.1, "{most} at one node, {busiest} on the average");
    assert_eq!((outcome.view_rooms, outcome.directory_rooms), (2_000, 2_000));
}

#[test]
fn a_slower_pace_takes_longer_and_what_is_counted_says_so() {
    let followed = small().lose();
    let slow = Scale { tell_per_second: 100, ..small() }.lose();
    assert!(slow.peak.told < 130.0 && followed.peak.told > 300.0);
    assert!(slow.back_after[3] > 2.0 * followed.back_after[3]);
    // 40 nodes beat five gateways each 400 ms.
    assert!((followed.rest.beats - 100.0).abs() < 1.0, "{}", followed.rest.beats);
    assert!(followed.peak.cpu_percent > 0.0);
}
