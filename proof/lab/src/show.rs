//! What is told on the standard output.

use std::{
    fmt::{self, Write as _},
    io::{self, ErrorKind, Write as _},
};

use outlast_lab::{Counters, LinkView, Priority, Punctuality, Status};

/// Writes lines to the standard output. That nobody reads them any more is no fault.
pub(crate) fn say(lines: impl fmt::Display) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(format!("{lines}\n").as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// What `up` made, and what to do with it.
pub(crate) fn up(status: &Status) -> String {
    let mut text = format!("lab {} is up\n\n", status.id);
    hosts(&mut text, status);
    if status.priority == Priority::Ordinary {
        text.push_str(
            "\nThe emulator runs without real-time priority, which is not allowed here: a busy machine makes packets late.\n",
        );
    }
    text.push_str(
        "\noutlast-lab exec HOST PROGRAM runs a program there; outlast-lab down ends it all",
    );
    text
}

pub(crate) fn status(status: &Status) -> String {
    let mut text = format!("lab {}\n\n", status.id);
    hosts(&mut text, status);
    let _ = writeln!(text, "\n{}\n", faults(status));
    let _ = writeln!(
        text,
        "{:<34} {:>9} {:>9} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7}",
        "way", "sent", "arrived", "lost", "burst", "queue", "cut", "hole", "twice"
    );
    for LinkView { from, to, counters, .. } in &status.links {
        let Counters { sent, delivered, lost, lost_in_burst, queue_full, overflow, .. } = counters;
        let Counters { cut, black_hole, duplicated, .. } = counters;
        if *sent > 0 {
            let way = format!("{from} -> {to}");
            let queue = queue_full + overflow;
            let _ = writeln!(
                text,
                "{way:<34} {sent:>9} {delivered:>9} {lost:>7} {lost_in_burst:>7} {queue:>7} {cut:>7} {black_hole:>7} {duplicated:>7}",
            );
        }
    }
    let _ =
        write!(text, "\n{} packets to nobody here\n{}", status.strays, late(&status.punctuality));
    text
}

/// How late the emulator was.
pub(crate) fn late(punctuality: &Punctuality) -> String {
    let Punctuality { within_100_us, within_1_ms, within_10_ms, later, worst_us } = punctuality;
    format!(
        "handed over late by < 0.1 ms: {within_100_us}, < 1 ms: {within_1_ms}, < 10 ms: {within_10_ms}, more: {later}; \
         at worst {worst_us} us"
    )
}

pub(crate) fn faults(status: &Status) -> String {
    let there = if status.faults.is_empty() { "none".to_owned() } else { status.faults.join(", ") };
    format!("faults: {there}")
}

/// The shapes between two places, both ways.
pub(crate) fn shapes(status: &Status, a: &str, b: &str) -> String {
    let between =
        |link: &&LinkView| (link.from == a && link.to == b) || (link.from == b && link.to == a);
    let shapes = status.links.iter().filter(between).map(|link| {
        let shape = toml::to_string(&link.shape).unwrap_or_default();
        format!("# {} -> {}\n{shape}", link.from, link.to)
    });
    shapes.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

fn hosts(text: &mut String, status: &Status) {
    for host in &status.hosts {
        let addresses: Vec<String> = host.addresses.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "{:<18} {:<34} {}", host.name, addresses.join(" "), host.namespace);
    }
}
