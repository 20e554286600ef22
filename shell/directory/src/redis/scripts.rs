//! The scripts that decide: each request about rooms is one of them, and so happens at one moment or not at all.

use std::sync::LazyLock;

use redis::{Cmd, Pipeline, ToRedisArgs};

use super::keys::Keys;

macro_rules! source {
    ($($file:literal),*) => {
        concat!($(include_str!(concat!("scripts/", $file, ".lua")), "\n"),*)
    };
}

/// Which script, in the order of [`SOURCES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    Claim,
    End,
    Instance,
    Watch,
    Heartbeat,
    Summaries,
}

/// Each with its hash.
static SOURCES: LazyLock<[(&'static str, String); 6]> = LazyLock::new(|| {
    let sources = [
        source!("open", "room", "claim"),
        source!("open", "room", "end"),
        source!("open", "instance"),
        source!("open", "watch"),
        source!("open", "heartbeat"),
        source!("open", "summaries"),
    ];
    sources.map(|code| (code, redis::Script::new(code).get_hash().to_owned()))
});

/// A script with what it is given, ready to be sent, if need be twice.
#[derive(Clone, Debug)]
pub(super) struct Call {
    script: Script,
    keys: [String; 6],
    arguments: Vec<Vec<u8>>,
}

impl Call {
    /// On a partition. `candidate` becomes the content's id if there is none yet.
    pub(super) fn new(script: Script, keys: &Keys, candidate: [u8; 16]) -> Call {
        Call { script, keys: keys.all.clone(), arguments: Vec::new() }.with(&candidate[..])
    }

    /// The next argument, from `ARGV[2]` on.
    pub(super) fn with(mut self, argument: impl ToRedisArgs) -> Call {
        self.arguments.extend(argument.to_redis_args());
        self
    }

    /// By its hash, which a server knows that has seen it since it was started, or whole.
    pub(super) fn command(&self, whole: bool) -> Cmd {
        let mut command = Cmd::new();
        let (code, hash) = &SOURCES[self.script as usize];
        if whole {
            command.arg("EVAL").arg(code);
        } else {
            command.arg("EVALSHA").arg(hash);
        }
        command.arg(self.keys.len()).arg(&self.keys[..]);
        for argument in &self.arguments {
            command.arg(argument.as_slice());
        }
        command
    }
}

/// Makes a server know all of them.
pub(super) fn load(pipeline: &mut Pipeline) {
    for (code, _) in SOURCES.iter() {
        pipeline.cmd("SCRIPT").arg("LOAD").arg(code);
    }
}
