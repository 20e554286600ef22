//! Ids: one type per kind, so that a room's name never stands where a participant's does.

use std::{borrow::Borrow, cmp::Ordering, fmt, sync::Arc};

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash)]
        pub struct $name(Arc<str>);

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                // Most look-ups in maps end at the very text that they began with.
                if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

text_id!(
    /// A room's name, chosen by the application; unique over all regions.
    RoomName
);
text_id!(
    /// A room's server-made id, `RM_...`; new for each life of a room.
    RoomSid
);
text_id!(
    /// Who a participant is, from the token's `sub`; at most one of each in a room.
    Identity
);
text_id!(
    /// A participant's server-made id, `PA_...`; new for each join.
    ParticipantSid
);
text_id!(
    /// A published track's server-made id, `TR_...`.
    TrackSid
);
text_id!(
    /// A media server's name in the configuration, unique over all regions.
    NodeId
);
text_id!(
    /// A gateway's name in the configuration, unique over all regions.
    GatewayId
);
text_id!(
    /// A failure domain's name in the configuration, e.g. `eu-west`.
    RegionName
);

/// One start of one process. A later start of the same process has a higher epoch; epochs of two machines are never
/// compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// Fencing number of a room's placement: the higher one wins everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl Generation {
    /// The one that supersedes this.
    #[must_use]
    pub const fn next(self) -> Generation {
        Generation(self.0 + 1)
    }
}

/// One signalling connection at a node, unique in the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);
