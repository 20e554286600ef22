//! Whether this process may make a lab, and what to do if not.

use std::{fs, fs::OpenOptions, process::Command};

use crate::error::LabError;

/// What devices and addresses take (capabilities(7)).
const CAP_NET_ADMIN: u32 = 12;
/// What namespaces and their names take.
const CAP_SYS_ADMIN: u32 = 21;

const TUN: &str = "/dev/net/tun";
const ADVICE: &str = "run it as root, or without root inside `outlast-lab rootless`";

/// # Errors
/// When it may not, with what is missing and what helps.
pub(crate) fn check() -> Result<(), LabError> {
    check_capabilities()?;
    check_tun()?;
    for (program, package) in [("ip", "iproute2"), ("nsenter", "util-linux")] {
        if Command::new(program).arg("-V").output().is_err() {
            return Err(LabError::Rights(format!(
                "a lab needs {program}, which is not there: install the package {package}"
            )));
        }
    }
    Ok(())
}

/// # Errors
/// When it is not root, or as good as that.
pub(crate) fn check_capabilities() -> Result<(), LabError> {
    if has_capabilities() {
        return Ok(());
    }
    Err(LabError::Rights(format!(
        "a lab needs CAP_NET_ADMIN and CAP_SYS_ADMIN, which this process lacks: {ADVICE}"
    )))
}

/// # Errors
/// When devices cannot be made by anybody who is who we are.
pub(crate) fn check_tun() -> Result<(), LabError> {
    match OpenOptions::new().read(true).write(true).open(TUN) {
        Ok(_) => Ok(()),
        Err(error) => Err(LabError::Rights(format!(
            "a lab needs {TUN}: {error}. It is there on any machine with udev, for everybody; in a container, pass \
             `--device {TUN}`, and where only root may open it, `chmod 0666 {TUN}`"
        ))),
    }
}

/// Whether the kernel lets this process do what root of its namespaces may.
pub(crate) fn has_capabilities() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective =
        effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or_default();
    [CAP_NET_ADMIN, CAP_SYS_ADMIN].iter().all(|bit| effective >> bit & 1 == 1)
}
