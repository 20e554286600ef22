//! The command line, from up to down.

use std::process::{Command, Output};

use outlast_lab::inside;

fn lab(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_outlast-lab")).args(arguments).output().unwrap()
}

fn said(arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = lab(arguments);
    assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

fn refused(arguments: &[&str]) -> String {
    let Output { status, stderr, .. } = lab(arguments);
    assert!(!status.success(), "{arguments:?} went well");
    String::from_utf8(stderr).unwrap()
}

#[test]
fn a_lab_is_led_from_the_command_line() {
    if !inside("command::a_lab_is_led_from_the_command_line") {
        return;
    }
    assert!(refused(&["status"]).contains("no lab is up"));
    let up = said(&["up"]);
    for word in ["eu.db", "198.18.1.1", "2001:2:0:1::1", "near-ap.client"] {
        assert!(up.contains(word), "{word} is missing: {up}");
    }
    assert!(said(&["exec", "ap.db", "ip", "addr"]).contains("198.18.3.1/32"));
    said(&["cut", "eu", "us"]);
    said(&["cut", "us", "ap", "--one-way"]);
    said(&["black-hole", "near-ap"]);
    let status = said(&["status"]);
    for fault in ["cut eu -> us", "cut us -> eu", "cut us -> ap", "black hole near-ap"] {
        assert!(status.contains(fault), "{fault} is missing: {status}");
    }
    assert!(!status.contains("cut ap -> us"), "{status}");
    assert!(refused(&["cut", "eu", "fr"]).contains("there is no \"fr\" in this lab"));
    assert!(refused(&["heal", "eu", "ap"]).contains("nothing to heal at eu and ap"));
    said(&["heal", "us", "eu"]);
    assert!(!said(&["status"]).contains("cut eu -> us"));
    said(&["heal"]);
    assert!(said(&["status"]).contains("faults: none"));

    said(&["shape", "eu", "us", "loss=0.25", "burst={start=0.1, end=0.5}", "--one-way"]);
    let json: serde_json::Value = serde_json::from_str(&said(&["status", "--json"])).unwrap();
    let link = |from: &str, to: &str| {
        let links = json["links"].as_array().unwrap();
        links.iter().find(|link| link["from"] == from && link["to"] == to).unwrap()["shape"].clone()
    };
    assert_eq!(link("eu", "us")["loss"], 0.25);
    assert_eq!(link("eu", "us")["delay_ms"], 40.0, "what is not said stays");
    assert_eq!(link("us", "eu")["loss"], 0.0);
    assert!(refused(&["shape", "eu", "us", "loss=2"]).contains("a probability is from 0 to 1"));
    assert!(refused(&["shape", "eu", "us", "delay"]).contains("name=value"));
    said(&["unshape"]);
    said(&["down"]);
    assert!(refused(&["status"]).contains("no lab is up"));
}

#[test]
fn a_bad_plan_is_refused_before_anything_is_made() {
    if !inside("command::a_bad_plan_is_refused_before_anything_is_made") {
        return;
    }
    assert!(refused(&["up", "--plan", "/no/such/file"]).contains("/no/such/file"));
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    assert!(refused(&["up", "--plan", manifest]).contains("unknown field"));
}

#[test]
fn the_plan_that_is_shown_is_the_plan_that_is_read() {
    let plan = outlast_lab::Plan::read(&said(&["plan"])).unwrap();
    assert_eq!(plan, outlast_lab::Plan::three_regions());
}
