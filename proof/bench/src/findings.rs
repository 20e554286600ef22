//! What came out, beside what the prototype made us expect.

/// What is expected of a figure.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    /// It is good to stay below.
    AtMost(f64),
    /// It is good to stay above.
    AtLeast(f64),
}

/// One line of the last table.
pub(crate) struct Finding {
    /// Name and unit.
    pub(crate) what: String,
    /// The median.
    pub(crate) measured: f64,
    /// From the prototype.
    pub(crate) expected: Bound,
    /// What the machine can do, or another figure to hold it against.
    pub(crate) floor: String,
}

/// Prints the table and how to get it again.
pub(crate) fn print(findings: &[Finding]) {
    println!("\n{:<34} {:>9} {:>11}  {:<7} beside it", "", "measured", "expected", "");
    for Finding { what, measured, expected, floor } in findings {
        let (sign, bound, met) = match *expected {
            Bound::AtMost(bound) => ("<=", bound, *measured <= bound),
            Bound::AtLeast(bound) => (">=", bound, *measured >= bound),
        };
        let expected = format!("{sign} {}", figure(bound));
        let verdict = if met { "met" } else { "MISSED" };
        println!("{what:<34} {:>9} {expected:>11}  {verdict:<7} {floor}", figure(*measured));
    }
    println!("\nmachine: {}", machine());
    println!(
        "again: make bench; one of them: cargo run --release -p outlast-bench -- egress|joins|memory"
    );
    println!(
        "Times are CPU times, but a shared machine still disturbs caches and clocks: trust ratios first."
    );
}

fn figure(value: f64) -> String {
    if value < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("a processor without a name", |(_, name)| name);
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("unknown");
    let kernel = read("/proc/sys/kernel/osrelease");
    let cores = outlast_runtime::cores();
    format!("{model}, {cores} cores, Linux {}, load {load} at the end", kernel.trim())
}
