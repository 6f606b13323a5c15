//! What entries hold together, in the cache and in responses: open files, and bytes in memory.

use std::{fmt, fs::File, io, ops::Deref, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    Directory,
    jobs::{Closing, Jobs},
};

/// The two sums of a directory. An entry has its shares until its last response is gone.
#[derive(Clone, Debug)]
pub(super) struct Shares {
    files: Sum,
    bytes: Sum,
    closes: Jobs,
}

/// The maximum number of files that are closed at once.
const CLOSES: usize = 64;

impl Shares {
    pub(super) fn new(limits: &Directory) -> Self {
        let bytes = limits.max_bytes.saturating_add(limits.max_lent);
        Self {
            files: Sum::new(limits.max_handles),
            bytes: Sum::new(bytes.div_ceil(UNIT as usize)),
            closes: Jobs::new(CLOSES),
        }
    }

    /// Takes the share of one open file.
    ///
    /// # Errors
    /// Returns what is missing.
    pub(super) fn file(&self) -> Result<Share, Lack> {
        self.files.take(1).ok_or(Lack::File)
    }

    /// Adds the share to an open file, which counts until it is closed.
    pub(super) fn counted(&self, file: File, share: Share) -> Open {
        Closing::new(Counted::new(file, share), self.closes.clone())
    }

    /// Takes the share of this number of bytes.
    ///
    /// # Errors
    /// Returns what is missing.
    pub(super) fn bytes(&self, bytes: u64) -> Result<Share, Lack> {
        let part = units(bytes);
        self.bytes.take(part).ok_or(Lack::Bytes(part))
    }

    /// Returns whether there is a share of this number of bytes now.
    pub(super) fn has_bytes(&self, bytes: u64) -> bool {
        self.bytes.0.available_permits() >= units(bytes) as usize
    }

    /// Returns whether all of a sum is used, as it is while anyone waits for a share.
    pub(super) fn is_used_up(&self, held: Held) -> bool {
        let sum = match held {
            Held::File => &self.files,
            Held::Bytes => &self.bytes,
        };
        sum.0.available_permits() == 0
    }

    /// Waits for what is missing. Cancel safe: what was set aside for it is given back.
    pub(super) async fn wait(&self, lack: Lack) -> Share {
        match lack {
            Lack::File => self.files.wait(1).await,
            Lack::Bytes(part) => self.bytes.wait(part).await,
        }
    }
}

/// An open file with its share.
pub(super) type Open = Closing<Counted<File>>;

/// What an entry can hold a share of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    File,
    Bytes,
}

/// What is missing for an entry.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lack {
    File,
    /// This number of units.
    Bytes(u32),
}

impl Lack {
    pub(super) const fn of(self) -> Held {
        match self {
            Self::File => Held::File,
            Self::Bytes(_) => Held::Bytes,
        }
    }
}

/// Bytes are counted in KiB, since a share is a number of 32 bits.
const UNIT: u64 = 1 << 10;

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

/// A sum with a limit, of which each share is a part.
#[derive(Clone, Debug)]
struct Sum(Arc<Semaphore>);

impl Sum {
    /// Without a single share nothing could be sent.
    fn new(most: usize) -> Self {
        let most = most.clamp(1, Semaphore::MAX_PERMITS);
        Self(Arc::new(Semaphore::new(most)))
    }

    fn take(&self, part: u32) -> Option<Share> {
        let permits = Arc::clone(&self.0).try_acquire_many_owned(part);
        permits.ok().map(Share)
    }

    async fn wait(&self, part: u32) -> Share {
        let permits = Arc::clone(&self.0).acquire_many_owned(part).await;
        Share(permits.expect("it is never closed"))
    }
}

/// A part of a sum, which is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share(OwnedSemaphorePermit);

impl Share {
    /// Returns whether it is enough for this number of bytes.
    pub(super) fn has_bytes(&self, bytes: u64) -> bool {
        self.0.num_permits() >= units(bytes) as usize
    }

    /// Keeps this number of bytes, and frees the rest.
    pub(super) fn shrink_to(mut self, bytes: u64) -> Self {
        let rest = self.0.num_permits().saturating_sub(units(bytes) as usize);
        drop(self.0.split(rest));
        self
    }
}

/// Something that has a share of a sum, which is given back after it.
#[derive(Debug)]
pub(super) struct Counted<T> {
    value: T,
    _share: Share,
}

impl<T> Counted<T> {
    pub(super) const fn new(value: T, share: Share) -> Self {
        Self {
            value,
            _share: share,
        }
    }
}

impl<T> Deref for Counted<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Why a question has no answer.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The disk has said so.
    Failed(io::Error),
    /// It can be asked again with a share of this.
    Lacks(Lack),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Lack> for Refusal {
    fn from(lack: Lack) -> Self {
        Self::Lacks(lack)
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Failed(error) => error,
            Refusal::Lacks(lack) => Self::other(lack.to_string()),
        }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "Directory::max_handles files are open",
            Self::Bytes(_) => "Directory::max_lent bytes are in use",
        })
    }
}
