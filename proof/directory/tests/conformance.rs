//! The embedded directory answers as the table, on some hundred seeded traces.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use outlast_directory_proof::{
    Grounds, Reads, Trace, long_lists_come_whole, play, summaries_run_out,
};
use outlast_engines::{Embedded, Engine, Partition};
use outlast_runtime::Clock;

fn embedded() -> Arc<dyn Engine> {
    Arc::new(Embedded::new(Clock::start()).unwrap())
}

#[tokio::test]
async fn the_embedded_directory_is_the_table() {
    let (engine, grounds) = (embedded(), Grounds::new().unwrap());
    for seed in 0..300 {
        let ground = grounds.next(0, engine.partitions());
        let played = play(&engine, &Trace::draw(seed), &ground, Reads::Exact).await;
        if let Err(difference) = played {
            panic!("seed {seed}:\n{}", difference.lines.join("\n"));
        }
    }
}

#[tokio::test]
async fn long_lists_of_the_embedded_directory_come_whole() {
    assert_eq!(long_lists_come_whole(&embedded(), Partition(0), 1, 7).await, Ok(()));
}

#[tokio::test]
async fn summaries_of_the_embedded_directory_run_out() {
    assert_eq!(summaries_run_out(&embedded(), Partition(0), true).await, Ok(()));
}
