//! Every schedule within the quick bounds is right, the trouble bites, and each safeguard is missed when it is not there.

use outlast_proof_model::{
    BROKEN, Broken, CHECKS, Check, LIVES_AGAIN, Ownership, Rules, TIE, TWO_HOMES,
};
use stateright::{Checker, HasDiscoveries, Model};

fn check(name: &str) -> impl Checker<Ownership> {
    let check: &Check = CHECKS.iter().find(|check| check.name == name).expect("it is listed");
    assert!(check.quick);
    let model = Ownership { bounds: (check.bounds)(), rules: Rules::ALL };
    let checker = model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.spawn_dfs().join();
    for property in checker.model().properties() {
        if property.expectation.discovery_is_failure() {
            checker.assert_no_discovery(property.name);
        }
    }
    checker
}

#[test]
fn two_rooms_survive_two_crashes() {
    let checker = check("crashes");
    // A change of this figure is a change of the model: look at it, and at docs/model.md.
    assert_eq!(checker.unique_state_count(), 3_937_920);
    for seen in [TWO_HOMES, LIVES_AGAIN] {
        checker.assert_any_discovery(seen);
    }
    checker.assert_no_discovery(TIE);
}

#[test]
fn one_room_survives_any_two_troubles() {
    let checker = check("two");
    assert_eq!(checker.unique_state_count(), 492_373);
    for seen in [TWO_HOMES, TIE, LIVES_AGAIN] {
        checker.assert_any_discovery(seen);
    }
}

#[test]
fn without_any_one_safeguard_something_breaks() {
    for broken in BROKEN {
        let model = Ownership { bounds: Broken::bounds(), rules: broken.rules };
        let wanted = HasDiscoveries::AllOf(broken.violates.iter().copied().collect());
        let found = model.checker().threads(2).finish_when(wanted).spawn_bfs().join().discoveries();
        for name in broken.violates {
            assert!(found.contains_key(name), "without {}: {name}", broken.without);
        }
    }
}
