//! Looks at gateways from outside: metrics, readiness and memory.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::Context as _;

/// Longest look; a gateway that is cut off does not answer.
const LOOK_MAX: Duration = Duration::from_secs(1);
/// Longest page.
const PAGE_BYTES_MAX: u64 = 1 << 20;

/// The page at `path` of an admin listener.
///
/// # Errors
/// When nobody answers in time, or not with 200.
pub(crate) fn page(admin: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, LOOK_MAX)?;
    stream.set_read_timeout(Some(LOOK_MAX))?;
    stream.set_write_timeout(Some(LOOK_MAX))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(PAGE_BYTES_MAX).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    anyhow::ensure!(
        head.starts_with("HTTP/1.1 200"),
        "{path}: {}",
        head.lines().next().unwrap_or("")
    );
    Ok(body.to_owned())
}

/// The sum of all samples of `name` whose labels contain each of `labels`.
pub(crate) fn sum(page: &str, name: &str, labels: &[&str]) -> f64 {
    let samples = page.lines().filter_map(|line| {
        let (metric, value) = line.rsplit_once(' ')?;
        let (found, labelled) = metric.split_once('{').unwrap_or((metric, ""));
        let fits = found == name && labels.iter().all(|label| labelled.contains(label));
        fits.then(|| value.parse::<f64>().ok()).flatten()
    });
    samples.sum()
}

/// What a gateway's directory came to so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Directory {
    /// Claims that the engine has decided.
    pub(crate) decided: f64,
    /// Claims that it has not.
    pub(crate) undecided: f64,
    /// Partitions that count as away now.
    pub(crate) away: f64,
    /// Rooms placed without it.
    pub(crate) provisional: f64,
    /// Rooms in the embedded one.
    pub(crate) rooms: f64,
}

impl Directory {
    /// As a page of metrics has it.
    pub(crate) fn read(page: &str) -> Directory {
        let calls = |operation: &str, outcome: &str| {
            let labels = [format!("operation=\"{operation}\""), format!("outcome=\"{outcome}\"")];
            let labels = [labels[0].as_str(), labels[1].as_str()];
            sum(page, "outlast_gateway_directory_calls_total", &labels)
        };
        let places = |outcome: &str| calls("place", outcome) + calls("replace", outcome);
        Directory {
            decided: places("ok") + places("held"),
            undecided: places("unavailable") + places("unknown"),
            away: sum(page, "outlast_gateway_directory_away", &[]),
            provisional: sum(page, "outlast_gateway_provisional_claims_total", &[]),
            rooms: sum(page, "outlast_gateway_directory_rooms", &[]),
        }
    }
}

/// Memory of a process that is resident, in KiB.
pub(crate) fn resident_kib(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# HELP outlast_gateway_directory_away Partitions
outlast_gateway_directory_away 1
outlast_gateway_provisional_claims_total 7
outlast_gateway_directory_calls_total{operation=\"place\",outcome=\"ok\"} 5
outlast_gateway_directory_calls_total{operation=\"place\",outcome=\"held\"} 2
outlast_gateway_directory_calls_total{operation=\"place\",outcome=\"unknown\"} 3
outlast_gateway_directory_calls_total{operation=\"watch\",outcome=\"unknown\"} 9
outlast_gateway_directory_calls_total{operation=\"replace\",outcome=\"unavailable\"} 1
# EOF
";

    #[test]
    fn metrics_are_read_by_name_and_label() {
        let read = Directory::read(PAGE);
        let expected =
            Directory { decided: 7.0, undecided: 4.0, away: 1.0, provisional: 7.0, rooms: 0.0 };
        assert_eq!(read, expected);
    }

    #[test]
    fn this_process_has_memory() {
        assert!(resident_kib(std::process::id()).is_some_and(|size| size > 100));
        assert_eq!(resident_kib(u32::MAX), None);
    }
}
