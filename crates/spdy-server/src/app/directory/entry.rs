//! What is at a path. Blocking calls on a thread for blocking work find it out.

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

/// A file or a directory as it was when it was checked.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) facts: Facts,
    pub(super) kind: Kind,
    identity: Identity,
    /// Whether a later change must show in the facts.
    pub(super) is_settled: bool,
}

#[derive(Debug)]
pub(super) enum Kind {
    Directory,
    /// All bytes of the file.
    Small(Bytes),
    /// The file, which is read by position because several responses share the handle.
    Large(File),
}

impl Entry {
    /// Checks a path. Returns `known` itself if the path is unchanged. A file of up to `max_small`
    /// bytes is read.
    ///
    /// # Errors
    /// Returns the error of the system. A path that is neither a file nor a directory is not found,
    /// because opening a pipe can block forever.
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
        let mut file = open(path)?;
        let before = file.metadata()?;
        // Something else can have taken the place of the file since it was looked at.
        if !before.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        if before.len() > max_small as u64 {
            return Ok(Self::new(&before, Kind::Large(file), now));
        }
        // The buffer has one more byte than the file, to notice a file that grows.
        let mut bytes = Vec::with_capacity(before.len() as usize + 1);
        (&mut file).take(before.len() + 1).read_to_end(&mut bytes)?;
        let after = file.metadata()?;
        let is_whole = Facts::of(&before) == Facts::of(&after);
        if is_whole && bytes.len() as u64 == after.len() {
            Ok(Self::new(&after, Kind::Small(bytes.into()), now))
        } else {
            // The file is changing. A response that is sent from the file notices if it changes
            // again.
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

    /// Returns the number of bytes of it that are in memory.
    pub(super) const fn bytes(&self) -> usize {
        match &self.kind {
            Kind::Small(bytes) => bytes.len(),
            _ => 0,
        }
    }

    pub(super) const fn is_open(&self) -> bool {
        matches!(self.kind, Kind::Large(_))
    }
}

/// Opens a path without waiting for the writer of a pipe.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    }
    options.read(true).open(path)
}

/// Converts the error for a name that no file can have to the error for a missing file.
fn absent(error: io::Error) -> io::Error {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound};
    match error.kind() {
        InvalidFilename | InvalidInput | NotADirectory => NotFound.into(),
        _ if error.raw_os_error() == Some(ELOOP) => NotFound.into(),
        _ => error,
    }
}

/// Too many symbolic links: `std` has no stable name for this kind of error. Linux has its own
/// number for it.
const ELOOP: i32 = match cfg!(any(target_os = "linux", target_os = "android")) {
    true => 40,
    false => 62,
};

/// The facts about a file that HTTP uses. While they are unchanged, so are the contents, except for
/// the case in [`is_settled`](Self::is_settled).
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

    /// Returns whether a change after `now` shows in the time of the last change.
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

/// Identifies a file with its contents.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    facts: Facts,
    /// The device, the number, and the time of the last change of the inode, which cannot be set
    /// back.
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

/// Two changes within this time can have the same time of change, on the file systems with the
/// coarsest clocks.
const COARSEST_CLOCK: Duration = Duration::from_secs(2);

#[cfg(all(test, unix))]
mod tests {
    use std::{env, fs, process, sync::mpsc, thread};

    use super::*;

    #[test]
    fn a_pipe_that_takes_the_place_of_a_file_is_not_waited_for() {
        let path = env::temp_dir().join(format!("spdy-entry-pipe-{}", process::id()));
        let made = process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let (tell, told) = mpsc::channel();
        let swapped = path.clone();
        // It was a file when it was looked at.
        let open = move || Entry::open(&swapped, SystemTime::now(), 1000).map(drop);
        thread::spawn(move || tell.send(open()));
        let opened = told.recv_timeout(Duration::from_secs(60));
        fs::remove_file(path).unwrap();
        let error = opened.expect("opening does not wait").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
