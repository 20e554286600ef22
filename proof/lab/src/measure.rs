//! How exact the lab's delays are on this machine, and how many packets it forwards.

use std::{
    fs,
    net::UdpSocket,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use outlast_lab::{Lab, Plan, Priority, Shape};

use crate::show::{self, say};

/// One way, of the link whose error is measured.
const DELAY: Duration = Duration::from_millis(40);
/// Between packets while delays are measured: those of one audio stream.
const PACE: Duration = Duration::from_millis(20);
/// Bytes of a datagram: a full one of video.
const BYTES: usize = 1200;
/// How long the last packets of a flood are waited for.
const PATIENCE: Duration = Duration::from_millis(300);

/// Measures and tells. Both sides are in this process, so that one clock tells of both.
pub(crate) fn all(seconds: Duration) -> anyhow::Result<()> {
    let way = Shape { delay: DELAY, ..Shape::default() };
    let plan = Plan::new(1).site("a", 1, &[("x", 1)]).site("b", 2, &[("x", 1)]).link("a", "b", way);
    let lab = Lab::up(&plan)?;
    let scheduled = match lab.priority() {
        Priority::RealTime => "before ordinary threads",
        Priority::Ordinary => "like everybody, since more is not allowed here",
    };
    say(format_args!("the emulator is scheduled {scheduled}"))?;
    let (from, to) = (socket(&lab, "a")?, socket(&lab, "b")?);
    from.connect(to.local_addr()?)?;
    say(format_args!(
        "delay of {} ms: {}",
        DELAY.as_millis(),
        errors(&from, &to, DELAY, seconds)?
    ))?;
    lab.shape("a", "b", Shape::default())?;
    say(format_args!("no delay:       {}", errors(&from, &to, Duration::ZERO, seconds)?))?;
    // The rest of the error is between the device and the receiver's thread.
    say(show::late(&lab.punctuality()))?;
    lab.shape("a", "b", way)?;
    for rate in [10_000, 50_000, 100_000] {
        say(flood(&lab, &from, &to, Some(rate), seconds)?)?;
    }
    say(flood(&lab, &from, &to, None, seconds)?)?;
    Ok(())
}

fn socket(lab: &Lab, host: &str) -> anyhow::Result<UdpSocket> {
    let address = lab.address(host)?;
    let socket = lab.within(host, || UdpSocket::bind((address, 0)))?.context(host.to_owned())?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// How much longer than `delay` datagrams take from one socket to the other: everything that is between.
fn errors(
    from: &UdpSocket,
    to: &UdpSocket,
    delay: Duration,
    seconds: Duration,
) -> anyhow::Result<String> {
    let began = Instant::now();
    let packets = seconds.as_nanos() / PACE.as_nanos();
    let mut errors: Vec<Duration> = thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let mut errors = Vec::new();
            let mut datagram = [0; BYTES];
            while let Ok(length) = to.recv(&mut datagram) {
                let now = began.elapsed();
                let Some(Ok(sent)) = datagram[..length].get(..8).map(<[u8; 8]>::try_from) else {
                    continue;
                };
                let sent = Duration::from_nanos(u64::from_be_bytes(sent));
                errors.push(now.saturating_sub(sent).saturating_sub(delay));
            }
            errors
        });
        for _ in 0..packets {
            let mut datagram = [0; BYTES];
            let now = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            datagram[..8].copy_from_slice(&now.to_be_bytes());
            from.send(&datagram)?;
            thread::sleep(PACE);
        }
        let errors = receiver.join().unwrap_or_default();
        Ok::<_, std::io::Error>(errors)
    })?;
    errors.sort_unstable();
    let at = |share: usize| {
        let index = errors.len().saturating_sub(1) * share / 100;
        errors.get(index).map_or(f64::NAN, |error| error.as_secs_f64() * 1000.0)
    };
    let [half, most, nearly, worst] = [50, 95, 99, 100].map(at);
    Ok(format!(
        "{} of {packets} packets, longer by p50 {half:.3} ms, p95 {most:.3} ms, p99 {nearly:.3} ms, at most {worst:.3} ms",
        errors.len()
    ))
}

/// Sends at a rate, or as fast as one thread can, and tells what the emulator took for it.
fn flood(
    lab: &Lab,
    from: &UdpSocket,
    to: &UdpSocket,
    rate: Option<u32>,
    seconds: Duration,
) -> anyhow::Result<String> {
    let before = (lab.counters("a", "b")?, on_cpu(lab)?);
    let done = AtomicBool::new(false);
    let began = Instant::now();
    let (sent, received) = thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let mut datagram = [0; BYTES];
            let mut count = 0u64;
            loop {
                match to.recv(&mut datagram) {
                    Ok(_) => count += 1,
                    Err(_) if done.load(Ordering::Acquire) => return count,
                    Err(_) => {}
                }
            }
        });
        let mut sent = 0u64;
        while began.elapsed() < seconds {
            let due = rate
                .map_or(u64::MAX, |rate| (began.elapsed().as_secs_f64() * f64::from(rate)) as u64);
            let burst = due.saturating_sub(sent).min(64);
            for _ in 0..burst {
                // A full queue is a packet that was not sent.
                sent += u64::from(from.send(&[0; BYTES]).is_ok());
            }
            if sent >= due {
                thread::sleep(Duration::from_micros(200));
            }
        }
        done.store(true, Ordering::Release);
        (sent, receiver.join().unwrap_or_default())
    });
    let elapsed = seconds.as_secs_f64();
    let after = (lab.counters("a", "b")?, on_cpu(lab)?);
    let came = after.0.sent - before.0.sent;
    let delivered = after.0.delivered - before.0.delivered;
    let cores = (after.1 - before.1).as_secs_f64();
    Ok(format!(
        "sent {:.0}/s of {BYTES} bytes: {:.0}/s reached the emulator, {:.0}/s came out, {:.0}/s were received; it took {:.2} of a core, so {:.0}/s for a whole one",
        sent as f64 / elapsed,
        came as f64 / elapsed,
        delivered as f64 / elapsed,
        received as f64 / elapsed,
        cores / elapsed,
        delivered as f64 / cores,
    ))
}

/// How long the emulator's thread has run (proc(5), schedstat).
fn on_cpu(lab: &Lab) -> anyhow::Result<Duration> {
    let path = format!("/proc/self/task/{}/schedstat", lab.emulator_thread());
    let text = fs::read_to_string(&path).context(path)?;
    let first = text.split_whitespace().next().context("it has figures")?;
    Ok(Duration::from_nanos(first.parse()?))
}
