//! What was measured, as a table for people.

use std::fmt;

use super::report::{Counted, Environment, Fill, Growth, Process, Report};
use crate::servers::COUNTS;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Environment { cores, begin, end, busy_cores } = self.machine;
        writeln!(
            f,
            "{:.0} s on {cores} cores, {busy_cores:.2} of them busy, load {:.1} to {:.1}",
            self.seconds, begin.load, end.load
        )?;
        if let Some(Fill { rooms, seconds }) = self.fill {
            writeln!(f, "{rooms} rooms were told first, in {seconds:.1} s")?;
        }
        operations(self, f)?;
        processes(self, f)?;
        kept(self, f)?;
        let Counted { alive, perhaps, perhaps_not, held, ended } = self.rooms;
        write!(
            f,
            "\nrooms: {alive} alive as gateways know ({perhaps} more perhaps, {perhaps_not} perhaps not), {held} in the \
             directory, and {ended} tombstones"
        )
    }
}

fn operations(report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let [rate, p50, p99, max] = ["a second", "p50 ms", "p99 ms", "max ms"];
    writeln!(f, "\n{:10} {rate:>8} {p50:>8} {p99:>8} {max:>8}", "operation")?;
    for one in &report.operations {
        let outcomes = one.outcomes.iter().map(|(name, count)| format!(" {count} {name}"));
        let outcomes = outcomes.collect::<Vec<_>>().join(",");
        writeln!(
            f,
            "{:10} {:>8.1} {:>8.1} {:>8.1} {:>8.1} {outcomes}",
            one.operation, one.per_second, one.p50_ms, one.p99_ms, one.max_ms
        )?;
    }
    writeln!(
        f,
        "claims late {}, not sent {}; changes told to watches: {:.0} a second",
        report.late, report.shed, report.heard_per_second
    )
}

/// Bytes and packets are per second.
fn processes(report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let [out, into, packets] = ["out", "in", "packets"];
    writeln!(
        f,
        "\n{:10} {:>6} {:>9} | to gateways {out:>8} {into:>8} {packets:>8} | to servers {out:>8} {into:>8} {packets:>8}",
        "process", "CPU %", "memory"
    )?;
    for Process { name, cpu_percent } in &report.gateways {
        writeln!(f, "{name:10} {cpu_percent:>6.1}")?;
    }
    for server in &report.servers {
        let Process { name, cpu_percent } = &server.process;
        let memory = size(server.resident_end as f64);
        write!(f, "{name:10} {cpu_percent:>6.1} {memory:>9}")?;
        for (before, flow) in
            [(" |            ", server.with_gateways), (" |           ", server.with_servers)]
        {
            let (sent, received) = (size(flow.sent_bytes), size(flow.received_bytes));
            write!(f, "{before} {sent:>8} {received:>8} {:>8.0}", flow.packets)?;
        }
        writeln!(f)?;
    }
    Ok(())
}

fn kept(report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let [begin, end, hour, compacted] = ["begin", "end", "an hour", "compacted"];
    writeln!(
        f,
        "\n{:10} {:12} {begin:>10} {end:>10} {hour:>10} {compacted:>10}",
        "process", "keeps"
    )?;
    for server in &report.servers {
        let name = &server.process.name;
        for (figure, growth) in &server.stored {
            let is_count = COUNTS.contains(figure);
            let say = |value: f64| if is_count { format!("{value:.0}") } else { size(value) };
            let Growth { begin, end, per_hour, compacted } = *growth;
            let values = [begin as f64, end as f64, per_hour, compacted as f64].map(say);
            let [begin, end, hour, compacted] = values;
            writeln!(f, "{name:10} {figure:12} {begin:>10} {end:>10} {hour:>10} {compacted:>10}")?;
        }
    }
    Ok(())
}

/// Bytes, in words.
fn size(bytes: f64) -> String {
    let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    match units.into_iter().find(|(unit, _)| bytes.abs() >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes / unit),
        None => format!("{bytes:.0} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_words() {
        let sizes = [0.0, 999.0, 1_000.0, 2_345_678.0, -3.1e9].map(size);
        assert_eq!(sizes, ["0 B", "999 B", "1.0 kB", "2.3 MB", "-3.1 GB"]);
    }
}
