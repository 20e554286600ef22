//! What a member tells over HTTP: `/metrics`, and its command line in `/debug/vars`. Both need no login.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

/// Metrics that are passed on under names of their own.
const SIZES: [(&str, &str); 4] = [
    ("etcd_server_quota_backend_bytes", QUOTA),
    ("etcd_mvcc_db_total_size_in_bytes", "db-bytes"),
    ("etcd_debugging_mvcc_current_revision", "revision"),
    ("etcd_debugging_mvcc_compact_revision", "compacted"),
];
const QUOTA: &str = "quota-backend-bytes";
/// Flags that are passed on as they were written.
const FLAGS: [&str; 5] = [
    "heartbeat-interval",
    "election-timeout",
    "pre-vote",
    "auto-compaction-mode",
    "auto-compaction-retention",
];
/// With this flag the others count for nothing, and what is in the file is not told.
const FILE: &str = "config-file";

/// Sizes and numbers of a `/metrics`.
pub(super) fn sizes(metrics: &str) -> BTreeMap<String, String> {
    let mut sizes = BTreeMap::new();
    for (metric, name) in SIZES {
        let lines = metrics.lines().filter_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
        let number = lines.filter_map(|number| number.trim().parse::<f64>().ok()).next();
        // Whole numbers all of them, if large ones in the form 2.1e+09.
        sizes.extend(number.map(|number| (name.to_owned(), format!("{number:.0}"))));
    }
    sizes
}

/// The mean round trip to each of the other members, by their ids. They measure it every four seconds, smooth it, and add
/// what it is to this mean every thirty (`rafthttp/probing_status.go`).
pub(super) fn peers(metrics: &str) -> BTreeMap<u64, Duration> {
    let mut peers: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
    for line in metrics.lines() {
        let Some(rest) = line.strip_prefix("etcd_network_peer_round_trip_time_seconds_") else {
            continue;
        };
        let Some((labels, number)) = rest.split_once("} ") else { continue };
        let Ok(number) = number.trim().parse::<f64>() else { continue };
        let Some((kind, id)) = labels.split_once("{To=\"") else { continue };
        let Ok(id) = u64::from_str_radix(id.trim_end_matches('"'), 16) else { continue };
        let (sum, count) = peers.entry(id).or_default();
        match kind {
            "sum" => *sum = number,
            "count" => *count = number,
            _ => {}
        }
    }
    let means = peers.into_iter().filter_map(|(id, (sum, count))| {
        // No number without a count.
        Some((id, Duration::try_from_secs_f64(sum / count).ok()?))
    });
    means.collect()
}

/// What of [`FLAGS`] the command line in a `/debug/vars` says. Nothing of the file or the environment is seen.
pub(super) fn flags(vars: &str) -> BTreeMap<String, String> {
    let vars: Value = serde_json::from_str(vars).unwrap_or_default();
    let words: Vec<_> =
        vars["cmdline"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut flags = BTreeMap::new();
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            continue;
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, value),
            // Go's flags that are true or false take no word of their own.
            None if flag == "pre-vote" => (flag, "true"),
            None => (flag, words.next_if(|next| !next.starts_with('-')).unwrap_or_default()),
        };
        if name == FILE {
            return BTreeMap::new();
        }
        if FLAGS.contains(&name) {
            flags.insert(name.to_owned(), value.to_owned());
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_round_trips_are_read_from_metrics() {
        let metrics = "# HELP etcd_server_quota_backend_bytes Current backend storage quota size in bytes.\n\
            etcd_server_quota_backend_bytes 2.147483648e+09\n\
            etcd_debugging_mvcc_compact_revision -1\n\
            etcd_mvcc_db_total_size_in_bytes_more 5\n\
            etcd_network_peer_round_trip_time_seconds_bucket{To=\"251b00079a8fe45a\",le=\"0.0001\"} 1\n\
            etcd_network_peer_round_trip_time_seconds_sum{To=\"251b00079a8fe45a\"} 0.25\n\
            etcd_network_peer_round_trip_time_seconds_count{To=\"251b00079a8fe45a\"} 2\n\
            etcd_network_peer_round_trip_time_seconds_sum{To=\"a\"} 0\n\
            etcd_network_peer_round_trip_time_seconds_count{To=\"a\"} 0\n";
        let found = sizes(metrics);
        assert_eq!(found[QUOTA], "2147483648");
        assert_eq!(found["compacted"], "-1");
        assert_eq!(found.len(), 2);
        let peers = peers(metrics);
        assert_eq!(peers.len(), 1);
        assert_eq!(peers[&0x251b_0007_9a8f_e45a], Duration::from_millis(125));
    }

    #[test]
    fn flags_are_read_in_each_way_that_they_are_written() {
        let vars = |words: &str| format!("{{\"cmdline\": [\"etcd\",{words}], \"memstats\": {{}}}}");
        let found = flags(&vars(
            "\"--name\",\"m0\",\"--heartbeat-interval\",\"100\",\"-election-timeout=1000\",\"--pre-vote\",\
             \"--auto-compaction-mode\"",
        ));
        let told: Vec<_> =
            found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(
            told,
            [
                ("auto-compaction-mode", ""),
                ("election-timeout", "1000"),
                ("heartbeat-interval", "100"),
                ("pre-vote", "true"),
            ]
        );
        assert!(flags(&vars("\"--pre-vote=true\",\"--config-file\",\"x\"")).is_empty());
        assert!(flags("<html>").is_empty());
    }
}
