//! A file, or a part of one, as the body of a response.

use std::{
    future::Future,
    io,
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use spdy_tower::session::{Reserved, SendRoom};

use super::{
    entry::Entry,
    pieces::{PIECE, Reader, Reading, Wanted},
};

/// Yields the bytes of a file: those in memory without a copy, and at once if they are few; those
/// of a larger file in pieces. Each piece is read when the previous one was taken, and is as long
/// as the stream has room for. No thread is needed for a piece that the system has in memory.
///
/// If the file has changed since it was checked, the body ends with an error instead of its last
/// piece.
#[derive(Debug)]
pub(super) struct Contents {
    source: Source,
    position: u64,
    left: u64,
    room: PieceRoom,
    reader: Reader,
    reading: Option<Reading>,
}

/// Where bytes are.
#[derive(Debug)]
pub(super) enum Source {
    Memory(Bytes),
    File(Arc<Entry>),
}

impl Source {
    /// Returns where the bytes of a file are.
    pub(super) fn of(entry: &Arc<Entry>) -> Self {
        match entry.small() {
            Some(_) => Self::Memory(shared(entry, Entry::small)),
            None => Self::File(Arc::clone(entry)),
        }
    }

    /// Returns where the bytes of a file in gzip are.
    pub(super) fn compressed(entry: &Arc<Entry>) -> Self {
        Self::Memory(shared(entry, Entry::compressed))
    }
}

/// Returns bytes of an entry. As long as any of them is used, so is the entry, and further
/// responses [find it](super::cache).
fn shared(entry: &Arc<Entry>, part: fn(&Entry) -> Option<&[u8]>) -> Bytes {
    struct Part(Arc<Entry>, fn(&Entry) -> Option<&[u8]>);

    impl AsRef<[u8]> for Part {
        fn as_ref(&self) -> &[u8] {
            self.1(&self.0).unwrap_or_default()
        }
    }

    Bytes::from_owner(Part(Arc::clone(entry), part))
}

impl Contents {
    /// Returns these bytes of a source.
    pub(super) const fn new(
        source: Source,
        range: Range<u64>,
        room: PieceRoom,
        reader: Reader,
    ) -> Self {
        Self {
            source,
            position: range.start,
            left: range.end - range.start,
            room,
            reader,
            reading: None,
        }
    }

    /// Goes on with other bytes, after the last ones.
    pub(super) const fn aim(&mut self, range: Range<u64>) {
        self.position = range.start;
        self.left = range.end - range.start;
    }

    /// Cancel safe: the next call returns what is read meanwhile.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let entry = match &self.source {
            Source::Memory(bytes) => {
                let start = self.position as usize;
                let left = self.left as usize;
                let len = match bytes.len() <= WHOLE {
                    true => left,
                    false => self.room.reserve(left.min(PIECE)).0,
                };
                return Poll::Ready(Ok(bytes.slice(start..start + len)));
            }
            Source::File(entry) => entry,
        };
        let reading = match &mut self.reading {
            Some(reading) => reading,
            none => {
                let (len, reserved) = self.room.reserve(self.left.min(PIECE as u64) as usize);
                let wanted = Wanted {
                    entry: Arc::clone(entry),
                    position: self.position,
                    len,
                    is_last: self.left == len as u64,
                };
                if let Some(piece) = wanted.read_at_once(&self.reader.spares) {
                    return Poll::Ready(piece);
                }
                none.insert(self.reader.read(wanted, reserved))
            }
        };
        let piece = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        Poll::Ready(piece)
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

/// The maximum number of bytes of one read for one of many responses on a connection.
const SHARED_PIECE: usize = 32 << 10;

/// The maximum length of a file in memory that is sent at once, since it is not copied: with the
/// default limits, any small file.
const WHOLE: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::{env, fs, process};

    use http_body_util::BodyExt;

    use super::{
        super::{Directory, disk::tests::look_at, shares::Shares},
        *,
    };

    #[tokio::test]
    async fn the_end_of_a_long_body_in_memory_has_pieces_like_the_rest() {
        for (len, expected) in [
            (WHOLE, vec![WHOLE]),
            (3 * SHARED_PIECE, vec![SHARED_PIECE; 3]),
        ] {
            let source = Source::Memory(vec![0; len].into());
            let range = 0..len as u64;
            let mut body = Contents::new(source, range, PieceRoom::Shared, Reader::new());
            let mut pieces = Vec::new();
            while let Some(piece) = body.frame().await {
                pieces.push(piece.unwrap().into_data().unwrap().len());
            }
            assert_eq!(pieces, expected);
        }
    }

    #[test]
    fn bytes_of_an_entry_hold_all_of_it() {
        let path = env::temp_dir().join(format!("spdy-contents-{}.txt", process::id()));
        fs::write(&path, "text ".repeat(100)).unwrap();
        let mut entry = Arc::into_inner(look_at(&path, 1000).unwrap()).unwrap();
        let shares = Shares::new(&Directory::new(""));
        entry.compress(&shares).unwrap();
        fs::remove_file(path).unwrap();
        let mut entry = Arc::new(entry);
        for source in [Source::of, Source::compressed] {
            let Source::Memory(bytes) = source(&entry) else {
                panic!("it is in memory")
            };
            let piece = bytes.slice(3..9);
            drop(bytes);
            let held = Arc::downgrade(&entry);
            drop(entry);
            entry = held.upgrade().expect("a piece holds it");
            drop(piece);
            assert_eq!(Arc::strong_count(&entry), 1);
        }
    }
}
