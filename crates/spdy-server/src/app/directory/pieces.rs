//! Pieces of files, read on the task of the session if the system has them in memory, and by a
//! thread for blocking work otherwise.

#[cfg(target_os = "linux")]
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{
    fmt,
    fs::File,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use spdy_tower::session::Reserved;

use super::{
    entry::{Entry, Kind},
    facts::Facts,
    jobs::{Jobs, in_time},
};

/// What all responses of a directory read with.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    pub(super) spares: Arc<Spares>,
    jobs: Jobs,
}

/// The maximum number of pieces that are read from a disk at once.
const READS: usize = 64;

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            spares: Arc::default(),
            jobs: Jobs::new(READS),
        }
    }

    /// Reads a piece on a thread for blocking work. The room for it is taken until it is read, also
    /// if the response is gone.
    pub(super) fn read(&self, wanted: Wanted, reserved: Option<Reserved>) -> Reading {
        let jobs = self.jobs.clone();
        let read = async move {
            let turn = jobs.turn().await;
            let (piece, _reserved) = turn.run(move || (wanted.read(), reserved)).await?;
            piece
        };
        Reading(Box::pin(in_time(read)))
    }
}

/// A piece that is being read.
pub(super) struct Reading(Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send>>);

impl Future for Reading {
    type Output = io::Result<Bytes>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").finish_non_exhaustive()
    }
}

/// A piece of a large file that is to be read.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) entry: Arc<Entry>,
    pub(super) position: u64,
    pub(super) len: usize,
    /// Whether the response ends with it. Then the file is checked: all pieces must be from the
    /// same state of the file.
    pub(super) is_last: bool,
}

impl Wanted {
    /// Reads what the system has in memory, without waiting for a disk. It may be shorter than what
    /// is wanted. Returns `None` if there is nothing, or if the system cannot tell.
    #[cfg(target_os = "linux")]
    pub(super) fn read_at_once(&self, spares: &Arc<Spares>) -> Option<io::Result<Bytes>> {
        use rustix::io::{ReadWriteFlags, preadv2};

        let file = self.file();
        let mut piece = spares.take(self.len);
        let slices = &mut [io::IoSliceMut::new(&mut piece.buffer)];
        let read = preadv2(file, slices, self.position, ReadWriteFlags::NOWAIT);
        let read = read.ok().filter(|&read| read > 0)?;
        if read < self.len {
            // A short piece does not keep a long buffer.
            return Some(Ok(Bytes::copy_from_slice(&piece.buffer[..read])));
        }
        // File systems that can tell have the facts of an open file in memory as well.
        let checked = match self.is_last {
            true => self.check(),
            false => Ok(()),
        };
        Some(checked.map(|()| Bytes::from_owner(piece)))
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn read_at_once(&self, _: &Arc<Spares>) -> Option<io::Result<Bytes>> {
        None
    }

    /// Reads all that is wanted, which can wait for a disk.
    pub(super) fn read(&self) -> io::Result<Bytes> {
        let piece = read_exact_at(self.file(), self.len, self.position)?;
        if self.is_last {
            self.check()?;
        }
        Ok(piece.into())
    }

    fn check(&self) -> io::Result<()> {
        if Facts::of(&self.file().metadata()?) == self.entry.facts {
            Ok(())
        } else {
            Err(io::Error::other("the file changed while it was sent"))
        }
    }

    fn file(&self) -> &File {
        let Kind::Large(file) = &self.entry.kind else {
            unreachable!("directories have no contents, and small files are in memory")
        };
        file
    }
}

/// Reads into memory that was not set to zero before.
#[cfg(target_os = "linux")]
fn read_exact_at(file: &File, len: usize, position: u64) -> io::Result<Vec<u8>> {
    use rustix::{buffer::spare_capacity, io::Errno};

    let mut piece = Vec::with_capacity(len);
    while piece.len() < len {
        let position = position + piece.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut piece), position) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // A vector may have more room than was asked for.
    piece.truncate(len);
    Ok(piece)
}

#[cfg(all(unix, not(target_os = "linux")))]
fn read_exact_at(file: &File, len: usize, position: u64) -> io::Result<Vec<u8>> {
    let mut piece = vec![0; len];
    std::os::unix::fs::FileExt::read_exact_at(file, &mut piece, position)?;
    Ok(piece)
}

#[cfg(windows)]
fn read_exact_at(file: &File, len: usize, mut position: u64) -> io::Result<Vec<u8>> {
    let mut piece = vec![0; len];
    let mut rest = &mut piece[..];
    while !rest.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, rest, position)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                rest = &mut rest[read..];
                position += read as u64;
            }
        }
    }
    Ok(piece)
}

/// Buffers of [`PIECE`] bytes that are not in use, of all responses of a directory. A buffer that
/// is used again is neither set to zero nor requested from the system.
#[derive(Default)]
pub(super) struct Spares {
    #[cfg(target_os = "linux")]
    buffers: Mutex<Vec<Vec<u8>>>,
}

#[cfg(target_os = "linux")]
impl Spares {
    /// Returns a piece of `len` bytes, whose contents do not matter.
    fn take(self: &Arc<Self>, len: usize) -> Piece {
        let spare = match len == PIECE {
            true => self.buffers().pop(),
            false => None,
        };
        Piece {
            buffer: spare.unwrap_or_else(|| vec![0; len]),
            spares: Arc::clone(self),
        }
    }

    fn give_back(&self, buffer: Vec<u8>) {
        let mut buffers = self.buffers();
        if buffer.len() == PIECE && buffers.len() < MAX_SPARES {
            buffers.push(buffer);
        }
    }

    fn buffers(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Spares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The contents are those of files.
        f.debug_struct("Spares").finish_non_exhaustive()
    }
}

/// The memory of a piece, which is given back with its last `Bytes`.
#[cfg(target_os = "linux")]
struct Piece {
    buffer: Vec<u8>,
    spares: Arc<Spares>,
}

#[cfg(target_os = "linux")]
impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

#[cfg(target_os = "linux")]
impl Drop for Piece {
    fn drop(&mut self) {
        self.spares.give_back(std::mem::take(&mut self.buffer));
    }
}

/// The maximum number of bytes of one read, which a response holds. With half of this, a byte costs
/// more system calls and turns; with twice as much it leaves the caches of the CPU before it is
/// sent.
pub(super) const PIECE: usize = 128 << 10;

/// The maximum number of buffers that are kept: what one response has under way while the next
/// piece is read.
#[cfg(target_os = "linux")]
const MAX_SPARES: usize = 2;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{env, fs, path::PathBuf, process};

    use super::{super::disk::tests::look_at, *};

    /// Creates a file of three pieces and some bytes.
    fn file(name: &str) -> (PathBuf, Arc<Entry>, Vec<u8>) {
        let path = env::temp_dir().join(format!("spdy-pieces-{name}-{}", process::id()));
        let bytes: Vec<u8> = (0..3 * PIECE + 1000)
            .map(|at| (at * 31 % 251) as u8)
            .collect();
        fs::write(&path, &bytes).unwrap();
        let entry = look_at(&path, 0).unwrap();
        (path, entry, bytes)
    }

    fn wanted(entry: &Arc<Entry>, position: usize, len: usize) -> Wanted {
        Wanted {
            entry: Arc::clone(entry),
            position: position as u64,
            len,
            is_last: position + len > 3 * PIECE,
        }
    }

    #[test]
    fn both_ways_to_read_yield_the_bytes_of_the_file() {
        let (path, entry, bytes) = file("both");
        let spares = Arc::default();
        for (position, len) in [(0, PIECE), (5, 1000), (PIECE, PIECE), (3 * PIECE, 1000)] {
            let wanted = wanted(&entry, position, len);
            assert_eq!(wanted.read().unwrap(), bytes[position..position + len]);
            // File systems may have nothing in memory, or not tell.
            if let Some(piece) = wanted.read_at_once(&spares) {
                let piece = piece.unwrap();
                assert!(!piece.is_empty() && piece.len() <= len);
                assert_eq!(piece, bytes[position..position + piece.len()]);
            }
        }
        let behind = wanted(&entry, 3 * PIECE, 1001);
        assert!(behind.read().is_err());
        fs::remove_file(path).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_piece_waits_for_those_before_it_and_not_for_ever() {
        let (path, entry, bytes) = file("turns");
        let reader = Reader::new();
        let mut turns = Vec::new();
        for _ in 0..READS {
            turns.push(reader.jobs.turn().await);
        }
        let read = || reader.read(wanted(&entry, 0, 1000), None);
        let late = read().await.unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        turns.pop();
        assert_eq!(read().await.unwrap(), bytes[..1000]);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_that_has_changed_has_no_last_piece() {
        let (path, entry, bytes) = file("changed");
        let wanted = wanted(&entry, 3 * PIECE, 1000);
        fs::write(&path, [&bytes[..], b"more"].concat()).unwrap();
        assert!(wanted.read().is_err());
        assert!(!matches!(wanted.read_at_once(&Arc::default()), Some(Ok(_))));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_that_has_become_shorter_yields_no_more_than_it_has() {
        let (path, entry, bytes) = file("shorter");
        let spares: Arc<Spares> = Arc::default();
        // What is left in a buffer must not be taken for a part of the file.
        let mut used = spares.take(PIECE);
        used.buffer.fill(255);
        drop(used);
        let start = 2 * PIECE + 5000;
        let wanted = wanted(&entry, start, PIECE);
        if let Some(piece) = wanted.read_at_once(&spares) {
            assert_eq!(piece.unwrap(), bytes[start..]);
        }
        assert!(wanted.read().is_err());
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn few_buffers_are_kept_and_used_again() {
        let spares: Arc<Spares> = Arc::default();
        drop(spares.take(100));
        assert_eq!(spares.buffers().len(), 0, "short buffers are not kept");
        let piece = spares.take(PIECE);
        let memory = piece.buffer.as_ptr();
        let piece = Bytes::from_owner(piece);
        let slice = piece.slice(3..);
        drop(piece);
        assert_eq!(spares.buffers().len(), 0, "it is in use");
        drop(slice);
        assert_eq!(spares.take(PIECE).buffer.as_ptr(), memory);
        let pieces: Vec<Piece> = (0..5).map(|_| spares.take(PIECE)).collect();
        drop(pieces);
        assert_eq!(spares.buffers().len(), MAX_SPARES);
    }
}
