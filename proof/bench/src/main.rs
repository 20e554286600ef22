//! Benchmarks with their machine's floor: `outlast-bench [egress]...`; without arguments, all of them.
//! Times are CPU time of the measuring thread, medians over rounds that take turns, so that other load hits all alike.

mod egress;
mod median;

use std::process::ExitCode;

/// Every benchmark by its name.
const BENCHES: [(&str, fn()); 1] = [("egress", egress::run)];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let known = |name: &String| BENCHES.iter().any(|(bench, _)| bench == name);
    if let Some(unknown) = wanted.iter().find(|name| !known(name)) {
        let names: Vec<&str> = BENCHES.iter().map(|(name, _)| *name).collect();
        eprintln!("there is no benchmark {unknown:?}; there is: {}", names.join(", "));
        return ExitCode::FAILURE;
    }
    for (name, bench) in BENCHES {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            bench();
        }
    }
    ExitCode::SUCCESS
}
