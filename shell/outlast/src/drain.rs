//! `outlast drain`: moves everybody away from a node, or from all nodes of a region, and calls that off. Speaks to the
//! nodes themselves, as one of the cluster's processes: neither gateways nor a directory have to be up.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use http::{Method, Request};
use outlast_link::{Body, Credentials, DialLimits, Dialer};
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use crate::{
    check,
    config::{PeerRole, Settings},
    overrides::Overrides,
    serve::reachable,
    token::span,
};

/// Between two looks at a node.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Between two lines about a node of which nothing has changed.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// A node that has not answered for so long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Options of `outlast drain`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DrainArgs {
    /// A node's node.id, or a region, which stands for all its nodes
    #[arg(value_name = "NODE|REGION")]
    target: String,
    /// Configuration of any process of the cluster: its peers and its certificate are used
    #[arg(long, value_name = "FILE", env = "OUTLAST_CONFIG")]
    config: PathBuf,
    /// By when each node is to be empty: 60s, 10m; everybody is told in the first three fifths of it
    #[arg(long, default_value = "60s", value_parser = span)]
    deadline: Duration,
    /// Participants told in a second on each node, more when the deadline demands it [default: as few as it allows]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pace: u32,
    /// Call the drain off: the nodes serve again at once
    #[arg(long, conflicts_with_all = ["deadline", "pace", "wait"])]
    undo: bool,
    /// Wait until the nodes are empty
    #[arg(long)]
    wait: bool,
}

/// A node, and what to do with it.
#[derive(Clone)]
struct Order {
    id: String,
    address: String,
    dialer: Dialer,
    wish: Wish,
}

#[derive(Clone, Debug)]
enum Wish {
    Undo,
    Drain { body: String, wait: bool },
}

/// What a node says about its drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    draining: bool,
    participants: u64,
    left_s: u64,
}

/// Asks the nodes, and tells line by line how it goes.
///
/// # Errors
/// With a sentence for each node that did not do as it was asked, or is not empty in time.
pub(crate) fn run(args: &DrainArgs) -> anyhow::Result<()> {
    let settings = check::load(&Overrides::of_file(args.config.clone()))?;
    let orders = orders(args, &settings)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime for the network")?;
    let failures = runtime.block_on(async {
        let mut nodes: JoinSet<anyhow::Result<()>> = orders.into_iter().map(carry_out).collect();
        let mut failures = Vec::new();
        while let Some(ended) = nodes.join_next().await {
            if let Err(error) = ended? {
                failures.push(format!("{error:#}"));
            }
        }
        anyhow::Ok(failures)
    })?;
    if failures.is_empty() { Ok(()) } else { bail!(failures.join("\n")) }
}

fn orders(args: &DrainArgs, settings: &Settings) -> anyhow::Result<Vec<Order>> {
    let Some(cluster) = &settings.cluster else {
        bail!("{} has no peers: a process on its own is drained by SIGTERM", args.config.display());
    };
    let all = nodes(settings);
    let chosen = choose(&args.target, &all)?;
    if !args.undo && chosen.len() == all.len() {
        eprintln!("outlast: these are all the nodes there are: nobody has anywhere to go");
    }
    let credentials = Credentials::load(&cluster.ca, &cluster.cert, &cluster.key)
        .context("the cluster's certificates")?;
    let dialer = Dialer::new(&credentials)?;
    let wish = if args.undo {
        Wish::Undo
    } else {
        let body = json!({ "deadline_s": args.deadline.as_secs(), "pace": args.pace }).to_string();
        Wish::Drain { body, wait: args.wait }
    };
    let order = |node: &Known| {
        let (id, address) = (node.id.clone(), node.address.clone());
        Order { id, address, dialer: dialer.clone(), wish: wish.clone() }
    };
    Ok(chosen.into_iter().map(order).collect())
}

/// A node that the configuration knows.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    id: String,
    region: String,
    address: String,
}

fn nodes(settings: &Settings) -> Vec<Known> {
    let own = settings.node.iter().map(|node| Known {
        id: node.id.clone(),
        region: settings.region.clone(),
        address: reachable(node.listen).to_string(),
    });
    let others = settings.peers_of(PeerRole::Node).map(|peer| Known {
        id: peer.id.clone(),
        region: peer.region.clone(),
        address: peer.address.clone(),
    });
    own.chain(others).collect()
}

fn choose<'a>(target: &str, all: &'a [Known]) -> anyhow::Result<Vec<&'a Known>> {
    let node: Vec<_> = all.iter().filter(|node| node.id == target).collect();
    let region: Vec<_> = all.iter().filter(|node| node.region == target).collect();
    match (node.is_empty(), region.is_empty()) {
        (false, true) => Ok(node),
        (true, false) => Ok(region),
        (false, false) => bail!("{target:?} is a node and a region: give one of them another name"),
        (true, true) => {
            let known: Vec<_> = all.iter().map(|node| node.id.as_str()).collect();
            bail!("there is no node and no region {target:?}; nodes: {}", known.join(", "))
        }
    }
}

async fn carry_out(order: Order) -> anyhow::Result<()> {
    match &order.wish {
        Wish::Undo => {
            order.ask(Method::DELETE, "").await?;
            order.say("serves");
            Ok(())
        }
        Wish::Drain { body, wait } => {
            let state = order.ask(Method::POST, body).await?;
            order.say(&state.progress());
            if *wait { order.follow(state).await } else { Ok(()) }
        }
    }
}

impl Order {
    fn say(&self, what: &str) {
        println!("{}: {what}", self.id);
    }

    /// Looks again and again until the node is empty, or will not be.
    async fn follow(&self, first: State) -> anyhow::Result<()> {
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looks.tick().await;
        let (mut state, mut said) = (first, (first, Instant::now()));
        let mut heard_at = Instant::now();
        loop {
            if let Some(outcome) = state.outcome() {
                return outcome.map(|()| self.say("empty")).with_context(|| self.id.clone());
            }
            let (told, at) = said;
            if told.participants != state.participants || at.elapsed() >= LINE_INTERVAL {
                self.say(&state.progress());
                said = (state, Instant::now());
            }
            looks.tick().await;
            match self.ask(Method::GET, "").await {
                Ok(next) => (state, heard_at) = (next, Instant::now()),
                Err(error) if heard_at.elapsed() > SILENCE_MAX => {
                    let left = state.participants;
                    return Err(error.context(format!("{left} participants were left")));
                }
                Err(_) => {}
            }
        }
    }

    async fn ask(&self, method: Method, body: &str) -> anyhow::Result<State> {
        let request =
            Request::builder().method(method).uri("/drain").body(Body::from(body.to_owned()))?;
        let response = self
            .dialer
            .request(&self.address, request, &DialLimits::default())
            .await
            .with_context(|| format!("{} does not answer", self.id))?;
        let text = String::from_utf8_lossy(response.body());
        if !response.status().is_success() {
            bail!("{} refuses with {}: {}", self.id, response.status(), text.trim());
        }
        State::read(&text).with_context(|| format!("{} answers nonsense", self.id))
    }
}

impl State {
    fn read(text: &str) -> anyhow::Result<State> {
        let fields: Value = serde_json::from_str(text)?;
        let number = |key: &str| fields[key].as_u64().with_context(|| format!("no {key}"));
        Ok(State {
            draining: fields["draining"].as_bool().context("no draining")?,
            participants: number("participants")?,
            left_s: number("left_s")?,
        })
    }

    fn progress(&self) -> String {
        format!("{} participants left, {} s to go", self.participants, self.left_s)
    }

    /// How it has ended, if it has.
    fn outcome(&self) -> Option<anyhow::Result<()>> {
        if !self.draining {
            return Some(Err(anyhow::anyhow!("somebody has called the drain off")));
        }
        if self.participants == 0 {
            return Some(Ok(()));
        }
        let late =
            || anyhow::anyhow!("{} participants are left at the deadline", self.participants);
        (self.left_s == 0).then(|| Err(late()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(id: &str, region: &str) -> Known {
        Known { id: id.into(), region: region.into(), address: String::new() }
    }

    #[test]
    fn a_name_is_a_node_or_a_region() {
        let all = [known("eu-1", "eu"), known("eu-2", "eu"), known("us", "us")];
        let ids = |target: &str| {
            let chosen = choose(target, &all);
            chosen.map(|nodes| nodes.iter().map(|node| node.id.clone()).collect::<Vec<_>>())
        };
        assert_eq!(ids("eu-2").unwrap(), ["eu-2"]);
        assert_eq!(ids("eu").unwrap(), ["eu-1", "eu-2"]);
        assert!(ids("us").unwrap_err().to_string().contains("a node and a region"));
        let told = ids("eu-3").unwrap_err().to_string();
        assert!(told.contains("nodes: eu-1, eu-2, us"), "{told}");
    }

    #[test]
    fn a_drain_ends_empty_late_or_called_off() {
        let state = |draining, participants, left_s| State { draining, participants, left_s };
        let read = State::read(r#"{"draining":true,"participants":3,"left_s":7,"later":1}"#);
        assert_eq!(read.unwrap(), state(true, 3, 7));
        assert!(State::read(r#"{"draining":true,"participants":3}"#).is_err());
        assert!(state(true, 3, 7).outcome().is_none());
        assert!(state(true, 0, 7).outcome().unwrap().is_ok());
        let told = |state: State| state.outcome().unwrap().unwrap_err().to_string();
        assert_eq!(told(state(true, 3, 0)), "3 participants are left at the deadline");
        assert!(told(state(false, 0, 0)).contains("called the drain off"));
    }
}
