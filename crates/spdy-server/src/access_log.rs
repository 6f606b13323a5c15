//! The access log: a line for each request, which a separate thread writes.
//!
//! A malformed request, which never reaches the application, has a line with the fields that could
//! be read. Status 499 means that the client left before the response. A request that the reverse
//! proxy has upgraded, with status 101, has its line at the end of that connection, with the bytes
//! of both directions.

mod entry;
mod json;

use std::{
    convert::Infallible,
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    iter,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use tracing::warn;

pub(crate) use self::entry::Entry;
use crate::config::{AccessLog, AccessLogFormat};

/// An open log.
#[derive(Debug)]
pub(crate) struct Log {
    format: AccessLogFormat,
    orders: SyncSender<Order>,
    /// Its other end is dropped by the thread. `None` once the log is finished.
    running: Mutex<Option<Receiver<Infallible>>>,
    shared: Arc<Shared>,
    lost: AtomicU64,
}

/// What the log and its thread share besides the lines.
#[derive(Debug, Default)]
struct Shared {
    /// The number of bytes in the lines that wait.
    waiting: AtomicUsize,
    /// Whether the thread has to reopen the file. This is not an order in the queue: an order would
    /// be lost if the queue was full, or if the first attempt to open the file failed.
    reopen: AtomicBool,
    /// Whether the thread has to end when no line waits.
    finish: AtomicBool,
}

enum Order {
    Write(String),
    /// There is work other than a line.
    Wake,
}

impl Log {
    /// Opens the file and starts the thread.
    pub(crate) fn open(target: &AccessLog, format: AccessLogFormat) -> io::Result<Self> {
        let output = Output::open(target)?;
        let (sender, orders) = sync_channel(QUEUE);
        let target = target.clone();
        let shared = Arc::<Shared>::default();
        let of_thread = Arc::clone(&shared);
        let (ends, running) = sync_channel(0);
        thread::Builder::new()
            .name("access-log".into())
            .spawn(move || {
                write(output, &target, &orders, &of_thread);
                drop(ends);
            })?;
        Ok(Self {
            format,
            orders: sender,
            running: Mutex::new(Some(running)),
            shared,
            lost: AtomicU64::new(0),
        })
    }

    /// Writes a line without waiting. If the disk is too slow, lines are dropped, and a warning
    /// states their number.
    pub(crate) fn write(&self, entry: &Entry<'_>) {
        let line = entry.line(self.format);
        let bytes = line.len();
        let waiting = self.shared.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if waiting > MAX_WAITING || self.orders.try_send(Order::Write(line)).is_err() {
            self.shared.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.lost.fetch_add(1, Ordering::Relaxed);
        } else if self.lost.load(Ordering::Relaxed) > 0 {
            let lost = self.lost.swap(0, Ordering::Relaxed);
            warn!(
                lost,
                "the disk is too slow for the access log; lines were dropped"
            );
        }
    }

    /// Reopens the file, after a tool such as logrotate has moved it. If it cannot be opened, lines
    /// go on to the old file, and each batch of lines tries again.
    pub(crate) fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        // If the queue is full, the thread is running, and checks the flag before the next line.
        let _ = self.orders.try_send(Order::Wake);
    }

    /// Waits until all lines are written or have failed, at most for [`FINISH`]. Later lines are
    /// dropped.
    pub(crate) fn finish(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = running.take() else {
            return;
        };
        self.shared.finish.store(true, Ordering::Release);
        // If the queue is full, the thread is running, and checks the flag when the queue is empty.
        let _ = self.orders.try_send(Order::Wake);
        // The thread never sends, and drops its end.
        if running.recv_timeout(FINISH) == Err(RecvTimeoutError::Timeout) {
            warn!("the access log takes no more lines; the last ones were dropped");
        }
    }
}

/// The destination of the lines.
enum Output {
    Stdout(BufWriter<io::Stdout>),
    File(BufWriter<File>),
}

impl Output {
    fn open(target: &AccessLog) -> io::Result<Self> {
        match target {
            AccessLog::Stdout => Ok(Self::Stdout(BufWriter::new(io::stdout()))),
            AccessLog::File(path) => append(path).map(BufWriter::new).map(Self::File),
        }
    }

    fn as_write(&mut self) -> &mut dyn Write {
        match self {
            Self::Stdout(output) => output,
            Self::File(output) => output,
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    // Opening a pipe only for writing would wait for a reader.
    options.read(is_pipe(path)).open(path)
}

fn is_pipe(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        path.metadata().is_ok_and(|it| it.file_type().is_fifo())
    }
    #[cfg(not(unix))]
    {
        _ = path;
        false
    }
}

/// Writes lines until the log is finished, or is dropped. A failure is logged once, until writing
/// succeeds again.
fn write(mut output: Output, target: &AccessLog, orders: &Receiver<Order>, shared: &Shared) {
    let mut opening = Failing::at("cannot reopen the access log; lines go to the old file");
    let mut writing = Failing::at("cannot write the access log; lines are dropped");
    while let Some(first) = next(orders, shared) {
        opening.tell(reopen_if_asked(&mut output, target, shared));
        writing.tell(write_all_there_is(&mut output, orders, first, shared));
    }
}

/// Waits for an order. Returns `None` once the log is finished and no line waits.
fn next(orders: &Receiver<Order>, shared: &Shared) -> Option<Order> {
    if shared.finish.load(Ordering::Acquire) {
        orders.try_recv().ok()
    } else {
        orders.recv().ok()
    }
}

/// An operation that can fail repeatedly, and is logged once.
struct Failing {
    what: &'static str,
    is_told: bool,
}

impl Failing {
    const fn at(what: &'static str) -> Self {
        Self {
            what,
            is_told: false,
        }
    }

    fn tell(&mut self, outcome: io::Result<()>) {
        let was_told = std::mem::replace(&mut self.is_told, outcome.is_err());
        if let Err(error) = outcome
            && !was_told
        {
            warn!(%error, "{}", self.what);
        }
    }
}

/// Reopens the file if the flag is set, and sets the flag again if that fails.
fn reopen_if_asked(output: &mut Output, target: &AccessLog, shared: &Shared) -> io::Result<()> {
    if !shared.reopen.swap(false, Ordering::Acquire) {
        return Ok(());
    }
    // Each batch of lines was flushed, so the old file only lacks lines that could not be written
    // to it.
    match Output::open(target) {
        Ok(opened) => {
            *output = opened;
            Ok(())
        }
        Err(error) => {
            shared.reopen.store(true, Ordering::Release);
            Err(error)
        }
    }
}

/// Writes lines until the queue is empty, or the file may have to be reopened.
fn write_all_there_is(
    output: &mut Output,
    orders: &Receiver<Order>,
    first: Order,
    shared: &Shared,
) -> io::Result<()> {
    let orders = iter::once(first).chain(orders.try_iter()).take(BATCH);
    for order in orders {
        match order {
            Order::Write(line) => {
                shared.waiting.fetch_sub(line.len(), Ordering::Relaxed);
                output.as_write().write_all(line.as_bytes())?;
            }
            Order::Wake => {}
        }
    }
    output.as_write().flush()
}

/// The maximum number of lines that wait for the disk, and of their bytes. Clients choose the
/// length of a line.
const QUEUE: usize = 8192;
const MAX_WAITING: usize = 8 * 1024 * 1024;

/// The maximum number of lines between two checks whether the file has to be reopened.
const BATCH: usize = 1024;

/// How long the last lines can take when the server ends.
const FINISH: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::{env, fs, path::PathBuf, process, sync::mpsc::sync_channel};

    use super::{entry::tests::nothing_known as line, *};

    #[test]
    fn lines_that_wait_for_the_disk_have_a_bound() {
        let (orders, waiting) = sync_channel(QUEUE);
        let log = Log {
            format: AccessLogFormat::Combined,
            orders,
            running: Mutex::new(None),
            shared: Arc::default(),
            lost: AtomicU64::new(0),
        };
        let target = vec![b'x'; MAX_WAITING / 8];
        let entry = Entry {
            target: &target,
            ..line()
        };
        for _ in 0..20 {
            log.write(&entry);
        }
        assert_eq!(waiting.try_iter().count(), 7);
        assert_eq!(log.lost.load(Ordering::Relaxed), 13);
        assert!(log.shared.waiting.load(Ordering::Relaxed) <= MAX_WAITING);
    }

    /// Returns a log without its thread, the receiver of its queue, and its file.
    fn paused(test: &str) -> (Log, Receiver<Order>, PathBuf) {
        let directory = env::temp_dir().join(format!("spdy-server-{test}-{}", process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (orders, queue) = sync_channel(QUEUE);
        let log = Log {
            format: AccessLogFormat::Combined,
            orders,
            running: Mutex::new(None),
            shared: Arc::default(),
            lost: AtomicU64::new(0),
        };
        (log, queue, directory.join("log"))
    }

    fn lines(path: &Path) -> usize {
        fs::read_to_string(path).unwrap().lines().count()
    }

    #[test]
    fn a_full_queue_loses_no_order_to_open_the_file_anew() {
        let (log, queue, path) = paused("full");
        let target = AccessLog::File(path.clone());
        let output = Output::open(&target).unwrap();
        for _ in 0..QUEUE {
            log.write(&line());
        }
        let moved = path.with_extension("1");
        fs::rename(&path, &moved).unwrap();
        log.reopen();
        let shared = Arc::clone(&log.shared);
        drop(log);
        write(output, &target, &queue, &shared);
        assert_eq!((lines(&moved), lines(&path)), (0, QUEUE));
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_tried_again() {
        let (log, _queue, path) = paused("again");
        let target = AccessLog::File(path.clone());
        let mut output = Output::open(&target).unwrap();
        let gone = path.parent().unwrap().with_extension("gone");
        fs::rename(path.parent().unwrap(), &gone).unwrap();
        log.reopen();
        assert!(reopen_if_asked(&mut output, &target, &log.shared).is_err());
        output.as_write().write_all(b"kept\n").unwrap();
        fs::create_dir(path.parent().unwrap()).unwrap();
        reopen_if_asked(&mut output, &target, &log.shared).unwrap();
        output.as_write().write_all(b"new\n").unwrap();
        output.as_write().flush().unwrap();
        assert_eq!((lines(&gone.join("log")), lines(&path)), (1, 1));
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        fs::remove_dir_all(gone).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_without_a_reader_holds_up_neither_the_start_nor_the_end() {
        let (_, _, path) = paused("pipe");
        let made = process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let (tell, told) = sync_channel(1);
        let opened = path.clone();
        thread::spawn(move || {
            let log = Log::open(&AccessLog::File(opened), AccessLogFormat::Json).unwrap();
            // More than the system keeps.
            let target = vec![b'x'; 1024 * 1024];
            log.write(&Entry {
                target: &target,
                ..line()
            });
            log.finish();
            tell.send(())
        });
        told.recv_timeout(Duration::from_secs(60)).expect("it ends");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
