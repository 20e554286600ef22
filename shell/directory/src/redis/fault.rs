//! What an error says about the request: was it applied, and does somebody else decide by now?

use outlast_directory::{Failure, Reply};
use redis::ServerError;

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Surely not applied.
    Unavailable,
    /// Perhaps applied.
    Unknown,
    /// Surely not applied: the server has no memory left.
    Full,
}

/// What a server says instead of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It does not know the script; surely not applied.
    NoScript,
    /// It does not decide, or not now; surely not applied.
    Elsewhere,
    /// It will not, until somebody does something about it; surely not applied.
    Unwilling,
    /// See [`Fault::Full`].
    Full,
    /// Something that is not expected.
    Other,
}

impl Fault {
    /// The answer to whoever asked.
    pub(super) fn reply(self) -> Reply {
        Reply::Failed(match self {
            Fault::Unavailable => Failure::Unavailable,
            Fault::Unknown => Failure::Unknown,
            Fault::Full => Failure::Bad("Redis is full: raise its maxmemory".to_owned()),
        })
    }
}

impl Refusal {
    /// By the error's code. A script that cannot write is refused at its first write, with the code of that.
    pub(super) fn of(error: &ServerError) -> Refusal {
        match error.code() {
            "NOSCRIPT" => Refusal::NoScript,
            "MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN" | "READONLY" | "MASTERDOWN"
            | "LOADING" => Refusal::Elsewhere,
            // Too few replicas, a disk that takes nothing, an ACL, a script of somebody else's that runs for ever.
            "NOREPLICAS" | "MISCONF" | "NOPERM" | "NOAUTH" | "BUSY" => Refusal::Unwilling,
            "OOM" => Refusal::Full,
            _ => Refusal::Other,
        }
    }

    pub(super) fn fault(self) -> Fault {
        match self {
            Refusal::NoScript | Refusal::Elsewhere | Refusal::Unwilling => Fault::Unavailable,
            Refusal::Full => Fault::Full,
            Refusal::Other => Fault::Unknown,
        }
    }
}

/// An error in words, shortened: servers repeat what they were sent in some, but no password.
pub(super) fn words(error: &ServerError) -> String {
    let all = format!("{} {}", error.code(), error.details().unwrap_or(""));
    all.trim_end().chars().take(WORDS_MAX).collect()
}

/// Longest text of a server that is repeated, in characters.
const WORDS_MAX: usize = 200;
