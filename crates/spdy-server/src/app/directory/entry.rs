//! What is at a path: found out by blocking calls, on a thread that may block.

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

/// A file or a directory as it was when it was looked at.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) facts: Facts,
    pub(super) kind: Kind,
    identity: Identity,
    /// Whether a later change cannot have left all the facts as they are.
    pub(super) is_settled: bool,
}

#[derive(Debug)]
pub(super) enum Kind {
    Directory,
    /// All of it.
    Small(Bytes),
    /// To be read by position, since several responses share the handle.
    Large(File),
}

impl Entry {
    /// Looks at a path. Yields `known` itself if that is still what is there. A file of up to `max_small` octets is
    /// read.
    ///
    /// # Errors
    /// The system's. What is neither a file nor a directory is not found: to open a pipe may take for ever.
    pub(super) fn look(
        path: &Path,
        known: Option<Arc<Self>>,
        max_small: usize,
    ) -> io::Result<Arc<Self>> {
        let there = path.metadata().map_err(absent)?;
        let now = SystemTime::now();
        let identity = Identity::of(&there);
        match known {
            Some(known) if known.is_settled && known.identity == identity => Ok(known),
            _ if there.is_dir() => Ok(Arc::new(Self::new(&there, Kind::Directory, now))),
            _ if there.is_file() => Self::open(path, now, max_small).map(Arc::new),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn open(path: &Path, now: SystemTime, max_small: usize) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let before = file.metadata()?;
        if before.len() > max_small as u64 {
            return Ok(Self::new(&before, Kind::Large(file), now));
        }
        // One octet more than there should be, to notice a file that grows.
        let mut octets = Vec::with_capacity(before.len() as usize + 1);
        (&mut file)
            .take(before.len() + 1)
            .read_to_end(&mut octets)?;
        let after = file.metadata()?;
        let is_whole = Facts::of(&before) == Facts::of(&after);
        if is_whole && octets.len() as u64 == after.len() {
            Ok(Self::new(&after, Kind::Small(octets.into()), now))
        } else {
            // It changes right now. Who is sent the file itself notices if it does so again.
            Ok(Self::new(&after, Kind::Large(file), now))
        }
    }

    fn new(metadata: &Metadata, kind: Kind, now: SystemTime) -> Self {
        let facts = Facts::of(metadata);
        Self {
            is_settled: facts.is_settled(now),
            identity: Identity::of(metadata),
            facts,
            kind,
        }
    }

    /// The octets of it that are in memory.
    pub(super) const fn octets(&self) -> usize {
        match &self.kind {
            Kind::Small(octets) => octets.len(),
            _ => 0,
        }
    }

    pub(super) const fn is_open(&self) -> bool {
        matches!(self.kind, Kind::Large(_))
    }
}

/// Turns the error of a name that no file can have into that of a file that is not there.
fn absent(error: io::Error) -> io::Error {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound};
    match error.kind() {
        InvalidFilename | InvalidInput | NotADirectory => NotFound.into(),
        _ if error.raw_os_error() == Some(ELOOP) => NotFound.into(),
        _ => error,
    }
}

/// Too many symbolic links: a kind of error that `std` has no stable name for. Linux has a number of its own for it.
const ELOOP: i32 = match cfg!(any(target_os = "linux", target_os = "android")) {
    true => 40,
    false => 62,
};

/// What HTTP wants to know of a file. As long as these stay the contents do, with the exception that
/// [`is_settled`](Self::is_settled) is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    is_dir: bool,
    len: u64,
    modified: Option<SystemTime>,
}

impl Facts {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            is_dir: metadata.is_dir(),
            len: metadata.len(),
            modified: metadata.modified().ok(),
        }
    }

    /// Whether a change from `now` on shows in the time of the last change.
    fn is_settled(&self, now: SystemTime) -> bool {
        let age = |modified| now.duration_since(modified).ok();
        self.modified
            .and_then(age)
            .is_some_and(|age| age >= COARSEST_CLOCK)
    }
}

impl tower_http::services::fs::Metadata for Facts {
    fn is_dir(&self) -> bool {
        self.is_dir
    }

    fn modified(&self) -> io::Result<SystemTime> {
        self.modified
            .ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    fn len(&self) -> u64 {
        self.len
    }
}

/// Whether it is the same file with the same contents.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    facts: Facts,
    /// Device, number, and when anything about the file has changed, which nobody can set back.
    #[cfg(unix)]
    node: (u64, u64, i64, i64),
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt;
        Self {
            facts: Facts::of(metadata),
            #[cfg(unix)]
            node: (
                metadata.dev(),
                metadata.ino(),
                metadata.ctime(),
                metadata.ctime_nsec(),
            ),
        }
    }
}

/// Two changes within this time may leave the same time of change, on the file systems that note it least exactly.
const COARSEST_CLOCK: Duration = Duration::from_secs(2);
