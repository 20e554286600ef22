//! What a run showed, for machines (JSON).

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{figures::Spread, harm::Harm, verdict::Engine};

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunReport {
    /// The database.
    #[serde(serialize_with = "engine_name", deserialize_with = "named")]
    pub engine: Engine,
    /// What was broken.
    #[serde(serialize_with = "harm_name", deserialize_with = "named")]
    pub harm: Harm,
    /// What everything was drawn from.
    pub seed: u64,
    /// For how long it was broken, in seconds.
    pub span_s: f64,
    /// Joins of known rooms before, during and after the fault.
    pub known: [Spread; 3],
    /// Joins of new rooms.
    pub new: [Spread; 3],
    /// Requests that the gateway answers by itself: what the machine and its emulated network take.
    pub bare: [Spread; 3],
    /// How long each join of a known room took, in milliseconds, ascending: those counted in the percentiles above.
    pub known_ms: [Vec<f64>; 3],
    /// The same of new rooms.
    pub new_ms: [Vec<f64>; 3],
    /// The same of bare requests.
    pub bare_ms: [Vec<f64>; 3],
    /// By how much longer than usual (their median before the fault) a join of a new room took, in milliseconds, at most: of those
    /// that began before the gateway counted the directory as away.
    pub delayed_once_ms: f64,
    /// The same of later ones, until the heal.
    pub delayed_then_ms: f64,
    /// From the fault to the first claim that the engine has decided again; `None` when it never stopped.
    pub engine_back_ms: Option<f64>,
    /// The same from the heal on, when it was away until then.
    pub engine_back_after_heal_ms: Option<f64>,
    /// From the fault until no partition counted as away any more; `None` when none ever did.
    pub away_until_ms: Option<f64>,
    /// Claims that the engine decided, in the whole run.
    pub decided: u64,
    /// Rooms that were placed without the directory.
    pub provisional: u64,
    /// From the heal until every room was in the database, at the node where its participants are.
    pub rooms_in_database_ms: Option<f64>,
    /// Rooms that were looked for.
    pub rooms_looked_for: usize,
    /// Those not found.
    pub rooms_missing: Vec<String>,
    /// Rooms that joins found at more than one node.
    pub doubled: Vec<String>,
    /// Participants who were put out.
    pub dropped: Vec<String>,
    /// Whether the fault had any effect on the database or its network.
    pub bit: bool,
    /// Which.
    pub proof: String,
    /// The gateway's resident memory before the fault and the most of it, in KiB.
    pub memory_kib: [u64; 2],
    /// What the memory of the gateway that grew most grew by during a long fault, in KiB.
    pub memory_growth_kib: Option<i64>,
    /// Packets that the emulated network handed over 10 ms late or more, of 100: above 1, times are the machine's.
    pub network_late_percent: f64,
    /// A few of the failures.
    pub failures: Vec<String>,
    /// Targets that were missed.
    pub missed: Vec<String>,
}

impl Default for RunReport {
    fn default() -> Self {
        RunReport {
            engine: Engine::Embedded,
            harm: Harm::None,
            seed: 0,
            span_s: 0.0,
            known: Default::default(),
            new: Default::default(),
            bare: Default::default(),
            known_ms: Default::default(),
            new_ms: Default::default(),
            bare_ms: Default::default(),
            delayed_once_ms: 0.0,
            delayed_then_ms: 0.0,
            engine_back_ms: None,
            engine_back_after_heal_ms: None,
            away_until_ms: None,
            decided: 0,
            provisional: 0,
            rooms_in_database_ms: None,
            rooms_looked_for: 0,
            rooms_missing: Vec::new(),
            doubled: Vec::new(),
            dropped: Vec::new(),
            bit: false,
            proof: String::new(),
            memory_kib: [0; 2],
            memory_growth_kib: None,
            network_late_percent: 0.0,
            failures: Vec::new(),
            missed: Vec::new(),
        }
    }
}

fn engine_name<S: Serializer>(engine: &Engine, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(engine.name())
}

fn harm_name<S: Serializer>(harm: &Harm, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(harm)
}

fn named<'de, D: Deserializer<'de>, T: FromStr<Err = String>>(text: D) -> Result<T, D::Error> {
    String::deserialize(text)?.parse().map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let report = RunReport {
            engine: Engine::Sentinel,
            harm: Harm::OwnCut,
            known_ms: [vec![1.5], vec![], vec![2.0, 3.0]],
            away_until_ms: Some(4.0),
            ..RunReport::default()
        };
        let text = serde_json::to_string(&report).unwrap();
        let read: RunReport = serde_json::from_str(&text).unwrap();
        assert_eq!(format!("{read:?}"), format!("{report:?}"));
        let other = text.replace("own-cut", "owncut");
        let error = serde_json::from_str::<RunReport>(&other).unwrap_err().to_string();
        assert!(error.contains("faults are none, kill"), "{error}");
    }
}
