//! A file, or a part of one, as the body of a response.

use std::{
    fs::File,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use spdy_tower::session::{Reserved, SendRoom};
use tokio::task::{JoinHandle, spawn_blocking};

use super::entry::{Entry, Facts, Kind};

/// Yields the bytes of a file: those of a small file at once and without a copy, those of a larger
/// one in pieces. Each piece is read when the previous one was taken, and is as long as the stream
/// has room for.
///
/// If the file has changed since it was checked, the body ends with an error instead of its last
/// piece.
#[derive(Debug)]
pub(super) struct Contents {
    entry: Arc<Entry>,
    position: u64,
    left: u64,
    room: PieceRoom,
    reading: Option<(JoinHandle<io::Result<Bytes>>, Option<Reserved>)>,
}

impl Contents {
    /// Returns `len` bytes from `start` on.
    pub(super) const fn new(entry: Arc<Entry>, start: u64, len: u64, room: PieceRoom) -> Self {
        Self {
            entry,
            position: start,
            left: len,
            room,
            reading: None,
        }
    }

    /// Cancel safe: the next call returns what is read meanwhile.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        if let Kind::Small(bytes) = &self.entry.kind {
            let start = self.position as usize;
            return Poll::Ready(Ok(bytes.slice(start..start + self.left as usize)));
        }
        let (entry, position) = (&self.entry, self.position);
        let (left, room) = (self.left, &self.room);
        let (reading, _) = self.reading.get_or_insert_with(|| {
            let entry = Arc::clone(entry);
            let (len, reserved) = room.reserve(left.min(PIECE) as usize);
            let is_last = left == len as u64;
            let reading = spawn_blocking(move || read(&entry, position, len, is_last));
            (reading, reserved)
        });
        let piece = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        Poll::Ready(piece.unwrap_or_else(|failed| Err(io::Error::other(failed))))
    }
}

impl Body for Contents {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let piece = ready!(self.poll_piece(cx))?;
        self.position += piece.len() as u64;
        self.left -= piece.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// The limit on the length of pieces.
#[derive(Debug)]
pub(super) enum PieceRoom {
    /// The room of the stream and of its session.
    Stream(SendRoom),
    /// Many responses share a connection that does not report its room.
    Shared,
    /// The response has its connection for itself.
    Alone,
}

impl PieceRoom {
    /// Returns the length of the next piece, if `most` bytes are left.
    fn reserve(&self, most: usize) -> (usize, Option<Reserved>) {
        match self {
            Self::Stream(room) => {
                let reserved = room.reserve(most);
                (reserved.length(), Some(reserved))
            }
            Self::Shared => (most.min(SHARED_PIECE), None),
            Self::Alone => (most, None),
        }
    }
}

/// Reads a piece of a large file. At the last piece the file is checked: all pieces must be from
/// the same state of the file.
fn read(entry: &Entry, position: u64, len: usize, is_last: bool) -> io::Result<Bytes> {
    let Kind::Large(file) = &entry.kind else {
        unreachable!("directories have no contents, and small files are in memory")
    };
    let mut piece = vec![0; len];
    read_exact_at(file, &mut piece, position)?;
    if is_last && Facts::of(&file.metadata()?) != entry.facts {
        return Err(io::Error::other("the file changed while it was sent"));
    }
    Ok(piece.into())
}

#[cfg(unix)]
fn read_exact_at(file: &File, piece: &mut [u8], position: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, piece, position)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut piece: &mut [u8], mut position: u64) -> io::Result<()> {
    while !piece.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, piece, position)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                piece = &mut piece[read..];
                position += read as u64;
            }
        }
    }
    Ok(())
}

/// The maximum number of bytes of one read for one of many responses on a connection.
const SHARED_PIECE: usize = 32 << 10;

/// The maximum number of bytes of one read, which a response holds. With a quarter of this, a byte
/// costs about a quarter more CPU time, and with four times as much about a tenth less.
const PIECE: u64 = 256 << 10;
