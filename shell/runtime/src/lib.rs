//! Sockets, clocks, entropy, threads: the one place that opens them. Decides nothing.
//! The only crate with unsafe code: batched system calls have no safe face in the standard library.
#![allow(
    unsafe_code,
    reason = "recvmmsg, sendmmsg with UDP_SEGMENT, epoll and eventfd are reached through libc"
)]

mod address;
mod clock;
pub mod entropy;
mod lines;
mod poll;
mod receive;
mod send;
mod thread;
mod udp;

pub use clock::Clock;
pub use lines::Lines;
pub use poll::{Poller, Ready, Wake};
pub use receive::{BATCH_DATAGRAMS, DATAGRAM_BYTES_MAX, Datagram, UdpBatch};
pub use send::{Run, SendCounters, UdpSender};
pub use thread::{cores, pin_to_core, process_cpu_time, thread_cpu_time};
pub use udp::{BindError, UdpSocketSet};
