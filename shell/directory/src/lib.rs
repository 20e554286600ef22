//! The directory's engines behind one trait. What each of them means is defined by `outlast_directory::Table`; what may
//! differ is said there and at [`Engine`]. No decision is made here: which rooms are placed where, how long anybody waits
//! and whether an engine counts as away is `outlast_directory::Caller`'s.

mod access;
mod address;
mod connect;
mod embedded;
mod engine;
mod etcd;
mod inspect;
mod page;
mod redis;
mod shards;
mod tls;

pub use access::{Access, Identity, Secret};
pub use address::{Address, AddressError, EngineKind, HostPort, SERVERS_MAX, Shared};
pub use connect::{ConnectError, Directory};
pub use embedded::Embedded;
pub use engine::{Answer, Engine, PartState, REPLY_MAX};
pub use etcd::{Etcd, EtcdSettings, Member, MemberHealth, MoveError};
pub use inspect::{Behind, Inspection, Role, Survey};
pub use outlast_directory::Partition;
pub use redis::{FailoverError, Redis, RedisMember, RedisRole, RedisSettings};
pub use shards::Shards;
