//! The command as people use it: a failure is found, shrunk and kept, and output may be read to its end or not.

use std::{
    io,
    path::Path,
    process::{Command, Output},
};

fn command(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outlast-sim"));
    command.args(arguments.split_whitespace());
    command
}

fn said(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("text")
}

fn run(arguments: &str) -> Output {
    command(arguments).output().expect("it starts")
}

/// How many faults a schedule has.
fn faults(which: &str) -> usize {
    said(&run(&format!("show {which}"))).matches("[[fault]]").count()
}

/// A seed that fails when nobody is told of failures, and the rule that it breaks.
fn failure() -> (String, String) {
    let sweep = run("sweep --seeds 0..40 --jobs 1 --no-failover");
    assert!(!sweep.status.success());
    let line = said(&sweep).lines().find_map(|line| line.strip_prefix("seed ")).expect("one fails");
    let (seed, failure) = line.split_once(": ").expect("a seed and its failure");
    let (rule, _) = failure.split_once(" at ").expect("the rule comes first");
    (seed.to_owned(), rule.to_owned())
}

#[test]
fn a_schedule_that_fails_is_shrunk_to_a_scenario_that_fails_in_the_same_way() {
    let (seed, rule) = failure();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shrunk.toml");
    let shrunk = command("shrink --no-failover --seed").arg(&seed).arg("--out").arg(&path).output();
    let shrunk = shrunk.expect("it starts");
    assert!(shrunk.status.success() && said(&shrunk).is_empty(), "{shrunk:?}");
    let scenario = format!("--scenario {}", path.display());
    let (before, after) = (faults(&format!("--seed {seed}")), faults(&scenario));
    assert!(after > 0 && after < before, "{after} of {before} faults");
    let again = run(&format!("run --no-failover {scenario}"));
    let end = said(&again).lines().next().expect("what came of it");
    assert!(end.starts_with("FAILED at ") && end.contains(&format!(" s: {rule}: ")), "{end}");
    assert!(!again.status.success());
    // With failover nothing is wrong with it.
    let fine = run(&format!("shrink {scenario}"));
    let complaint = String::from_utf8_lossy(&fine.stderr).into_owned();
    assert!(!fine.status.success() && complaint.contains("does not fail"), "{complaint}");
}

#[test]
fn who_reads_no_further_gets_no_complaint_and_the_same_exit_code() {
    let (seed, _) = failure();
    let small = "--regions 3 --nodes 6 --gateways 1 --rooms 20 --clients 100";
    for arguments in [
        format!("run --seed {seed}"),
        format!("run --no-failover --seed {seed}"),
        format!("replay --seed {seed}"),
        format!("show --seed {seed}"),
        format!("shrink --no-failover --seed {seed}"),
        "sweep --seeds 0..4".to_owned(),
        "sweep --seeds 0..40 --no-failover --keep-going".to_owned(),
        format!("scale {small}"),
    ] {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let unread = command(&arguments).stdout(writer).output().expect("it starts");
        assert_eq!(String::from_utf8_lossy(&unread.stderr), "", "{arguments}");
        let read = run(&arguments);
        assert!(!read.stdout.is_empty(), "{arguments}");
        assert_eq!(unread.status.code(), read.status.code(), "{arguments}");
    }
    // Hours of work that nobody would hear of end with the first failure.
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    let mut sweep = command("sweep --seeds 0..100_000_000 --no-failover --keep-going");
    assert!(!sweep.stdout(writer).status().expect("it starts").success());
}

/// In a process of its own: bytes are counted of all that a process allocates, and tests run beside each other.
#[test]
fn what_a_view_and_a_role_take_is_counted() {
    let globe = run("scale --nodes 40 --gateways 1 --rooms 2000 --clients 20000 --seconds 1");
    let line = said(&globe).lines().find(|line| line.starts_with("view of a gateway"));
    let words: Vec<_> = line.expect("its line").split_whitespace().collect();
    let sizes = words.windows(2).filter(|pair| pair[1].starts_with("MB"));
    let sizes: Vec<f64> = sizes.map(|pair| pair[0].parse().expect("a number")).collect();
    let [view, role, directory] = sizes[..] else { panic!("{words:?}") };
    // 2,000 rooms of some 200 bytes; a role is more than its view.
    assert!((0.1..5.0).contains(&view) && role > view && role < 50.0, "{words:?}");
    assert!((0.1..5.0).contains(&directory), "{words:?}");
}
