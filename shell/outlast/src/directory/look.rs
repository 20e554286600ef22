//! One look at a directory, and how it is told.

use std::time::{Duration, Instant};

use outlast_directory::{InstanceId, NodeSummary, Reply, Request, Summary};
use outlast_engines::{Behind, Inspection, Role, Survey};
use serde_json::{Value, json};

use super::{Outcome, site::Site};

/// A directory as it was seen.
pub(super) struct Look {
    pub(super) title: String,
    pub(super) survey: Survey,
    /// By partition; `None` where nobody decides.
    pub(super) instances: Vec<Option<InstanceId>>,
    /// Rooms at most.
    pub(super) rooms: Option<u64>,
    /// How long an answer takes that most servers must agree on; of the first partition.
    pub(super) agreement: Option<Duration>,
    /// What gateways have said of their regions' nodes in the last seconds.
    pub(super) summaries: Vec<Summary>,
}

impl Look {
    pub(super) async fn at(site: &Site, probes: usize) -> Look {
        let survey = site.survey(probes).await;
        let (mut instances, mut agreement) = (Vec::new(), None);
        for partition in site.partitions() {
            let first = site.instance(partition).await.ok();
            if agreement.is_none() && first.is_some() {
                let asked = Instant::now();
                agreement = site.instance(partition).await.ok().map(|_| asked.elapsed());
            }
            instances.push(first);
        }
        let mut summaries = Vec::new();
        for (partition, _) in site.partitions().zip(&instances).filter(|(_, name)| name.is_some()) {
            if let Ok(Reply::Summaries(some)) = site.insist(partition, &Request::Summaries).await {
                summaries.extend(some);
            }
        }
        let (title, rooms) = (site.title(), site.rooms().await);
        Look { title, survey, instances, rooms, agreement, summaries }
    }

    pub(super) fn outcome(&self) -> Outcome {
        let fine = |server: &Inspection| server.is_reached() && server.troubles.is_empty();
        if self.instances.iter().any(Option::is_none) {
            Outcome::Broken
        } else if self.survey.servers.iter().all(fine) {
            Outcome::Well
        } else {
            Outcome::Doubtful
        }
    }

    /// Several lines, each with its end; each node has one if `nodes` says so.
    pub(super) fn text(&self, nodes: bool) -> String {
        let mut text = format!("{}\n", self.title);
        let away = self.instances.iter().filter(|instance| instance.is_none()).count();
        if away > 0 {
            let all = self.instances.len();
            text.push_str(&format!("  NOBODY DECIDES in {away} of {all} partitions\n"));
        }
        let mut facts = Vec::new();
        facts.extend(self.agreement.map(|span| format!("an agreement takes {}", millis(span))));
        facts.extend(
            self.rooms.map(|rooms| format!("{rooms} rooms, those included that ended lately")),
        );
        if !facts.is_empty() {
            text.push_str(&format!("  {}\n", facts.join("; ")));
        }
        let head = ["SERVER", "ROLE", "ROUND TRIP", "BEHIND", "VERSION"].map(str::to_owned);
        let mut rows = vec![head];
        rows.extend(self.survey.servers.iter().map(row));
        text.push_str(&table(&rows));
        for server in &self.survey.servers {
            for trouble in &server.troubles {
                text.push_str(&format!("  {}: {trouble}\n", server.at));
            }
        }
        if !self.summaries.is_empty() {
            text.push_str(&table(&if nodes { self.nodes() } else { self.regions() }));
        }
        text
    }

    fn regions(&self) -> Vec<[String; 5]> {
        let mut rows = vec![["REGION", "NODES", "DRAINING", "ROOMS", "LOAD"].map(str::to_owned)];
        rows.extend(self.summaries.iter().map(|summary| {
            let nodes = &summary.nodes;
            let draining = nodes.iter().filter(|node| node.draining).count();
            let rooms: u64 = nodes.iter().map(|node| u64::from(node.rooms)).sum();
            let load: usize = nodes.iter().map(|node| usize::from(node.load_permille)).sum();
            let load = load.checked_div(nodes.len()).map_or_else(|| "-".to_owned(), percent);
            let counts = [nodes.len().to_string(), draining.to_string(), rooms.to_string()];
            let [nodes, draining, rooms] = counts;
            [summary.region.to_string(), nodes, draining, rooms, load]
        }));
        rows
    }

    fn nodes(&self) -> Vec<[String; 5]> {
        let mut rows = vec![["REGION", "NODE", "STATE", "ROOMS", "LOAD"].map(str::to_owned)];
        for summary in &self.summaries {
            rows.extend(summary.nodes.iter().map(|node| {
                let load = percent(node.load_permille.into());
                let (region, id) = (summary.region.to_string(), node.node.to_string());
                [region, id, state(node).to_owned(), node.rooms.to_string(), load]
            }));
        }
        rows
    }

    pub(super) fn json(&self) -> Value {
        let instance = |instance: &Option<InstanceId>| instance.map(|id| id.to_string());
        json!({
            "directory": self.title,
            "instances": self.instances.iter().map(instance).collect::<Vec<_>>(),
            "rooms_max": self.rooms,
            "agreement_ms": self.agreement.map(as_millis),
            "voters": self.survey.voters,
            "servers": self.survey.servers.iter().map(server_json).collect::<Vec<_>>(),
            "regions": self.summaries.iter().map(summary_json).collect::<Vec<_>>(),
        })
    }
}

fn state(node: &NodeSummary) -> &'static str {
    if node.draining { "draining" } else { "serves" }
}

fn percent(permille: usize) -> String {
    format!("{} %", permille.div_ceil(10))
}

fn summary_json(summary: &Summary) -> Value {
    let node = |node: &NodeSummary| {
        json!({
            "node": node.node.as_str(),
            "draining": node.draining,
            "rooms": node.rooms,
            "load_permille": node.load_permille,
        })
    };
    let nodes: Vec<_> = summary.nodes.iter().map(node).collect();
    json!({ "region": summary.region.as_str(), "nodes": nodes })
}

/// What `wipe-test` wants repeated: it changes whenever content is lost, and differs between directories.
pub(super) fn name(looks: &[Look]) -> Option<String> {
    let mut all = 0;
    for instance in looks.iter().flat_map(|look| &look.instances) {
        all ^= (*instance)?.0;
    }
    // The upper eight digits of 32.
    Some(format!("{:08x}", all >> 96))
}

fn row(server: &Inspection) -> [String; 5] {
    let behind = match server.behind {
        None => "-".to_owned(),
        Some(Behind::Entries(0) | Behind::Bytes(0)) => "0".to_owned(),
        Some(Behind::Entries(entries)) => format!("{entries} entries"),
        Some(Behind::Bytes(bytes)) => format!("{bytes} bytes"),
    };
    let trip = server.round_trip().map_or_else(|| "NOT REACHED".to_owned(), millis);
    let mut role = role(server.role).to_owned();
    if !server.partitions.is_empty() {
        let numbers: Vec<_> = server.partitions.iter().map(|at| at.0.to_string()).collect();
        role = format!("{role} {}", numbers.join(","));
    }
    let version = server.version.clone().unwrap_or_else(|| "-".to_owned());
    [server.at.clone(), role, trip, behind, version]
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Decides => "decides",
        Role::Follows => "follows",
        Role::Learns => "learns",
        Role::Watches => "watches",
        Role::Unknown => "-",
    }
}

fn server_json(server: &Inspection) -> Value {
    let (entries, bytes) = match server.behind {
        Some(Behind::Entries(entries)) => (Some(entries), None),
        Some(Behind::Bytes(bytes)) => (None, Some(bytes)),
        None => (None, None),
    };
    json!({
        "at": server.at,
        "role": role(server.role),
        "reached": server.is_reached(),
        "round_trips_ms": server.round_trips.iter().map(|span| as_millis(*span)).collect::<Vec<_>>(),
        "behind_entries": entries,
        "behind_bytes": bytes,
        "version": server.version,
        "partitions": server.partitions.iter().map(|at| at.0).collect::<Vec<_>>(),
        "settings": server.settings,
        "troubles": server.troubles,
    })
}

/// Lines of columns as wide as they must be, indented by two.
pub(super) fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = width(column).unwrap_or(0);
            format!("  {cell:width$}")
        });
        text.push_str(cells.collect::<String>().trim_end());
        text.push('\n');
    }
    text
}

pub(super) fn millis(span: Duration) -> String {
    format!("{:.1} ms", as_millis(span))
}

pub(super) fn as_millis(span: Duration) -> f64 {
    // Thousandths are enough for people and programs.
    (span.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(instances: &[Option<u128>]) -> Look {
        let mut server = Inspection::of("a:1");
        server.round_trips = vec![Duration::from_micros(1_234)];
        server.role = Role::Decides;
        Look {
            title: "etcd://a:1".to_owned(),
            survey: Survey { servers: vec![server], voters: Some(1) },
            instances: instances.iter().map(|id| id.map(InstanceId)).collect(),
            rooms: Some(7),
            agreement: None,
            summaries: Vec::new(),
        }
    }

    #[test]
    fn a_look_is_well_broken_or_doubtful() {
        assert_eq!(look(&[Some(1)]).outcome(), Outcome::Well);
        assert_eq!(look(&[Some(1), None]).outcome(), Outcome::Broken);
        let mut doubtful = look(&[Some(1)]);
        doubtful.survey.servers.push(Inspection::of("b:1"));
        assert_eq!(doubtful.outcome(), Outcome::Doubtful);
        let mut doubtful = look(&[Some(1)]);
        doubtful.survey.servers[0].troubles.push("alarm".to_owned());
        assert_eq!(doubtful.outcome(), Outcome::Doubtful);
    }

    #[test]
    fn a_name_is_of_all_partitions_and_there_is_none_while_one_is_away() {
        let one = [look(&[Some(0x1234_5678 << 96)])];
        assert_eq!(name(&one).as_deref(), Some("12345678"));
        let two = [look(&[Some(0x1234_5678 << 96)]), look(&[Some(0x1000_0001 << 96)])];
        assert_eq!(name(&two).as_deref(), Some("02345679"));
        assert_eq!(name(&[look(&[Some(1), None])]), None);
    }

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let mut look = look(&[Some(1), None]);
        let node = |name: &str, draining| NodeSummary {
            node: name.into(),
            epoch: outlast_model::Epoch(1),
            draining,
            load_permille: 120,
            rooms: 3,
        };
        let nodes = vec![node("eu-1", false), node("eu-2", true)];
        look.summaries = vec![Summary { region: "eu".into(), nodes }];
        let text = look.text(false);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[5], "  REGION  NODES  DRAINING  ROOMS  LOAD");
        assert_eq!(lines[6], "  eu      2      1         6      12 %");
        let nodes = look.text(true);
        assert_eq!(nodes.lines().last(), Some("  eu      eu-2  draining  3      12 %"));
        assert_eq!(lines[1], "  NOBODY DECIDES in 1 of 2 partitions");
        assert_eq!(lines[3], "  SERVER  ROLE     ROUND TRIP  BEHIND  VERSION");
        assert_eq!(lines[4], "  a:1     decides  1.2 ms      -       -");
    }
}
