//! Destinations of bodies: files, or standard output, which the URLs use one after the other.

use std::{
    fs::{File, OpenOptions},
    io::{self, IsTerminal, Write},
    mem,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use tokio::sync::watch;

use crate::failure::{Exit, Failure, print, shown};

/// The order in which the URLs write to standard output.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The place of the URL whose turn it is.
    turn: watch::Sender<usize>,
    /// The number of bytes in memory that wait for their turn.
    held: AtomicUsize,
}

impl Turns {
    /// Waits until it is the turn of this place.
    pub(super) async fn wait(&self, place: usize) {
        let mut turn = self.turn.subscribe();
        let waited = turn.wait_for(|turn| *turn >= place).await;
        debug_assert!(waited.is_ok(), "the sender lives as long as `self`");
    }

    /// Waits for the turn of this place, and passes it on to the next one. Every place must call
    /// this once.
    pub(super) async fn pass(&self, place: usize) {
        self.wait(place).await;
        self.turn.send_replace(place + 1);
    }

    fn has(&self, place: usize) -> bool {
        *self.turn.borrow() >= place
    }
}

/// The destination of one body.
pub(super) struct Output<'a> {
    target: Target<'a>,
    inflater: Option<MultiGzDecoder<Vec<u8>>>,
}

enum Target<'a> {
    Nowhere,
    File(File, PathBuf),
    Stdout {
        turns: &'a Turns,
        place: usize,
        held: Vec<Bytes>,
    },
}

impl<'a> Output<'a> {
    pub(super) const fn nowhere() -> Self {
        Self::new(Target::Nowhere)
    }

    /// Writes to a file from byte `start` on, which is its end.
    pub(super) fn file(path: &Path, start: u64) -> Result<Self, Failure> {
        let opened = if start == 0 {
            File::create(path)
        } else {
            OpenOptions::new().append(true).open(path)
        };
        match opened {
            Ok(file) => Ok(Self::new(Target::File(file, path.to_owned()))),
            Err(error) => Err(cannot_write(path, &error)),
        }
    }

    pub(super) const fn stdout(turns: &'a Turns, place: usize) -> Self {
        Self::new(Target::Stdout {
            turns,
            place,
            held: Vec::new(),
        })
    }

    const fn new(target: Target<'a>) -> Self {
        Self {
            target,
            inflater: None,
        }
    }

    /// Decompresses from now on what is written, which is gzip.
    pub(super) fn inflate(&mut self) {
        self.inflater = Some(MultiGzDecoder::new(Vec::new()));
    }

    /// Writes a piece, or keeps it in memory until the turn of its URL.
    ///
    /// The body is read although its turn has not come: all streams share the window of the
    /// session, so an unread stream would block the others.
    ///
    /// # Errors
    ///
    /// Fails if the piece cannot be written, or if more than [`MAX_HELD`] bytes wait.
    pub(super) fn write(&mut self, piece: Bytes) -> Result<(), Failure> {
        let Some(inflater) = &mut self.inflater else {
            return self.target.write(piece);
        };
        // One byte can become a thousand.
        for compressed in piece.chunks(COMPRESSED_PIECE) {
            // Without a flush the last of it stays in the inflater.
            let written = inflater.write_all(compressed);
            let written = written.and_then(|()| inflater.flush());
            written.map_err(|error| not_gzip(&error))?;
            let inflated = mem::take(inflater.get_mut());
            self.target.write(inflated.into())?;
        }
        Ok(())
    }

    /// Writes header fields, in which nothing controls a terminal.
    pub(super) fn write_head(&mut self, text: Vec<u8>) -> Result<(), Failure> {
        let is_shown = matches!(self.target, Target::Stdout { .. }) && io::stdout().is_terminal();
        if !is_shown {
            return self.target.write(text.into());
        }
        let text = String::from_utf8_lossy(&text).replace("\r\n", "\n");
        self.target.write(shown(&text).into())
    }

    /// Waits for the turn of this body, and writes the pieces that are left.
    pub(super) async fn finish(&mut self) -> Result<(), Failure> {
        if let Some(mut inflater) = self.inflater.take() {
            inflater.try_finish().map_err(|error| not_gzip(&error))?;
            self.target.write(mem::take(inflater.get_mut()).into())?;
        }
        match &mut self.target {
            Target::Nowhere | Target::File(..) => Ok(()),
            Target::Stdout { turns, place, held } => {
                turns.wait(*place).await;
                release(turns, held)
            }
        }
    }
}

impl Target<'_> {
    fn write(&mut self, piece: Bytes) -> Result<(), Failure> {
        match self {
            Self::Nowhere => Ok(()),
            Self::File(file, path) => file
                .write_all(&piece)
                .map_err(|error| cannot_write(path, &error)),
            Self::Stdout { turns, place, held } => {
                if turns.has(*place) {
                    release(turns, held)?;
                    return print(&piece);
                }
                let bytes = piece.len();
                held.push(piece);
                if turns.held.fetch_add(bytes, Ordering::Relaxed) + bytes > MAX_HELD {
                    let message = "too many bytes wait for standard output: use --output";
                    return Err(Failure::new(Exit::Local, message));
                }
                Ok(())
            }
        }
    }
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        if let Target::Stdout { turns, held, .. } = &self.target {
            let bytes: usize = held.iter().map(Bytes::len).sum();
            turns.held.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

/// Writes the pieces that waited for their turn.
fn release(turns: &Turns, held: &mut Vec<Bytes>) -> Result<(), Failure> {
    for piece in held.drain(..) {
        turns.held.fetch_sub(piece.len(), Ordering::Relaxed);
        print(&piece)?;
    }
    Ok(())
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::local(format_args!("cannot write to {}", path.display()), error)
}

fn not_gzip(error: &io::Error) -> Failure {
    Failure::exchange("the compressed body is not complete gzip", error)
}

/// The compressed bytes that are decompressed at once.
const COMPRESSED_PIECE: usize = 4096;

/// The maximum number of bytes that wait for their turn on standard output.
const MAX_HELD: usize = 64 * 1024 * 1024;
