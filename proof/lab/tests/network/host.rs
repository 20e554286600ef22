//! Commands at hosts, and what is left of a lab.

use std::{
    fs,
    io::Read as _,
    net::IpAddr,
    process::{Child, Command, Stdio},
};

use outlast_lab::{Lab, Plan, Shape, inside, labs, sweep};

use crate::sockets::{two_sites, until};

/// Tells that it runs, and then does nothing.
const SLEEP: &str = "echo; exec sleep 1000";

fn sleeping(command: &mut Command) -> Child {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    child
}

fn assert_killed(child: &mut Child) {
    until("the child has ended", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), None, "by a signal");
}

fn namespaces() -> usize {
    fs::read_dir("/run/netns").map(|names| names.count()).unwrap_or_default()
}

#[test]
fn a_command_runs_at_its_host() {
    if !inside("host::a_command_runs_at_its_host") {
        return;
    }
    let lab = two_sites(Shape::default());
    let output = lab.command("us.a", "ip").unwrap().args(["addr", "show", "wan"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("inet 198.18.2.1/32"), "{said}");
    assert!(said.contains("inet6 2001:2:0:2::1/128"), "{said}");
    assert!(!said.contains("fe80"), "no address that the plan does not name: {said}");
    let missing = lab.command("us.a", "/no/such/program").unwrap().output().unwrap();
    assert_eq!(missing.status.code(), Some(127));
    let unknown = lab.command("fr.a", "true").unwrap_err().to_string();
    assert_eq!(unknown, "there is no \"fr.a\" in this lab; it has eu, eu.a, eu.b, us, us.a");
    assert!(lab.command("eu", "true").is_err(), "which of the two hosts?");
}

#[test]
fn a_site_has_name_servers_of_its_own() {
    if !inside("host::a_site_has_name_servers_of_its_own") {
        return;
    }
    let mut plan = Plan::flat(std::time::Duration::from_millis(100));
    let server: IpAddr = "198.18.2.53".parse().unwrap();
    plan.site.get_mut("us").unwrap().dns.push(server);
    let lab = Lab::up(&plan).unwrap();
    let read = |host| {
        let output = lab.command(host, "cat").unwrap().arg("/etc/resolv.conf").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(read("us.client"), "nameserver 198.18.2.53\n");
    assert_ne!(read("eu.client"), read("us.client"));
}

#[test]
fn nothing_is_left_of_a_lab_that_went_down() {
    if !inside("host::nothing_is_left_of_a_lab_that_went_down") {
        return;
    }
    let before = namespaces();
    let lab = two_sites(Shape::default());
    assert_eq!(namespaces(), before + 3);
    let mut child = lab.command("eu.a", "sh").unwrap();
    let mut child = sleeping(child.args(["-c", SLEEP]));
    assert_eq!(labs().unwrap(), [lab.id()]);
    drop(lab);
    assert_eq!(namespaces(), before);
    assert_eq!(labs().unwrap(), [""; 0]);
    assert_killed(&mut child);
}

/// The owner is a lab in the background; SIGKILL gives it no time for anything.
#[test]
fn nothing_is_left_of_a_lab_whose_owner_was_killed() {
    if !inside("host::nothing_is_left_of_a_lab_whose_owner_was_killed") {
        return;
    }
    let program = env!("CARGO_BIN_EXE_outlast-lab");
    let lab = |arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    lab(&["up", "--flat", "50"]);
    let id = labs().unwrap().pop().unwrap();
    let mut child = Command::new(program);
    let mut child = sleeping(child.args(["exec", "eu.client", "--", "sh", "-c", SLEEP]));

    let owner = id.split('-').next().unwrap();
    assert!(Command::new("kill").args(["-KILL", owner]).status().unwrap().success());
    until("its lock is free", || labs().unwrap().is_empty());
    assert_eq!(namespaces(), 6, "nobody cleared up yet");
    assert_eq!(sweep().unwrap(), [id]);
    assert_eq!(namespaces(), 0);
    assert_killed(&mut child);
    assert_eq!(sweep().unwrap(), [""; 0]);
}
