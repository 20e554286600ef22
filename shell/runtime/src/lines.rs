//! Lines for a log, handed over without waiting and written by a thread of their own: a log that nobody reads must not
//! stop whoever has something to say. What does not fit is dropped and counted.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::Duration,
};

/// What is flushed when the process exits, and how long that may take.
static AT_EXIT: OnceLock<(Lines, Duration)> = OnceLock::new();

/// A bounded queue of lines and the thread that writes them. Copies share the queue; the thread ends when the last copy
/// is gone and everything is written.
#[derive(Clone)]
pub struct Lines(Arc<Handle>);

struct Handle(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// There is something to write, or nobody is left to bring more.
    news: Condvar,
    /// Everything has been written.
    idle: Condvar,
    bytes_max: usize,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Vec<u8>>,
    /// Sum of the queue's lines.
    bytes: usize,
    /// A line has been taken and is not written yet.
    writing: bool,
    /// Lines dropped in all, and those of them that have not been told.
    lost: u64,
    untold: u64,
    closed: bool,
}

impl Lines {
    /// Starts the thread, which writes to `out`. Lines of at most `bytes_max` bytes together wait for it. When it gets
    /// on after lines were dropped it calls `on_lost` with their number; pushing a line from there is fine.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(
        out: impl Write + Send + 'static,
        bytes_max: usize,
        on_lost: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Lines> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            news: Condvar::new(),
            idle: Condvar::new(),
            bytes_max,
        });
        let writers = Arc::clone(&shared);
        thread::Builder::new()
            .name("log".into())
            .spawn(move || writers.write_all(out, &on_lost))?;
        Ok(Lines(Arc::new(Handle(shared))))
    }

    /// Hands over one line, its line feed included. Never waits for the writer: a line that does not fit is dropped.
    pub fn push(&self, line: Vec<u8>) {
        let shared = &*self.0.0;
        let mut state = shared.lock();
        if line.len() > shared.bytes_max - state.bytes {
            state.lost += 1;
            state.untold += 1;
            return;
        }
        state.bytes += line.len();
        state.queue.push_back(line);
        drop(state);
        shared.news.notify_one();
    }

    /// Lines dropped since the start.
    pub fn lost(&self) -> u64 {
        self.0.0.lock().lost
    }

    /// Waits until everything handed over is written, or `limit` has passed. Returns whether it is.
    pub fn flush(&self, limit: Duration) -> bool {
        let shared = &*self.0.0;
        let busy = |state: &mut State| state.writing || !state.queue.is_empty();
        shared
            .idle
            .wait_timeout_while(shared.lock(), limit, busy)
            .is_ok_and(|(_, waited)| !waited.timed_out())
    }

    /// Flushes when the process exits, for at most `limit`: after `main`, or by `std::process::exit`. The first call in
    /// a process counts.
    pub fn flush_at_exit(&self, limit: Duration) {
        if AT_EXIT.set((self.clone(), limit)).is_ok() {
            // SAFETY: a function without arguments that does not unwind. It may fail for lack of memory, which costs
            // the last lines.
            unsafe { libc::atexit(flush_now) };
        }
    }
}

extern "C" fn flush_now() {
    if let Some((lines, limit)) = AT_EXIT.get() {
        lines.flush(*limit);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.news.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing below the lock can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all(&self, mut out: impl Write, on_lost: &impl Fn(u64)) {
        while let Some(line) = self.next() {
            // Where the log is closed or its disk is full there is nobody left to tell.
            let written = out.write_all(&line).and_then(|()| out.flush()).is_ok();
            let untold = if written { std::mem::take(&mut self.lock().untold) } else { 0 };
            if untold > 0 {
                on_lost(untold);
            }
            let mut state = self.lock();
            state.writing = false;
            if state.queue.is_empty() {
                self.idle.notify_all();
            }
        }
    }

    /// The next line to write; `None` when there will be none.
    fn next(&self) -> Option<Vec<u8>> {
        let waiting = |state: &mut State| state.queue.is_empty() && !state.closed;
        let state = self.news.wait_while(self.lock(), waiting);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        let line = state.queue.pop_front()?;
        state.bytes -= line.len();
        state.writing = true;
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        io::{PipeReader, Read},
        process::{Command, exit},
    };

    use super::*;

    /// Longer than any test, however crowded the machine.
    const LONG: Duration = Duration::from_secs(60);

    fn line(number: u32) -> Vec<u8> {
        format!("{number:09}\n").into_bytes()
    }

    fn read_lines(from: &mut PipeReader, count: usize) -> Vec<String> {
        let mut bytes = vec![0; 10 * count];
        from.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_log_that_nobody_reads_stops_nobody_and_tells_what_it_lost() {
        let (mut read, mut write) = io::pipe().unwrap();
        // The pipe is as full as can be: the writer's first line blocks.
        let filled = fill(&mut write);
        let (tell, told) = std::sync::mpsc::channel();
        let lines = Lines::start(write, 100, move |lost| tell.send(lost).unwrap()).unwrap();
        for number in 0..1_000 {
            lines.push(line(number));
        }
        assert!(!lines.flush(Duration::from_millis(1)), "nobody reads");
        // Ten lines wait, and one more if the writer took its first in time.
        let lost = lines.lost();
        assert!((989..=990).contains(&lost), "{lost}");
        io::copy(&mut read.by_ref().take(filled), &mut io::sink()).unwrap();
        let kept = read_lines(&mut read, 1_000 - usize::try_from(lost).unwrap());
        assert_eq!(kept[..10], (0..10).map(|number| format!("{number:09}")).collect::<Vec<_>>());
        assert_eq!(told.recv_timeout(LONG), Ok(lost));
        lines.push(line(7));
        assert!(lines.flush(LONG));
        assert_eq!(read_lines(&mut read, 1), ["000000007"]);
        assert_eq!(lines.lost(), lost);
        drop(lines);
        assert_eq!(read.read(&mut [0]).unwrap(), 0, "the thread has ended");
    }

    /// Writes into the pipe until it takes no more; returns how much that was.
    fn fill(pipe: &mut io::PipeWriter) -> u64 {
        use std::os::fd::AsRawFd;
        let set = |flags: libc::c_int| {
            // SAFETY: no pointers; the descriptor is open.
            assert_eq!(unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, flags) }, 0);
        };
        set(libc::O_NONBLOCK);
        let mut filled = 0;
        let mut to = &*pipe;
        for size in [4096, 1] {
            while let Ok(written) = to.write(&vec![b'x'; size]) {
                filled += written as u64;
            }
        }
        set(0);
        filled
    }

    #[test]
    fn what_waits_is_written_when_the_process_exits() {
        const CHILD: &str = "OUTLAST_LINES_CHILD";
        if env::var_os(CHILD).is_some() {
            let lines = Lines::start(io::stderr(), 1 << 20, |_| {}).unwrap();
            lines.flush_at_exit(LONG);
            (0..10_000).for_each(|number| lines.push(line(number)));
            exit(0);
        }
        let name = "lines::tests::what_waits_is_written_when_the_process_exits";
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert!(child.status.success());
        let text = String::from_utf8(child.stderr).unwrap();
        let written = text.lines().filter(|line| line.len() == 9).count();
        assert_eq!(written, 10_000);
    }
}
