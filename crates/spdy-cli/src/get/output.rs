//! Where bodies go: files, or standard output, which the URLs have one after the other.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use tokio::sync::watch;

use crate::failure::{Exit, Failure, print};

/// Whose turn it is to write to standard output: the place of a URL.
#[derive(Debug, Default)]
pub(super) struct Turns {
    turn: watch::Sender<usize>,
    /// Octets that wait for their turn.
    held: AtomicUsize,
}

impl Turns {
    pub(super) async fn wait(&self, place: usize) {
        let mut turn = self.turn.subscribe();
        let waited = turn.wait_for(|turn| *turn >= place).await;
        debug_assert!(waited.is_ok(), "the sender is here");
    }

    /// Lets the next have it. Every place has to, once.
    pub(super) async fn pass(&self, place: usize) {
        self.wait(place).await;
        self.turn.send_replace(place + 1);
    }

    fn has(&self, place: usize) -> bool {
        *self.turn.borrow() >= place
    }
}

/// Takes a body.
pub(super) struct Output<'a>(Target<'a>);

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
        Self(Target::Nowhere)
    }

    pub(super) fn file(path: &Path) -> Result<Self, Failure> {
        match File::create(path) {
            Ok(file) => Ok(Self(Target::File(file, path.to_owned()))),
            Err(error) => Err(cannot_write(path, &error)),
        }
    }

    pub(super) const fn stdout(turns: &'a Turns, place: usize) -> Self {
        Self(Target::Stdout {
            turns,
            place,
            held: Vec::new(),
        })
    }

    /// Writes a piece, or keeps it until its turn comes. An unread stream would hold up the others instead: they share
    /// the window of their session.
    pub(super) fn write(&mut self, piece: Bytes) -> Result<(), Failure> {
        match &mut self.0 {
            Target::Nowhere => Ok(()),
            Target::File(file, path) => file
                .write_all(&piece)
                .map_err(|error| cannot_write(path, &error)),
            Target::Stdout { turns, place, held } => {
                if turns.has(*place) {
                    release(turns, held)?;
                    return print(&piece);
                }
                let octets = piece.len();
                held.push(piece);
                if turns.held.fetch_add(octets, Ordering::Relaxed) + octets > MAX_HELD {
                    let message = "too much waits for its turn on standard output: use --output";
                    return Err(Failure::new(Exit::Local, message));
                }
                Ok(())
            }
        }
    }

    /// Waits for its turn, and writes what is left.
    pub(super) async fn finish(&mut self) -> Result<(), Failure> {
        match &mut self.0 {
            Target::Nowhere | Target::File(..) => Ok(()),
            Target::Stdout { turns, place, held } => {
                turns.wait(*place).await;
                release(turns, held)
            }
        }
    }
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        if let Target::Stdout { turns, held, .. } = &self.0 {
            let octets: usize = held.iter().map(Bytes::len).sum();
            turns.held.fetch_sub(octets, Ordering::Relaxed);
        }
    }
}

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

/// Octets that may wait for their turn.
const MAX_HELD: usize = 64 * 1024 * 1024;
