//! Runs the checks to their end and prints how many states there were: `outlast-model [NAME...]`. Without a name, all of
//! them, then the broken variants; `broken` alone prints how each of those breaks.

use std::{process::ExitCode, thread, time::Instant};

use outlast_proof_model::{BROKEN, Broken, CHECKS, Check, Ownership, Rules};
use stateright::{Checker, HasDiscoveries, Model};

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let known = |name: &String| name == "broken" || CHECKS.iter().any(|check| check.name == name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let all: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
        eprintln!("{unknown}: there are {} and broken", all.join(", "));
        return ExitCode::FAILURE;
    }
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let mut right = true;
    for check in CHECKS.iter().filter(|check| wanted(check.name)) {
        right &= run(check);
    }
    if wanted("broken") {
        for broken in BROKEN {
            right &= breaks(broken, !names.is_empty());
        }
    }
    if right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn threads() -> usize {
    thread::available_parallelism().map_or(1, Into::into)
}

/// Depth first, which takes little memory. Returns whether everything held.
fn run(check: &Check) -> bool {
    let begun = Instant::now();
    let model = Ownership { bounds: (check.bounds)(), rules: Rules::ALL };
    let checker = model.checker().threads(threads());
    let checker = checker.finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join();
    println!(
        "{:<8} {}: {} states, {} steps, walked {} deep, {:.0} s",
        check.name,
        check.says,
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        begun.elapsed().as_secs_f32(),
    );
    let mut found = checker.discoveries();
    let mut right = true;
    for property in checker.model().properties() {
        let Some(path) = found.remove(property.name) else { continue };
        if property.expectation.discovery_is_failure() {
            right = false;
            println!("VIOLATED: {}", property.name);
            print_steps(checker.model(), path.into_vec());
        }
    }
    right
}

/// Breadth first: nearly the shortest schedule that breaks it. Returns whether all that should break does.
fn breaks(broken: &Broken, print: bool) -> bool {
    let model = Ownership { bounds: Broken::bounds(), rules: broken.rules };
    let wanted = HasDiscoveries::AllOf(broken.violates.iter().copied().collect());
    let checker = model.checker().finish_when(wanted).spawn_bfs().join();
    let found = checker.discoveries();
    println!("without {}:", broken.without);
    for name in broken.violates {
        let Some(path) = found.get(name) else {
            println!("  NOT FOUND: {name}");
            continue;
        };
        let path = path.clone().into_vec();
        println!("  {name}: violated after {} steps", path.len() - 1);
        if print {
            print_steps(checker.model(), path);
        }
    }
    broken.violates.iter().all(|name| found.contains_key(name))
}

fn print_steps(
    model: &Ownership,
    path: Vec<(outlast_proof_model::State, Option<outlast_proof_model::Action>)>,
) {
    for (state, action) in path {
        match action {
            Some(action) => println!("    {action:?}"),
            None => println!("    then: {state:?}\n    settling: {:?}", model.settled(&state)),
        }
    }
}
