//! What an error of etcd's client says about the request: was it applied, and is another member worth asking?

use std::error::Error as _;

use etcd_client::Error;
use outlast_directory::{Failure, Reply};

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Surely not applied.
    Unavailable,
    /// Perhaps applied.
    Unknown,
    /// Surely not applied, and every member says so.
    Refused(Refusal),
}

/// What every member says alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The quota is used up.
    Full,
    /// A request of more bytes than etcd takes.
    Large,
    /// The lease to attach a key to has run out, or was of another content.
    NoLease,
    /// The revision to read at is compacted.
    Compacted,
}

/// What one try came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It never reached a server, or the server has not taken it.
    NotApplied,
    /// It may have reached a server.
    Perhaps,
    /// See [`Fault::Refused`].
    Refused(Refusal),
}

impl Fault {
    /// The answer to whoever asked.
    pub(super) fn reply(self) -> Reply {
        Reply::Failed(match self {
            // A lease that is gone twice, a compaction during a reading: asking again helps.
            Fault::Unavailable | Fault::Refused(Refusal::NoLease | Refusal::Compacted) => {
                Failure::Unavailable
            }
            Fault::Unknown => Failure::Unknown,
            Fault::Refused(Refusal::Full) => Failure::Bad(
                "etcd is full: compact and defragment it, raise --quota-backend-bytes if that does not help, then \
                 `etcdctl alarm disarm`"
                    .to_owned(),
            ),
            Fault::Refused(Refusal::Large) => {
                Failure::Bad("larger than etcd's --max-request-bytes".to_owned())
            }
        })
    }
}

/// Parts of etcd's messages (`api/v3rpc/rpctypes/error.go`; the second is raft's) for what it refuses before it proposes
/// anything.
const NOT_PROPOSED: [&str; 8] = [
    "etcdserver: no leader",
    "raft proposal dropped",
    "etcdserver: too many requests",
    "etcdserver: permission denied",
    "etcdserver: user name is empty",
    "etcdserver: authentication failed",
    AUTH_OLD,
    "required revision is a future revision",
];
/// Somebody changed users or roles since the token was made.
const AUTH_OLD: &str = "revision of auth store is old";

/// Judges a try that ended with `error`.
pub(super) fn judge(error: &Error) -> Verdict {
    let status = match error {
        Error::GRpcStatus(status) => status,
        // Made by the client itself, of a server's answer.
        Error::LeaseKeepAliveError(text) if text == "lease not found" => {
            return Verdict::Refused(Refusal::NoLease);
        }
        _ => return Verdict::Perhaps,
    };
    // A status with a source was made on this side of the connection.
    if status.source().is_some() {
        return if never_connected(status) { Verdict::NotApplied } else { Verdict::Perhaps };
    }
    let says = |text: &str| status.message().contains(text);
    if says("mvcc: database space exceeded") {
        Verdict::Refused(Refusal::Full)
    } else if says("etcdserver: request is too large") {
        Verdict::Refused(Refusal::Large)
    } else if says("etcdserver: requested lease not found") {
        Verdict::Refused(Refusal::NoLease)
    } else if says("required revision has been compacted") {
        Verdict::Refused(Refusal::Compacted)
    } else if status.code() == tonic::Code::Unauthenticated
        || status.message().starts_with("Service was not ready")
        || NOT_PROPOSED.into_iter().any(says)
    {
        Verdict::NotApplied
    } else {
        Verdict::Perhaps
    }
}

/// Whether a new connection, with a new token, would help.
pub(super) fn is_stale_login(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status)
        if status.code() == tonic::Code::Unauthenticated || status.message().contains(AUTH_OLD))
}

/// Whether the server answered, even if it refused: it lives.
pub(super) fn is_answer(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status)
        if status.source().is_none() && !status.message().starts_with("Service was not ready"))
}

fn never_connected(status: &tonic::Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// `error` in words, without the numbers and maps of gRPC. etcd puts no secret into its messages.
pub(super) fn words(error: &Error) -> String {
    match error {
        Error::GRpcStatus(status) => chain(status.message().to_owned(), status.source()),
        Error::TransportError(error) => chain(error.to_string(), error.source()),
        other => other.to_string(),
    }
}

/// `text`, and what the sources say that was not said yet.
pub(super) fn chain(
    mut text: String,
    mut source: Option<&(dyn std::error::Error + 'static)>,
) -> String {
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};

    use super::*;

    #[test]
    fn only_what_surely_was_not_applied_is_said_not_to_be() {
        for (code, text, verdict) in [
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
                Verdict::Refused(Refusal::Full),
            ),
            (
                Code::NotFound,
                "etcdserver: requested lease not found",
                Verdict::Refused(Refusal::NoLease),
            ),
            (Code::ResourceExhausted, "etcdserver: too many requests", Verdict::NotApplied),
            (Code::Unavailable, "etcdserver: no leader", Verdict::NotApplied),
            (Code::Unknown, "raft proposal dropped", Verdict::NotApplied),
            (Code::Unauthenticated, "etcdserver: invalid auth token", Verdict::NotApplied),
            (Code::Unavailable, "etcdserver: request timed out", Verdict::Perhaps),
            (
                Code::Unavailable,
                "etcdserver: request timed out, possibly due to previous leader failure",
                Verdict::Perhaps,
            ),
            (Code::Unavailable, "etcdserver: server stopped", Verdict::Perhaps),
            (Code::Unknown, "whatever else", Verdict::Perhaps),
        ] {
            assert_eq!(judge(&Error::GRpcStatus(Status::new(code, text))), verdict, "{text}");
        }
        assert_eq!(judge(&Error::WatchError("gone".to_owned())), Verdict::Perhaps);
    }
}
