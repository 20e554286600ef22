//! Benchmarks with their machine's floor: `outlast-bench [egress|joins|memory]...`; without arguments, all of them.
//! Times are CPU time of the measuring thread, medians over rounds that take turns, so that other load hits all alike.

mod allocations;
mod client;
mod egress;
mod findings;
mod joins;
mod median;
mod memory;
mod scene;

use std::process::ExitCode;

use findings::Finding;

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

/// Runs, prints its details and returns its part of the last table.
type Bench = fn() -> Vec<Finding>;

/// Every benchmark by its name.
const BENCHES: [(&str, Bench); 3] =
    [("egress", egress::run), ("joins", joins::run), ("memory", memory::run)];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let known = |name: &String| BENCHES.iter().any(|(bench, _)| bench == name);
    if let Some(unknown) = wanted.iter().find(|name| !known(name)) {
        let names: Vec<&str> = BENCHES.iter().map(|(name, _)| *name).collect();
        eprintln!("there is no benchmark {unknown:?}; there is: {}", names.join(", "));
        return ExitCode::FAILURE;
    }
    let mut findings = Vec::new();
    for (name, bench) in BENCHES {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            findings.extend(bench());
        }
    }
    findings::print(&findings);
    ExitCode::SUCCESS
}
