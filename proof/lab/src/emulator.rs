//! One thread between all devices: reads what hosts send, has the network decide, and writes what is due.
//!
//! One is enough: it forwards more than the hosts of one machine can make and take. It waits for packets and for the next
//! that is due with one `epoll` over the devices and a timer, since a timer of the kernel's is exact where a time-out of a
//! wait may be late by its slack.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    process::{Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::{
    event::{EventfdFlags, epoll, eventfd},
    io::{Errno, read, write},
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};
use serde::{Deserialize, Serialize};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use crate::{
    error::LabError,
    namespace::DEVICE,
    wan::{Delivery, Wan},
};

/// Largest packet that a device hands over.
const PACKET_MAX: usize = 1 << 16;
/// Packets that are read of one device before others have their turn and what is due goes out.
const BATCH: usize = 32;
const EVENTS: usize = 64;
/// What `epoll` tells of the timer and of the end, beside the numbers of hosts.
const TIMER: u64 = u64::MAX;
const END: u64 = u64::MAX - 1;

/// How the emulator's thread is scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Priority {
    /// Before all ordinary threads (SCHED_FIFO): busy neighbours do not make packets late.
    RealTime,
    /// Like everybody, since the system does not allow more.
    Ordinary,
}

/// The emulator while it runs. Dropping it ends the thread and with it the devices.
#[derive(Debug)]
pub(crate) struct Emulator {
    end: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    pub(crate) priority: Priority,
    /// Number of the thread, as the system has it.
    pub(crate) thread_id: i32,
}

/// The device of the namespace in which the calling thread is.
pub(crate) fn device() -> Result<SyncDevice, LabError> {
    // Not up yet: it would give itself an address that is in no plan.
    let made = DeviceBuilder::new().name(DEVICE).layer(Layer::L3).enable(false).build_sync();
    let device = made.map_err(LabError::io("making a TUN device"))?;
    device.set_nonblocking(true).map_err(LabError::io("a TUN device"))?;
    Ok(device)
}

pub(crate) fn lock(wan: &Mutex<Wan>) -> MutexGuard<'_, Wan> {
    wan.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Emulator {
    /// Starts the thread. `devices` are the hosts', in their order.
    pub(crate) fn start(devices: Vec<SyncDevice>, wan: Arc<Mutex<Wan>>) -> io::Result<Self> {
        let end = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        let events = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let watch = |fd: std::os::fd::BorrowedFd<'_>, tag: u64| {
            epoll::add(&events, fd, epoll::EventData::new_u64(tag), epoll::EventFlags::IN)
        };
        for (host, device) in (0..).zip(&devices) {
            watch(device.as_fd(), host)?;
        }
        watch(timer.as_fd(), TIMER)?;
        watch(end.as_fd(), END)?;
        let work = Forwarding { devices, wan, events, timer, began: Instant::now(), armed: None };
        let (tell, told) = mpsc::channel();
        let run = move || {
            let thread_id = rustix::thread::gettid().as_raw_nonzero().get();
            let _gone = tell.send((thread_id, prefer(thread_id)));
            work.run();
        };
        let thread = std::thread::Builder::new().name("lab-wan".to_owned()).spawn(run)?;
        let (thread_id, priority) = told.recv().map_err(io::Error::other)?;
        Ok(Emulator { end, thread: Some(thread), priority, thread_id })
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // Cannot fail: the counter is at most at one.
        let _told = write(&*self.end, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// Asks for a scheduling that busy neighbours do not disturb. `chrt` does it, since the call needs unsafe code here.
fn prefer(thread: i32) -> Priority {
    let mut command = Command::new("chrt");
    command.args(["--fifo", "--pid", "1", &thread.to_string()]);
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.status() {
        Ok(status) if status.success() => Priority::RealTime,
        _ => Priority::Ordinary,
    }
}

struct Forwarding {
    devices: Vec<SyncDevice>,
    wan: Arc<Mutex<Wan>>,
    events: OwnedFd,
    timer: OwnedFd,
    began: Instant,
    /// What the timer is set to.
    armed: Option<Duration>,
}

impl Forwarding {
    fn run(mut self) {
        let mut packet = vec![0; PACKET_MAX];
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            match epoll::wait(&self.events, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                // Not with the descriptors that are ours: we are wrong, and a lab that stands still is not mistaken.
                Err(error) => panic!("epoll: {error}"),
            }
            for event in &events {
                match event.data.u64() {
                    END => return,
                    TIMER => {
                        // Whether it went off is seen by the clock.
                        let _count = read(&self.timer, &mut [0; 8][..]);
                        self.armed = None;
                    }
                    host => self.receive(host as usize, &mut packet),
                }
                self.send();
            }
            self.arm();
        }
    }

    /// Takes a batch of what a host sent. What is left is told again by the next wait.
    fn receive(&self, host: usize, packet: &mut [u8]) {
        let Some(device) = self.devices.get(host) else { return };
        let mut wan = lock(&self.wan);
        for _ in 0..BATCH {
            match read(device, &mut *packet) {
                Ok(length) => wan.take(self.began.elapsed(), host, &packet[..length]),
                Err(Errno::AGAIN | Errno::INTR) => return,
                // The host removed its device: it would be told of for ever.
                Err(_) => {
                    let _removed = epoll::delete(&self.events, device);
                    return;
                }
            }
        }
    }

    /// Hands over what is due.
    fn send(&self) {
        let mut wan = lock(&self.wan);
        while let Some(Delivery { to, packet }) = wan.give(self.began.elapsed()) {
            // A host whose device is down gets nothing, as one whose cable is out.
            let _written = self.devices.get(to).map(|device| write(device, &packet));
            wan.spare(packet);
        }
    }

    /// Sets the timer to what is due next.
    fn arm(&mut self) {
        let next = lock(&self.wan).wake_at();
        if next == self.armed {
            return;
        }
        self.armed = next;
        let wait = next.map_or(Duration::ZERO, |at| {
            // Zero would stop the timer.
            at.saturating_sub(self.began.elapsed()).max(Duration::from_nanos(1))
        });
        let value = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        };
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let setting = Itimerspec { it_interval: never, it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting)
            .expect("a timer takes any time that is not negative");
    }
}
